//! `ogniwo consent`: through the local API, with the caller's own token.

use crate::args::{AnswerArgs, ConsentCommand};
use crate::exit::Failure;
use crate::node_command::{api, token};
use crate::output::Output;
use crate::prompt::resident;
use http::Method;
use node::{ConsentReceipt, WithdrawalReceipt};
use protocol::MemberId;
use protocol::encoding::{b64, sha256};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) async fn run(command: ConsentCommand, output: &Output) -> Result<(), Failure> {
    let receipt: ConsentReceipt = match command {
        ConsentCommand::Record { api: to, resident: who, template, module, recipient, purpose, days, evidence } => {
            let modules: BTreeMap<_, _> = module.into_iter().map(|m| (m, "given")).collect();
            let body = json!({
                "resident": resident(&who)?, "template": template, "modules": modules, "recipient": recipient,
                "purposes": purpose, "days": days, "evidence_sha256": evidence_digest(&evidence)?,
            });
            api(&to)?.call(Method::POST, "/v1/consents", &token(&to)?, Some(&body)).await?
        }
        ConsentCommand::Request { api: to, resident: who, template, recipient, purpose, days } => {
            let body = json!({
                "resident": resident(&who)?, "template": template, "recipient": recipient, "purposes": purpose,
                "days": days,
            });
            api(&to)?.call(Method::POST, "/v1/consents/requests", &token(&to)?, Some(&body)).await?
        }
        ConsentCommand::Answer { api: to, id, answer } => {
            let path = format!("/v1/consents/{id}/answer");
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&answered(&answer)?)).await?
        }
        ConsentCommand::Renew { api: to, id, answer } => {
            let path = format!("/v1/consents/{id}/renew");
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&answered(&answer)?)).await?
        }
        ConsentCommand::Withdraw { api: to, id, module, elsewhere: false, .. } => {
            let path = format!("/v1/consents/{id}/withdraw");
            let body = json!({ "modules": modules(&module) });
            api(&to)?.call(Method::POST, &path, &token(&to)?, Some(&body)).await?
        }
        ConsentCommand::Withdraw { api: to, id, module, elsewhere: true, resident: who } => {
            let body = json!({ "resident": resident(&who)?, "consent": id, "modules": modules(&module) });
            let taken: WithdrawalReceipt =
                api(&to)?.call(Method::POST, "/v1/withdrawals", &token(&to)?, Some(&body)).await?;
            output.result(&taken, || withdrawn_words(&taken));
            return Ok(());
        }
        ConsentCommand::Receipt { api: to, id, language, html } => {
            let path = format!("/v1/consents/{id}/receipt?language={language}&html={html}");
            output.print(&api(&to)?.text(&path, &token(&to)?).await?);
            return Ok(());
        }
        ConsentCommand::Export { api: to, id } => {
            let path = format!("/v1/consents/{id}/export");
            let exported: Value = api(&to)?.call(Method::GET, &path, &token(&to)?, None).await?;
            output.print(&serde_json::to_string_pretty(&exported).map_err(|e| Failure::new("internal", e))?);
            return Ok(());
        }
        ConsentCommand::Show { api: to, id } => {
            api(&to)?.call(Method::GET, &format!("/v1/consents/{id}"), &token(&to)?, None).await?
        }
    };
    output.result(&receipt, || words(&receipt));
    Ok(())
}

fn modules(named: &[String]) -> Option<&[String]> {
    (!named.is_empty()).then_some(named)
}

fn answered(answer: &AnswerArgs) -> Result<Value, Failure> {
    let given = answer.module.iter().map(|module| (module, "given"));
    let modules: BTreeMap<_, _> = given.chain(answer.refused.iter().map(|module| (module, "refused"))).collect();
    Ok(json!({
        "modules": modules, "acting": answer.acting, "evidence_sha256": evidence_digest(&answer.evidence)?,
    }))
}

fn withdrawn_words(taken: &WithdrawalReceipt) -> String {
    let names = |members: &BTreeSet<MemberId>| members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ");
    let mut text = format!("Withdrawn: {}. Told: {}", taken.consent, names(&taken.told));
    if !taken.undelivered.is_empty() {
        text.push_str(&format!("\n  not told yet, delivery goes on: {}", names(&taken.undelivered)));
    }
    text
}

/// The SHA-256 of the signed paper's scan.
fn evidence_digest(path: &std::path::Path) -> Result<String, Failure> {
    let scan =
        std::fs::read(path).map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", path.display())))?;
    Ok(b64(&sha256(&[&scan])))
}

fn words(receipt: &ConsentReceipt) -> String {
    let state = format!("{:?}", receipt.state).to_lowercase();
    let mut text = format!("Consent {}: {state} ({}), recipient {}", receipt.id, receipt.template, receipt.recipient);
    for (holder, fields) in &receipt.holders {
        let fields: Vec<&str> = fields.iter().map(protocol::FieldId::as_str).collect();
        let late = if receipt.undelivered.contains(holder) { "  (not told yet; delivery goes on)" } else { "" };
        text.push_str(&format!("\n  {holder}: {}{late}", fields.join(", ")));
    }
    text
}
