//! `ogniwo audit`: verify, search, export, report. Works on a copy of a log, on an export, or live through the local API
//! with an officer's token. What is made live is an export first, and verified before anything is said about it.

use crate::args::{
    AnomaliesArgs, AuditCommand, ContinueArgs, ExportArgs, FilterArgs, Form, ReconcileArgs, ReportArgs, ReviewArgs,
    SearchArgs, VerifyArgs, WhoArgs,
};
use crate::exit::{Failure, chain, read_text, write_file};
use crate::node_command::{api, token};
use crate::output::Output;
use crate::prompt::{passphrase, resident};
use crate::report::{self, Context, Kind, Words, exchange};
use audit::{Checkpoint, Exported, Filter, Vkey, verify_against, verify_export};
use http::Method;
use node::{Anomalies, Finding, LogPage, Progress, Reconciled, ResidentData, Who};
use policies::Library;
use protocol::{Manifest, SignedManifest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use transport::Clock;

/// Entries asked for at once.
const PAGE: u64 = 1_000;

pub(crate) async fn run(command: AuditCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify(&arguments, output),
        AuditCommand::Search(arguments) => search(arguments, output).await,
        AuditCommand::Export(arguments) => export(arguments, output).await,
        AuditCommand::Report(arguments) => make_report(arguments, output).await,
        AuditCommand::Who(arguments) => who(arguments, output).await,
        AuditCommand::Reconcile(arguments) => reconcile(arguments, output).await,
        AuditCommand::Anomalies(arguments) => anomalies(arguments, output).await,
        AuditCommand::Review(arguments) => review(arguments, output).await,
        AuditCommand::ContinueAfterRestore(arguments) => continue_after_restore(arguments, output).await,
    }
}

fn unverified(error: &audit::Fault) -> Failure {
    Failure::new("verification_failed", chain(error))
}

fn pinned(vkey: Option<&str>) -> Result<Option<Vkey>, Failure> {
    vkey.map(Vkey::parse).transpose().map_err(|e| Failure::new("value", chain(&e)))
}

/// Whether a directory is an export and not a log.
fn is_export(dir: &Path) -> bool {
    dir.join("export").is_file()
}

/// Checkpoints that others kept, each signed by the log in `dir`.
fn known(dir: &Path, vkey: Option<&Vkey>, files: &[PathBuf]) -> Result<Vec<Checkpoint>, Failure> {
    let own = audit::identity(dir).map_err(|e| unverified(&e))?;
    let vkey = vkey.unwrap_or(&own);
    let open = |file: &PathBuf| {
        let checkpoint = Checkpoint::open(&read_text(file)?, vkey);
        checkpoint.map_err(|e| Failure::new("value", format!("{}: {}", file.display(), chain(&e))))
    };
    files.iter().map(open).collect()
}

fn verify(arguments: &VerifyArgs, output: &Output) -> Result<(), Failure> {
    let VerifyArgs { dir, vkey, since } = arguments;
    std::fs::read_dir(dir).map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", dir.display())))?;
    let pinned = pinned(vkey.as_deref())?;
    let known = known(dir, pinned.as_ref(), since)?;
    let bar = output.progress("verifying", false);
    // Their number is known at the end only.
    let progress = |done| bar(Progress { done, total: done + 1 });
    let held: Vec<u64> = known.iter().map(Checkpoint::size).collect();
    let document = if is_export(dir) {
        let exported = verify_export(dir, pinned.as_ref(), &known, |_, _| {}, progress).map_err(|e| unverified(&e))?;
        json!({
            "origin": exported.vkey.name(), "entries": exported.size, "checkpoint": exported.size, "verified": true,
            "exported": exported.entries, "cosigned": exported.cosigned, "witnesses": witnesses(&exported.witnesses),
            "held_against": held,
        })
    } else {
        let report = verify_against(dir, pinned.as_ref(), None, &known, progress).map_err(|e| unverified(&e))?;
        json!({
            "origin": report.vkey.name(), "entries": report.entries, "checkpoint": report.signed, "verified": true,
            "torn_tail_bytes": report.torn_tail_bytes, "erased": report.payloads_erased, "cosigned": report.cosigned,
            "witnesses": witnesses(&report.witnesses), "held_against": held,
        })
    };
    bar(Progress { done: 1, total: 1 });
    let of = |key: &str| document.get(key).cloned().unwrap_or_default();
    output.result(&document, || {
        let mut text = format!(
            "{}: {} entries verified, {} of them under the signed checkpoint",
            of("origin").as_str().unwrap_or_default(),
            of("entries"),
            of("checkpoint")
        );
        let cosigned = of("witnesses").as_array().map_or(0, Vec::len);
        text.push_str(&format!(", {} under one that {cosigned} others cosigned", of("cosigned")));
        if of("torn_tail_bytes").as_u64().is_some_and(|bytes| bytes > 0) {
            text.push_str("; an unfinished write at the end is ignored");
        }
        if let Some(exported) = of("exported").as_u64() {
            text.push_str(&format!("; {exported} given in clear, each the one in its place"));
        }
        for size in &held {
            text.push_str(&format!("\nthe first {size} are those of the checkpoint given"));
        }
        text
    });
    Ok(())
}

