//! What the officer has to look at, with what came of it: where our log and a peer's disagree, accesses that nothing
//! explains, what the registry noticed (`review.rs`), and what another officer did alone.
//!
//! A finding's id follows from what it is about, so that a comparison or review done again finds the same ones, and a
//! finding that was looked at stays so.

use super::act::Act;
use super::anomalies::Rule;
use super::eyes::Oversight;
use super::{DpoError, Officer};
use crate::events::Happened;
use crate::local_api::MessageSchema;
use crate::node::Node;
use crate::reconcile::Disagreement;
use crate::review::Notice;
use crate::shared::local_numbers;
use crate::store::{StoreError, Table, Write};
use protocol::encoding::{b64, sha256, unb64};
use protocol::saying::Message;
use protocol::{FileId, MemberId};
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

    /// With this institution's own numbers of the resident.
    fn named(mut self, node: &Node) -> Result<Self, StoreError> {
        if let Some(file) = self.file.as_deref().and_then(unb64::<16>) {
            self.local_numbers = local_numbers(node, FileId(file))?;
        }
        Ok(self)
    }
}

/// Keeps all that was found.
pub(super) fn keep(node: &Node, found: Vec<Finding>) -> Result<Vec<Finding>, StoreError> {
    node.store.write(|write| found.into_iter().map(|new| new.keep(write)).collect())
}

/// Everything found so far.
pub(super) async fn all(node: &Node, officer: &Officer) -> Result<Vec<Finding>, DpoError> {
    let mut findings: Vec<Finding> = {
        let read = node.store.read()?;
        let keys = read.keys_with(Table::FINDINGS, &[])?;
        let kept = keys.iter().filter_map(|key| read.get::<Finding>(Table::FINDINGS, key).transpose());
        kept.map(|finding| finding?.named(node)).collect::<Result<_, _>>()?
    };
    findings.sort_by(|one, other| (one.time, &one.entries).cmp(&(other.time, &other.entries)));
    let mut act = Act::of(officer, Happened::DpoSearched, node)?;
    act.filter = vec!["finding"];
    act.counts = [("found", findings.len() as u64)].into();
    let _recorded = act.record(node).await?;
    Ok(findings)
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
