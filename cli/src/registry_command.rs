//! `ogniwo registry`.

use crate::args::{HoneypotCommand, IndexEngine, LossCommand, ManifestCommand, RegistryCommand};
use crate::audit_command::continued_words;
use crate::exit::Failure;
use crate::federation::{client, put, put_manifest, refused};
use crate::files::{parse, places, read_json, unwritable, write_file, write_json};
use crate::found::{KEY_SECONDS, create_officer, open_officer};
use crate::manifest_next::next;
use crate::output::Output;
use crate::process::{Listening, bind, blocking, until_stopped};
use crate::prompt::{new_passphrase, passphrase};
use crate::wire::word;
use policies::calendar::day;
use protocol::manifest::{ManifestError, Quotas};
use protocol::review::{Honeypots, SignedHoneypots};
use protocol::{Manifest, SignedManifest};
use registry::{Config, Engine, LogLoss, Migrated, Registry, Status};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use transport::Clock;

/// Counting the rows of a large index takes time.
const ASKING: Duration = Duration::from_secs(30);

pub(crate) async fn run(command: RegistryCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RegistryCommand::Init { registry, csr, keys } => init(&Config::load(&registry.config)?, &csr, &keys, output),
        RegistryCommand::Run { registry, until_stdin_closes } => {
            let config = Config::load(&registry.config)?;
            let listener = bind("peers.listen", config.peers.listen).await?;
            let registry = Arc::new(Registry::open(config, Clock::system(), passphrase).await?);
            let listening = Listening { peers: listener.local_addr()?, local: None };
            output.print(&serde_json::to_string(&listening).map_err(|e| Failure::new("internal", e))?);
            Ok(registry.serve(listener, until_stopped(until_stdin_closes)).await?)
        }
        RegistryCommand::CheckConfig { registry } => {
            let config = Config::load(&registry.config)?;
            drop(Registry::open(config, Clock::system(), passphrase).await?);
            output
                .result(&json!({ "ok": true }), || "The configuration, keys and certificate are in order.".to_owned());
            Ok(())
        }
        RegistryCommand::Status { registry, at } => status(&Config::load(&registry.config)?, at, output).await,
        RegistryCommand::Migrate { registry, from, to, dry_run } => {
            migrate(&Config::load(&registry.config)?, (from.into(), to.into()), dry_run, output).await
        }
        RegistryCommand::Restored { registry } => {
            let config = Config::load(&registry.config)?;
            registry::restored(&config, Clock::system().now())?;
            output.result(&json!({ "restored": true }), || {
                "The registry will start closed and open when enough members have confirmed its manifest.".to_owned()
            });
            Ok(())
        }
        RegistryCommand::ContinueAfterRestore(command) => continue_after_restore(command, output).await,
        RegistryCommand::Log { registry, into } => log(Config::load(&registry.config)?, into, output).await,
        RegistryCommand::Honeypots(command) => honeypots(command, output).await,
        RegistryCommand::Manifest(command) => manifest(command, output).await,
        RegistryCommand::Officer { path } => {
            let key = create_officer(&path)?;
            output.result(&json!({ "key": key.public() }), || format!("Officer's public key: {}", key.public()));
            Ok(())
        }
    }
}

async fn log(config: Config, into: PathBuf, output: &Output) -> Result<(), Failure> {
    if into.exists() {
        return Err(Failure::new("exists", format!("{} is already there", into.display())));
    }
    let made = into.clone();
    let exported =
        blocking(move || registry::export_log(&config, &made, &Clock::system(), passphrase).map_err(Failure::from))
            .await??;
    let document = json!({ "directory": into, "origin": exported.vkey.name(), "entries": exported.entries });
    output.result(&document, || {
        let dir = into.display();
        format!("{dir}: {} entries. It verifies anywhere: ogniwo audit verify {dir}", exported.entries)
    });
    Ok(())
}

