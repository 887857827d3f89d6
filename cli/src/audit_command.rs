//! `ogniwo audit`: verify, search, export, report. Works on a copy of a log, on an export, or live through the local API
//! with an officer's token. What is made live is an export first, and verified before anything is said about it.

use crate::args::{
    ApiArgs, AuditCommand, ContinueArgs, ExportArgs, LogStream, SearchArgs, VerifyArgs, WhoArgs, WitnessedArgs,
};
use crate::audit_filter::{live, offline};
use crate::audit_findings::{anomalies, reconcile, review};
use crate::audit_keys::{Federation, Pinned, unverified};
use crate::exit::{Failure, chain};
use crate::files::read_text;
use crate::output::Output;
use crate::prompt::passphrase;
use crate::report::{day, moment};
use crate::wire::{api, get, post, token};
use audit::{Checkpoint, Fault, Vkey, verify_against, verify_export};
use node::{LogPage, Progress, Who, Witnessed};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use transport::Clock;

/// Entries asked for at once.
const PAGE: u64 = 1_000;

pub(crate) async fn run(command: AuditCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify(&arguments, output),
        AuditCommand::Witnessed(arguments) => witnessed(arguments, output).await,
        AuditCommand::Search(arguments) => search(arguments, output).await,
        AuditCommand::Export(arguments) => export(arguments, output).await,
        AuditCommand::Report(arguments) => crate::audit_report::make(arguments, output).await,
        AuditCommand::Who(arguments) => who(arguments, output).await,
        AuditCommand::Reconcile(arguments) => reconcile(arguments, output).await,
        AuditCommand::Anomalies(arguments) => anomalies(arguments, output).await,
        AuditCommand::Review(arguments) => review(arguments, output).await,
        AuditCommand::ContinueAfterRestore(arguments) => continue_after_restore(arguments, output).await,
    }
}

/// Whether a directory is an export and not a log.
fn is_export(dir: &Path) -> bool {
    dir.join("export").is_file()
}

/// Checkpoints that others kept, each signed by the log in `dir`. Those of other logs beside it are passed over.
fn known(dir: &Path, pinned: &Pinned, files: &[PathBuf]) -> Result<Vec<Checkpoint>, Failure> {
    let own = audit::identity(dir).map_err(|e| unverified(&e))?;
    let vkey = pinned.log().unwrap_or(&own);
    let mut known = Vec::new();
    for file in files {
        let wrong = |why: String| Failure::new("value", format!("{}: {why}", file.display()));
        let notes = audit::notes(&read_text(file)?);
        let of_it: Vec<&String> =
            notes.iter().filter(|note| note.split('\n').next().is_some_and(|origin| origin == vkey.name())).collect();
        if of_it.is_empty() {
            return Err(wrong(format!("it has no checkpoint of {}", vkey.name())));
        }
        for note in of_it {
            known.push(Checkpoint::open(note, vkey).map_err(|e| wrong(chain(&e)))?);
        }
    }
    Ok(known)
}

/// Why a log did not verify, and of a checkpoint that it contradicts whose cosignatures this has.
fn contradicted(fault: &Fault, known: &[Checkpoint], pinned: &Pinned) -> Failure {
    let failure = unverified(fault);
    let (Fault::Rewritten { signed } | Fault::Shorter { signed, .. }) = fault else { return failure };
    let by: BTreeSet<&str> =
        known.iter().filter(|known| known.size() == *signed).flat_map(|known| pinned.cosigners(known)).collect();
    if by.is_empty() {
        return failure;
    }
    let by = by.into_iter().collect::<Vec<_>>().join(", ");
    Failure::new(
        &failure.code,
        format!("{}; the checkpoint of {signed} entries given is cosigned by {by}", failure.message),
    )
}

