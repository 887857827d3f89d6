//! `ogniwo node`.
//!
//! A running node does the work it is asked for itself, through its admin socket; import also works while it is
//! stopped.

use crate::args::{ApiArgs, AskArgs, ClearArgs, FlagArgs, FlagCommand, NodeCommand, ResidentArgs};
use crate::exit::{Failure, places, read_text, unwritable, write_file};
use crate::output::Output;
use crate::process::Listening;
use crate::prompt::{expected, new_passphrase, passphrase, resident};
use crate::wire::{Admin, LocalApi, local_url};
use http::Method;
use node::{
    Config, EnrolSummary, ImportMode, ImportRequest, ImportSummary, Node, NodeStatus, ObligationsBody, OutcomeKind,
    QueryResult, SharedSummary, Surroundings, Swept, UnenrolSummary,
};
use protocol::query::Match;
use protocol::{MemberId, SpiffeId};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use transport::Clock;

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
            let status: NodeStatus = Admin::of(&Config::load(&node.config)?.data).get("/status").await?;
            output.result(&status, || describe(&status));
            Ok(())
        }
        NodeCommand::Refresh { node } => {
            let admin = Admin::of(&Config::load(&node.config)?.data);
            let answer: Value = admin.run("/refresh", &json!({}), &|_| {}).await?;
            output.result(&answer, || "Manifest, revocation list and findings are current.".to_owned());
            Ok(())
        }
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
            let admin = Admin::of(&Config::load(&node.config)?.data);
            let started = Instant::now();
            let summary: EnrolSummary = admin.run("/enrol", &json!({}), &output.progress("enrolling", false)).await?;
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
            let admin = Admin::of(&Config::load(&node.config)?.data);
            let path = format!("/retention?dry_run={dry_run}");
            let swept: Vec<Swept> = admin.run(&path, &json!({}), &|_| {}).await?;
            output.result(&swept, || retention_words(&swept, dry_run));
            Ok(())
        }
        NodeCommand::Newcomer { api, resident: who, reason, text, case } => {
            let body = json!({ "resident": resident(&who)?, "reason": reason, "text": text, "case_ref": case });
            crate::desk_command::newcomer(&api, &body, output).await
        }
        NodeCommand::Unenrol { api, resident, reason: Some(reason), undo, all: _ } => {
            crate::desk_command::flag(unenrolled(api, resident, reason, undo), output).await
        }
        NodeCommand::Unenrol { api, .. } => {
            let admin = Admin::of(&Config::load(&api.node.config)?.data);
            let progress = output.progress("unenrolling", false);
            let summary: UnenrolSummary = admin.run("/unenrol", &json!({}), &progress).await?;
            output.result(&summary, || {
                format!("{} clients unenrolled, {} entries removed; records stay.", summary.unenrolled, summary.removed)
            });
            Ok(())
        }
        NodeCommand::Shared { node, list, diff, csv } => {
            let admin = Admin::of(&Config::load(&node.config)?.data);
            let list = list || (csv.is_some() && !diff);
            let path = format!("/shared?list={list}&diff={diff}");
            let summary: SharedSummary = admin.run(&path, &json!({}), &output.progress("locating", false)).await?;
            if let Some(path) = csv {
                write_file(&path, shared_csv(&summary, diff).as_bytes())?;
            }
            output.result(&summary, || shared_words(&summary));
            Ok(())
        }
        NodeCommand::Ask(arguments) => ask(&arguments, output).await,
        NodeCommand::Answer { api, id } => answer(&api, &id, output).await,
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

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::new("internal", e))
}

/// Binds an address of the configuration.
pub(crate) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        let code = if e.kind() == std::io::ErrorKind::AddrInUse { "address_in_use" } else { "config" };
        Failure::new(code, format!("`{key}`: cannot listen on {address}: {e}"))
    })
}

