//! `ogniwo registry`.

use crate::args::{ManifestCommand, RegistryCommand};
use crate::exit::{Failure, read_text};
use crate::federation::put_manifest;
use crate::found::{create_officer, open_officer};
use crate::manifest_next::{Changes, next};
use crate::node_command::{bind, until_stopped};
use crate::output::Output;
use crate::process::Listening;
use crate::prompt::passphrase;
use protocol::{Manifest, SignedManifest};
use registry::{Config, Registry};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use transport::Clock;

const KEY_SECONDS: i64 = 2 * 365 * 24 * 60 * 60;

pub(crate) async fn run(command: RegistryCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RegistryCommand::Init { registry, csr, keys } => init(&Config::load(&registry.config)?, &csr, &keys, output),
        RegistryCommand::Run { registry, until_stdin_closes } => {
            let config = Config::load(&registry.config)?;
            let listener = bind("listen", config.listen).await?;
            let registry = Arc::new(Registry::open(config, Clock::system(), passphrase)?);
            let listening = Listening { peers: listener.local_addr()?, local: None };
            output.print(&serde_json::to_string(&listening).map_err(|e| Failure::new("internal", e))?);
            Ok(registry.serve(listener, until_stopped(until_stdin_closes)).await?)
        }
        RegistryCommand::CheckConfig { registry } => {
            let config = Config::load(&registry.config)?;
            drop(Registry::open(config, Clock::system(), passphrase)?);
            output
                .result(&json!({ "ok": true }), || "The configuration, keys and certificate are in order.".to_owned());
            Ok(())
        }
        RegistryCommand::Manifest(command) => manifest(command, output).await,
        RegistryCommand::Officer { path } => {
            let key = create_officer(&path)?;
            output.result(&json!({ "key": key.public() }), || format!("Officer's public key: {}", key.public()));
            Ok(())
        }
    }
}

fn init(config: &Config, csr: &Path, keys: &Path, output: &Output) -> Result<(), Failure> {
    for source in [&config.storage_key, &config.pepper] {
        if let keyring::KeySource::Credential(path) = source
            && !path.exists()
        {
            keyring::StorageKey::create_credential(path)?;
        }
    }
    let ring = registry::init(config, passphrase)?;
    let now = Clock::system().now();
    let (key, request) = transport::new_key_and_csr(&config.spiffe()).map_err(|e| Failure::new("certificate", e))?;
    if let Some(parent) = config.tls.key.parent() {
        std::fs::create_dir_all(parent)?;
    }
    keyring::create_private(&config.tls.key, key.as_bytes())?;
    std::fs::write(csr, request)?;
    let public = registry::member_keys(&ring, now, now + KEY_SECONDS);
    std::fs::write(keys, serde_json::to_vec_pretty(&public).map_err(|e| Failure::new("internal", e))?)?;
    output.result(&json!({ "csr": csr, "keys": keys }), || {
        format!("Have {} signed (`ogniwo certs sign`) and {} put into the manifest.", csr.display(), keys.display())
    });
    Ok(())
}

async fn manifest(command: ManifestCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ManifestCommand::Draft { description, out } => {
            let text = read_text(&description)?;
            let manifest: Manifest = serde_json::from_str(&text)
                .map_err(|e| Failure::new("value", format!("{}: {e}", description.display())))?;
            manifest.check()?;
            write(&out, &SignedManifest::draft(&manifest)?)?;
            output
                .result(&json!({ "manifest": out }), || format!("Draft: {}\nNow the officers sign it.", out.display()));
            Ok(())
        }
        ManifestCommand::Next { manifest, epoch, destroy, days, out } => {
            let changes = Changes { epochs: &epoch, destroy: &destroy, days };
            write(&out, &next(&read(&manifest)?, &changes, Clock::system().now())?)?;
            output.result(&json!({ "manifest": out }), || format!("{}\nNow the officers sign it.", out.display()));
            Ok(())
        }
        ManifestCommand::Sign { manifest, key } => {
            let mut signed = read(&manifest)?;
            signed.sign(&open_officer(&key)?);
            write(&manifest, &signed)?;
            output.result(&json!({ "signatures": signed.signatures.len() }), || {
                format!("Signed; {} signatures now.", signed.signatures.len())
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
    let verdict = signed.accept_held().map(drop).map_err(|e| e.to_string());
    let document = json!({
        "fingerprint": signed.fingerprint(), "signatures": signed.signatures.len(),
        "acceptable": verdict.is_ok(), "why_not": verdict.as_ref().err(), "manifest": manifest,
    });
    output.result(&document, || {
        let mut text = format!(
            "{} version {}  fingerprint {}\nsigned by {} of {} officers needed: {}\n",
            manifest.realm,
            manifest.version,
            signed.fingerprint(),
            signed.signatures.len(),
            manifest.officers.threshold,
            verdict.as_ref().map_or_else(Clone::clone, |()| "acceptable".to_owned())
        );
        for member in &manifest.members {
            let duties: Vec<String> = member.roles.iter().map(|r| format!("{r:?}").to_lowercase()).collect();
            text.push_str(&format!(
                "  {:<12} {:<40} {} {}\n",
                member.id,
                member.name,
                member.endpoints.join(" "),
                duties.join(" ")
            ));
        }
        for epoch in &manifest.epochs {
            let holders: Vec<&str> = epoch.holders.iter().map(|h| h.member.as_str()).collect();
            text.push_str(&format!(
                "  epoch {}: {} of {} ({})\n",
                epoch.epoch.0,
                epoch.threshold,
                holders.len(),
                holders.join(", ")
            ));
        }
        text.push_str(&format!("  {} agreements\n", manifest.agreements.len()));
        text
    });
    Ok(())
}

fn read(path: &Path) -> Result<SignedManifest, Failure> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| Failure::new("manifest_refused", format!("{}: {e}", path.display())))
}

fn write(path: &Path, manifest: &SignedManifest) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(manifest).map_err(|e| Failure::new("internal", e))?;
    Ok(keyring::write_atomically(path, &text)?)
}
