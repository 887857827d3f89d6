//! Decisions made here, read back from the log: why one was made, and a period of them for trying a draft of the rules.

use crate::desk::{self, DeskError};
use crate::dpo::Act;
use crate::events::Happened;
use crate::node::Node;
use crate::store::Table;
use crate::tokens::Caller;
use audit::Filter;
use policies::{Recorded, RecordedBasis};
use protocol::consent::{Grant, TemplateRef};
use protocol::saying::Language;
use protocol::{ConsentId, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who may look back.
const READERS: [&str; 2] = ["dpo", "supervisor"];
/// Entries read at once.
const PAGE: usize = 1_000;
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
    /// What the log has of it: rules, fields, the step that stopped it and what that saw.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub entry: Map<String, Value>,
    /// What was missing and what to do next, in Polish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pl: Option<String>,
    /// The same in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub en: Option<String>,
    /// What the peer was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
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
    entry.retain(|key, _| EXPLAINS.contains(&key.as_str()));
    let reason = entry.get("reason").and_then(|reason| serde_json::from_value::<Reason>(reason.clone()).ok());
    let words = |language| {
        reason.map(|reason| {
            let saying = reason.saying(language);
            format!("{} {}", saying.missing, saying.next)
        })
    };
    let told = reason.map(|reason| reason.told().code().to_owned());
    Ok(Decision { entry, pl: words(Language::Pl), en: words(Language::En), told })
}

/// The decisions of a period.
pub(crate) async fn list(node: &Arc<Node>, caller: &Caller, period: Period) -> Result<DecisionList, DeskError> {
    desk::only(caller, &READERS)?;
    let until = period.to.map(|to| to.saturating_add(1));
    let found = decisions(node, Filter { from: period.from, until, ..Filter::default() }).await?;
    let _recorded = node.log.append(&reading(node, caller, "period", found.len())?).await?;
    let decisions: Vec<Recorded> = found.iter().filter_map(|payload| recorded(node, payload)).collect();
    let left_out = (found.len() - decisions.len()) as u64;
    Ok(DecisionList { decisions, left_out })
}

/// That decisions are read back by one of [`READERS`], by `criterion`: recorded before they are shown, and also that there
/// were none.
fn reading(node: &Node, caller: &Caller, criterion: &'static str, found: usize) -> Result<Act, DeskError> {
    let now = node.now().map_err(DeskError::Closed)?;
    let role = READERS.into_iter().find(|role| caller.has(&[role])).unwrap_or_default();
    let mut act = Act::by(desk::user(node, caller), role, Happened::LogRead, now);
    act.filter = vec![criterion];
    act.counts = [("found", found as u64)].into();
    Ok(act)
}

/// Entries of this log that are decisions on peers' requests, oldest first.
async fn decisions(node: &Arc<Node>, filter: Filter) -> Result<Vec<Map<String, Value>>, DeskError> {
    let reader = node.clone();
    let read = move || {
        let (mut found, mut start) = (Vec::new(), Some(0));
        while let Some(at) = start {
            let page = reader.log.search(&filter, at, PAGE)?;
            found.extend(page.entries.into_iter().filter_map(|entry| decision(entry.payload?)));
            start = page.next;
        }
        Ok::<_, audit::Fault>(found)
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?;
    Ok(read.map_err(std::io::Error::other)?)
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
