//! What the officer has to look at: comparing logs, looking for accesses that nothing explains, reviewing both.

use crate::args::{AnomaliesArgs, ApiArgs, ReconcileArgs, ReviewArgs};
use crate::audit_filter::moment;
use crate::exit::Failure;
use crate::output::{Output, utc};
use crate::wire::{get, post, word};
use node::{Anomalies, Finding, FindingPage, Reconciled};
use serde_json::json;

/// Findings asked for at once.
const PAGE: usize = 1_000;

pub(crate) async fn reconcile(arguments: ReconcileArgs, output: &Output) -> Result<(), Failure> {
    let ReconcileArgs { api: to, peer, from, until } = arguments;
    let body = node::ReconcileBody { peer, from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let done: Reconciled = post(&to, "/v1/audit/reconcile", &json!(body)).await?;
    output.result(&done, || {
        let lines = done.findings.iter().map(finding_line);
        let others = done.findings.len() as u64 + done.left_out;
        let mut head = format!("{} questions stand alike in both logs, {others} do not", done.matched);
        if done.erased > 0 {
            head.push_str(&format!("; of {} one side was erased and left its leaf", done.erased));
        }
        std::iter::once(head).chain(lines).chain(left_out(done.left_out)).collect::<Vec<_>>().join("\n")
    });
    let open = done.findings.iter().any(|finding| finding.state == node::ReviewState::Open);
    if open { Err(Failure::new("logs_disagree", "the two logs disagree")) } else { Ok(()) }
}

pub(crate) async fn anomalies(arguments: AnomaliesArgs, output: &Output) -> Result<(), Failure> {
    let AnomaliesArgs { api: to, from, until } = arguments;
    let body = node::AnomaliesBody { from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let done: Anomalies = post(&to, "/v1/audit/anomalies", &json!(body)).await?;
    output.result(&done, || {
        let explained: u64 = done.explained.values().sum();
        let mut lines = vec![format!("{} accesses, {explained} of them explained", done.examined)];
        lines.extend(done.explained.iter().map(|(why, times)| format!("  {:<10} {times}", word(why))));
        lines.extend(done.findings.iter().map(finding_line));
        lines.extend(left_out(done.left_out));
        lines.join("\n")
    });
    Ok(())
}

fn left_out(more: u64) -> Option<String> {
    (more > 0).then(|| format!("{more} more: `{} audit review` lists all", crate::program()))
}

pub(crate) async fn review(arguments: ReviewArgs, output: &Output) -> Result<(), Failure> {
    let ReviewArgs { api: to, id, explained, confirmed, note, start, limit } = arguments;
    let found = match id {
        None => listed(&to, start, limit).await?,
        Some(id) => {
            let state = if confirmed {
                "confirmed"
            } else if explained {
                "explained"
            } else {
                "open"
            };
            let body = json!({ "state": state, "note": note.unwrap_or_default() });
            let path = format!("/v1/audit/findings/{id}");
            FindingPage { findings: vec![post(&to, &path, &body).await?], next: None }
        }
    };
    output.result(&found, || {
        let mut lines: Vec<String> = found.findings.iter().map(finding_line).collect();
        lines.extend(found.next.as_ref().map(|next| format!("there are more: --start {next}")));
        if lines.is_empty() { "nothing to look at".to_owned() } else { lines.join("\n") }
    });
    Ok(())
}

/// As many findings as are wanted, page by page.
async fn listed(to: &ApiArgs, mut start: Option<String>, limit: usize) -> Result<FindingPage, Failure> {
    let mut findings: Vec<Finding> = Vec::new();
    loop {
        let most = PAGE.min(limit - findings.len());
        let from = start.map(|id| format!("&start={id}")).unwrap_or_default();
        let path = format!("/v1/audit/findings?limit={most}{from}");
        let page: FindingPage = get(to, &path).await?;
        findings.extend(page.findings);
        if page.next.is_none() || findings.len() >= limit {
            return Ok(FindingPage { findings, next: page.next });
        }
        start = page.next;
    }
}

fn finding_line(finding: &Finding) -> String {
    let (kind, state) = (word(&finding.kind), word(&finding.state));
    let time = utc(finding.time);
    let with = finding.peer.as_ref().map(|peer| format!(" with {peer}")).unwrap_or_default();
    let entries = finding.entries.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let whose = if finding.theirs() { "of the peer's log" } else { "here" };
    let mut text =
        format!("{}  {time}  {kind}{with}, {state}\n    {}; entries {entries} {whose}", finding.id, finding.why.en);
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