/// What a node, or the witness with its files in a directory, cosigned of other logs.
async fn witnessed(arguments: WitnessedArgs, output: &Output) -> Result<(), Failure> {
    let WitnessedArgs { api: to, log, dir } = arguments;
    let mut found: Witnessed = match dir {
        Some(dir) => {
            let dir = Some(dir.join("witness")).filter(|inner| inner.is_dir()).unwrap_or(dir);
            Witnessed::of(None, audit::witnessed(&dir).map_err(|e| unverified(&e))?)
        }
        None => get(&to, "/v1/audit/witnessed").await?,
    };
    if let Some(name) = &log {
        // REALM/MEMBER, with more behind it for a log that went on.
        found.logs.retain(|log| log.origin == *name || log.origin.split('/').nth(1) == Some(name));
    }
    if found.logs.is_empty() {
        let what = log.map_or_else(|| "any log".to_owned(), |name| format!("a log of {name}"));
        return Err(Failure::new("unknown", format!("no checkpoint of {what} was cosigned there")));
    }
    output.result(&found, || {
        let notes = found.logs.iter().map(|log| log.checkpoint.trim_end_matches('\n'));
        notes.collect::<Vec<_>>().join("\n\n")
    });
    Ok(())
}

fn verify(arguments: &VerifyArgs, output: &Output) -> Result<(), Failure> {
    let VerifyArgs { dir, vkey, manifest, since, uncosigned } = arguments;
    std::fs::read_dir(dir).map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", dir.display())))?;
    let federation = manifest.as_deref().map(Federation::read).transpose()?;
    let pinned = Pinned::of(dir, vkey.as_deref(), federation.as_ref())?;
    let known = known(dir, &pinned, since)?;
    let bar = output.progress("verifying", false);
    // A log being written has a few more entries than its checkpoint signs.
    let total = audit::signed_size(dir).map_err(|e| unverified(&e))?;
    let progress = |done: u64| bar(Progress { done, total: total.max(done) });
    let held: Vec<u64> = known.iter().map(Checkpoint::size).collect();
    let mut document = if is_export(dir) {
        let exported = verify_export(dir, pinned.against(&known), |_, _| {}, progress)
            .map_err(|e| contradicted(&e, &known, &pinned))?;
        pinned.enough(exported.cosigned, &exported.witnesses)?;
        if !uncosigned {
            pinned.covered(exported.size, exported.cosigned, &exported.witnesses, exported.exported_at)?;
        }
        json!({
            "origin": exported.vkey.name(), "exported_at": exported.exported_at, "entries": exported.size, "checkpoint": exported.size, "read": exported.read,
            "exported": exported.entries, "cosigned": exported.cosigned, "witnesses": witnesses(&exported.witnesses),
        })
    } else {
        let report = verify_against(dir, pinned.against(&known), None, progress)
            .map_err(|e| contradicted(&e, &known, &pinned))?;
        pinned.enough(report.cosigned, &report.witnesses)?;
        if !uncosigned {
            pinned.covered(report.entries, report.cosigned, &report.witnesses, transport::Clock::system().now().0)?;
        }
        json!({
            "origin": report.vkey.name(), "entries": report.entries, "checkpoint": report.signed, "read": report.read,
            "torn_tail_bytes": report.torn_tail_bytes, "erased": report.payloads_erased, "cosigned": report.cosigned,
            "witnesses": witnesses(&report.witnesses),
        })
    };
    bar(Progress { done: total, total });
    if let Some(document) = document.as_object_mut() {
        document.insert("verified".to_owned(), true.into());
        document.insert("held_against".to_owned(), json!(held));
    }
    checked_by(&mut document, federation.as_ref(), &pinned);
    output.result(&document, || verified_words(&document, &known, &pinned, federation.as_ref()));
    Ok(())
}

/// Adds by what manifest something was checked, and whether the witnesses' keys are its.
fn checked_by(document: &mut Value, federation: Option<&Federation>, pinned: &Pinned) {
    let Some(document) = document.as_object_mut() else { return };
    document.insert("witnesses_checked".to_owned(), pinned.knows_witnesses().into());
    document.extend(federation.map(|federation| ("manifest".to_owned(), federation.named())));
}

