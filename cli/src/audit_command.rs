//! `ogniwo audit`.

use crate::args::AuditCommand;
use crate::exit::{Failure, chain};
use crate::output::Output;
use audit::{Vkey, verify_dir};
use serde_json::json;

pub(crate) fn run(command: AuditCommand, output: &Output) -> Result<(), Failure> {
    let AuditCommand::Verify { dir, vkey } = command;
    let pinned = vkey.map(|text| Vkey::parse(&text)).transpose().map_err(|e| Failure::new("value", chain(&e)))?;
    let total = std::fs::read_dir(&dir)
        .map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", dir.display())))?
        .flatten()
        .filter_map(|f| f.metadata().ok())
        .map(|m| m.len())
        .sum();
    let bar = output.progress("verifying", true);
    let report = verify_dir(&dir, pinned.as_ref(), None, |done| bar(node::Progress { done, total }))
        .map_err(|e| Failure::new("verification_failed", chain(&e)))?;
    let document = json!({
        "origin": report.vkey.name(), "entries": report.entries, "checkpoint": report.signed,
        "verified": true, "torn_tail_bytes": report.torn_tail_bytes,
    });
    output.result(&document, || {
        format!(
            "{}: {} entries verified, {} of them under the signed checkpoint{}",
            report.vkey.name(),
            report.entries,
            report.signed,
            if report.torn_tail_bytes > 0 { "; an unfinished write at the end is ignored" } else { "" }
        )
    });
    Ok(())
}
