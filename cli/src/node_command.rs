//! `ogniwo node`.
//!
//! A running node does the work it is asked for itself, through its admin socket; import also works while it is
//! stopped.

use crate::args::{ApiArgs, ClearArgs, FlagArgs, FlagCommand, NodeCommand, NodeConfig, ResidentArgs};
use crate::exit::Failure;
use crate::files::{places, read_text, unwritable, write_file, write_json};
use crate::output::Output;
use crate::process::{Listening, bind, blocking, until_stopped};
use crate::prompt::{new_passphrase, passphrase, resident};
use crate::wire::{Admin, admin};
use node::{
    Config, EnrolSummary, HoneypotNumbers, ImportMode, ImportRequest, ImportSummary, Node, NodeStatus, Progress,
    SharedSummary, Surroundings, Swept, UnenrolSummary,
};
use protocol::review::Honeypots;
use protocol::{Epoch, MemberId, SignedManifest, SpiffeId};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use transport::Clock;
use zeroize::Zeroizing;

pub(crate) async fn run(command: NodeCommand, output: &Output) -> Result<(), Failure> {
    match command {
        NodeCommand::Init { node, csr, keys } => init(&Config::load(&node.config)?, &csr, &keys, output),
        NodeCommand::Renew { node, csr, key } => renew(&Config::load(&node.config)?, &csr, &key, output),
        NodeCommand::Run { node, until_stdin_closes } => {
            serve(Config::load(&node.config)?, until_stdin_closes, output).await
        }
        NodeCommand::CheckConfig { node } => {
            let node = open(Config::load(&node.config)?).await?;
            let status = node.status()?;
            output.result(&status, || format!("Everything {} needs to start is in order.", status.member));
            Ok(())
        }
        NodeCommand::Status { node } => {
            let status: NodeStatus = admin(&node)?.get("/status").await?;
            output.result(&status, || describe(&status));
            Ok(())
        }
        NodeCommand::Refresh { node } => {
            let answer: Value = admin(&node)?.run("/refresh", &json!({}), &|_| {}).await?;
            output.result(&answer, || "Manifest, revocation list and findings are current.".to_owned());
            Ok(())
        }
        NodeCommand::Manifest { node, out } => manifest(&admin(&node)?, out.as_deref(), output).await,
        NodeCommand::Import { node, mapping, extract, rejects, full, remove_many, delta, dry_run } => {
            let mode = match (full, delta) {
                (true, _) => ImportMode::Full,
                (_, true) => ImportMode::Delta,
                _ => ImportMode::Update,
            };
            // The running node has its own working directory.
            let absolute = |path: &Path| std::path::absolute(path);
            let request = ImportRequest {
                mapping: absolute(&mapping)?,
                extract: absolute(&extract)?,
                rejects: rejects.as_deref().map(absolute).transpose()?,
                mode,
                dry_run,
                remove_many,
            };
            import(Config::load(&node.config)?, &request, output).await
        }
        NodeCommand::Enrol { node } => {
            let started = Instant::now();
            let progress = output.progress("enrolling", false);
            let summary: EnrolSummary = admin(&node)?.run("/enrol", &json!({}), &progress).await?;
            output.result(&summary, || {
                format!(
                    "{} clients: {} pseudonymised, {} published, {} removed in {:.1} s",
                    summary.clients,
                    summary.pseudonymised,
                    summary.published,
                    summary.removed,
                    started.elapsed().as_secs_f64()
                )
            });
            Ok(())
        }
        NodeCommand::Retention { node, dry_run } => {
            let path = format!("/retention?dry_run={dry_run}");
            let swept: Vec<Swept> = admin(&node)?.run(&path, &json!({}), &|_| {}).await?;
            output.result(&swept, || retention_words(&swept, dry_run));
            Ok(())
        }
        NodeCommand::Newcomer { api, document, reason, text, case } => {
            let who = resident(&ResidentArgs { local_number: None, document })?;
            let body = json!({ "resident": who, "reason": reason, "text": text, "case_ref": case });
            crate::desk_command::newcomer(&api, &body, output).await
        }
        NodeCommand::Unenrol { api, resident, reason: Some(reason), undo, all: _ } => {
            crate::desk_command::flag(unenrolled(api, resident, reason, undo), output).await
        }
        NodeCommand::Unenrol { api, .. } => {
            let progress = output.progress("unenrolling", false);
            let summary: UnenrolSummary = admin(&api.node)?.run("/unenrol", &json!({}), &progress).await?;
            output.result(&summary, || {
                format!("{} clients unenrolled, {} entries removed; records stay.", summary.unenrolled, summary.removed)
            });
            Ok(())
        }
        NodeCommand::Honeypots { node, numbers, epoch, out } => honeypots(&node, &numbers, epoch, &out, output).await,
        NodeCommand::Shared { node, list, diff, csv } => {
            let list = list || (csv.is_some() && !diff);
            let path = format!("/shared?list={list}&diff={diff}");
            let progress = output.progress("locating", false);
            let summary: SharedSummary = admin(&node)?.run(&path, &json!({}), &progress).await?;
            if let Some(path) = csv {
                write_file(&path, shared_csv(&summary, diff).as_bytes())?;
            }
            output.result(&summary, || shared_words(&summary));
            Ok(())
        }
        NodeCommand::Ask(arguments) => crate::ask_command::ask(&arguments, output).await,
        NodeCommand::Answer { api, id } => crate::ask_command::answer(&api, &id, output).await,
        NodeCommand::Keyholder(command) => crate::keyholder_command::run(command, output).await,
        NodeCommand::Resident(command) => crate::resident_command::run(command, output).await,
    }
}

