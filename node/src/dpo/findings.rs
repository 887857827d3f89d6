//! What the officer has to look at, with what came of it: where our log and a peer's disagree, and what the registry noticed
//! (`review.rs`).
//!
//! A finding's id follows from what it is about, so that a comparison done again finds the same ones, and a finding that
//! was looked at stays so.

use super::act::Act;
use super::{DpoError, Officer, now};
use crate::events::Happened;
use crate::node::Node;
use crate::reconcile::{Difference, reconcile};
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

/// What is to be looked at: a disagreement of two logs, or what the registry noticed (`protocol::review`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Only our log has it.
    OnlyHere,
    /// Only the peer's log has it.
    OnlyThere,
    /// Answered by one, not answered by the other, or with other fields.
    Contradicting,
    /// Recorded too far apart.
    Late,
    /// The peer has become known to serve a client of ours.
    Met,
    /// The same, after it had removed such an entry within 90 days: it may have put it only to look.
    MetAgain,
    /// Somebody's entry about a client of ours is not what a member signs.
    Unverified,
    /// A newcomer of ours never became a client.
    NeverConverted,
    /// The peer located or posted an identifier nobody has: it guessed.
    Honeypot,
    /// The peer used up its day's residents located without serving them.
    MissBudgetSpent,
    /// The peer's new entries meet hardly anybody's: they may be invented.
    SeldomMet,
}

/// Something the officer has to look at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Its id.
    pub id: String,
    /// Which other member it is about, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub peer: Option<MemberId>,
    /// What it is.
    pub kind: FindingKind,
    /// Two logs disagree: the request's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Two logs disagree: the entry here, or for `only_there` in the peer's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The resident it is about, as the log has it, if it is about a client of this institution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub file: Option<FileId>,
    /// This institution's numbers of that resident, as of now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub local_numbers: BTreeSet<String>,
    /// Numbers that belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was recorded (seconds since 1970).
    pub time: i64,
    /// How far its review is.
    pub state: ReviewState,
    /// What the officer found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        sha256(&[peer.as_str().as_bytes(), &[0, kind as u8], request.as_bytes()]);
    let (request, index) = (Some(request), Some(index));
    Finding { request, index, ..Finding::new(b64(&id), Some(peer.clone()), kind, time) }
}

impl Finding {
    /// One nobody has looked at.
    pub(crate) fn new(id: String, peer: Option<MemberId>, kind: FindingKind, time: i64) -> Self {
        Finding {
            id,
            peer,
            kind,
            request: None,
            index: None,
            file: None,
            local_numbers: BTreeSet::new(),
            detail: None,
            time,
            state: ReviewState::Open,
            note: None,
        }
    }

    /// Keeps it, or gives the same one as it was kept before.
    pub(crate) fn keep(self, write: &Write<'_>) -> Result<Self, StoreError> {
        let key = unb64::<16>(&self.id).ok_or(StoreError::Shape("findings"))?;
        if let Some(known) = write.get::<Finding>(Table::FINDINGS, &key)? {
            return Ok(known);
        }
        write.put(Table::FINDINGS, &key, &self)?;
        Ok(self)
    }

    /// With this institution's own numbers of the resident.
    fn named(mut self, node: &Node) -> Result<Self, StoreError> {
        if let Some(file) = self.file {
            self.local_numbers = local_numbers(node, file)?;
        }
        Ok(self)
    }
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
    let findings = node
        .store
        .write(|write| found.into_iter().map(|new| new.keep(write)).collect::<Result<Vec<_>, StoreError>>())?;
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
    findings.sort_by_key(|finding| (finding.time, finding.index));
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
