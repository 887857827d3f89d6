//! `ogniwo consent`: through the local API, with the caller's own token.

use crate::args::ConsentCommand;
use crate::exit::Failure;
use crate::node_command::{api, token};
use crate::output::Output;
use crate::prompt::resident;
use http::Method;
use node::ConsentReceipt;
use protocol::encoding::{b64, sha256};
use serde_json::json;
use std::collections::BTreeMap;

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
        ConsentCommand::Withdraw { api: to, id } => {
            let path = format!("/v1/consents/{id}/withdraw");
            api(&to)?.call(Method::POST, &path, &token(&to)?, None).await?
        }
        ConsentCommand::Show { api: to, id } => {
            api(&to)?.call(Method::GET, &format!("/v1/consents/{id}"), &token(&to)?, None).await?
        }
    };
    output.result(&receipt, || words(&receipt));
    Ok(())
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