/// The flag that takes a resident's names away, set or lifted.
fn unenrolled(api: ApiArgs, resident: ResidentArgs, reason: String, undo: bool) -> FlagCommand {
    let flag = vec!["unenrolled".to_owned()];
    if undo {
        FlagCommand::Clear(ClearArgs { api, resident, flag, reason })
    } else {
        FlagCommand::Set(FlagArgs { api, resident, flag, reason })
    }
}

fn init(config: &Config, csr: &Path, keys: &Path, output: &Output) -> Result<(), Failure> {
    places(&[csr, keys])?;
    if let keyring::KeySource::Credential(path) = &config.storage_key
        && !path.exists()
    {
        keyring::StorageKey::create_credential(path).map_err(unwritable(path))?;
    }
    let birth = Node::init(config, new_passphrase, Clock::system().now())?;
    write_file(csr, birth.csr.as_bytes())?;
    write_file(keys, &serde_json::to_vec_pretty(&birth.keys).map_err(|e| Failure::new("internal", e))?)?;
    output.result(&json!({ "csr": csr, "keys": keys }), || {
        format!("Have {} signed (`ogniwo certs sign`) and {} put into the manifest.", csr.display(), keys.display())
    });
    Ok(())
}

fn renew(config: &Config, csr: &Path, key: &Path, output: &Output) -> Result<(), Failure> {
    places(&[csr, key])?;
    let spiffe = SpiffeId::new(config.realm.clone(), config.member.clone());
    let (private, request) = transport::new_key_and_csr(&spiffe).map_err(|e| Failure::new("certificate", e))?;
    keyring::create_private(key, private.as_bytes()).map_err(unwritable(key))?;
    write_file(csr, request.as_bytes())?;
    output.result(&json!({ "csr": csr, "key": key }), || {
        format!(
            "Have {} renewed (`ogniwo certs renew`), then move {} to {} and the certificate to {}.\n\
             The running node takes both within seconds.",
            csr.display(),
            key.display(),
            config.peers.key.display(),
            config.peers.certificate.display()
        )
    });
    Ok(())
}

/// Has a node turn numbers that nobody has into indexes to plant.
async fn honeypots(
    node: &NodeConfig,
    numbers: &Path,
    epoch: Option<u32>,
    out: &Path,
    output: &Output,
) -> Result<(), Failure> {
    let text = if numbers == Path::new("-") { std::io::read_to_string(std::io::stdin())? } else { read_text(numbers)? };
    let text = Zeroizing::new(text);
    let numbers = text.lines().map(|line| line.to_owned().into()).collect();
    let asked = HoneypotNumbers { numbers, epoch: epoch.map(Epoch) };
    let honeypots: Honeypots = admin(node)?.run("/honeypots", &asked, &|_| {}).await?;
    write_json(out, &honeypots)?;
    output.result(&json!({ "planted": honeypots.plant.len(), "description": out }), || {
        format!("{} indexes in {}. Next: ogniwo registry honeypots draft", honeypots.plant.len(), out.display())
    });
    Ok(())
}

async fn manifest(admin: &Admin, out: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let held: Option<SignedManifest> = admin.get("/manifest").await?;
    let held = held.ok_or_else(|| Failure::new("node_closed", "no manifest is accepted yet"))?;
    let text = serde_json::to_string_pretty(&held).map_err(|e| Failure::new("internal", e))?;
    let Some(path) = out else {
        output.print(&text);
        return Ok(());
    };
    write_file(path, text.as_bytes())?;
    let (version, fingerprint) = (held.read()?.version, held.fingerprint());
    output.result(&json!({ "manifest": path, "version": version, "fingerprint": fingerprint }), || {
        format!("{}: version {version}, fingerprint {fingerprint}", path.display())
    });
    Ok(())
}

