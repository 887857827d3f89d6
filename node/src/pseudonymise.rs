//! Identifiers in, pseudonyms out: asks t key holders, verifies each proof, asks another when one fails.

use crate::bulk::Passing as _;
use crate::bulk::blocking;
use crate::events::{Event, Happened};
use crate::holder::{self, HolderError};
use crate::manifests::Held;
use crate::node::Node;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use keyring::random;
use protocol::evaluation::{EvaluationAnswer, EvaluationPurpose, EvaluationRequest, MEDIA_TYPE};
use protocol::manifest::{KeyEpoch, KeyHolder, KeyUse};
use protocol::{Epoch, Problem, Reason};
use pseudonym::{Answer, BlindError, Blinded, CombineError, Input, Output, Verified};
use rand_core::UnwrapErr;
use std::sync::Arc;
use std::time::Duration;
use transport::CallError;

const DEADLINE: Duration = Duration::from_secs(10);
/// A holder that takes longer is not waited for alone.
const HEDGE: Duration = Duration::from_secs(2);

/// Why there are no pseudonyms. Never names a resident.
#[derive(Debug, thiserror::Error)]
pub enum PseudonymError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// No key epoch is in use.
    #[error(
        "the manifest held has no pseudonym key in use: a newer one has it, or the key holders have not finished their ceremony"
    )]
    NoEpoch,
    /// Fewer than t holders answered rightly.
    #[error("{answered} of {needed} key holders needed answered; last: {last}")]
    TooFewHolders {
        /// How many did.
        answered: usize,
        /// How many are needed.
        needed: usize,
        /// The last failure, by holder.
        last: String,
    },
    /// A holder says our quota is used up.
    #[error("the quota of evaluations is used up; try again in {retry_after_seconds} s or have it raised")]
    Quota {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// Blinding or combining failed.
    #[error("the identifiers cannot be evaluated: {0}")]
    Inputs(#[from] BlindError),
    /// The verified answers do not combine.
    #[error("the key holders' answers do not combine: {0}")]
    Combine(#[from] CombineError),
    /// The operating system refused.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
}

impl PseudonymError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            PseudonymError::Closed(reason) => reason.code(),
            PseudonymError::NoEpoch => "no_key_epoch",
            PseudonymError::TooFewHolders { .. } => "key_holders_unavailable",
            PseudonymError::Quota { .. } => "quota_exceeded",
            PseudonymError::Inputs(_) | PseudonymError::Combine(_) => "evaluation_failed",
            PseudonymError::System(_) => "system",
        }
    }

    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        let problem = Problem::because(503, Reason::KeyHoldersUnavailable).detail(self.to_string());
        Problem { retry_after: self.retry_after(), ..problem }
    }
}

/// Why one holder gave no verified answer.
#[derive(Debug, thiserror::Error)]
enum HolderFailure {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Own(#[from] HolderError),
    #[error("the answer is not signed or not of the expected layout")]
    Message,
    #[error("{0}")]
    Proof(#[from] CombineError),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The pseudonyms of `inputs`, in their order, under `epoch`.
///
/// Asks t holders; when one fails, or takes longer than [`HEDGE`], only another one is asked in its place: what the
/// others answered for the quorum they were asked under is rescaled.
pub(crate) async fn outputs(
    node: &Arc<Node>,
    held: &Held,
    epoch: Epoch,
    inputs: Vec<Input>,
    purpose: EvaluationPurpose,
) -> Result<Vec<Output>, PseudonymError> {
    node.now().map_err(PseudonymError::Closed)?;
    let (epoch, key) = held.key(epoch).ok_or(PseudonymError::NoEpoch)?;
    let blind = {
        let key = key.clone();
        move || Blinded::new(&key, inputs, &mut UnwrapErr(getrandom::SysRng))
    };
    let blinded = Arc::new(blocking(blind).await??);
    let asker = Asker { node, held, epoch, blinded: &blinded, purpose };
    let verified = gather(&asker).await?;
    let mut quorum: Vec<u16> = verified.iter().map(Verified::holder).collect();
    quorum.sort_unstable();
    Ok(blocking(move || blinded.finish(&quorum, &verified)).await??)
}

/// One verified answer of each of t holders.
async fn gather(asker: &Asker<'_>) -> Result<Vec<Verified>, PseudonymError> {
    let needed = usize::from(asker.epoch.threshold);
    let mut candidates = order(asker.node, asker.epoch).into_iter();
    let mut asked: Vec<&KeyHolder> = candidates.by_ref().take(needed).collect();
    let mut pending: FuturesUnordered<_> =
        asked.iter().map(|holder| asker.ask(holder, asker.quorum(holder, &asked))).collect();
    let mut verified: Vec<Verified> = Vec::with_capacity(needed);
    let (mut last, mut spent) = ("nobody was asked".to_owned(), None);
    while verified.len() < needed {
        let answer = match tokio::time::timeout(HEDGE, pending.next()).await {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => {
                let too_few = PseudonymError::TooFewHolders { answered: verified.len(), needed, last };
                return Err(spent.map_or(too_few, |retry_after_seconds| PseudonymError::Quota { retry_after_seconds }));
            }
            Err(_slow) => None,
        };
        match answer {
            Some((_, Ok(answer))) => {
                verified.push(answer);
                continue;
            }
            Some((holder, Err(failure))) => {
                last = format!("{}: {failure}", holder.member);
                match failure {
                    // Another holder may have something left for us.
                    HolderFailure::Call(CallError::Problem(p)) if p.status == 429 => {
                        spent = spent.max(Some(p.retry_after.unwrap_or(60)));
                    }
                    HolderFailure::Own(HolderError::Quota { retry_after }) => spent = spent.max(Some(retry_after)),
                    failure => report(asker.node, holder, &failure).await,
                }
                asked.retain(|other| other.id != holder.id);
            }
            None => {}
        }
        if let Some(another) = candidates.next() {
            asked.push(another);
            pending.push(asker.ask(another, asker.quorum(another, &asked)));
        }
    }
    Ok(verified)
}

/// Whom to ask first: ourselves, if we hold a share, then the others from a place that differs by member.
fn order<'a>(node: &Node, epoch: &'a KeyEpoch) -> Vec<&'a KeyHolder> {
    let me = &node.config.member;
    let after = epoch.holders.iter().position(|h| &h.member > me).unwrap_or(0);
    let (mut own, others): (Vec<_>, Vec<_>) =
        epoch.holders.iter().cycle().skip(after).take(epoch.holders.len()).partition(|h| &h.member == me);
    own.extend(others);
    own
}

/// A batch on its way to the holders of a key.
struct Asker<'a> {
    node: &'a Arc<Node>,
    held: &'a Held,
    epoch: &'a KeyEpoch,
    blinded: &'a Arc<Blinded>,
    purpose: EvaluationPurpose,
}

