//! `ogniwo consent`: through the local API, with the caller's own token.

use crate::args::{AnswerArgs, ConsentCommand};
use crate::exit::Failure;
use crate::output::Output;
use crate::prompt::resident;
use crate::wire::{api, get, post, token, word};
use node::{ConsentList, ConsentReceipt, WithdrawalReceipt};
use protocol::MemberId;
use protocol::encoding::{b64, sha256};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) async fn run(command: ConsentCommand, output: &Output) -> Result<(), Failure> {
    let receipt: ConsentReceipt = match command {
        ConsentCommand::Record { api: to, resident: who, template, recipient, purpose, days, answer } => {
            let mut body = answered(&answer)?;
            let asked = json!({
                "resident": resident(&who)?, "template": template, "recipient": recipient, "purposes": purpose,
                "days": days,
            });
            if let (Value::Object(body), Value::Object(asked)) = (&mut body, asked) {
                body.extend(asked);
            }
            post(&to, "/v1/consents", &body).await?
        }
        ConsentCommand::Request { api: to, resident: who, template, recipient, purpose, days } => {
            let body = json!({
                "resident": resident(&who)?, "template": template, "recipient": recipient, "purposes": purpose,
                "days": days,
            });
            post(&to, "/v1/consents/requests", &body).await?
        }
        ConsentCommand::Answer { api: to, id, answer } => {
            let path = format!("/v1/consents/{id}/answer");
            post(&to, &path, &answered(&answer)?).await?
        }
        ConsentCommand::Renew { api: to, id, answer } => {
            let path = format!("/v1/consents/{id}/renew");
            post(&to, &path, &answered(&answer)?).await?
        }
        ConsentCommand::Withdraw { api: to, id, module, method, elsewhere: false, .. } => {
            let path = format!("/v1/consents/{id}/withdraw");
            let body = json!({ "modules": modules(&module), "method": method });
            post(&to, &path, &body).await?
        }
        ConsentCommand::Revoke { api: to, id, cause, text } => {
            let path = format!("/v1/consents/{id}/revoke");
            let body = json!({ "cause": cause, "text": text });
            post(&to, &path, &body).await?
        }
        ConsentCommand::List { api: to, resident: who } => {
            let body = json!({ "resident": resident(&who)? });
            let list: ConsentList = post(&to, "/v1/consents/list", &body).await?;
            output.result(&list, || match list.consents.as_slice() {
                [] => "No consent of this resident was recorded here.".to_owned(),
                consents => consents.iter().map(words).collect::<Vec<_>>().join("\n"),
            });
            return Ok(());
        }
        ConsentCommand::Withdraw { api: to, id, module, method, elsewhere: true, resident: who } => {
            let body =
                json!({ "resident": resident(&who)?, "consent": id, "modules": modules(&module), "method": method });
            let taken: WithdrawalReceipt = post(&to, "/v1/withdrawals", &body).await?;
            confirmed(&taken)?;
            output.result(&taken, || withdrawn_words(&taken));
            return Ok(());
        }
        ConsentCommand::Receipt { api: to, id, print } => {
            let path = format!("/v1/consents/{id}/receipt?{}", print.query());
            output.print(&api(&to)?.text(&path, &token(&to)?).await?);
            return Ok(());
        }
        ConsentCommand::Export { api: to, id } => {
            let path = format!("/v1/consents/{id}/export");
            let exported: Value = get(&to, &path).await?;
            output.print(&serde_json::to_string_pretty(&exported).map_err(|e| Failure::new("internal", e))?);
            return Ok(());
        }
        ConsentCommand::Show { api: to, id } => get(&to, &format!("/v1/consents/{id}")).await?,
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
    let others = answer.other_guardian.iter().map(|gave| {
        gave.split(',').filter(|module| !module.is_empty()).map(|module| (module, "given")).collect::<BTreeMap<_, _>>()
    });
    Ok(json!({
        "modules": modules, "acting": answer.acting, "other_guardians": others.collect::<Vec<_>>(),
        "method": answer.method, "language": answer.language, "evidence_sha256": evidence_digest(&answer.evidence)?,
    }))
}

fn withdrawn_words(taken: &WithdrawalReceipt) -> String {
    let names = |members: &BTreeSet<MemberId>| members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ");
    let mut text = format!("Withdrawal of {} taken.", taken.consent);
    if !taken.confirmed_by.is_empty() {
        text.push_str(&format!("\n  withdrawn at: {}", names(&taken.confirmed_by)));
    }
    for (member, code) in &taken.refused_by {
        text.push_str(&format!("\n  not taken by {member}: {code}"));
    }
    if let Some(code) = &taken.waits_for {
        text.push_str(&format!("\n  kept; the others are told by themselves after: {code}"));
    } else if !taken.undelivered.is_empty() {
        text.push_str(&format!("\n  not told yet, delivery goes on: {}", names(&taken.undelivered)));
    }
    text
}

/// A withdrawal that everybody took and nobody knows is one of a consent that does not exist.
fn confirmed(taken: &WithdrawalReceipt) -> Result<(), Failure> {
    if !taken.confirmed_by.is_empty() {
        return Ok(());
    }
    if taken.undelivered.is_empty() {
        let words =
            "no member knows a consent with this id, or with these modules, of this resident; compare the receipt";
        return Err(Failure::new("consent_unknown", words));
    }
    let words = "no member that was reached knows a consent with this id; it is kept, and those not told yet are told; run it again to see";
    Err(Failure::new("withdrawal_unconfirmed", words))
}

/// The SHA-256 of the signed paper's scan.
fn evidence_digest(path: &std::path::Path) -> Result<String, Failure> {
    let scan =
        std::fs::read(path).map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", path.display())))?;
    if scan.is_empty() {
        return Err(Failure::new("value", format!("{} is empty: it proves nothing", path.display())));
    }
    Ok(b64(&sha256(&[&scan])))
}

fn words(receipt: &ConsentReceipt) -> String {
    let state = word(&receipt.state);
    let mut text = format!("Consent {}: {state} ({}), recipient {}", receipt.id, receipt.template, receipt.recipient);
    if !receipt.standing.is_empty() {
        let standing: Vec<&str> = receipt.standing.iter().map(String::as_str).collect();
        text.push_str(&format!("\n  in force: {}", standing.join(", ")));
    }
    for (holder, fields) in &receipt.holders {
        let fields: Vec<&str> = fields.iter().map(protocol::FieldId::as_str).collect();
        let late = if receipt.undelivered.contains(holder) { "  (not told yet; delivery goes on)" } else { "" };
        text.push_str(&format!("\n  {holder}: {}{late}", fields.join(", ")));
    }
    if let Some(said) = &receipt.message {
        text.push_str(&format!("\n  {}\n  {}", said.en, said.pl));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_no_evidence() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("scan.pdf");
        std::fs::write(&path, b"").expect("written");
        assert_eq!(evidence_digest(&path).expect_err("empty").code, "value");
        std::fs::write(&path, b"scan").expect("written");
        assert_eq!(evidence_digest(&path).expect("a digest").len(), 43);
    }
}