async fn serve(config: Config, until_stdin_closes: bool, output: &Output) -> Result<(), Failure> {
    let peers = bind("peers.listen", config.peers.listen).await?;
    let local = match &config.local {
        Some(local) => Some(bind("local.listen", local.listen).await?),
        None => None,
    };
    let node = open(config).await?;
    let admin = node.bind_admin()?;
    let local_address = local.as_ref().map(TcpListener::local_addr).transpose()?;
    let listening = Listening { peers: peers.local_addr()?, local: local_address };
    output.print(&serde_json::to_string(&listening).map_err(|e| Failure::new("internal", e))?);
    Ok(node.serve(peers, local, admin, until_stopped(until_stdin_closes)).await?)
}

/// Opens a node off the network threads: it reads the log through.
async fn open(config: Config) -> Result<Arc<Node>, Failure> {
    Ok(blocking(move || Node::open(config, Surroundings::system(), passphrase)).await??)
}

async fn import(config: Config, request: &ImportRequest, output: &Output) -> Result<(), Failure> {
    let started = Instant::now();
    let report = output.progress("importing", true);
    let admin = Admin::of(&config.data);
    let imported: Result<ImportSummary, Failure> = if admin.answers().await {
        admin.run("/import", request, &report).await
    } else {
        let (node, request) = (open(config).await?, request.clone());
        blocking(move || node::import(&node, &request, &report)).await?.map_err(Failure::from)
    };
    let summary = imported.map_err(|failure| {
        let of_the_mapping = failure.code.starts_with("mapping");
        let place = if of_the_mapping { format!("{}: ", request.mapping.display()) } else { String::new() };
        Failure { message: format!("{place}{}", failure.message), ..failure }
    })?;
    let tried = if request.dry_run { "Tried only, nothing is changed. " } else { "" };
    output.result(&summary, || format!("{tried}{}", import_words(&summary, started.elapsed())));
    Ok(())
}

pub(crate) fn import_words(summary: &ImportSummary, took: Duration) -> String {
    let mut text = format!(
        "{} rows: {} residents, {} new, {} removed; {} rows refused; {} clients on file ({:.1} s)",
        summary.rows,
        summary.residents,
        summary.new,
        summary.removed,
        summary.rejected,
        summary.clients,
        took.as_secs_f64()
    );
    for (reason, count) in &summary.reasons {
        text.push_str(&format!("\n  {count:>6}  {reason}"));
    }
    if let Some(path) = &summary.rejects {
        text.push_str(&format!("\nRefused rows: {}", path.display()));
    } else if summary.rejected > 0 {
        text.push_str("\nRefused rows are listed with --rejects FILE");
    }
    text
}

fn describe(status: &NodeStatus) -> String {
    let mut text = format!(
        "{}: {}\nmanifest {}  epoch {}  CRL {}{}\n{} clients  {} log entries, {} of them cosigned{}  {} messages waiting",
        status.member,
        status.state,
        status.manifest_version.map_or_else(|| "none".to_owned(), |v| v.to_string()),
        status.epoch.map_or_else(|| "none".to_owned(), |e| e.to_string()),
        status.crl_number.map_or_else(|| "none".to_owned(), |n| n.to_string()),
        if status.registry_away { "  registry out of reach" } else { "" },
        status.clients,
        status.log_entries,
        status.cosigned.entries,
        status.cosigned.age_seconds.filter(|age| *age > 0).map_or_else(String::new, |age| format!(" (for {age} s)")),
        status.outbox
    );
    if let Some(last) = &status.unrefreshed {
        text.push_str(&format!("\n  no new manifest: {} [{}]", last.message, last.code));
    }
    for (epoch, held) in &status.shares {
        let words = if *held {
            "held"
        } else {
            "STALE OR MISSING: new shares have to be dealt (`ogniwo node keyholder invite`)"
        };
        text.push_str(&format!("\n  share of the key of epoch {epoch}: {words}"));
    }
    if let Some((epoch, Progress { done, total })) = &status.re_enrolling {
        text.push_str(&format!("\n  enrolling clients under epoch {epoch}: {done} of {total}"));
    }
    for used in &status.agreements {
        text.push_str(&format!(
            "\n  {:<24} {}: {} of {} questions today; {} refused, {} of them about nobody available; {} mismatches",
            used.agreement, used.asker, used.today, used.per_day, used.denied, used.not_available, used.mismatches
        ));
    }
    text
}