fn witnesses(witnesses: &[(Vkey, u64)]) -> Vec<Value> {
    witnesses.iter().map(|(key, time)| json!({ "name": key.name(), "time": time })).collect()
}

/// The filter as the local API takes it; the PESEL comes from a prompt or standard input.
fn live_filter(arguments: &FilterArgs) -> Result<Value, Failure> {
    let FilterArgs {
        resident: by_pesel,
        who,
        event,
        staff,
        user,
        peer,
        purpose,
        basis,
        case,
        decision,
        key,
        from,
        until,
        ..
    } = arguments;
    let mut filter = json!({
        "event": event, "staff": staff, "user": user, "peer": peer, "purpose": purpose, "basis": basis,
        "case_ref": case, "decision": decision, "key": key, "from": moment(from.as_deref())?, "until": moment(until.as_deref())?,
    });
    if *by_pesel || who.local_number.is_some() {
        let resident = resident(who)?;
        filter.as_object_mut().map(|filter| filter.insert("resident".to_owned(), resident));
    }
    if let Some(filter) = filter.as_object_mut() {
        filter.retain(|_, value| !value.is_null());
    }
    Ok(filter)
}

/// The filter on an export, where only what stands in the entries can be looked for.
fn offline_filter(arguments: &FilterArgs) -> Result<Filter, Failure> {
    if arguments.resident
        || arguments.who.local_number.is_some()
        || arguments.staff.is_some()
        || arguments.case.is_some()
    {
        let why = "a resident, a member of staff or a case can only be looked for live: the node alone knows their pseudonyms";
        return Err(Failure::new("value", why));
    }
    let FilterArgs { event, user, file, peer, purpose, basis, decision, key, from, until, .. } = arguments;
    Ok(Filter {
        event: event.clone(),
        file: file.clone(),
        user: user.clone(),
        peer: peer.clone(),
        purpose: purpose.clone(),
        basis: basis.clone(),
        decision: decision.clone(),
        key: key.clone(),
        from: moment(from.as_deref())?,
        until: moment(until.as_deref())?,
        ..Filter::default()
    })
}

/// A day of Warsaw or a moment (RFC 3339) in seconds since 1970.
fn moment(text: Option<&str>) -> Result<Option<i64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let day = || policies::calendar::begins(text.parse().ok()?).map(|begins| begins.0);
    let instant = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second).or_else(day);
    let wrong =
        || Failure::new("value", format!("{text} is neither a day (2026-11-21) nor a moment (2026-11-21T12:00:00Z)"));
    instant.map(Some).ok_or_else(wrong)
}

