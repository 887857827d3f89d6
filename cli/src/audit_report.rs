//! `ogniwo audit report`: of a verified export, one fetched for it or one at hand.

use crate::args::{Form, ReportArgs};
use crate::audit_command::{fetch, second};
use crate::audit_filter::{live, moment, offline};
use crate::audit_keys::{Federation, Pinned, unverified};
use crate::exit::{Failure, chain};
use crate::files::write_file;
use crate::output::Output;
use crate::report::{self, Asked, Context, Kind, Words, exchange};
use crate::wire::post;
use audit::{Exported, Filter, verify_export};
use node::ResidentData;
use policies::Library;
use serde_json::{Value, json};
use std::path::Path;

pub(crate) async fn make(arguments: ReportArgs, output: &Output) -> Result<(), Failure> {
    let ReportArgs {
        kind,
        api: to,
        filter,
        aware,
        export,
        manifest,
        against,
        lang,
        form,
        semicolon,
        out,
        confirm_token_file,
        vkey,
        reason,
    } = arguments;
    let form = if output.is_json() { Form::Json } else { form };
    kind.may_be(form)?;
    if aware.is_some() && kind != Kind::R4 {
        return Err(Failure::new("value", format!("--aware is for R4, and not for {}", kind.name())));
    }
    let asked = Asked { peer: filter.peer.clone(), request: filter.request.clone(), aware: moment(aware.as_deref())? };
    if kind.of_agreements() && manifest.is_none() {
        let why = format!("{} is about what the manifest has: give it with --manifest", kind.name());
        return Err(Failure::new("value", why));
    }
    let federation = manifest.as_deref().map(Federation::read).transpose()?;
    let manifest = federation.as_ref().map(|federation| &federation.manifest);
    if against.is_some() && kind != Kind::R3 {
        return Err(Failure::new("value", format!("--against is for R3, and not for {}", kind.name())));
    }
    let against = against.as_deref().map(Federation::read).transpose()?;
    if against.as_ref().zip(manifest).is_some_and(|(before, now)| !before.precedes(now)) {
        return Err(Failure::new("value", "--against is no earlier manifest of the same federation"));
    }
    if kind.of_one_resident() && export.is_none() && !filter.names_resident() && filter.file.is_none() {
        let why =
            format!("{} is about one resident: give --resident, --local-number, --document or --file", kind.name());
        return Err(Failure::new("value", why));
    }
    let live_export;
    let mut held: Option<ResidentData> = None;
    let (dir, wanted) = if let Some(dir) = &export {
        if kind == Kind::R9 {
            return Err(Failure::new("value", "R9 is made live only, before the eyes of a second officer"));
        }
        (dir.clone(), offline(&filter)?)
    } else {
        let second = second(confirm_token_file.as_deref())?;
        let filter = live(&filter)?;
        if let Some(resident) = filter.get("resident").filter(|_| kind == Kind::R1) {
            let body = json!({ "resident": resident, "reason": reason.as_deref().unwrap_or(kind.name()) });
            let path = "/v1/audit/residents/show";
            held = Some(post(&to, path, &body).await?);
        }
        let body = json!({ "filter": filter, "report": kind.name(), "reason": reason });
        live_export = fetch(&to, second.as_deref(), &body, &std::env::temp_dir()).await?;
        (live_export.path(), Filter::default())
    };
    let words = Words::new(lang, library()?, manifest);
    let pinned = Pinned::of(&dir, vkey.as_deref(), federation.as_ref())?;
    let Made { exported, report, lines } = Made::of(kind, form, &dir, &pinned, &wanted, &asked, &words)?;
    let context = Context {
        words: &words,
        exported: &exported,
        witnesses_checked: pinned.knows_witnesses(),
        manifest,
        fingerprint: federation.as_ref().map(|federation| federation.fingerprint.as_str()),
        against: against.as_ref().map(|before| (&before.manifest, before.fingerprint.as_str())),
        held: held.as_ref(),
    };
    let written = match form {
        Form::FindUsage => pretty(&lines)?,
        Form::Fhir => pretty(&exchange::bundle(lines))?,
        _ => {
            let document = report::finish(kind, report, &context);
            match form {
                Form::Csv => report::csv(&document, if semicolon { ';' } else { ',' }),
                Form::Html => report::html(&document),
                Form::Json => pretty(&document)?,
                _ => report::text(&document),
            }
        }
    };
    if let Some(path) = out {
        return write_file(&path, written.as_bytes());
    }
    output.print(written.trim_end_matches('\n'));
    Ok(())
}