/// Ends when the program is told to: SIGINT, SIGTERM, or its parent gone.
pub(crate) fn until_stopped(until_stdin_closes: bool) -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        let orphaned = async {
            if !until_stdin_closes {
                return std::future::pending().await;
            }
            let mut sink = Vec::new();
            // Nobody writes there: it ends when the parent does.
            let _end = tokio::io::stdin().read_to_end(&mut sink).await;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
            () = orphaned => {}
        }
        told.cancel();
    });
    stop
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
    let mut text = format!("{} clients enrolled; shared with", summary.enrolled);
    for (units, count) in &summary.at_least {
        text.push_str(&format!("\n  {count:>8}  {units}"));
    }
    for client in &summary.clients {
        let numbers: Vec<&str> = client.local_numbers.iter().map(String::as_str).collect();
        let units: Vec<&str> = client.units.iter().map(MemberId::as_str).collect();
        text.push_str(&format!("\n{}: {}", numbers.join(", "), units.join(", ")));
    }
    for change in &summary.changes {
        let numbers: Vec<&str> = change.local_numbers.iter().map(String::as_str).collect();
        let signed =
            |sign: char, units: &BTreeSet<MemberId>| units.iter().map(|unit| format!(" {sign}{unit}")).collect();
        let (new, gone): (String, String) = (signed('+', &change.new), signed('-', &change.gone));
        text.push_str(&format!("\n{}:{new}{gone}", numbers.join(", ")));
    }
    text
}

/// One line a client number: `client_number,units`, or with changes `client_number,new,gone`; units joined by `+`.
fn shared_csv(summary: &SharedSummary, diff: bool) -> String {
    let joined = |units: &BTreeSet<MemberId>| units.iter().map(MemberId::as_str).collect::<Vec<_>>().join("+");
    let quoted = |number: &str| format!("\"{}\"", number.replace('"', "\"\""));
    let mut text = String::new();
    if diff {
        text.push_str("client_number,new,gone\n");
        for change in &summary.changes {
            for number in &change.local_numbers {
                text.push_str(&format!("{},{},{}\n", quoted(number), joined(&change.new), joined(&change.gone)));
            }
        }
    } else {
        text.push_str("client_number,units\n");
        for client in &summary.clients {
            for number in &client.local_numbers {
                text.push_str(&format!("{},{}\n", quoted(number), joined(&client.units)));
            }
        }
    }
    text
}

/// The local API meant.
pub(crate) fn api(to: &ApiArgs) -> Result<LocalApi, Failure> {
    match (&to.api, &to.ca) {
        (Some(url), Some(ca)) => LocalApi::new(url, ca),
        (url, ca) => {
            let config = Config::load(&to.node.config)?;
            let local = config.local.ok_or_else(|| Failure::new("config", "`local` is not configured"))?;
            let configured = local_url(local.listen);
            LocalApi::new(url.as_deref().unwrap_or(&configured), ca.as_deref().unwrap_or(&local.certificate))
        }
    }
}

/// The caller's token.
pub(crate) fn token(to: &ApiArgs) -> Result<String, Failure> {
    let text = match &to.token_file {
        Some(path) => read_text(path)?,
        None => std::env::var("OGNIWO_TOKEN")
            .map_err(|_| Failure::new("value", "give your token with --token-file or in OGNIWO_TOKEN"))?,
    };
    Ok(text.trim().to_owned())
}

async fn ask(arguments: &AskArgs, output: &Output) -> Result<(), Failure> {
    let basis = match (&arguments.consent, &arguments.mandate, &arguments.emergency) {
        (Some(id), _, _) => json!({ "kind": "consent", "id": id }),
        (None, Some(id), _) => json!({ "kind": "mandate", "id": id }),
        (None, None, Some(id)) => json!({ "kind": "emergency", "id": id }),
        (None, None, None) => json!({ "kind": "none" }),
    };
    let resident = resident(&arguments.resident)?;
    let expected = expected(&arguments.expect)?;
    let asks: Vec<Value> = arguments
        .query
        .iter()
        .map(|query| json!({ "query": query, "holder": arguments.holder, "fields": arguments.fields, "expected": expected }))
        .collect();
    let body = json!({
        "resident": resident, "asks": asks, "purpose": arguments.purpose, "basis": basis,
        "case_ref": arguments.case, "reason": arguments.reason,
    });
    let token = token(&arguments.api)?;
    let result: QueryResult = api(&arguments.api)?.call(Method::POST, "/v1/queries", &token, Some(&body)).await?;
    output.result(&result, || query_words(&result));
    outcome(&result)
}

async fn answer(to: &ApiArgs, id: &str, output: &Output) -> Result<(), Failure> {
    let path = format!("/v1/queries/{id}");
    let result: QueryResult = api(to)?.call(Method::GET, &path, &token(to)?, None).await?;
    output.result(&result, || query_words(&result));
    outcome(&result)
}