async fn search(arguments: SearchArgs, output: &Output) -> Result<(), Failure> {
    let SearchArgs { api: to, filter, export, limit, reason } = arguments;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Value> = Vec::new();
    if let Some(dir) = export {
        let wanted = offline_filter(&filter)?;
        let take = |index: u64, payload: Value| {
            let json = serde_json::to_vec(&payload).unwrap_or_default();
            if found.len() < limit && wanted.matches(&json) {
                found.extend(
                    audit::project(&payload, audit::Stream::Dpo).map(|p| json!({ "index": index, "payload": p })),
                );
            }
        };
        verify_export(&dir, None, &[], take, |_| {}).map_err(|e| unverified(&e))?;
    } else {
        let (api, token, filter) = (api(&to)?, token(&to)?, live_filter(&filter)?);
        let mut start = Some(0);
        while let Some(at) = start.filter(|_| found.len() < limit) {
            let body = json!({ "filter": filter, "start": at, "limit": PAGE.min((limit - found.len()) as u64), "reason": reason });
            let page: LogPage = api.call(Method::POST, "/v1/audit/search", &token, Some(&body)).await?;
            found.extend(page.entries.iter().filter_map(|entry| serde_json::to_value(entry).ok()));
            start = page.next;
        }
    }
    output.result(&json!({ "entries": found }), || {
        let line = |entry: &Value| {
            let payload = entry.get("payload").unwrap_or(&Value::Null);
            let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let time = payload.get("time").and_then(Value::as_i64).unwrap_or_default();
            let index = entry.get("index").and_then(Value::as_u64).unwrap_or_default();
            let told = ["asker", "holder", "query", "purpose", "basis", "decision", "reason", "detail"].map(text);
            let told: Vec<String> = told.into_iter().filter(|word| !word.is_empty()).collect();
            format!("{index:>8}  {}  {:<24}{}", report::moment(time), text("event"), told.join("  "))
        };
        let mut lines: Vec<String> = found.iter().map(line).collect();
        lines.push(format!("{} entries", found.len()));
        lines.join("\n")
    });
    Ok(())
}

async fn export(arguments: ExportArgs, output: &Output) -> Result<(), Failure> {
    let ExportArgs { api: to, filter, into, reason } = arguments;
    if into.exists() {
        return Err(Failure::new("exists", format!("{} is already there", into.display())));
    }
    let parent = std::path::absolute(&into)?;
    let parent = parent.parent().ok_or_else(|| Failure::new("value", "a directory is needed"))?;
    let body = json!({ "filter": live_filter(&filter)?, "reason": reason });
    let unpacked = fetch(&to, None, &body, parent).await?;
    let exported = verify_export(&unpacked.path(), None, &[], |_, _| {}, |_| {}).map_err(|e| unverified(&e))?;
    std::fs::rename(unpacked.path(), &into)?;
    let document = json!({
        "directory": into, "origin": exported.vkey.name(), "entries": exported.size, "exported": exported.entries,
        "cosigned": exported.cosigned,
    });
    output.result(&document, || {
        format!(
            "{}: {} of {} entries, verified; {} of them others vouch for.\nIt verifies anywhere: ogniwo audit verify {}",
            into.display(),
            exported.entries,
            exported.size,
            exported.cosigned,
            into.display()
        )
    });
    Ok(())
}

/// An export fetched and unpacked.
struct Unpacked(TempDir);

impl Unpacked {
    fn path(&self) -> PathBuf {
        self.0.path().join("export")
    }
}

async fn fetch(
    to: &crate::args::ApiArgs,
    second: Option<&str>,
    body: &Value,
    near: &Path,
) -> Result<Unpacked, Failure> {
    let dir = tempfile::Builder::new().prefix(".ogniwo-export-").tempdir_in(near)?;
    let mut archive = tempfile::tempfile_in(dir.path())?;
    api(to)?.download("/v1/audit/export", &token(to)?, second, body, &mut archive).await?;
    std::io::Seek::rewind(&mut archive)?;
    tar::Archive::new(archive).unpack(dir.path())?;
    Ok(Unpacked(dir))
}

fn library() -> Result<Library, Failure> {
    Library::builtin().map_err(|e| Failure::new("policies", chain(&e)))
}