fn init(config: &Config, csr: &Path, keys: &Path, output: &Output) -> Result<(), Failure> {
    places(&[csr, keys])?;
    for source in [&config.storage_key, &config.pepper] {
        if let keyring::KeySource::Credential(path) = source
            && !path.exists()
        {
            keyring::StorageKey::create_credential(path).map_err(unwritable(path))?;
        }
    }
    let ring = registry::init(config, new_passphrase)?;
    let now = Clock::system().now();
    let (key, request) = transport::new_key_and_csr(&config.spiffe()).map_err(|e| Failure::new("certificate", e))?;
    if let Some(parent) = config.peers.key.parent() {
        std::fs::create_dir_all(parent)?;
    }
    keyring::create_private(&config.peers.key, key.as_bytes())?;
    write_file(csr, request.as_bytes())?;
    let public = registry::member_keys(&ring, now, now + KEY_SECONDS);
    write_file(keys, &serde_json::to_vec_pretty(&public).map_err(|e| Failure::new("internal", e))?)?;
    output.result(&json!({ "csr": csr, "keys": keys }), || {
        format!("Have {} signed (`ogniwo certs sign`) and {} put into the manifest.", csr.display(), keys.display())
    });
    Ok(())
}

async fn status(config: &Config, at: Option<String>, output: &Output) -> Result<(), Failure> {
    let peers = &config.peers;
    let files = [&peers.certificate, &peers.key, &peers.root, &peers.crl];
    let client = client(files.map(PathBuf::as_path), &config.realm, &Clock::system())?;
    let mut listening = peers.listen;
    if listening.ip().is_unspecified() {
        listening.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = at.unwrap_or_else(|| format!("https://{listening}"));
    let request =
        http::Request::get("/v1/status").body(bytes::Bytes::new()).map_err(|e| Failure::new("internal", e))?;
    let answer = client.call(&config.spiffe(), &url, request, ASKING).await.map_err(|error| refused(&url, error))?;
    let status: Status = serde_json::from_slice(answer.body()).map_err(|e| Failure::new("internal", e))?;
    output.result(&status, || in_words(&status));
    Ok(())
}

fn in_words(status: &Status) -> String {
    let mut text = format!(
        "{} rows ({}), manifest {}, {} log entries{}\n",
        status.rows,
        status.engine,
        status.manifest,
        status.log,
        status.closed.as_ref().map_or_else(String::new, |code| format!("\nclosed: {code}"))
    );
    for warning in &status.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push_str(&format!(
        "{:<32} {:>12} {:>12} {:>8} {:>8} {:>8}  {}\n",
        "member", "a day", "enrolling", "misses", "posted", "met", "could try in a year"
    ));
    for member in &status.members {
        text.push_str(&format!(
            "{:<32} {:>12} {:>12} {:>8} {:>8} {:>8}  {} identifiers, {:.3} % of PESEL numbers\n",
            member.id,
            member.evaluations_per_day,
            member.first_enrolment,
            member.misses_today,
            member.posted,
            member.met,
            member.identifiers_per_year,
            member.pesel_percent_per_year
        ));
    }
    text
}

async fn migrate(config: &Config, engines: (Engine, Engine), dry_run: bool, output: &Output) -> Result<(), Failure> {
    let (copying, verifying) = (output.progress("copying", false), output.progress("verifying", false));
    let progress = |step: registry::Progress| {
        let shown = node::Progress { done: step.rows, total: step.of };
        if step.verifying { verifying(shown) } else { copying(shown) }
    };
    let migrated = registry::migrate(config, engines, dry_run, progress).await?;
    output.result(&json!({ "dry_run": dry_run, "migrated": migrated }), || {
        let Migrated { rows, resumed_at, notes, meters, .. } = migrated;
        if dry_run {
            return format!(
                "{rows} rows, {notes} notes and {meters} meters would be migrated, from row {resumed_at} on."
            );
        }
        format!(
            "{rows} rows, {notes} notes and {meters} meters migrated; every row was read back and compared.\n\
             Set index.engine in the configuration, start the registry, and remove the old index when it serves."
        )
    });
    Ok(())
}

impl From<IndexEngine> for Engine {
    fn from(engine: IndexEngine) -> Self {
        match engine {
            IndexEngine::Embedded => Engine::Embedded,
            IndexEngine::Postgres => Engine::Postgres,
        }
    }
}

async fn continue_after_restore(command: LossCommand, output: &Output) -> Result<(), Failure> {
    match command {
        LossCommand::Draft { registry, out } => {
            let config = Config::load(&registry.config)?;
            let loss = blocking(move || registry::draft_loss(&config)).await??;
            write_json(&out, &loss)?;
            output.result(&json!({ "loss": out, "origin": loss.origin, "known": loss.known }), || {
                format!("{}\nDraft: {}\nNow the officers sign it.", loss.known, out.display())
            });
        }
        LossCommand::Sign { loss: path, key } => {
            let mut loss: LogLoss = read_json(&path)?;
            loss.sign(&open_officer(&key)?);
            write_signed(&path, &loss, loss.signatures.len(), output)?;
        }
        LossCommand::Confirmed { loss, registry } => {
            let (config, loss) = (Config::load(&registry.config)?, read_json::<LogLoss>(&loss)?);
            let go_on = move || registry::continue_after_restore(&config, Clock::system(), &loss, passphrase);
            let continued = blocking(go_on).await??;
            output.result(&continued, || continued_words(&continued, "ogniwo registry run"));
        }
    }
    Ok(())
}

async fn honeypots(command: HoneypotCommand, output: &Output) -> Result<(), Failure> {
    match command {
        HoneypotCommand::Draft { description, out } => {
            let honeypots: Honeypots = read_json(&description)?;
            write_json(&out, &SignedHoneypots::draft(&honeypots)?)?;
            output.result(&json!({ "honeypots": out }), || {
                format!("Draft: {}\nNow the officers sign it.", out.display())
            });
        }
        HoneypotCommand::Sign { honeypots, key } => {
            let mut signed: SignedHoneypots = read_json(&honeypots)?;
            signed.sign(&open_officer(&key)?);
            write_signed(&honeypots, &signed, signed.signatures.len(), output)?;
        }
        HoneypotCommand::Plant { honeypots, registry, tls } => {
            let signed: SignedHoneypots = read_json(&honeypots)?;
            // Whose federation's it is the registry checks; here it only names whom to call.
            let content: Honeypots =
                serde_json::from_slice(&signed.honeypots.0).map_err(|e| Failure::new("value", e))?;
            put(&tls, &content.realm, (&registry, "/v1/honeypots"), &signed, &Clock::system()).await?;
            output.result(&json!({ "planted": content.plant.len(), "removed": content.remove.len() }), || {
                format!("Planted {}, removed {}.", content.plant.len(), content.remove.len())
            });
        }
    }
    Ok(())
}

async fn manifest(command: ManifestCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ManifestCommand::Draft { description, out } => {
            let manifest: Manifest = read_json(&description)?;
            manifest.check()?;
            if manifest.expires <= manifest.issued {
                return Err(Failure::new("value", "`expires` is not after `issued`"));
            }
            write_json(&out, &SignedManifest::draft(&manifest)?)?;
            output
                .result(&json!({ "manifest": out }), || format!("Draft: {}\nNow the officers sign it.", out.display()));
            Ok(())
        }
        ManifestCommand::Next(changes) => {
            let out = &changes.out;
            write_json(out, &next(&read(&changes.manifest)?, &changes, Clock::system().now())?)?;
            output.result(&json!({ "manifest": out }), || format!("{}\nNow the officers sign it.", out.display()));
            Ok(())
        }
        ManifestCommand::Sign { manifest, key, after } => {
            let (mut signed, officer) = (read(&manifest)?, open_officer(&key)?);
            let officers = signed.read()?.officers;
            let before = after.map(|path| Ok::<_, Failure>(read(&path)?.read()?.officers)).transpose()?;
            let mut named = officers.keys.iter().chain(before.iter().flat_map(|before| &before.keys));
            if !named.any(|named| named.key == officer.public()) {
                let words = "this key is no officer's whom the manifest names: whoever is one in the manifest in force alone signs with --after";
                return Err(Failure::new("value", words));
            }
            signed.sign(&officer);
            write_json(&manifest, &signed)?;
            let found = signed.signatures_of(&officers);
            output.result(&json!({ "signatures": found, "needed": officers.threshold }), || {
                format!("Signed; by {found} of the {} officers needed now.", officers.threshold)
            });
            Ok(())
        }
        ManifestCommand::Show { manifest } => show(&read(&manifest)?, output),
        ManifestCommand::Publish { manifest, registry, tls } => {
            let signed = read(&manifest)?;
            let content = signed.accept_held()?;
            put_manifest(&tls, &content.realm, &registry, &signed, &Clock::system()).await?;
            output
                .result(&json!({ "version": content.version }), || format!("Published: version {}.", content.version));
            Ok(())
        }
    }
}

