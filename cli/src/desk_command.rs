//! `ogniwo approve | flag | emergency`, `ogniwo node newcomer`: through the local API, with the caller's own token.

use crate::args::{ApiArgs, ApproveCommand, EmergencyCommand, FlagArgs, FlagCommand};
use crate::exit::Failure;
use crate::node_command::{api, token};
use crate::output::Output;
use crate::prompt::resident;
use http::Method;
use node::{ApprovalList, ApprovalView, EmergencyList, EmergencyView, FlagList, NewcomerView};
use protocol::FieldId;
use serde_json::{Value, json};

pub(crate) async fn approve(command: ApproveCommand, output: &Output) -> Result<(), Failure> {
    let view: ApprovalView = match command {
        ApproveCommand::List { api: to } => {
            let list: ApprovalList = api(&to)?.call(Method::GET, "/v1/approvals", &token(&to)?, None).await?;
            output.result(&list, || list.approvals.iter().map(approval_words).collect::<Vec<_>>().join("\n"));
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
    output.result(&view, || approval_words(&view));
    Ok(())
}

pub(crate) async fn flag(command: FlagCommand, output: &Output) -> Result<(), Failure> {
    let change = async |FlagArgs { api: to, resident: who, flag, reason }: FlagArgs, what: &str| {
        let body = json!({ "resident": resident(&who)?, what: flag, "reason": reason });
        api(&to)?.call::<FlagList>(Method::POST, "/v1/flags", &token(&to)?, Some(&body)).await
    };
    let list = match command {
        FlagCommand::Set(arguments) => change(arguments, "set").await?,
        FlagCommand::Clear(arguments) => change(arguments, "clear").await?,
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

fn approval_words(view: &ApprovalView) -> String {
    let state = format!("{:?}", view.state).to_lowercase();
    let fields: Vec<&str> = view.fields.iter().map(FieldId::as_str).collect();
    let numbers: Vec<&str> = view.local_numbers.iter().map(String::as_str).collect();
    let mut text = format!(
        "{} {state}, until {}\n  {} (user {}, {}) asks {} about {}, for {}\n  basis {}{}\n  fields {}",
        view.id,
        moment(view.until),
        view.asker,
        view.user,
        view.role,
        view.query,
        numbers.join(", "),
        view.purpose,
        view.basis,
        if view.case { ", with an open case" } else { "" },
        fields.join(", ")
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