fn verified_words(document: &Value, held: &[Checkpoint], pinned: &Pinned, federation: Option<&Federation>) -> String {
    let of = |key: &str| document.get(key).cloned().unwrap_or_default();
    let mut text = format!(
        "{}: {} entries verified, {} of them under the signed checkpoint",
        of("origin").as_str().unwrap_or_default(),
        of("entries"),
        of("checkpoint")
    );
    if of("torn_tail_bytes").as_u64().is_some_and(|bytes| bytes > 0) {
        text.push_str("; an unfinished write at the end is ignored");
    }
    if let Some(exported) = of("exported").as_u64() {
        text.push_str(&format!("; {exported} given in clear, each the one in its place"));
    }
    let names: Vec<String> = of("witnesses")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|witness| Some(witness.get("name")?.as_str()?.to_owned()))
        .collect();
    text.push_str(&match names.as_slice() {
        [] => "\nnobody else vouches for any of them".to_owned(),
        names => format!("\n{} of them cosigned by {}", of("cosigned"), names.join(", ")),
    });
    if !names.is_empty() {
        text.push_str(&format!("; {}", pinned.words()));
    }
    if let Some(federation) = federation {
        text.push_str(&format!("\n{}", federation.words()));
    }
    for known in held {
        let cosigners = pinned.cosigners(known).collect::<Vec<_>>().join(", ");
        let by = if cosigners.is_empty() { String::new() } else { format!(", cosigned by {cosigners}") };
        text.push_str(&format!("\nthe first {} are those of the checkpoint given{by}", known.size()));
    }
    if !held.is_empty() {
        text.push_str(&format!("\n{} read, the tiles have the tree before them", of("read")));
    }
    text
}

fn witnesses(witnesses: &[(Vkey, u64)]) -> Vec<Value> {
    witnesses.iter().map(|(key, time)| json!({ "name": key.name(), "time": time })).collect()
}

async fn search(arguments: SearchArgs, output: &Output) -> Result<(), Failure> {
    let SearchArgs { api: to, filter, export, manifest, start: first, limit, stream, reason, confirm_token_file } =
        arguments;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Value> = Vec::new();
    let federation = manifest.as_deref().map(Federation::read).transpose()?;
    let mut checked = json!({});
    if let Some(dir) = export {
        let (wanted, stream) = (offline(&filter)?, stream.shown());
        let pinned = Pinned::of(&dir, None, federation.as_ref())?;
        let take = |index: u64, payload: Value| {
            let json = serde_json::to_vec(&payload).unwrap_or_default();
            if index >= first && found.len() < limit && wanted.matches(&json) {
                let shown = audit::project(&payload, stream);
                found.extend(shown.map(|payload| json!({ "index": index, "payload": payload })));
            }
        };
        let exported = verify_export(&dir, pinned.against(&[]), take, |_| {}).map_err(|e| unverified(&e))?;
        pinned.enough(exported.cosigned, &exported.witnesses)?;
        checked_by(&mut checked, federation.as_ref(), &pinned);
    } else {
        let (api, token, filter) = (api(&to)?, token(&to)?, live(&filter)?);
        let second = second(confirm_token_file.as_deref())?;
        let mut start = Some(first);
        while let Some(at) = start.filter(|_| found.len() < limit) {
            let most = PAGE.min((limit - found.len()) as u64);
            let body =
                json!({ "filter": filter, "start": at, "limit": most, "stream": stream.name(), "reason": reason });
            let page: LogPage = api.post("/v1/audit/search", &token, second.as_deref(), &body).await?;
            found.extend(page.entries.iter().filter_map(|entry| serde_json::to_value(entry).ok()));
            start = page.next;
        }
    }
    if let Some(document) = checked.as_object_mut() {
        document.insert("entries".to_owned(), json!(found));
    }
    output.result(&checked, || {
        let mut lines: Vec<String> = found.iter().map(entry_line).collect();
        lines.push(format!("{} entries", found.len()));
        lines.extend(federation.as_ref().map(Federation::words));
        lines.join("\n")
    });
    Ok(())
}