async fn make_report(arguments: ReportArgs, output: &Output) -> Result<(), Failure> {
    let ReportArgs {
        kind,
        api: to,
        filter,
        export,
        manifest,
        lang,
        form,
        semicolon,
        out,
        confirm_token_file,
        vkey,
        reason,
    } = arguments;
    let manifest = manifest.as_deref().map(read_manifest).transpose()?;
    if kind.of_one_resident() && export.is_none() && !filter.resident && filter.who.local_number.is_none() {
        return Err(Failure::new(
            "value",
            format!("{} is about one resident: give --resident or --local-number", kind.name()),
        ));
    }
    let live;
    let mut held: Option<ResidentData> = None;
    let (dir, wanted) = if let Some(dir) = &export {
        if kind == Kind::R9 {
            return Err(Failure::new("value", "R9 is made live only, before the eyes of a second officer"));
        }
        (dir.clone(), offline_filter(&filter)?)
    } else {
        let second = confirm_token_file.as_deref().map(read_text).transpose()?;
        let filter = live_filter(&filter)?;
        if kind == Kind::R1 {
            let body =
                json!({ "resident": filter.get("resident"), "reason": reason.as_deref().unwrap_or(kind.name()) });
            let path = "/v1/audit/residents/show";
            held = Some(api(&to)?.call(Method::POST, path, &token(&to)?, Some(&body)).await?);
        }
        let body = json!({ "filter": filter, "report": kind.name(), "reason": reason });
        live = fetch(&to, second.as_deref().map(str::trim), &body, &std::env::temp_dir()).await?;
        (live.path(), Filter::default())
    };
    let words = Words::new(lang, library()?, manifest.as_ref());
    let made = Made::of(kind, &dir, vkey.as_deref(), &wanted, &words)?;
    let Made { exported, report, usage, events } = made;
    let (manifest, held) = (manifest.as_ref(), held.as_ref());
    let context = Context { words: &words, exported: &exported, manifest, held };
    let document = report::finish(kind, report, &context);
    let form = if output.is_json() { Form::Json } else { form };
    let written = match form {
        Form::Text => report::text(&document),
        Form::Csv => report::csv(&document, if semicolon { ';' } else { ',' }),
        Form::Html => report::html(&document),
        Form::Json => pretty(&document)?,
        Form::FindUsage => pretty(&usage)?,
        Form::Fhir => pretty(&json!({
            "resourceType": "Bundle", "type": "collection",
            "entry": events.into_iter().map(|event| json!({ "resource": event })).collect::<Vec<_>>(),
        }))?,
    };
    if let Some(path) = out {
        return write_file(&path, written.as_bytes());
    }
    output.print(written.trim_end_matches('\n'));
    Ok(())
}

/// What one pass over a verified export comes to.
struct Made {
    exported: Exported,
    report: Box<dyn report::Report>,
    usage: Vec<Value>,
    events: Vec<Value>,
}

impl Made {
    fn of(kind: Kind, dir: &Path, vkey: Option<&str>, wanted: &Filter, words: &Words) -> Result<Self, Failure> {
        let (mut report, mut usage, mut events) = (report::begin(kind), Vec::new(), Vec::new());
        let origin = audit::identity(dir).map_err(|e| unverified(&e))?.name().to_owned();
        let take = |index: u64, payload: Value| {
            let json = serde_json::to_vec(&payload).unwrap_or_default();
            if let Some(entry) = audit::project(&payload, audit::Stream::Dpo).filter(|_| wanted.matches(&json)) {
                report.take(index, &entry, words);
                usage.extend(exchange::usage(&entry, words));
                events.extend(exchange::audit_event(index, &entry, &origin));
            }
        };
        let exported = verify_export(dir, pinned(vkey)?.as_ref(), &[], take, |_| {}).map_err(|e| unverified(&e))?;
        Ok(Made { exported, report, usage, events })
    }
}

fn pretty(document: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|e| Failure::new("internal", e))
}

fn read_manifest(path: &Path) -> Result<Manifest, Failure> {
    let text = read_text(path)?;
    let signed: SignedManifest =
        serde_json::from_str(&text).map_err(|e| Failure::new("value", format!("{}: {e}", path.display())))?;
    Ok(signed.accept_held()?)
}

