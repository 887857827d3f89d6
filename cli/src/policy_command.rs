//! `ogniwo policy`.

use crate::args::{PolicyCommand, RuleArgs};
use crate::exit::{Failure, chain};
use crate::files::{read_json, read_text, write_file};
use crate::found::open_officer;
use crate::output::Output;
use crate::wire::get;
use policies::{Decided, Engine, Examples, Explanation, Library, Outcome, Recorded, Released, Simulation, Unfit};
use protocol::SignedManifest;
use protocol::bundle::LibraryPin;
use protocol::encoding::b64;
use serde_json::json;
use std::path::Path;
use transport::Clock;

pub(crate) async fn run(command: PolicyCommand, output: &Output) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check { rules, examples, against } => {
            check(&rules, examples.as_deref(), against.as_deref(), output)
        }
        PolicyCommand::Release { library, manifest, key } => release(&library, &manifest, &key, output),
        PolicyCommand::Explain { examples, rules } => {
            let engine = engine(rules.library.as_deref(), rules.local.as_deref())?;
            let examples = read_examples(&examples)?;
            let explained: Result<Vec<_>, Failure> = examples
                .iter()
                .map(|example| {
                    let why = engine.explain_example(example, examples.at()).map_err(refused)?;
                    Ok((example.name.clone(), why))
                })
                .collect();
            let explained = explained?;
            let document: Vec<_> = explained.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
            output.result(&document, || explained.iter().map(|(name, why)| in_words(name, why)).collect());
            Ok(())
        }
        PolicyCommand::Past { api: to, request } => {
            let path = format!("/v1/decisions/{request}");
            let decision: node::Decision = get(&to, &path).await?;
            output.result(&decision, || past_words(&decision));
            Ok(())
        }
        PolicyCommand::Recorded { api: to, from, to: until } => {
            let bound = |name: &str, at: Option<i64>| at.map(|at| format!("{name}={at}"));
            let bounds: Vec<String> = [bound("from", from), bound("to", until)].into_iter().flatten().collect();
            let path = format!("/v1/decisions?{}", bounds.join("&"));
            let list: node::DecisionList = get(&to, &path).await?;
            for decision in &list.decisions {
                output.print(&serde_json::to_string(decision).map_err(|e| Failure::new("internal", e))?);
            }
            if list.left_out > 0 {
                output.note(format!("{} more were left out: ask for a shorter time", list.left_out));
            }
            Ok(())
        }
        PolicyCommand::Simulate { recorded, draft, draft_local, rules } => {
            let now = engine(rules.library.as_deref(), rules.local.as_deref())?;
            let draft = engine(Some(&draft), draft_local.as_deref().or(rules.local.as_deref()))?;
            let recorded: Result<Vec<Recorded>, _> =
                read_text(&recorded)?.lines().filter(|line| !line.is_empty()).map(serde_json::from_str).collect();
            let recorded = recorded.map_err(|e| Failure::new("value", format!("not a recorded decision: {e}")))?;
            let simulation = now.simulate(&draft, &recorded);
            output.result(&simulation, || changes(&simulation));
            Ok(())
        }
        PolicyCommand::Bundle { library } => {
            let text = Library::renewed_bundle(&library).map_err(refused)?;
            let path = library.join("bundle.toml");
            write_file(&path, text.as_bytes())?;
            output.result(&json!({ "written": path }), || format!("Written: {}", path.display()));
            Ok(())
        }
        PolicyCommand::Show { library } => show(library.as_deref(), output),
    }
}

fn check(rules: &RuleArgs, examples: Option<&Path>, against: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let engine = engine(rules.library.as_deref(), rules.local.as_deref())?;
    if let Some(file) = examples {
        engine.check(&read_examples(file)?).map_err(refused)?;
    }
    let mut more = String::new();
    let mut permits_more = None;
    if let Some(directory) = against {
        let released = Released::load(directory).map_err(refused)?;
        engine.library().may_follow(&released).map_err(refused)?;
        let beyond = engine.library().beyond(&released);
        if let Some(first) = beyond.first() {
            more = format!("\nIt permits {} more, as it says; for one: {first}", beyond.len());
        }
        permits_more = Some(beyond);
    }
    let LibraryPin { version, digest } = engine.library().pin();
    let document = json!({ "version": version, "digest": digest, "permits_more": permits_more });
    output.result(&document, || format!("Library {version} is valid and its examples hold: {}{more}", b64(&digest.0)));
    Ok(())
}

/// Adds an officer's signature to a library.
fn release(directory: &Path, manifest: &Path, key: &Path, output: &Output) -> Result<(), Failure> {
    let library = Library::load(directory).map_err(refused)?;
    let manifest = read_json::<SignedManifest>(manifest)?.accept_held()?;
    let key = open_officer(key)?;
    let officer = manifest.officers.keys.iter().find(|officer| officer.key == key.public());
    let officer = officer.ok_or_else(|| Failure::new("keys", "the key is not one of the manifest's officers"))?;
    if !library.pin().may_follow(&manifest.library) {
        let (next, released) = (library.pin().version, manifest.library.version);
        return Err(refused(Unfit::Version { next, released }));
    }
    let now = Clock::system().now();
    let text = library.released_by(&officer.member, &key, &manifest.realm, now);
    let path = directory.join("release.json");
    write_file(&path, text.map_err(|e| Failure::new("internal", e))?.as_bytes())?;
    let library = Library::load(directory).map_err(refused)?;
    let missing = library.check_release(&manifest.officers, &manifest.realm).err();
    let document = json!({ "library": library.pin(), "released": missing.is_none() });
    output.result(&document, || match missing {
        None => "Released: the next manifest can name it (`ogniwo registry manifest next --library`).".to_owned(),
        Some(missing) => format!("Signed; {missing}."),
    });
    Ok(())
}