impl Kind {
    /// Refuses a form that says something else than this report.
    fn may_be(self, form: Form) -> Result<(), Failure> {
        let other = match form {
            Form::FindUsage => !self.of_one_resident(),
            Form::Fhir => !self.of_accesses(),
            _ => false,
        };
        if other { Err(Failure::new("value", format!("{} has no such form", self.name()))) } else { Ok(()) }
    }
}

/// What one pass over a verified export comes to.
struct Made {
    exported: Exported,
    report: Box<dyn report::Report>,
    /// In another's form, if one was asked for.
    lines: Vec<Value>,
}

impl Made {
    fn of(
        kind: Kind,
        form: Form,
        dir: &Path,
        pinned: &Pinned,
        wanted: &Filter,
        asked: &Asked,
        words: &Words,
    ) -> Result<Self, Failure> {
        let mut report = report::begin(kind, asked.clone());
        let (mut lines, mut residents) = (Vec::new(), Residents::default());
        let origin = audit::identity(dir).map_err(|e| unverified(&e))?.name().to_owned();
        let take = |index: u64, payload: Value| {
            let json = serde_json::to_vec(&payload).unwrap_or_default();
            let entry = audit::project(&payload, audit::Stream::Dpo).filter(|_| wanted.matches(&json));
            if let Some(mut entry) = entry.filter(|entry| !kind.of_one_resident() || residents.take(entry)) {
                asked.narrow(&mut entry);
                match form {
                    Form::FindUsage => lines.extend(exchange::usage(&entry, words, &origin)),
                    Form::Fhir => lines.extend(exchange::audit_events(index, &entry, &origin)),
                    _ => report.take(index, &entry, words),
                }
            }
        };
        let exported = verify_export(dir, pinned.against(&[]), take, |_| {}).map_err(|e| unverified(&e))?;
        pinned.enough(exported.cosigned, &exported.witnesses)?;
        residents.one(kind)?;
        Ok(Made { exported, report, lines })
    }
}

/// Whom the entries of a report about one resident name.
#[derive(Default)]
struct Residents {
    first: Option<String>,
    several: bool,
}

impl Residents {
    /// Notes an entry; whether it is about a resident at all.
    fn take(&mut self, entry: &Value) -> bool {
        let Some(file) = entry.get("file").and_then(Value::as_str) else { return false };
        let first = self.first.get_or_insert_with(|| file.to_owned());
        self.several |= first.as_str() != file;
        true
    }

    /// Refuses to tell one resident of others.
    fn one(&self, kind: Kind) -> Result<(), Failure> {
        if !self.several {
            return Ok(());
        }
        let why = format!("the entries are about several residents and {} is about one: give --file", kind.name());
        Err(Failure::new("value", why))
    }
}

fn pretty(document: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|e| Failure::new("internal", e))
}

fn library() -> Result<Library, Failure> {
    Library::builtin().map_err(|e| Failure::new("policies", chain(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_about_one_resident_is_not_made_of_several() {
        let about = |files: &[Value]| {
            let mut residents = Residents::default();
            let taken = files.iter().filter(|file| residents.take(&json!({ "file": file }))).count();
            (taken, residents.one(Kind::R2).err().map(|failure| failure.code))
        };
        assert_eq!(about(&[]), (0, None));
        // What is about nobody is nobody's to be told.
        assert_eq!(about(&[json!("F"), Value::Null, json!("F")]), (2, None));
        assert_eq!(about(&[json!("F"), json!("G")]), (2, Some("value".to_owned())));
    }
}