async fn who(arguments: WhoArgs, output: &Output) -> Result<(), Failure> {
    let WhoArgs { api: to, user, file, reason } = arguments;
    let body = serde_json::to_value(node::WhoBody { user, file, reason }).map_err(|e| Failure::new("internal", e))?;
    let found: Who = api(&to)?.call(Method::POST, "/v1/audit/who", &token(&to)?, Some(&body)).await?;
    output.result(&found, || match &found.staff {
        Some(staff) => {
            let seen = |at: Option<i64>| report::moment(at.unwrap_or_default());
            format!("{staff}, seen first {} and last {}", seen(found.first_seen), seen(found.last_seen))
        }
        None => format!("client {}", found.local_numbers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    });
    Ok(())
}

async fn reconcile(arguments: ReconcileArgs, output: &Output) -> Result<(), Failure> {
    let ReconcileArgs { api: to, peer, from, until } = arguments;
    let body = node::ReconcileBody { peer, from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let body = serde_json::to_value(body).map_err(|e| Failure::new("internal", e))?;
    let done: Reconciled = api(&to)?.call(Method::POST, "/v1/audit/reconcile", &token(&to)?, Some(&body)).await?;
    output.result(&done, || {
        let lines = done.findings.iter().map(finding_line);
        let head = format!("{} questions stand alike in both logs, {} do not", done.matched, done.findings.len());
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    });
    let open = done.findings.iter().any(|finding| finding.state == node::ReviewState::Open);
    if open { Err(Failure::new("verification_failed", "the two logs disagree")) } else { Ok(()) }
}

async fn anomalies(arguments: AnomaliesArgs, output: &Output) -> Result<(), Failure> {
    let AnomaliesArgs { api: to, from, until } = arguments;
    let body = node::AnomaliesBody { from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let body = serde_json::to_value(body).map_err(|e| Failure::new("internal", e))?;
    let done: Anomalies = api(&to)?.call(Method::POST, "/v1/audit/anomalies", &token(&to)?, Some(&body)).await?;
    output.result(&done, || {
        let explained: u64 = done.explained.values().sum();
        let mut lines = vec![format!("{} accesses, {explained} of them explained", done.examined)];
        lines.extend(done.explained.iter().map(|(why, times)| format!("  {:<10} {times}", name(why))));
        lines.extend(done.findings.iter().map(finding_line));
        lines.join("\n")
    });
    Ok(())
}

async fn review(arguments: ReviewArgs, output: &Output) -> Result<(), Failure> {
    let ReviewArgs { api: to, id, explained, confirmed, note } = arguments;
    let (api, token) = (api(&to)?, token(&to)?);
    let findings: Vec<Finding> = match id {
        None => api.call(Method::GET, "/v1/audit/findings", &token, None).await?,
        Some(id) => {
            let state = if confirmed {
                "confirmed"
            } else if explained {
                "explained"
            } else {
                "open"
            };
            let body = json!({ "state": state, "note": note.unwrap_or_default() });
            vec![api.call(Method::POST, &format!("/v1/audit/findings/{id}"), &token, Some(&body)).await?]
        }
    };
    output.result(&findings, || {
        let lines: Vec<String> = findings.iter().map(finding_line).collect();
        if lines.is_empty() { "nothing to look at".to_owned() } else { lines.join("\n") }
    });
    Ok(())
}

/// What something of the API is called on the wire.
fn name(word: &impl serde::Serialize) -> String {
    json!(word).as_str().unwrap_or_default().to_owned()
}

fn finding_line(finding: &Finding) -> String {
    let (kind, state) = (name(&finding.kind), name(&finding.state));
    let time = jiff::Timestamp::from_second(finding.time).map(|time| time.to_string()).unwrap_or_default();
    let with = finding.peer.as_ref().map(|peer| format!(" with {peer}")).unwrap_or_default();
    let entries = finding.entries.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("{}  {time}  {kind}{with}, {state}\n    {}; entries {entries}", finding.id, finding.why.en);
    let numbers: Vec<&str> = finding.local_numbers.iter().map(String::as_str).collect();
    if !numbers.is_empty() {
        text.push_str(&format!("\n    client: {}", numbers.join(", ")));
    }
    let about = [("user", &finding.user), ("file", &finding.file), ("note", &finding.note)];
    for (what, said) in about.into_iter().filter_map(|(what, said)| Some((what, said.as_ref()?))) {
        text.push_str(&format!("\n    {what}: {said}"));
    }
    text
}

async fn continue_after_restore(arguments: ContinueArgs, output: &Output) -> Result<(), Failure> {
    let ContinueArgs { api: to } = arguments;
    let (config, token) = (node::Config::load(&to.node.config)?, token(&to)?);
    let continued = node::continue_after_restore(config, Clock::system(), &token, passphrase).await?;
    output.result(&continued, || continued_words(&continued, "ogniwo node run"));
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
