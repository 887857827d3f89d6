//! Decisions made here, read back from the log: why one was made, and a period of them for trying a draft of the rules.

use crate::bulk::blocking;
use crate::desk::{self, DeskError};
use crate::dpo::Act;
use crate::local_api::MessageSchema;
use crate::node::Node;
use crate::store::Table;
use crate::tokens::Caller;
use audit::Filter;
use policies::{Recorded, RecordedBasis};
use protocol::consent::{Grant, TemplateRef};
use protocol::query::PENDING_SECONDS;
use protocol::saying::Message;
use protocol::{ConsentId, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Who may look back.
const READERS: [&str; 2] = ["dpo", "supervisor"];
/// What of an entry explains a decision; nothing of the resident or the user.
const EXPLAINS: [&str; 17] = [
    "agreement",
    "approval",
    "asker",
    "basis",
    "decision",
    "detail",
    "emergency",
    "epoch",
    "event",
    "fields_requested",
    "fields_returned",
    "library",
    "old_ticket",
    "purpose",
    "query",
    "reason",
    "time",
];

/// A period, both ends included (seconds since 1970).
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Period {
    from: Option<i64>,
    to: Option<i64>,
}

/// Why a request was answered or refused.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// What the log has of it: rules and fields.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub entry: Map<String, Value>,
    /// The steps passed, in the decision's order.
    pub passed: Vec<StepSeen>,
    /// The step that stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StepSeen>,
    /// What was missing and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MessageSchema>)]
    pub message: Option<Message>,
    /// What the peer was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
}

/// A step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepSeen {
    /// Which.
    pub step: String,
    /// What it saw: names of rules and fields, numbers; nothing of the resident.
    pub saw: String,
}

impl StepSeen {
    /// As the log has it, `STEP: WHAT IT SAW`.
    fn read(text: &str) -> Option<Self> {
        let (step, saw) = text.split_once(": ")?;
        Some(StepSeen { step: step.to_owned(), saw: saw.to_owned() })
    }
}

/// Decisions, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionList {
    /// As `ogniwo policy simulate` reads them, one a line.
    #[schema(value_type = Vec<Value>)]
    pub decisions: Vec<Recorded>,
    /// Decisions that cannot be tried again: their asker left, or their consent is gone.
    pub left_out: u64,
}

