//! `ogniwo approve | flag | emergency`, `ogniwo node newcomer`: through the local API, with the caller's own token.

use crate::args::{ApiArgs, ApproveCommand, ClearArgs, EmergencyCommand, FlagArgs, FlagCommand};
use crate::exit::Failure;
use crate::node_command::{api, token};
use crate::output::Output;
use crate::prompt::resident;
use http::Method;
use node::{ApprovalList, ApprovalView, EmergencyList, EmergencyView, FlagList, NewcomerView};
use policies::{Catalogue, Library};
use protocol::{FieldId, Purpose, QueryType};
use serde_json::{Value, json};

pub(crate) async fn approve(command: ApproveCommand, output: &Output) -> Result<(), Failure> {
    let names = Names(Library::builtin().ok());
    let view: ApprovalView = match command {
        ApproveCommand::List { api: to } => {
            let list: ApprovalList = api(&to)?.call(Method::GET, "/v1/approvals", &token(&to)?, None).await?;
            output.result(&list, || {
                list.approvals.iter().map(|view| approval_words(view, &names)).collect::<Vec<_>>().join("\n")
            });
            return Ok(());
        }
        ApproveCommand::Show { api: to, id } => {
            api(&to)?.call(Method::GET, &format!("/v1/approvals/{id}"), &token(&to)?, None).await?
        }
        ApproveCommand::Grant { api: to, id, fields } => {
            let body = json!({ "fields": (!fields.is_empty()).then_some(fields) });
            let path = format!("/v1/approvals/{id}/grant");
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&body)).await?
        }
        ApproveCommand::Refuse { api: to, id, reason } => {
            let path = format!("/v1/approvals/{id}/refuse");
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&json!({ "reason": reason }))).await?
        }
    };
    output.result(&view, || approval_words(&view, &names));
    Ok(())
}

pub(crate) async fn flag(command: FlagCommand, output: &Output) -> Result<(), Failure> {
    let change = async |FlagArgs { api: to, resident: who, flag, reason }: FlagArgs, what: &str| {
        let body = json!({ "resident": resident(&who)?, what: flag, "reason": reason });
        api(&to)?.call::<FlagList>(Method::POST, "/v1/flags", &token(&to)?, Some(&body)).await
    };
    let list = match command {
        FlagCommand::Set(arguments) => change(arguments, "set").await?,
        FlagCommand::Clear(ClearArgs { api, resident, flag, reason }) => {
            let again = flag.iter().any(|flag| flag == "unlisted");
            let list = change(FlagArgs { api, resident, flag, reason }, "clear").await?;
            if again {
                output.note("The resident is not listed again yet: run `ogniwo node enrol`.");
            }
            list
        }
        FlagCommand::Show { api: to, resident: who } => {
            let body = json!({ "resident": resident(&who)? });
            api(&to)?.call(Method::POST, "/v1/flags/show", &token(&to)?, Some(&body)).await?
        }
    };
    output.result(&list, || {
        let flags: Vec<&str> = list.flags.keys().map(|flag| flag.as_str()).collect();
        if flags.is_empty() { "no flags".to_owned() } else { flags.join(", ") }
    });
    Ok(())
}

pub(crate) async fn newcomer(to: &ApiArgs, body: &Value, output: &Output) -> Result<(), Failure> {
    let view: NewcomerView = api(to)?.call(Method::POST, "/v1/newcomers", &token(to)?, Some(body)).await?;
    output.result(&view, || {
        format!(
            "Known to the registry until {}. Import the records and run `ogniwo node enrol` before.",
            moment(view.expires)
        )
    });
    Ok(())
}

pub(crate) async fn emergency(command: EmergencyCommand, output: &Output) -> Result<(), Failure> {
    let view: EmergencyView = match command {
        EmergencyCommand::Open { api: to, resident: who, reason, text } => {
            let body = json!({ "resident": resident(&who)?, "reason": reason, "text": text });
            api(&to)?.call(Method::POST, "/v1/emergencies", &token(&to)?, Some(&body)).await?
        }
        EmergencyCommand::Confirm { api: to, id } => {
            let path = format!("/v1/emergencies/{id}/confirm");
            api(&to)?.call(Method::POST, &path, &token(&to)?, None).await?
        }
        EmergencyCommand::List { api: to } => {
            let list: EmergencyList = api(&to)?.call(Method::GET, "/v1/emergencies", &token(&to)?, None).await?;
            output.result(&list, || list.emergencies.iter().map(emergency_words).collect::<Vec<_>>().join("\n"));
            return Ok(());
        }
        EmergencyCommand::Review { api: to, id, outcome, text } => {
            let path = format!("/v1/emergencies/{id}/review");
            let body = json!({ "outcome": outcome, "text": text });
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&body)).await?
        }
    };
    output.result(&view, || emergency_words(&view));
    Ok(())
}

/// What people call the things of a library; where it does not have one, nothing.
struct Names(Option<Library>);

