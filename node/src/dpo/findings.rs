//! What the officer has to look at, with what came of it: where our log and a peer's disagree, accesses that nothing
//! explains, and what the registry noticed (`review.rs`).
//!
//! A finding's id follows from what it is about, so that a comparison or review done again finds the same ones, and a
//! finding that was looked at stays so.

use super::act::Act;
use super::anomalies::Rule;
use super::{DpoError, Officer, now};
use crate::ask::Message;
use crate::events::Happened;
use crate::node::Node;
use crate::reconcile::{Difference, Disagreement, reconcile};
use crate::review::Notice;
use crate::shared::local_numbers;
use crate::store::{StoreError, Table, Write};
use protocol::encoding::{b64, sha256, unb64};
use protocol::{FileId, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::ToSchema;

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Questions of the last minutes may still be under way.
const SETTLED_SECONDS: i64 = 5 * 60;
/// Key in `state` of when the daily comparison was last done.
const LAST: &[u8] = b"reconciled";

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
}

/// Something the officer has to look at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its id.
    pub id: String,
    /// What sort.
    pub kind: FindingKind,
    /// Why it wants a look.
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

/// What is to be compared.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileBody {
    /// With whom.
    #[schema(value_type = String)]
    pub peer: MemberId,
    /// The first second of the period (seconds since 1970); a day before its end, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The second after its last; five minutes ago, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// What a comparison came to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Reconciled {
    /// Questions that both logs tell alike.
    pub matched: u64,
    /// The others.
    pub findings: Vec<Finding>,
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

fn finding(peer: &MemberId, difference: Difference) -> Finding {
    let Difference { kind, request, index, time } = difference;
    let (pl, en) = match kind {
        Disagreement::OnlyHere => ("tylko nasz dziennik to ma", "only our log has it"),
        Disagreement::OnlyThere => ("tylko dziennik drugiej strony to ma", "only the peer's log has it"),
        Disagreement::Contradicting => ("dzienniki mówią co innego", "the two logs tell it otherwise"),
        Disagreement::Late => ("zapisane w zbyt odległym czasie", "recorded too far apart"),
        Disagreement::NotInTree => (
            "druga strona podała wpis, którego nie ma w jej dzienniku",
            "the peer gave an entry that it cannot show to stand in its log",
        ),
    };
    let why = Message { pl: pl.to_owned(), en: en.to_owned() };
    let key = format!("{peer} {request}");
    let known = Finding::new(FindingKind::Disagreement(kind), &key, why, vec![index], time);
    Finding { peer: Some(peer.clone()), request: Some(request), ..known }
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

/// Compares our log with a peer's for an officer.
pub(super) async fn compare(node: &Arc<Node>, officer: &Officer, body: &ReconcileBody) -> Result<Reconciled, DpoError> {
    let until = Timestamp(body.until.unwrap_or_else(|| node.clock.now().0 - SETTLED_SECONDS));
    let from = Timestamp(body.from.unwrap_or(until.0 - DAY_SECONDS));
    if until <= from {
        return Err(DpoError::Value("until"));
    }
    let act = Act::of(officer, Happened::Reconciled, node)?;
    compared(node, &body.peer, (from, until), act).await
}

/// Compares, records that, and keeps what is new.
async fn compared(
    node: &Arc<Node>,
    peer: &MemberId,
    (from, until): (Timestamp, Timestamp),
    mut act: Act,
) -> Result<Reconciled, DpoError> {
    let compared = reconcile(node, peer, from, until).await.map_err(|error| {
        tracing::warn!(%peer, %error, "two logs were not compared");
        DpoError::Peer
    })?;
    act.holder = Some(peer.clone());
    act.counts = [("findings", compared.differences.len() as u64), ("matched", compared.matched)].into();
    let _recorded = act.record(node).await?;
    let found: Vec<Finding> = compared.differences.into_iter().map(|difference| finding(peer, difference)).collect();
    let findings = keep(node, found)?;
    Ok(Reconciled { matched: compared.matched, findings })
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

impl Node {
    /// Once a day, compares the log of the day before with everybody's who asks us or whom we ask.
    pub(crate) async fn reconcile_daily(self: &Arc<Self>) {
        if let Err(error) = self.daily().await {
            tracing::error!(%error, "the daily comparison of logs failed");
        }
    }

    async fn daily(self: &Arc<Self>) -> Result<(), DpoError> {
        let Some(held) = self.held.load_full() else { return Ok(()) };
        let now = now(self)?;
        let until = now + -SETTLED_SECONDS;
        let last: Option<Timestamp> = self.store.read()?.get(Table::STATE, LAST)?;
        let from = last.unwrap_or(until);
        if last.is_some() && until - from < DAY_SECONDS {
            return Ok(());
        }
        for peer in held.manifest.audience(&self.config.member, now).iter().filter(|_| from < until) {
            let act = Act::new(Happened::Reconciled, now);
            // One peer's absence does not keep the others' from being compared; it is compared by hand or tomorrow.
            if let Ok(Reconciled { findings, .. }) = compared(self, peer, (from, until), act).await {
                let open = findings.iter().filter(|finding| finding.state == ReviewState::Open).count();
                if open > 0 {
                    tracing::error!(%peer, open, "two logs disagree: the data-protection officer should look");
                }
            }
        }
        self.store.write(|write| write.put(Table::STATE, LAST, &until))?;
        Ok(())
    }
}