fn show(signed: &SignedManifest, output: &Output) -> Result<(), Failure> {
    let manifest = signed.read()?;
    let found = signed.signatures_of(&manifest.officers);
    let verdict = signed.accept_held().map(drop);
    let document = json!({
        "fingerprint": signed.fingerprint(), "signatures": found,
        "acceptable": verdict.is_ok(), "why_not": verdict.as_ref().err().map(ToString::to_string), "manifest": manifest,
    });
    output.result(&document, || {
        let mut text = format!(
            "{} version {}  fingerprint {}\nissued {}, expires {}\nsigned by {found} of the {} officers needed: {}\n",
            manifest.realm,
            manifest.version,
            signed.fingerprint(),
            day(manifest.issued),
            day(manifest.expires),
            manifest.officers.threshold,
            match &verdict {
                Ok(()) => "acceptable".to_owned(),
                Err(ManifestError::Unsigned { .. }) => "not enough".to_owned(),
                Err(other) => other.to_string(),
            }
        );
        for member in &manifest.members {
            let duties: Vec<String> = member.roles.iter().map(word).collect();
            text.push_str(&format!(
                "  {:<12} {:<40} {} {}\n",
                member.id,
                member.name,
                member.endpoints.join(" "),
                duties.join(" ")
            ));
            let Quotas { evaluations_burst, evaluations_per_day, first_enrolment } = &member.quotas;
            let first = first_enrolment.as_ref().map_or_else(String::new, |first| {
                format!(", {} more until {}", first.evaluations, day(first.until))
            });
            text.push_str(&format!(
                "  {:<12} operated by {:?}; evaluations: {evaluations_burst} at once, {evaluations_per_day} a day{first}\n",
                "", member.operator
            ));
        }
        for epoch in &manifest.epochs {
            let holders: Vec<&str> = epoch.holders.iter().map(|h| h.member.as_str()).collect();
            let end = epoch.destroy_at.map_or_else(String::new, |at| format!(", destroyed on {}", day(at)));
            text.push_str(&format!(
                "  epoch {}: {} of {} ({}), shares of generation {}, in use from {}{end}\n",
                epoch.epoch.0,
                epoch.threshold,
                holders.len(),
                holders.join(", "),
                epoch.generation,
                day(epoch.not_before)
            ));
        }
        text.push_str(&format!("  {} agreements\n", manifest.agreements.len()));
        for step in &manifest.successions {
            let to: Vec<&str> = step.to.iter().map(protocol::MemberId::as_str).collect();
            text.push_str(&format!("  {} was followed by {}\n", step.from, to.join(", ")));
        }
        text
    });
    Ok(())
}

/// Writes a document back with one more officer's signature.
fn write_signed(path: &Path, document: &impl Serialize, signatures: usize, output: &Output) -> Result<(), Failure> {
    write_json(path, document)?;
    output.result(&json!({ "signatures": signatures }), || format!("Signed; {signatures} signatures now."));
    Ok(())
}

fn read(path: &Path) -> Result<SignedManifest, Failure> {
    parse(path, "manifest_refused")
}