/// How the command ends: well if anybody answered, else by the best that may still come.
fn outcome(result: &QueryResult) -> Result<(), Failure> {
    let any = |kind| result.outcomes.iter().any(|outcome| outcome.outcome == kind);
    if any(OutcomeKind::Answered) {
        return Ok(());
    }
    if any(OutcomeKind::Pending) {
        let words = format!("a person at the holder decides; `ogniwo node answer {}` fetches it", result.id);
        return Err(Failure::new("pending", words));
    }
    if any(OutcomeKind::Denied) {
        let denied = result.outcomes.iter().filter(|outcome| outcome.outcome == OutcomeKind::Denied);
        let reasons: BTreeSet<&str> = denied.filter_map(|outcome| outcome.reason.as_deref()).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        return Err(Failure::new("denied", format!("nothing was released: {}", reasons.join(", "))));
    }
    Err(Failure::new("peer_unavailable", "nobody answered"))
}

pub(crate) fn query_words(result: &QueryResult) -> String {
    let mut text = format!("Query {}", result.id);
    for outcome in &result.outcomes {
        let holder = outcome.holder.as_ref().map_or("-", MemberId::as_str);
        let kind = format!("{:?}", outcome.outcome).to_lowercase();
        text.push_str(&format!("\n  {} {holder}: {kind}", outcome.query));
        if let Some(reason) = &outcome.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(said) = &outcome.message {
            text.push_str(&format!("\n    {}\n    {}", said.en, said.pl));
        }
        for (member, desk) in &outcome.duty_desks {
            text.push_str(&format!("\n    call {member}: {desk}"));
        }
        if let Some(present) = outcome.present {
            text.push_str(if present { "\n    has an active file" } else { "\n    has no active file" });
        }
        for (field, found) in &outcome.matches {
            let found = match found {
                Match::Match => "match",
                Match::Mismatch => "mismatch",
                Match::NotComparable => "not_comparable",
            };
            text.push_str(&format!("\n    {field:<28} {found}"));
        }
        for (field, value) in &outcome.fields {
            text.push_str(&format!("\n    {field:<28} {value}"));
        }
        if let Some(obligations) = &outcome.obligations {
            text.push_str(&duties(obligations));
        }
    }
    text
}

/// What the recipient of an answer must do, in both languages.
fn duties(obligations: &ObligationsBody) -> String {
    let ObligationsBody { delete_after, onward_transfer, do_not_contact, review_by } = obligations;
    let day = |seconds: i64| policies::calendar::day(protocol::Timestamp(seconds));
    let mut en = format!("Delete after {}.", day(*delete_after));
    let mut pl = format!("Usuń po {}.", day(*delete_after));
    if !onward_transfer {
        en.push_str(" Do not pass it on.");
        pl.push_str(" Nie przekazuj dalej.");
    }
    if *do_not_contact {
        en.push_str(" DO NOT CONTACT the resident.");
        pl.push_str(" NIE KONTAKTUJ SIĘ z mieszkańcem.");
    }
    if let Some(by) = review_by {
        en.push_str(&format!(" To be reviewed by {}.", day(*by)));
        pl.push_str(&format!(" Ocena do {}.", day(*by)));
    }
    format!("\n    {en}\n    {pl}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_its_duties_and_comparisons_in_words() {
        let told = |obligations: Value| {
            let outcome = json!({
                "query": "q09", "holder": "pup", "outcome": "answered", "obligations": obligations,
                "matches": { "person.surname": "not_comparable" },
            });
            let result = json!({ "id": "x", "outcomes": [outcome] });
            query_words(&serde_json::from_value(result).expect("a result"))
        };
        let plain = told(json!({ "delete_after": 1_795_262_400, "onward_transfer": false }));
        assert!(plain.contains("not_comparable"), "{plain}");
        assert!(plain.contains("Delete after ") && plain.contains("Usuń po "), "{plain}");
        assert!(plain.contains("Do not pass it on.") && plain.contains("Nie przekazuj dalej."), "{plain}");
        assert!(!plain.contains("CONTACT") && !plain.contains("reviewed"), "{plain}");
        let more = json!({
            "delete_after": 1_795_262_400, "onward_transfer": true, "do_not_contact": true, "review_by": 1_795_262_400,
        });
        let more = told(more);
        assert!(more.contains("DO NOT CONTACT") && more.contains("NIE KONTAKTUJ SIĘ"), "{more}");
        assert!(more.contains("reviewed by 2026") && more.contains("Ocena do 2026"), "{more}");
        assert!(!more.contains("pass it on"), "{more}");
    }
}
