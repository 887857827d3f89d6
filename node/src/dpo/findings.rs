//! What the officer has to look at, with what came of it: where our log and a peer's disagree, accesses that nothing
//! explains, what the registry noticed (`review.rs`), and what another officer did alone.
//!
//! A finding's id follows from what it is about, so that a comparison or review done again finds the same ones, and a
//! finding that was looked at stays so.

use super::act::Act;
use super::anomalies::Rule;
use super::eyes::Oversight;
use super::{DpoError, Officer, search};
use crate::events::Happened;
use crate::local_api::MessageSchema;
use crate::node::{Node, NodeError};
use crate::reconcile::Disagreement;
use crate::review::Notice;
use crate::store::{Read, StoreError, Table, Write};
use audit::{Fault, Log};
use protocol::encoding::{b64, sha256, unb64};
use protocol::saying::Message;
use protocol::{FileId, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// How far the review of a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Nobody has looked at it.
    Open,
    /// It has an explanation.
    Explained,
    /// It is what it looks like.
    Confirmed,
}

/// What sort of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FindingKind {
    /// Two logs disagree.
    Disagreement(Disagreement),
    /// Accesses want an explanation.
    Rule(Rule),
    /// The registry noticed something.
    Notice(Notice),
    /// An officer did something alone.
    Oversight(Oversight),
}

/// Something the officer has to look at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its id.
    pub id: String,
    /// What sort.
    pub kind: FindingKind,
    /// Why it wants a look.
    #[schema(value_type = MessageSchema)]
    pub why: Message,
    /// The other member it is about, if there is one and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub peer: Option<MemberId>,
    /// The request's digest, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The user's pseudonymous id, where it is about one user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The resident's file id, where it is about one resident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// This institution's numbers of that resident, as of now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub local_numbers: BTreeSet<String>,
    /// Places in our log, lowest first; for `only_there` and `not_in_tree` in the peer's; none for what the
    /// registry noticed.
    pub entries: Vec<u64>,
    /// When it was first recorded (seconds since 1970).
    pub time: i64,
    /// How far its review is.
    pub state: ReviewState,
    /// What the officer found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Finding {
    /// One that nobody has looked at. With the same `kind` and `key` it is the same finding.
    pub(crate) fn new(kind: FindingKind, key: &str, why: Message, entries: Vec<u64>, time: i64) -> Self {
        let name = serde_json::to_string(&kind).unwrap_or_default();
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            sha256(&[name.as_bytes(), &[0], key.as_bytes()]);
        let (peer, request, user, file) = (None, None, None, None);
        let (state, local_numbers) = (ReviewState::Open, BTreeSet::new());
        Finding { id: b64(&id), kind, why, peer, request, user, file, local_numbers, entries, time, state, note: None }
    }
}

/// What the officer found.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingReviewBody {
    /// What it is.
    pub state: ReviewState,
    /// Why, in the officer's words.
    pub note: String,
}

impl Finding {
    /// Keeps it. What was found before comes with its review, and is open again when it has more entries now.
    pub(crate) fn keep(self, write: &Write<'_>) -> Result<Self, StoreError> {
        let key = unb64::<16>(&self.id).ok_or(StoreError::Shape("findings"))?;
        let Some(mut known) = write.get::<Finding>(Table::FINDINGS, &key)? else {
            write.put(Table::FINDINGS, &key, &self)?;
            return Ok(self);
        };
        let all: BTreeSet<u64> = known.entries.iter().chain(&self.entries).copied().collect();
        if all.len() > known.entries.len() {
            known.entries = all.into_iter().collect();
            (known.why, known.time, known.state) = (self.why, known.time.min(self.time), ReviewState::Open);
            write.put(Table::FINDINGS, &key, &known)?;
        }
        Ok(known)
    }

