//! A key holder's side of the pseudonym: checks who asks, meters, evaluates under its share, proves, logs.

use crate::events::{Event, Happened};
use crate::node::{Node, NodeError};
use crate::shares::NoShare;
use protocol::encoding::sha256;
use protocol::evaluation::{EvaluationAnswer, EvaluationError, EvaluationRequest};
use protocol::manifest::{KeyUse, Member};
use protocol::query::MAX_LIFE_SECONDS;
use protocol::{MemberId, Problem, Reason, Timestamp};
use pseudonym::EvaluateError;
use rand_core::UnwrapErr;
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
    charge(node, member, &request, &sha256(&[body]), now)?;

    let (epoch, generation, request_id, count) =
        (request.epoch, request.generation, request.request_id, request.elements.len());
    let work = move || share.evaluate(&request.quorum, &request.elements, &mut UnwrapErr(getrandom::SysRng));
    let answer = tokio::task::spawn_blocking(work).await.map_err(|e| NodeError::System(std::io::Error::other(e)))??;
    let mut event = Event::new(Happened::KeyEvaluated, now).counting([("evaluations", count as u64)]);
    (event.asker, event.epoch) = (Some(asker.clone()), Some(epoch));
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    let answer = EvaluationAnswer { epoch, generation, request_id, elements: answer.elements, proof: answer.proof };
    Ok(answer.to_bytes(body, &node.keys.entry))
}

/// Charges a batch once, however often it is repeated byte for byte: first to a raised quota, then to the day's.
fn charge(
    node: &Node,
    member: &Member,
    request: &EvaluationRequest,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<(), HolderError> {
    let (id, amount) = (member.id.as_str(), request.elements.len() as u64);
    let epoch = request.epoch.0.to_string();
    let spend = || -> Result<Result<(), HolderError>, crate::guard::GuardError> {
        if let Some(raised) = member.quotas.first_enrolment.as_ref().filter(|r| now <= r.until)
            && node.guard.spend_once(&["first-enrolment", id, &epoch], amount, raised.evaluations)?
        {
            return Ok(Ok(()));
        }
        if amount > member.quotas.evaluations_burst {
            return Ok(Err(HolderError::Burst));
        }
        let day = node.guard.spend_today(&["evaluations", id], amount, member.quotas.evaluations_per_day, now)?;
        Ok(day.map_err(|spent| HolderError::Quota { retry_after: spent.retry_after }))
    };
    let until = request.issued + 2 * MAX_LIFE_SECONDS;
    if !node.guard.first_time(id, digest, until).map_err(NodeError::from)? {
        return Ok(());
    }
    let spent = spend().map_err(NodeError::from).map_err(HolderError::from).flatten();
    if spent.is_err() {
        // Not charged: it is as if it had not come.
        node.guard.forget(id, digest, until).map_err(NodeError::from)?;
    }
    spent
}