fn show(library: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let library = library.map_or_else(Library::builtin, Library::load).map_err(refused)?;
    let catalogue = library.catalogue();
    let names = |keys: Vec<String>| keys;
    let document = json!({
        "library": library.pin(),
        "agreements": names(catalogue.agreements.keys().cloned().collect()),
        "queries": names(catalogue.queries.keys().map(ToString::to_string).collect()),
        "mandates": names(catalogue.mandates.keys().cloned().collect()),
        "templates": names(catalogue.templates.keys().cloned().collect()),
        "purposes": names(catalogue.purposes.keys().map(ToString::to_string).collect()),
    });
    output.result(&document, || {
        let mut text = String::from("Queries\n");
        for (id, query) in &catalogue.queries {
            text.push_str(&format!("  {id:<6} {:<9} {}\n", query.tier.as_str(), query.en));
        }
        text.push_str("Mandates\n");
        for (id, mandate) in &catalogue.mandates {
            text.push_str(&format!("  {id:<24} {} {}\n", mandate.statute, mandate.article));
        }
        text.push_str("Consent templates and their modules\n");
        for (id, template) in catalogue.templates.iter().filter_map(|(id, all)| Some((id, all.last()?))) {
            text.push_str(&format!("  {id}@{}: {}\n", template.version, template.en.title));
            for (module, about) in &template.modules {
                text.push_str(&format!("    {module:<20} {}\n", about.en));
            }
        }
        text.push_str("Agreement templates\n");
        for (id, template) in &catalogue.agreements {
            text.push_str(&format!("  {id:<12} {}\n", template.en));
        }
        text.push_str("Purposes\n");
        for (id, purpose) in &catalogue.purposes {
            text.push_str(&format!("  {id:<40} {}\n", purpose.en));
        }
        text
    });
    Ok(())
}

fn refused(error: impl std::error::Error) -> Failure {
    Failure::new("policies", chain(&error))
}

fn engine(library: Option<&Path>, local: Option<&Path>) -> Result<Engine, Failure> {
    let library = library.map_or_else(Library::builtin, Library::load).map_err(refused)?;
    let local = local.map(node::local_policies).transpose()?.unwrap_or_default();
    Engine::new(library, &local).map_err(refused)
}

fn read_examples(file: &Path) -> Result<Examples, Failure> {
    Examples::parse(&read_text(file)?).map_err(refused)
}

fn in_words(name: &str, why: &Explanation) -> String {
    let mut text = format!("{name}\n");
    for seen in &why.passed {
        text.push_str(&format!("  passed {:<10} {}\n", seen.step.as_str(), seen.saw));
    }
    match &why.outcome {
        Outcome::Permit { fields, compared, .. } => {
            let names: Vec<_> = fields.iter().chain(compared).map(protocol::FieldId::as_str).collect();
            text.push_str(&format!("  PERMIT  {}\n", names.join(", ")));
        }
        Outcome::Deny { step, reason, told, detail } => {
            text.push_str(&format!("  DENY at {step}: {} ({detail})\n", reason.code()));
            text.push_str(&format!("  the peer is told {}\n", told.code()));
        }
    }
    text
}

fn past_words(decision: &node::Decision) -> String {
    let mut text = String::new();
    for (key, value) in &decision.entry {
        text.push_str(&format!("  {key:<18} {value}\n"));
    }
    for node::StepSeen { step, saw } in &decision.passed {
        text.push_str(&format!("  passed {step:<10} {saw}\n"));
    }
    if let Some(node::StepSeen { step, saw }) = &decision.stopped {
        text.push_str(&format!("  STOPPED at {step}: {saw}\n"));
    }
    let said = decision.message.as_ref();
    let words = [("told", &decision.told), ("pl", &said.map(|s| s.pl.clone())), ("en", &said.map(|s| s.en.clone()))];
    for (name, said) in words.into_iter().filter_map(|(name, said)| Some((name, said.as_ref()?))) {
        text.push_str(&format!("  {name:<18} {said}\n"));
    }
    text
}

fn changes(simulation: &Simulation) -> String {
    let mut text = format!("{} decisions, {} unchanged\n", simulation.decisions, simulation.unchanged);
    for (what, changes) in
        [("wider", &simulation.wider), ("narrower", &simulation.narrower), ("other", &simulation.other)]
    {
        for change in changes {
            let first = &change.first;
            let asked = format!("{} {} -> {} as {}", first.query, first.asker, first.holder, first.role);
            let (now, draft) = (decided(&change.now), decided(&change.draft));
            text.push_str(&format!("  {what:<9} {:>6} x {asked}: {now} -> {draft}\n", change.times));
        }
    }
    text
}

fn decided(decided: &Decided) -> String {
    match decided {
        Decided::Answered(fields) if fields.is_empty() => "answered".to_owned(),
        Decided::Answered(fields) => {
            let fields: Vec<&str> = fields.iter().map(protocol::FieldId::as_str).collect();
            format!("answered with {}", fields.join(", "))
        }
        Decided::Refused(reason) => format!("refused, {}", reason.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{FieldId, Reason};
    use std::collections::BTreeSet;

    #[test]
    fn decisions_are_told_in_words() {
        let fields: [FieldId; 2] = ["pup.dereg_reason", "pup.status"].map(|id| id.parse().expect("a field"));
        assert_eq!(decided(&Decided::Answered(BTreeSet::from(fields))), "answered with pup.dereg_reason, pup.status");
        assert_eq!(decided(&Decided::Answered(BTreeSet::new())), "answered");
        assert_eq!(decided(&Decided::Refused(Reason::CaseMissing)), "refused, case_missing");
    }
}
