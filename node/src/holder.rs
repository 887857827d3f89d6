//! A key holder's side of the pseudonym: checks who asks, meters, evaluates under its share, proves, logs.

use crate::bulk::blocking;
use crate::events::{Event, Happened};
use crate::guard::{GuardError, Spent};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::shares::NoShare;
use protocol::encoding::sha256;
use protocol::evaluation::{EvaluationAnswer, EvaluationError, EvaluationRequest};
use protocol::manifest::{KeyUse, Member};
use protocol::query::MAX_LIFE_SECONDS;
use protocol::{Epoch, MemberId, Problem, Reason, Timestamp};
use pseudonym::EvaluateError;
use rand_core::UnwrapErr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a holder did not evaluate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HolderError {
    #[error("the node is closed")]
    Closed(Reason),
    #[error("the asker is not an active member")]
    PeerUnknown,
    #[error(transparent)]
    Message(#[from] EvaluationError),
    #[error("the request is stale or was issued before this node started")]
    Stale,
    #[error("no share of that epoch and generation is held here")]
    NoShare,
    #[error("our share is not the one the manifest lists")]
    StaleShare,
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("the batch is larger than the member may spend at once")]
    Burst,
    #[error("the quota of evaluations is used up")]
    Quota { retry_after: u64 },
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl HolderError {
    /// What the asker is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            HolderError::Closed(reason) => Problem::new(503, reason.code(), "The key holder is closed").retry_after(5),
            HolderError::PeerUnknown => Problem::new(403, "peer_unknown", "Not an active member"),
            HolderError::Message(EvaluationError::BadSignature) => {
                Problem::new(403, "signature_invalid", "The request is not signed by its sender")
            }
            HolderError::Message(EvaluationError::Malformed) => {
                Problem::new(400, "evaluation_malformed", "Not an evaluation request")
            }
            HolderError::Stale => Problem::new(400, "request_stale", "The request is stale; check both clocks"),
            HolderError::NoShare => Problem::new(404, "share_unknown", "No share of that epoch and generation"),
            HolderError::StaleShare => {
                Problem::new(503, "share_stale", "This key holder's share is not the one the manifest lists")
            }
            HolderError::Evaluate(error) => Problem::new(400, "evaluation_refused", &error.to_string()),
            HolderError::Burst => Problem::new(413, "batch_too_large", "The batch is larger than the member's burst"),
            HolderError::Quota { retry_after } => {
                Problem::new(429, "quota_exceeded", "The quota of evaluations is used up").retry_after(*retry_after)
            }
            HolderError::Node(_) => Problem::new(503, "log_unavailable", "The key holder cannot record evaluations"),
        }
    }
}

/// Evaluates one batch for `asker`, whose certificate was checked: request bytes in, answer bytes out.
pub(crate) async fn evaluate(node: &Arc<Node>, asker: &MemberId, body: &[u8]) -> Result<Vec<u8>, HolderError> {
    let held = node.manifest().map_err(HolderError::Closed)?;
    let now = node.now().map_err(HolderError::Closed)?;
    let manifest = &held.manifest;
    let member = manifest.member(asker).ok_or(HolderError::PeerUnknown)?;
    let keys = manifest.keys_of(asker, KeyUse::Entry, now);
    let me = &node.config.member;
    let request = EvaluationRequest::from_bytes(body, &manifest.realm, asker, me, keys)?;
    let fresh = request.issued.not_ahead_of(now) && now - request.issued <= MAX_LIFE_SECONDS;
    if !fresh || (asker != me && request.issued < node.started) {
        return Err(HolderError::Stale);
    }
    let share = node.share(&held, request.epoch, request.generation, now).map_err(|why| match why {
        NoShare::Unknown => HolderError::NoShare,
        NoShare::Stale => HolderError::StaleShare,
    })?;
    let charged = Meters::new(node, member, request.epoch).charge(&held, &request, &sha256(&[body]), now)?;

    let (epoch, generation, request_id, count) =
        (request.epoch, request.generation, request.request_id, request.elements.len());
    let work = move || share.evaluate(&request.quorum, &request.elements, &mut UnwrapErr(getrandom::SysRng));
    let answer = blocking(work).await.map_err(NodeError::from)??;
    let mut event = Event::new(Happened::KeyEvaluated, &node.clock)
        .counting([("evaluations", count as u64), (charged.as_str(), count as u64)]);
    (event.asker, event.epoch) = (Some(asker.clone()), Some(epoch));
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    let answer = EvaluationAnswer { epoch, generation, request_id, elements: answer.elements, proof: answer.proof };
    Ok(answer.to_bytes(body, &node.keys.entry))
}

/// The meters of one member under one epoch.
pub(crate) struct Meters<'a> {
    node: &'a Node,
    member: &'a Member,
    epoch: String,
}

/// To which quota a batch was charged, as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charged {
    /// To the day's.
    Day,
    /// To the raised one of a first enrolment.
    Raised,
    /// To none: the same request was charged before.
    Again,
}

impl Charged {
    /// Its name among an entry's counts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Charged::Day => "charged_day",
            Charged::Raised => "charged_raised",
            Charged::Again => "charged_again",
        }
    }
}