fn retention_words(swept: &[Swept], dry_run: bool) -> String {
    let went = if dry_run { "would go" } else { "gone" };
    let line = |of: &Swept| {
        let Swept { category, rows, residents, files, restricted, sealed } = of;
        format!(
            "{category}: {rows} rows of {residents} residents {went}, {files} residents whole; kept: {restricted} restricted, {sealed} with sealed fields"
        )
    };
    let mut lines: Vec<String> = swept.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("`retention` names no category: records stay until an import removes them".to_owned());
    } else if !dry_run && swept.iter().any(|of| of.files > 0) {
        lines.push("Run `ogniwo node enrol` to take back what is published.".to_owned());
    }
    lines.join("\n")
}

fn shared_words(summary: &SharedSummary) -> String {
    let mut text = format!(
        "{} clients enrolled; shared at least with (whoever else knows them: the counts overlap)",
        summary.enrolled
    );
    for (units, count) in &summary.at_least {
        text.push_str(&format!("\n  {count:>8}  {units}"));
    }
    // Who has none, or has gone, has a line all the same.
    let named = |numbers: &BTreeSet<String>| match numbers.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => "without a number".to_owned(),
        numbers => numbers.join(", "),
    };
    for client in &summary.clients {
        let units: Vec<&str> = client.units.iter().map(MemberId::as_str).collect();
        text.push_str(&format!("\n{}: {}", named(&client.local_numbers), units.join(", ")));
    }
    for change in &summary.changes {
        let signed =
            |sign: char, units: &BTreeSet<MemberId>| units.iter().map(|unit| format!(" {sign}{unit}")).collect();
        let (new, gone): (String, String) = (signed('+', &change.new), signed('-', &change.gone));
        text.push_str(&format!("\n{}:{new}{gone}", named(&change.local_numbers)));
    }
    text
}

/// One line a client number: `client_number,units`, or with changes `client_number,new,gone`; units joined by `+`. A client
/// without a number, or who has gone, has one line with an empty number.
fn shared_csv(summary: &SharedSummary, diff: bool) -> String {
    let joined = |units: &BTreeSet<MemberId>| units.iter().map(MemberId::as_str).collect::<Vec<_>>().join("+");
    let quoted = |numbers: &BTreeSet<String>| -> Vec<String> {
        let all = numbers.iter().map(|number| format!("\"{}\"", number.replace('"', "\"\"")));
        if numbers.is_empty() { vec!["\"\"".to_owned()] } else { all.collect() }
    };
    let mut text = String::new();
    if diff {
        text.push_str("client_number,new,gone\n");
        for change in &summary.changes {
            for number in quoted(&change.local_numbers) {
                text.push_str(&format!("{number},{},{}\n", joined(&change.new), joined(&change.gone)));
            }
        }
    } else {
        text.push_str("client_number,units\n");
        for client in &summary.clients {
            for number in quoted(&client.local_numbers) {
                text.push_str(&format!("{number},{}\n", joined(&client.units)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_stays_in_the_list_of_changes() {
        let summary = json!({
            "enrolled": 2, "exactly": {}, "with": {}, "at_least": { "pup": 2, "css+pup": 1 },
            "clients": [{ "local_numbers": [], "units": ["pup"] }],
            "changes": [
                { "local_numbers": [], "new": [], "gone": ["pup"] },
                { "local_numbers": ["M/\"1"], "new": ["css", "pup"], "gone": [] },
            ],
        });
        let summary: SharedSummary = serde_json::from_value(summary).expect("a summary");
        let csv = "client_number,new,gone\n\"\",,pup\n\"M/\"\"1\",css+pup,\n";
        assert_eq!(shared_csv(&summary, true), csv);
        assert_eq!(shared_csv(&summary, false), "client_number,units\n\"\",pup\n");
        let words = shared_words(&summary);
        assert!(words.contains("overlap") && words.contains("\nwithout a number: -pup"), "{words}");
    }

    #[test]
    fn a_status_says_which_shares_serve_and_how_far_a_new_key_is() {
        let status = json!({
            "member": "mops", "state": "ready", "registry_away": false, "certificate_expires": 0, "clients": 1,
            "log_entries": 1, "cosigned": { "entries": 1 }, "outbox": 0, "approvals": 0, "agreements": [],
            "shares": { "1": false, "2": true }, "re_enrolling": [2, { "done": 3, "total": 7 }],
        });
        let told = describe(&serde_json::from_value(status).expect("a status"));
        assert!(told.contains("epoch 1: STALE") && told.contains("epoch 2: held"), "{told}");
        assert!(told.contains("under epoch 2: 3 of 7"), "{told}");
    }
}