/// The decision on the request of this digest.
pub(crate) async fn show(node: &Arc<Node>, caller: &Caller, request: &str) -> Result<Decision, DeskError> {
    desk::only(caller, &READERS)?;
    let filter = Filter { request: Some(request.to_owned()), ..Filter::default() };
    let found = decisions(node, filter).await?.pop();
    let mut act = reading(node, caller, "request", found.iter().count())?;
    let file = found.as_ref().and_then(|entry| entry.get("file"));
    act.file = file.and_then(|file| serde_json::from_value(file.clone()).ok());
    let _recorded = node.log.append(&act).await?;
    let mut entry = found.ok_or(DeskError::Unknown)?;
    let steps = entry.get("steps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let passed = steps.filter_map(StepSeen::read).collect();
    let stopped = entry.get("detail").and_then(Value::as_str).and_then(StepSeen::read);
    entry.retain(|key, _| EXPLAINS.contains(&key.as_str()));
    let reason = entry.get("reason").and_then(|reason| serde_json::from_value::<Reason>(reason.clone()).ok());
    let message = reason.map(|reason| Message::of(|language| reason.saying(language)));
    let told = reason.map(|reason| reason.told().code().to_owned());
    Ok(Decision { entry, passed, stopped, message, told })
}

/// The decisions of a period.
pub(crate) async fn list(node: &Arc<Node>, caller: &Caller, period: Period) -> Result<DecisionList, DeskError> {
    desk::only(caller, &READERS)?;
    let until = period.to.map(|to| to.saturating_add(1));
    let found = decisions(node, Filter { from: period.from, until, ..Filter::default() }).await?;
    let _recorded = node.log.append(&reading(node, caller, "period", found.len())?).await?;
    let found = once_each(found);
    let decisions: Vec<Recorded> = found.iter().filter_map(|payload| recorded(node, payload)).collect();
    let left_out = (found.len() - decisions.len()) as u64;
    Ok(DecisionList { decisions, left_out })
}

fn reading(node: &Node, caller: &Caller, criterion: &'static str, found: usize) -> Result<Act, DeskError> {
    Act::reading(node, caller, &READERS, criterion, found).map_err(DeskError::Closed)
}

/// Entries of this log that are decisions on peers' requests, oldest first.
async fn decisions(node: &Arc<Node>, filter: Filter) -> Result<Vec<Map<String, Value>>, DeskError> {
    let reader = node.clone();
    let read = move || {
        let mut found = Vec::new();
        reader.log.search_each(&filter, |entry| found.extend(entry.payload.and_then(decision)))?;
        Ok::<_, audit::Fault>(found)
    };
    Ok(blocking(read).await?.map_err(std::io::Error::other)?)
}

/// Questions that waited for a person counted once: what was said in the end stands for every asking before it.
fn once_each(found: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    let mut once: Vec<Map<String, Value>> = Vec::with_capacity(found.len());
    let time = |entry: &Map<String, Value>| entry.get("time").and_then(Value::as_i64).unwrap_or(i64::MAX);
    for entry in found {
        let question = entry.get("approval").and_then(Value::as_str).map(str::to_owned);
        let waits = entry.get("event").and_then(Value::as_str) == Some("approval.waiting");
        let before = question.as_ref().and_then(|question| waiting.remove(question));
        // Decided in one such time, fetched in another; later it is a new question.
        let same = before.filter(|at| once.get(*at).is_some_and(|was| time(&entry) - time(was) <= 2 * PENDING_SECONDS));
        let at = same.unwrap_or(once.len());
        match once.get_mut(at) {
            Some(kept) => *kept = entry,
            None => once.push(entry),
        }
        if let Some(question) = question.filter(|_| waits) {
            waiting.insert(question, at);
        }
    }
    once
}

fn decision(payload: Value) -> Option<Map<String, Value>> {
    let Value::Object(payload) = payload else { return None };
    let event = payload.get("event").and_then(Value::as_str).unwrap_or_default();
    let decided = matches!(event, "query.answered" | "query.denied" | "query.no_match" | "approval.waiting");
    decided.then_some(payload)
}

fn recorded(node: &Node, payload: &Map<String, Value>) -> Option<Recorded> {
    let held = node.held.load_full()?;
    let kind = |id: &str| held.manifest.members.iter().find(|m| m.id.as_str() == id).map(|m| m.kind.clone());
    let text = |key: &str| payload.get(key).and_then(Value::as_str);
    let fields = payload.get("fields_requested").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    Some(Recorded {
        at: protocol::Timestamp(payload.get("time")?.as_i64()?),
        asker: kind(text("asker")?)?,
        holder: kind(node.config.member.as_str())?,
        role: text("role")?.parse().ok()?,
        query: text("query")?.parse().ok()?,
        purpose: text("purpose")?.parse().ok()?,
        basis: basis(node, text("basis")?)?,
        case: payload.contains_key("case"),
        fields: serde_json::from_value(fields).ok()?,
    })
}

/// A basis as the log names it: `none`, `mandate:ID@VERSION`, `consent:ID (TEMPLATE@VERSION)`, `emergency:REASON`.
fn basis(node: &Node, name: &str) -> Option<RecordedBasis> {
    if name == "none" {
        return Some(RecordedBasis::None);
    }
    let (kind, rest) = name.split_once(':')?;
    match kind {
        "mandate" => Some(RecordedBasis::Mandate { id: rest.split('@').next()?.to_owned() }),
        "consent" => {
            let id = ConsentId(protocol::encoding::unb64(rest.split(' ').next()?)?);
            let grant: Grant = node.store.read().ok()?.get(Table::GRANTS, id.as_bytes()).ok()??;
            let TemplateRef { id, version } = grant.template;
            Some(RecordedBasis::Consent { template: TemplateRef { id, version } })
        }
        "emergency" => {
            let catalogue = node.engine.library().catalogue();
            let id = rest.split('@').next()?;
            // A permit names the library's emergency, a refusal the user's reason.
            let reason = match catalogue.emergencies.get(id) {
                Some(emergency) => emergency.reasons.keys().next()?.clone(),
                None => id.to_owned(),
            };
            Some(RecordedBasis::Emergency { reason })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_question_that_waited_counts_once() {
        let entry = |event: &str, question: &str, time: i64| match json!({
            "event": event, "approval": question, "time": time,
        }) {
            Value::Object(entry) => entry,
            other => panic!("{other}"),
        };
        let (waits, answers) = ("approval.waiting", "query.answered");
        let asked = vec![
            entry(waits, "a", 0),
            entry(waits, "b", 1),
            entry(waits, "a", 2),
            entry(answers, "a", 2 + 2 * PENDING_SECONDS),
            entry(answers, "a", 3 + 2 * PENDING_SECONDS),
            // The same question as the one that lapsed, much later.
            entry("query.denied", "b", 2 + 2 * PENDING_SECONDS),
        ];
        let kept: Vec<_> = once_each(asked).iter().map(|e| (e["event"].clone(), e["approval"].clone())).collect();
        let expected = [(answers, "a"), (waits, "b"), (answers, "a"), ("query.denied", "b")];
        assert_eq!(kept, expected.map(|(event, question)| (json!(event), json!(question))));
    }
}
