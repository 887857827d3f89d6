//! Our log held against a peer's: for an officer, and once a day by itself.

use super::act::Act;
use super::findings::{Finding, FindingKind, ReviewState, first, keep};
use super::{DpoError, Officer, now};
use crate::bulk::blocking;
use crate::events::Happened;
use crate::node::Node;
use crate::reconcile::{Compared, Difference, Disagreement, ReconcileError, reconcile};
use crate::store::{StoreError, Table};
use audit::Filter;
use protocol::saying::Message;
use protocol::time::DAY_SECONDS;
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Questions of the last minutes may still be under way.
const SETTLED_SECONDS: i64 = 5 * 60;
/// A peer that gave nothing for so long is a finding.
const PATIENCE_SECONDS: i64 = 2 * DAY_SECONDS;
/// How far back the first comparison with a peer goes.
const BACK_SECONDS: i64 = 30 * DAY_SECONDS;
/// Key in `state`, before the peer's name, of until when its log and ours were compared.
const LAST: &str = "reconciled/";

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
    /// Questions of which one log has erased its entry, and shows that it stood there.
    pub erased: u64,
    /// The others: a thousand at most.
    pub findings: Vec<Finding>,
    /// How many more there are; all are among the findings that are listed page by page.
    pub left_out: u64,
}

fn finding(peer: &MemberId, difference: Difference) -> Finding {
    let Difference { kind, request, index, time, .. } = difference;
    let key = format!("{peer} {request}");
    let known = Finding::new(FindingKind::Disagreement(kind), &key, why(kind), vec![index], time);
    Finding { peer: Some(peer.clone()), request: Some(request), ..known }
}

fn why(kind: Disagreement) -> Message {
    let (pl, en) = match kind {
        Disagreement::OnlyHere => ("tylko nasz dziennik to ma", "only our log has it"),
        Disagreement::OnlyThere => ("tylko dziennik drugiej strony to ma", "only the peer's log has it"),
        Disagreement::Contradicting => ("dzienniki mówią co innego", "the two logs tell it otherwise"),
        Disagreement::Late => ("zapisane w zbyt odległym czasie", "recorded too far apart"),
        Disagreement::NotInTree => (
            "druga strona podała wpis, którego nie ma w jej dzienniku",
            "the peer gave an entry that it cannot show to stand in its log",
        ),
        Disagreement::NotGiven => (
            "druga strona od dwóch dni nie daje swoich wpisów do porównania",
            "for two days the peer has not given its entries to be compared",
        ),
    };
    Message { pl: pl.to_owned(), en: en.to_owned() }
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
        if matches!(error, ReconcileError::Unknown) { DpoError::Value("peer") } else { DpoError::Peer }
    })?;
    act.holder = Some(peer.clone());
    let Compared { matched, erased, differences } = compared;
    act.counts = [("erased", erased), ("findings", differences.len() as u64), ("matched", matched)].into();
    let _recorded = act.record(node).await?;
    let found: Vec<Finding> = differences.into_iter().map(|difference| finding(peer, difference)).collect();
    let (findings, left_out) = first(keep(node, found)?);
    Ok(Reconciled { matched, erased, findings, left_out })
}

impl Node {
    /// Once a day, compares the log since the last time with that of every peer there is something to compare with.
    pub(crate) async fn reconcile_daily(self: &Arc<Self>) {
        if let Err(error) = self.daily().await {
            tracing::error!(%error, "the daily comparison of logs failed");
        }
    }

    async fn daily(self: &Arc<Self>) -> Result<(), DpoError> {
        let Some(held) = self.held.load_full() else { return Ok(()) };
        let now = now(self)?;
        let until = now + -SETTLED_SECONDS;
        let audience = held.manifest.audience(&self.config.member, now);
        for peer in held.manifest.others(&self.config.member).map(|member| &member.id) {
            let key = format!("{LAST}{peer}");
            let last: Option<Timestamp> = self.store.read()?.get(Table::STATE, key.as_bytes())?;
            let done = || self.store.write(|write| write.put(Table::STATE, key.as_bytes(), &until));
            let from = last.unwrap_or_else(|| self.log_begun().unwrap_or(until).max(until + -BACK_SECONDS));
            if until - from < DAY_SECONDS {
                continue;
            }
            if !audience.contains(peer) && !self.dealt_with(peer, from, until).await? {
                done()?;
                continue;
            }
            // One peer's absence keeps neither the others' from being compared nor its own, once it is back.
            match compared(self, peer, (from, until), Act::new(Happened::Reconciled, &self.clock)).await {
                Ok(Reconciled { findings, .. }) => {
                    done()?;
                    warn(peer, &findings);
                }
                // One that never gave anything may have joined just now.
                Err(_) if last.is_none() => {
                    let since = from.max(until + -DAY_SECONDS);
                    self.store.write(|write| write.put(Table::STATE, key.as_bytes(), &since))?;
                }
                Err(_) if until - from >= PATIENCE_SECONDS => self.not_given(peer, from, now).await?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether our log has anything of a peer in a period.
    async fn dealt_with(
        self: &Arc<Self>,
        peer: &MemberId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<bool, DpoError> {
        let filter =
            Filter { peer: Some(peer.to_string()), from: Some(from.0), until: Some(until.0), ..Filter::default() };
        let reader = self.clone();
        Ok(!blocking(move || reader.log.search(&filter, 0, 1)).await??.entries.is_empty())
    }

    /// Tells the officer of a peer that has given nothing since `from`; once, until it does.
    async fn not_given(&self, peer: &MemberId, from: Timestamp, now: Timestamp) -> Result<(), DpoError> {
        let kind = Disagreement::NotGiven;
        let key = format!("{peer} {}", from.0);
        let new = Finding::new(FindingKind::Disagreement(kind), &key, why(kind), Vec::new(), now.0);
        if self.known(&new)? {
            return Ok(());
        }
        let mut act = Act::new(Happened::Reconciled, &self.clock);
        act.holder = Some(peer.clone());
        act.reason = Some("not_given");
        let _recorded = act.record(self).await?;
        let kept = keep(self, vec![Finding { peer: Some(peer.clone()), ..new }])?;
        warn(peer, &kept);
        Ok(())
    }

    fn known(&self, finding: &Finding) -> Result<bool, StoreError> {
        let key = protocol::encoding::unb64::<16>(&finding.id).ok_or(StoreError::Shape("findings"))?;
        Ok(self.store.read()?.get::<Finding>(Table::FINDINGS, &key)?.is_some())
    }
}

fn warn(peer: &MemberId, findings: &[Finding]) {
    let open = findings.iter().filter(|finding| finding.state == ReviewState::Open).count();
    if open > 0 {
        tracing::error!(%peer, open, "two logs disagree: the data-protection officer should look");
    }
}
