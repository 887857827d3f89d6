//! `ogniwo approve | flag | emergency`, `ogniwo node newcomer`: through the local API, with the caller's own token.

use crate::args::{ApiArgs, ApproveCommand, ClearArgs, EmergencyCommand, FlagArgs, FlagCommand};
use crate::exit::Failure;
use crate::output::{Output, utc};
use crate::prompt::resident;
use crate::wire::{api, get, post, token, word};
use http::Method;
use node::{
    ApprovalList, ApprovalView, EmergencyList, EmergencyView, FlagList, NewcomerView, NoticeWay, ResidentNotice,
};
use protocol::FieldId;
use serde_json::{Value, json};

pub(crate) async fn approve(command: ApproveCommand, output: &Output) -> Result<(), Failure> {
    let view: ApprovalView = match command {
        ApproveCommand::List { api: to } => {
            let list: ApprovalList = get(&to, "/v1/approvals").await?;
            output.result(&list, || list.approvals.iter().map(approval_words).collect::<Vec<_>>().join("\n"));
            return Ok(());
        }
        ApproveCommand::Show { api: to, id } => get(&to, &format!("/v1/approvals/{id}")).await?,
        ApproveCommand::Grant { api: to, id, fields } => {
            let body = json!({ "fields": (!fields.is_empty()).then_some(fields) });
            let path = format!("/v1/approvals/{id}/grant");
            post(&to, &path, &body).await?
        }
        ApproveCommand::Refuse { api: to, id, reason } => {
            let path = format!("/v1/approvals/{id}/refuse");
            post(&to, &path, &json!({ "reason": reason })).await?
        }
    };
    output.result(&view, || approval_words(&view));
    Ok(())
}

pub(crate) async fn flag(command: FlagCommand, output: &Output) -> Result<(), Failure> {
    let change = async |FlagArgs { api: to, resident: who, flag, reason }: FlagArgs, what: &str| {
        let body = json!({ "resident": resident(&who)?, what: flag, "reason": reason });
        post::<FlagList>(&to, "/v1/flags", &body).await
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
            post(&to, "/v1/flags/show", &body).await?
        }
    };
    output.result(&list, || {
        let flags: Vec<&str> = list.flags.keys().map(|flag| flag.as_str()).collect();
        if flags.is_empty() { "no flags".to_owned() } else { flags.join(", ") }
    });
    Ok(())
}

pub(crate) async fn newcomer(to: &ApiArgs, body: &Value, output: &Output) -> Result<(), Failure> {
    let view: NewcomerView = post(to, "/v1/newcomers", body).await?;
    output.result(&view, || {
        format!(
            "Known to the registry until {}. Import the records and run `ogniwo node enrol` before.",
            utc(view.expires)
        )
    });
    Ok(())
}

pub(crate) async fn emergency(command: EmergencyCommand, output: &Output) -> Result<(), Failure> {
    let view: EmergencyView = match command {
        EmergencyCommand::Open { api: to, resident: who, reason, text } => {
            let body = json!({ "resident": resident(&who)?, "reason": reason, "text": text });
            post(&to, "/v1/emergencies", &body).await?
        }
        EmergencyCommand::Confirm { api: to, id } => {
            let path = format!("/v1/emergencies/{id}/confirm");
            api(&to)?.call(Method::POST, &path, &token(&to)?, None).await?
        }
        EmergencyCommand::List { api: to } => {
            let list: EmergencyList = get(&to, "/v1/emergencies").await?;
            output.result(&list, || list.emergencies.iter().map(emergency_words).collect::<Vec<_>>().join("\n"));
            return Ok(());
        }
        EmergencyCommand::Letter { api: to, id, print } => {
            let path = format!("/v1/emergencies/{id}/letter?{}", print.query());
            output.print(&api(&to)?.text(&path, &token(&to)?).await?);
            return Ok(());
        }
        EmergencyCommand::Review { api: to, id, outcome, text, informed, not_informed } => {
            let path = format!("/v1/emergencies/{id}/review");
            let notice = match (informed, not_informed) {
                (Some(way), _) => json!({ "informed": way }),
                (None, Some(why)) => json!({ "not_informed": why }),
                (None, None) => Value::Null,
            };
            let body = json!({ "outcome": outcome, "text": text, "notice": notice });
            post(&to, &path, &body).await?
        }
    };
    output.result(&view, || emergency_words(&view));
    Ok(())
}

fn approval_words(view: &ApprovalView) -> String {
    let name = |id: &str| view.names.get(id).map(|name| format!("\n    {} / {}", name.pl, name.en)).unwrap_or_default();
    let state = word(&view.state);
    let fields: String = view.fields.iter().map(|id| format!("\n    {id}{}", name(id.as_str()))).collect();
    let numbers: Vec<&str> = view.local_numbers.iter().map(String::as_str).collect();
    let mut text = format!(
        "{} {state}, until {}\n  {} (user {}, {}) asks {} about {}{}\n  for {}{}\n  basis {}{}{}\n  fields{fields}",
        view.id,
        utc(view.until),
        view.asker,
        view.user,
        view.role,
        view.query,
        numbers.join(", "),
        name(view.query.as_str()),
        view.purpose,
        name(view.purpose.as_str()),
        view.basis,
        if view.case { ", with an open case" } else { "" },
        name(&view.basis),
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

fn emergency_words(view: &EmergencyView) -> String {
    let review = match (view.outcome, view.overdue) {
        (Some(outcome), _) => word(&outcome),
        (None, true) => "review OVERDUE".to_owned(),
        (None, false) => "to be reviewed".to_owned(),
    };
    let side = word(&view.side);
    let confirmed = if view.confirmed { "" } else { ", not confirmed" };
    let mut text = format!(
        "{} {side} by {} (user {}): {}{confirmed}; {review}\n  opened {}, over {}, review due {}",
        view.id,
        view.asker,
        view.user,
        view.reason,
        utc(view.opened),
        utc(view.expires),
        utc(view.review_by)
    );
    if !view.local_numbers.is_empty() {
        let numbers: Vec<&str> = view.local_numbers.iter().map(String::as_str).collect();
        text.push_str(&format!("\n  about {}", numbers.join(", ")));
    }
    if let Some(written) = &view.text {
        text.push_str(&format!("\n  \"{written}\""));
    }
    match &view.notice {
        Some(ResidentNotice::Informed(way)) => {
            let way = match way {
                NoticeWay::Letter => "by letter",
                NoticeWay::InPerson => "in person",
                NoticeWay::Electronic => "electronically",
            };
            text.push_str(&format!("\n  the resident is told {way}: `ogniwo emergency letter {}`", view.id));
        }
        Some(ResidentNotice::NotInformed(why)) => text.push_str(&format!("\n  the resident is not told: {why}")),
        None => {}
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
            "names": {
                "q11": { "pl": "pytanie", "en": "a question" },
                "mandate:ups-105@2": { "pl": "ustawa, art. 105: cel", "en": "a purpose" },
                "hou.eviction": { "pl": "wyrok eksmisyjny w bibliotece", "en": "eviction judgment" },
            },
        });
        let view = serde_json::from_value(view).expect("a view");
        let words = approval_words(&view);
        for name in [
            "wyrok eksmisyjny w bibliotece / eviction judgment",
            "pytanie / a question",
            "ustawa, art. 105: cel / a purpose",
        ] {
            assert!(words.contains(name), "{name}: {words}");
        }
        assert!(words.contains("q11") && words.contains("hou.unknown"), "{words}");
    }
}