impl LogStream {
    fn shown(self) -> audit::Stream {
        match self {
            LogStream::Dpo => audit::Stream::Dpo,
            LogStream::Operations => audit::Stream::Operations,
            LogStream::Siem => audit::Stream::Siem,
        }
    }

    /// As the local API calls it.
    fn name(self) -> &'static str {
        match self {
            LogStream::Dpo => "dpo",
            LogStream::Operations => "operations",
            LogStream::Siem => "siem",
        }
    }
}

/// An entry in a line: what it is about, what came of it at each holder, who, about whom, and of what an officer did
/// which report, by what criteria and why.
fn entry_line(entry: &Value) -> String {
    let payload = entry.get("payload").unwrap_or(&Value::Null);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = payload.get("time").and_then(Value::as_i64).unwrap_or_default();
    let index = entry.get("index").and_then(Value::as_u64).unwrap_or_default();
    let told = ["asker", "holder", "query", "purpose", "basis", "decision", "reason", "detail"];
    let outcome = |outcome: &Value| {
        let reason = Some(text(outcome, "reason")).filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{} {}: {}{reason}", text(outcome, "holder"), text(outcome, "query"), text(outcome, "outcome"))
    };
    let outcomes = payload.get("outcomes").and_then(Value::as_array).into_iter().flatten().map(outcome);
    let named = |field: &str| Some(text(payload, field)).filter(|id| !id.is_empty()).map(|id| format!("{field} {id}"));
    let criteria = payload.get("filter").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let criteria = Some(criteria.collect::<Vec<_>>()).filter(|names| !names.is_empty());
    let why =
        Some(text(payload, "reason_text")).filter(|why| !why.is_empty()).map(|why| format!("\u{201c}{why}\u{201d}"));
    let told: Vec<String> = told
        .map(|key| text(payload, key))
        .into_iter()
        .filter(|word| !word.is_empty())
        .chain(outcomes)
        .chain(["user", "file", "report"].into_iter().filter_map(named))
        .chain(criteria.map(|names| format!("by {}", names.join(", "))))
        .chain(why)
        .collect();
    format!("{index:>8}  {}  {:<27}  {}", moment(time), text(payload, "event"), told.join("  "))
}

async fn export(arguments: ExportArgs, output: &Output) -> Result<(), Failure> {
    let ExportArgs { api: to, filter, manifest, into, reason, confirm_token_file } = arguments;
    if into.exists() {
        return Err(Failure::new("exists", format!("{} is already there", into.display())));
    }
    let federation = manifest.as_deref().map(Federation::read).transpose()?;
    let parent = std::path::absolute(&into)?;
    let parent = parent.parent().ok_or_else(|| Failure::new("value", "a directory is needed"))?;
    let body = json!({ "filter": live(&filter)?, "reason": reason });
    let unpacked = fetch(&to, second(confirm_token_file.as_deref())?.as_deref(), &body, parent).await?;
    let pinned = Pinned::of(&unpacked.path(), None, federation.as_ref())?;
    let exported =
        verify_export(&unpacked.path(), pinned.against(&[]), |_, _| {}, |_| {}).map_err(|e| unverified(&e))?;
    pinned.enough(exported.cosigned, &exported.witnesses)?;
    std::fs::rename(unpacked.path(), &into)?;
    let mut document = json!({
        "directory": into, "origin": exported.vkey.name(), "entries": exported.size, "exported": exported.entries,
        "cosigned": exported.cosigned, "witnesses": witnesses(&exported.witnesses),
    });
    checked_by(&mut document, federation.as_ref(), &pinned);
    output.result(&document, || {
        let by = federation.as_ref().map(|federation| format!("{}\n", federation.words())).unwrap_or_default();
        format!(
            "{}: {} of {} entries, verified; {} of them others vouch for ({}).\n{by}\
             It verifies anywhere: {} audit verify {} --manifest FILE",
            into.display(),
            exported.entries,
            exported.size,
            exported.cosigned,
            pinned.words(),
            crate::program(),
            into.display()
        )
    });
    Ok(())
}