impl Asker<'_> {
    /// t share numbers, ascending: `holder`'s, then those asked already, then any.
    fn quorum(&self, holder: &KeyHolder, asked: &[&KeyHolder]) -> Vec<u16> {
        let mut quorum = vec![holder.id];
        for id in asked.iter().map(|h| h.id).chain(self.epoch.holders.iter().map(|h| h.id)) {
            if quorum.len() < usize::from(self.epoch.threshold) && !quorum.contains(&id) {
                quorum.push(id);
            }
        }
        quorum.sort_unstable();
        quorum
    }

    async fn ask<'h>(
        &self,
        holder: &'h KeyHolder,
        quorum: Vec<u16>,
    ) -> (&'h KeyHolder, Result<Verified, HolderFailure>) {
        (holder, self.answer(holder, quorum).await)
    }

    async fn answer(&self, holder: &KeyHolder, quorum: Vec<u16>) -> Result<Verified, HolderFailure> {
        let Asker { node, held, epoch, blinded, purpose } = *self;
        let manifest = &held.manifest;
        let issued = node.clock.now();
        let request = EvaluationRequest {
            epoch: epoch.epoch,
            generation: epoch.generation,
            purpose,
            issued,
            quorum: quorum.clone(),
            request_id: random()?,
            elements: blinded.elements().to_vec(),
        };
        let body = request.to_bytes(&manifest.realm, &node.config.member, &holder.member, &node.keys.entry);
        let answer = if holder.member == node.config.member {
            holder::evaluate(node, &node.config.member, &body).await?
        } else {
            call(node, held, holder, body.clone()).await?
        };
        let keys = manifest.keys_of(&holder.member, KeyUse::Entry, issued);
        let answer = EvaluationAnswer::from_bytes(&answer, &body, keys).map_err(|_| HolderFailure::Message)?;
        if answer.request_id != request.request_id || answer.epoch != epoch.epoch {
            return Err(HolderFailure::Message);
        }
        let (id, blinded) = (holder.id, blinded.clone());
        let answer = Answer { elements: answer.elements, proof: answer.proof };
        Ok(blocking(move || blinded.verify_answer(&quorum, id, &answer)).await??)
    }
}

async fn call(node: &Node, held: &Held, holder: &KeyHolder, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
    let member = held.manifest.member(&holder.member);
    let url = member.and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
    let request = http::Request::post("/v1/evaluate")
        .header(http::header::CONTENT_TYPE, MEDIA_TYPE)
        .body(Bytes::from(body))
        .map_err(|_| CallError::BadUrl)?;
    let answer = node.client.call(&held.manifest.spiffe(&holder.member), url, request, DEADLINE).await?;
    Ok(answer.into_body().to_vec())
}

/// A wrong answer goes into the log; an absent one only into the operators' trace.
async fn report(node: &Node, holder: &KeyHolder, failure: &HolderFailure) {
    tracing::warn!(holder = %holder.member, %failure, "a key holder gave no usable answer; asking another");
    if matches!(failure, HolderFailure::Proof(_) | HolderFailure::Message) {
        let mut event = Event::new(Happened::KeyHolderFault, &node.clock);
        event.holder = Some(holder.member.clone());
        event.detail = Some(failure.to_string());
        if let Err(error) = node.log.append(&event).await {
            tracing::error!(%error, "a key holder's fault could not be recorded");
        }
    }
}
