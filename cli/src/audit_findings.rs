//! What the officer has to look at: comparing logs, looking for accesses that nothing explains, reviewing both.

use crate::args::{AnomaliesArgs, ReconcileArgs, ReviewArgs};
use crate::audit_filter::moment;
use crate::exit::Failure;
use crate::node_command::{api, token};
use crate::output::Output;
use http::Method;
use node::{Anomalies, Disagreement, Finding, FindingKind, Reconciled};
use serde_json::json;

pub(crate) async fn reconcile(arguments: ReconcileArgs, output: &Output) -> Result<(), Failure> {
    let ReconcileArgs { api: to, peer, from, until } = arguments;
    let body = node::ReconcileBody { peer, from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let body = serde_json::to_value(body).map_err(|e| Failure::new("internal", e))?;
    let done: Reconciled = api(&to)?.call(Method::POST, "/v1/audit/reconcile", &token(&to)?, Some(&body)).await?;
    output.result(&done, || {
        let lines = done.findings.iter().map(finding_line);
        let mut head = format!("{} questions stand alike in both logs, {} do not", done.matched, done.findings.len());
        if done.erased > 0 {
            head.push_str(&format!("; of {} one side was erased and left its leaf", done.erased));
        }
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    });
    let open = done.findings.iter().any(|finding| finding.state == node::ReviewState::Open);
    if open { Err(Failure::new("logs_disagree", "the two logs disagree")) } else { Ok(()) }
}

pub(crate) async fn anomalies(arguments: AnomaliesArgs, output: &Output) -> Result<(), Failure> {
    let AnomaliesArgs { api: to, from, until } = arguments;
    let body = node::AnomaliesBody { from: moment(from.as_deref())?, until: moment(until.as_deref())? };
    let body = serde_json::to_value(body).map_err(|e| Failure::new("internal", e))?;
    let done: Anomalies = api(&to)?.call(Method::POST, "/v1/audit/anomalies", &token(&to)?, Some(&body)).await?;
    output.result(&done, || {
        let explained: u64 = done.explained.values().sum();
        let mut lines = vec![format!("{} accesses, {explained} of them explained", done.examined)];
        lines.extend(done.explained.iter().map(|(why, times)| format!("  {:<10} {times}", name(why))));
        lines.extend(done.findings.iter().map(finding_line));
        lines.join("\n")
    });
    Ok(())
}

pub(crate) async fn review(arguments: ReviewArgs, output: &Output) -> Result<(), Failure> {
    let ReviewArgs { api: to, id, explained, confirmed, note } = arguments;
    let (api, token) = (api(&to)?, token(&to)?);
    let findings: Vec<Finding> = match id {
        None => api.call(Method::GET, "/v1/audit/findings", &token, None).await?,
        Some(id) => {
            let state = if confirmed {
                "confirmed"
            } else if explained {
                "explained"
            } else {
                "open"
            };
            let body = json!({ "state": state, "note": note.unwrap_or_default() });
            vec![api.call(Method::POST, &format!("/v1/audit/findings/{id}"), &token, Some(&body)).await?]
        }
    };
    output.result(&findings, || {
        let lines: Vec<String> = findings.iter().map(finding_line).collect();
        if lines.is_empty() { "nothing to look at".to_owned() } else { lines.join("\n") }
    });
    Ok(())
}

/// What something of the API is called on the wire.
fn name(word: &impl serde::Serialize) -> String {
    json!(word).as_str().unwrap_or_default().to_owned()
}

fn finding_line(finding: &Finding) -> String {
    let (kind, state) = (name(&finding.kind), name(&finding.state));
    let time = jiff::Timestamp::from_second(finding.time).map(|time| time.to_string()).unwrap_or_default();
    let with = finding.peer.as_ref().map(|peer| format!(" with {peer}")).unwrap_or_default();
    let entries = finding.entries.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let theirs = matches!(finding.kind, FindingKind::Disagreement(Disagreement::OnlyThere | Disagreement::NotInTree));
    let whose = if theirs { "of the peer's log" } else { "here" };
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