/// The token of whoever confirms.
pub(crate) fn second(file: Option<&Path>) -> Result<Option<String>, Failure> {
    Ok(file.map(read_text).transpose()?.map(|text| text.trim().to_owned()))
}

/// An export fetched and unpacked.
pub(crate) struct Unpacked(TempDir);

impl Unpacked {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("export")
    }
}

pub(crate) async fn fetch(to: &ApiArgs, second: Option<&str>, body: &Value, near: &Path) -> Result<Unpacked, Failure> {
    let dir = tempfile::Builder::new().prefix(".ogniwo-export-").tempdir_in(near)?;
    let mut archive = tempfile::tempfile_in(dir.path())?;
    api(to)?.download("/v1/audit/export", &token(to)?, second, body, &mut archive).await?;
    std::io::Seek::rewind(&mut archive)?;
    tar::Archive::new(archive).unpack(dir.path())?;
    Ok(Unpacked(dir))
}

async fn who(arguments: WhoArgs, output: &Output) -> Result<(), Failure> {
    let WhoArgs { api: to, user, file, reason } = arguments;
    let found: Who = post(&to, "/v1/audit/who", &json!(node::WhoBody { user, file, reason })).await?;
    output.result(&found, || match &found.staff {
        Some(staff) => {
            let first = found.first_seen.map(moment).unwrap_or_default();
            // Of the last only the day is kept.
            let last = found.last_seen.map(day).unwrap_or_default();
            format!("{staff}, seen first {first} and last on {last}")
        }
        None => format!("client {}", found.local_numbers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    });
    Ok(())
}

async fn continue_after_restore(arguments: ContinueArgs, output: &Output) -> Result<(), Failure> {
    let ContinueArgs { api: to } = arguments;
    let (config, token) = (node::Config::load(&to.node.config)?, token(&to)?);
    let continued = node::continue_after_restore(config, Clock::system(), &token, passphrase).await?;
    output.result(&continued, || continued_words(&continued, &format!("{} node run", crate::program())));
    Ok(())
}

/// What became of a log that goes on, and how to go on with it.
pub(crate) fn continued_words(continued: &audit::Continuation, start: &str) -> String {
    format!(
        "{} had {} entries, others cosigned {}. It stays as it is; the log goes on as {} in {}.\nStart again with `{start}`.",
        continued.previous_origin,
        continued.previous_size,
        continued.cosigned_size,
        continued.origin,
        continued.directory.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_an_officer_did_about_whom_and_why() {
        let line = |payload: Value| entry_line(&json!({ "index": 7, "payload": payload }));
        let reported = line(json!({
            "event": "dpo.reported", "time": 1_795_258_800, "user": "U", "file": "F", "report": "R2",
            "filter": ["file", "period"], "reason_text": "skarga 3/2026",
        }));
        let expected = "       7  2026-11-21 12:00:00  dpo.reported                 user U  file F  report R2  by file, period  \
                        \u{201c}skarga 3/2026\u{201d}";
        assert_eq!(reported, expected);
        // The longest names stand apart from what follows.
        for event in audit::EventKind::ALL {
            let written = line(json!({ "event": event.name(), "time": 0, "asker": "pup" }));
            assert!(written.ends_with(" pup") && written.contains(&format!(" {} ", event.name())), "{written}");
        }
    }
}