impl<'a> Meters<'a> {
    pub(crate) fn new(node: &'a Node, member: &'a Member, epoch: Epoch) -> Self {
        Meters { node, member, epoch: epoch.0.to_string() }
    }

    /// Charges a batch once, however often it is repeated byte for byte: first to a raised quota, then to the day's and
    /// the minute's.
    fn charge(
        &self,
        held: &Held,
        request: &EvaluationRequest,
        digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Charged, HolderError> {
        let (guard, id) = (&self.node.guard, self.member.id.as_str());
        let until = request.issued + 2 * MAX_LIFE_SECONDS;
        if !guard.first_time(id, digest, until).map_err(NodeError::from)? {
            return Ok(Charged::Again);
        }
        let spent = self.spend(held, request.elements.len() as u64, now);
        if spent.is_err() {
            // Not charged: it is as if it had not come.
            guard.forget(id, digest, until).map_err(NodeError::from)?;
        }
        spent
    }

    fn spend(&self, held: &Held, amount: u64, now: Timestamp) -> Result<Charged, HolderError> {
        let (guard, quotas) = (&self.node.guard, &self.member.quotas);
        // Meters that were lost count as spent until the officers grant anew.
        let granted_since = guard.lost_at().is_none_or(|at| held.manifest.issued > at);
        if let Some(raised) = quotas.first_enrolment.as_ref().filter(|r| now <= r.until && granted_since) {
            let name = self.raised(raised.until);
            let name: Vec<&str> = name.iter().map(String::as_str).collect();
            if guard.spend_once(&name, amount, raised.evaluations).map_err(NodeError::from)? {
                return Ok(Charged::Raised);
            }
        }
        if amount > quotas.evaluations_burst {
            return Err(HolderError::Burst);
        }
        let quota = |spent: Spent| HolderError::Quota { retry_after: spent.retry_after };
        let day = guard.spend_today(&self.day(), amount, quotas.evaluations_per_day, now).map_err(NodeError::from)?;
        day.map_err(quota)?;
        let name = ["burst", self.member.id.as_str(), &self.epoch];
        let minute = guard.spend_burst(&name, amount, quotas.evaluations_burst, now).map_err(NodeError::from)?;
        if minute.is_err() {
            guard.give_back_today(&self.day(), amount, now).map_err(NodeError::from)?;
        }
        minute.map(|()| Charged::Day).map_err(quota)
    }

    /// Makes good what a crash took from the meters: `day` of today, `raised` of the last moment before it.
    pub(crate) fn make_good(&self, day: u64, raised: u64, now: Timestamp) -> Result<(), GuardError> {
        self.node.guard.make_good(&self.day(), day, false, now)?;
        if let Some(quota) = &self.member.quotas.first_enrolment {
            let name = self.raised(quota.until);
            let name: Vec<&str> = name.iter().map(String::as_str).collect();
            self.node.guard.make_good(&name, raised, true, now)?;
        }
        Ok(())
    }

    fn day(&self) -> [&str; 3] {
        ["evaluations", self.member.id.as_str(), &self.epoch]
    }

    /// A quota raised anew, to another day, is another quota.
    fn raised(&self, until: Timestamp) -> [String; 4] {
        ["first-enrolment".to_owned(), self.member.id.to_string(), self.epoch.clone(), until.0.to_string()]
    }
}

/// What the log says was evaluated for others, for the meters of a start.
pub(crate) struct Used {
    today: i64,
    /// Since when a crash may have taken something from the meters.
    unsafe_since: i64,
    by: BTreeMap<(MemberId, Epoch), (u64, u64)>,
}

/// What is written to a meter is on the disk after half a second.
const UNSAFE_SECONDS: i64 = 1;

impl Used {
    /// `last` is the time of the log's last entry.
    pub(crate) fn new(now: Timestamp, last: Timestamp) -> Self {
        let unsafe_since = last.0.saturating_sub(UNSAFE_SECONDS);
        Used { today: now.day(), unsafe_since, by: BTreeMap::new() }
    }

    /// Takes in one entry of the log.
    pub(crate) fn count(&mut self, payload: &serde_json::Value) {
        if payload["event"] != "key.evaluated" {
            return;
        }
        let time = payload["time"].as_i64().unwrap_or(i64::MAX);
        let asker = payload["asker"].as_str().and_then(|asker| asker.parse().ok());
        let epoch = payload["epoch"].as_u64().and_then(|epoch| u32::try_from(epoch).ok());
        let (Some(asker), Some(epoch)) = (asker, epoch) else { return };
        let charged = |to: Charged| payload["counts"].get(to.as_str()).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let (day, raised) = self.by.entry((asker, Epoch(epoch))).or_default();
        if Timestamp(time).day() == self.today {
            *day += charged(Charged::Day);
        }
        if time >= self.unsafe_since {
            *raised += charged(Charged::Raised);
        }
    }

    /// Raises the meters to it.
    pub(crate) fn make_good(self, node: &Node) -> Result<(), NodeError> {
        let Some(held) = node.held.load_full() else { return Ok(()) };
        for ((asker, epoch), (day, raised)) in self.by {
            if let Some(member) = held.manifest.member(&asker) {
                Meters::new(node, member, epoch).make_good(day, raised, node.started)?;
            }
        }
        Ok(())
    }
}