    /// Whether an entry of our log that it rests on still says something.
    fn readable(&self, log: &Log) -> Result<bool, Fault> {
        if self.theirs() {
            return Ok(false);
        }
        for index in &self.entries {
            if log.read(*index)?.is_some_and(|entry| entry.payload.is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether its entries are places in the peer's log.
    #[must_use]
    pub fn theirs(&self) -> bool {
        matches!(self.kind, FindingKind::Disagreement(Disagreement::OnlyThere | Disagreement::NotInTree))
    }

    /// With this institution's own numbers of the resident.
    fn named(mut self, node: &Node) -> Result<Self, StoreError> {
        if let Some(file) = self.file.as_deref().and_then(unb64::<16>) {
            self.local_numbers = node.store.read()?.local_numbers(FileId(file))?;
        }
        Ok(self)
    }
}

/// Keeps all that was found.
pub(super) fn keep(node: &Node, found: Vec<Finding>) -> Result<Vec<Finding>, StoreError> {
    node.store.write(|write| found.into_iter().map(|new| new.keep(write)).collect())
}

/// Which of the findings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    start: Option<String>,
    limit: Option<usize>,
}

/// Some of the findings.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct FindingPage {
    /// Oldest first.
    pub findings: Vec<Finding>,
    /// What to begin the next page with, if there are more: the id of its first.
    pub next: Option<String>,
}

fn kept(read: &Read<'_>) -> Result<Vec<Finding>, StoreError> {
    read.each(Table::FINDINGS)?.map(|row| Ok(row?.1)).collect()
}

/// A page of what was found so far.
pub(super) async fn page(node: &Node, officer: &Officer, which: &Which) -> Result<FindingPage, DpoError> {
    let limit = search::limited(which.limit)?;
    let mut findings = kept(&node.store.read()?)?;
    findings.sort_by(|one, other| (one.time, &one.entries, &one.id).cmp(&(other.time, &other.entries, &other.id)));
    let start = match &which.start {
        None => 0,
        Some(id) => findings.iter().position(|finding| finding.id == *id).ok_or(DpoError::Value("start"))?,
    };
    let next = findings.get(start.saturating_add(limit)).map(|finding| finding.id.clone());
    let named = |finding: Finding| finding.named(node);
    let findings: Vec<Finding> = findings.into_iter().skip(start).take(limit).map(named).collect::<Result<_, _>>()?;
    let mut act = Act::of(officer, Happened::DpoSearched, node)?;
    act.filter = vec!["finding"];
    act.counts = [("found", findings.len() as u64)].into();
    let _recorded = act.record(node).await?;
    Ok(FindingPage { findings, next })
}

/// What of all that was found fits an answer, and how many are left out: those that are open go first.
pub(super) fn first(mut found: Vec<Finding>) -> (Vec<Finding>, u64) {
    let left_out = found.len().saturating_sub(search::MAX_LIMIT);
    if left_out > 0 {
        found.sort_by_key(|finding| finding.state != ReviewState::Open);
        found.truncate(search::MAX_LIMIT);
    }
    (found, left_out as u64)
}

/// Removes findings from before `before` of whose entries here none can be read any more; how many. What an officer wrote
/// and whom it was about goes with what it rests on. Blocks.
pub(crate) fn expire(node: &Node, before: Timestamp) -> Result<u64, NodeError> {
    let mut gone = Vec::new();
    for finding in kept(&node.store.read()?)?.into_iter().filter(|finding| finding.time < before.0) {
        if !finding.readable(&node.log)? {
            gone.push(finding.id);
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    let removed = gone.len() as u64;
    let mut act = Act::new(Happened::RetentionApplied, &node.clock);
    act.retention = Some("findings".to_owned());
    act.counts = [("removed", removed)].into();
    let _recorded = node.log.append_blocking(&act)?;
    let mut keys = gone.iter().filter_map(|id| unb64::<16>(id));
    node.store.write(|write| keys.try_for_each(|key| write.remove(Table::FINDINGS, &key).map(drop)))?;
    Ok(removed)
}

/// Keeps what an officer found.
pub(super) async fn review(
    node: &Node,
    officer: &Officer,
    id: &str,
    body: &FindingReviewBody,
) -> Result<Finding, DpoError> {
    if body.note.trim().is_empty() {
        return Err(DpoError::Value("note"));
    }
    let key = unb64::<16>(id).ok_or(DpoError::NoFinding)?;
    let mut finding: Finding = node.store.read()?.get(Table::FINDINGS, &key)?.ok_or(DpoError::NoFinding)?;
    let own = finding.user.as_deref().is_some_and(|user| officer.is(node, user));
    if matches!(finding.kind, FindingKind::Oversight(_)) && own {
        return Err(DpoError::Own);
    }
    let mut act = Act::of(officer, Happened::FindingReviewed, node)?;
    act.finding = Some(finding.id.clone());
    act.reason_text = Some(body.note.clone());
    act.decision = Some(match body.state {
        ReviewState::Open => "open",
        ReviewState::Explained => "explained",
        ReviewState::Confirmed => "confirmed",
    });
    let _recorded = act.record(node).await?;
    (finding.state, finding.note) = (body.state, Some(body.note.clone()));
    node.store.write(|write| write.put(Table::FINDINGS, &key, &finding))?;
    Ok(finding.named(node)?)
}