impl Names {
    fn of(&self, name: impl FnOnce(&Catalogue) -> Option<(String, String)>) -> String {
        let named = self.0.as_ref().and_then(|library| name(library.catalogue()));
        named.map(|(pl, en)| format!("\n    {pl} / {en}")).unwrap_or_default()
    }

    fn query(&self, id: &QueryType) -> String {
        self.of(|catalogue| catalogue.queries.get(id).map(|query| (query.pl.clone(), query.en.clone())))
    }

    fn purpose(&self, id: &Purpose) -> String {
        self.of(|catalogue| catalogue.purposes.get(id).map(|purpose| (purpose.pl.clone(), purpose.en.clone())))
    }

    fn field(&self, id: &FieldId) -> String {
        self.of(|catalogue| catalogue.fields.get(id).map(|field| (field.pl.clone(), field.en.clone())))
    }

    /// The statute of a basis that is a mandate, `mandate:ID@VERSION`, and what it is for.
    fn statute(&self, basis: &str) -> String {
        let id = basis.strip_prefix("mandate:").and_then(|mandate| mandate.split('@').next());
        self.of(|catalogue| {
            let mandate = catalogue.mandates.get(id?)?;
            Some((format!("{}, {}: {}", mandate.statute, mandate.article, mandate.pl), mandate.en.clone()))
        })
    }
}

fn approval_words(view: &ApprovalView, names: &Names) -> String {
    let state = format!("{:?}", view.state).to_lowercase();
    let fields: String = view.fields.iter().map(|id| format!("\n    {id}{}", names.field(id))).collect();
    let numbers: Vec<&str> = view.local_numbers.iter().map(String::as_str).collect();
    let mut text = format!(
        "{} {state}, until {}\n  {} (user {}, {}) asks {} about {}{}\n  for {}{}\n  basis {}{}{}\n  fields{fields}",
        view.id,
        moment(view.until),
        view.asker,
        view.user,
        view.role,
        view.query,
        numbers.join(", "),
        names.query(&view.query),
        view.purpose,
        names.purpose(&view.purpose),
        view.basis,
        if view.case { ", with an open case" } else { "" },
        names.statute(&view.basis),
    );
    if let Some(approved) = &view.approved {
        let approved: Vec<&str> = approved.iter().map(FieldId::as_str).collect();
        text.push_str(&format!("\n  approved {}", approved.join(", ")));
    }
    if let Some(reason) = &view.reason {
        text.push_str(&format!("\n  refused: {reason}"));
    }
    text
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|moment| moment.to_string()).unwrap_or_default()
}

fn emergency_words(view: &EmergencyView) -> String {
    let review = match (view.outcome, view.overdue) {
        (Some(outcome), _) => format!("{outcome:?}").to_lowercase(),
        (None, true) => "review OVERDUE".to_owned(),
        (None, false) => "to be reviewed".to_owned(),
    };
    let side = format!("{:?}", view.side).to_lowercase();
    let confirmed = if view.confirmed { "" } else { ", not confirmed" };
    let mut text = format!(
        "{} {side} by {} (user {}): {}{confirmed}; {review}\n  opened {}, over {}, review due {}",
        view.id,
        view.asker,
        view.user,
        view.reason,
        moment(view.opened),
        moment(view.expires),
        moment(view.review_by)
    );
    if !view.local_numbers.is_empty() {
        let numbers: Vec<&str> = view.local_numbers.iter().map(String::as_str).collect();
        text.push_str(&format!("\n  about {}", numbers.join(", ")));
    }
    if let Some(written) = &view.text {
        text.push_str(&format!("\n  \"{written}\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_approves_reads_what_the_ids_mean() {
        let view = json!({
            "id": "x", "state": "waiting", "asker": "mops", "user": "u", "role": "caseworker", "query": "q11",
            "purpose": "social-welfare-eligibility-assessment", "basis": "mandate:ups-105@2", "case": true,
            "fields": ["hou.eviction", "hou.unknown"], "local_numbers": ["Z/1"], "received": 0, "until": 60,
        });
        let view = serde_json::from_value(view).expect("a view");
        let library = Library::builtin().expect("a library");
        let catalogue = library.catalogue();
        let (query, field): (QueryType, FieldId) =
            ("q11".parse().expect("a query"), "hou.eviction".parse().expect("a field"));
        let (query, field) = (&catalogue.queries[&query], &catalogue.fields[&field]);
        let mandate = &catalogue.mandates["ups-105"];
        let words = approval_words(&view, &Names(Some(library.clone())));
        for name in [&query.pl, &query.en, &field.pl, &field.en, &mandate.statute, &mandate.article] {
            assert!(words.contains(name.as_str()), "{name}: {words}");
        }
        assert!(words.contains("q11") && words.contains("hou.unknown"), "{words}");
        assert!(approval_words(&view, &Names(None)).contains("hou.eviction"));
    }
}
