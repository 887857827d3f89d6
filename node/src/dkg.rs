//! Birth of a pseudonym key among its holders, without a dealer (design §3, §8).
//!
//! Each holder runs [`run`]: it sends its packages to each other one over mutual TLS, compares what all received, and
//! aborts on any difference. What the others send waits in the [`Inbox`]. A ceremony lives in memory: a holder that
//! restarts meanwhile makes the others time out, and it is begun anew.

use crate::events::{Event, Happened};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use bytes::Bytes;
use futures_util::future::try_join_all;
use protocol::dkg::{Ceremony, DkgMessage, DkgStep};
use protocol::encoding::Bytes as B64;
use protocol::jws::{self, JwsError};
use protocol::manifest::{Duty, KeyEpoch, KeyHolder, KeyUse};
use protocol::query::MAX_LIFE_SECONDS;
use protocol::{MemberId, Reason, Timestamp};
use pseudonym::dkg::{self, Addressed, DkgError};
use rand_core::UnwrapErr;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use transport::CallError;
use zeroize::Zeroizing;

/// How long a holder waits for each round of the others.
const ROUND: Duration = Duration::from_mins(1);
/// Between two attempts to reach a holder that is not there yet.
const RETRY: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(5);
/// Messages kept of ceremonies not begun here; more are refused.
const MAX_WAITING: usize = 256;

/// Why no key was born. Every one of these aborts the ceremony for everybody.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// The ceremony does not fit the manifest.
    #[error("the ceremony is not acceptable: {0}")]
    Ceremony(&'static str),
    /// A holder was not heard in time.
    #[error("{member} was not heard in round {round}; begin again when all holders are up")]
    Silent {
        /// Who.
        member: MemberId,
        /// Which round.
        round: u8,
    },
    /// Holders received different packages.
    #[error("{member} received other round-1 packages than we did: somebody cheats or interferes; nothing was kept")]
    Differs {
        /// Who reports another transcript.
        member: MemberId,
    },
    /// A holder's signature on the result does not verify: it saw another key.
    #[error("{member} signed another result than ours; nothing may be used")]
    OtherResult {
        /// Who.
        member: MemberId,
    },
    /// The mathematics refuses, naming the holder.
    #[error(transparent)]
    Dkg(#[from] DkgError),
    /// A message could not be signed.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A key could not be kept or recorded.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Ceremony, round and sender.
type Place = (Vec<u8>, u8, MemberId);

/// Messages of other holders, by ceremony, round and sender, with when they came.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<HashMap<Place, (Timestamp, DkgStep)>>,
    arrived: Notify,
}

/// What nobody took by then belongs to a ceremony that was never begun here, or was aborted.
const FORGET_SECONDS: i64 = 5 * 60;

impl Inbox {
    /// Takes one in; the same again is nothing new, a different one of the same place is refused.
    fn put(&self, message: DkgMessage, now: Timestamp) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (came, _)| now - *came <= FORGET_SECONDS);
        let place = (message.session.0, message.step.round(), message.iss);
        if let Some((_, held)) = waiting.get(&place) {
            return *held == message.step;
        }
        let taken = waiting.len() < MAX_WAITING;
        if taken {
            waiting.insert(place, (now, message.step));
            self.arrived.notify_waiters();
        }
        taken
    }

    async fn take(&self, session: &[u8], round: u8, member: &MemberId) -> Result<DkgStep, BirthError> {
        let place = (session.to_vec(), round, member.clone());
        let wait = async {
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if let Some((_, step)) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&place) {
                    return step;
                }
                arrived.await;
            }
        };
        let silent = |_| BirthError::Silent { member: member.clone(), round };
        tokio::time::timeout(ROUND, wait).await.map_err(silent)
    }
}

/// Takes a holder's message in; `false` if it is not acceptable.
pub(crate) fn receive(node: &Node, peer: &MemberId, token: &str) -> Result<bool, Reason> {
    let held = node.manifest()?;
    let now = node.now()?;
    let message: DkgMessage =
        jws::verify(token, |kid| held.manifest.key(kid, KeyUse::Message, now)).map_err(|_| Reason::SignatureInvalid)?;
    let ours = message.aud == node.config.member && &message.iss == peer;
    let fresh = message.iat.not_ahead_of(now) && now - message.iat <= MAX_LIFE_SECONDS;
    Ok(ours && fresh && is_holder(&held, peer) && node.dkg.put(message, now))
}

fn is_holder(held: &Held, member: &MemberId) -> bool {
    held.manifest.member(member).is_some_and(|m| m.roles.contains(&Duty::KeyHolder))
}

/// Runs our part of `ceremony`; the born key with all holders' signatures, for the officers' next manifest.
///
/// # Errors
/// [`BirthError`]; our share is kept only when every holder signed the same result.
pub async fn run(node: &Arc<Node>, ceremony: &Ceremony) -> Result<KeyEpoch, BirthError> {
    let held = node.manifest().map_err(BirthError::Closed)?;
    let part = Part::new(node, &held, ceremony)?;
    let holders = u16::try_from(ceremony.holders.len()).map_err(|_| BirthError::Ceremony("too many holders"))?;
    let mut rng = UnwrapErr(getrandom::SysRng);

    let (secret, own) = dkg::round1(part.id, holders, ceremony.threshold, &mut rng)?;
    let package = B64(own.clone());
    let mut packages = part.exchange(1, |_| Some(DkgStep::Round1 { package: package.clone() }), bytes_of).await?;
    packages.insert(part.id, own);

    let transcript = dkg::round1_digest(&packages);
    let compared = DkgStep::Compared { transcript: B64(transcript.to_vec()) };
    let theirs = part.exchange(2, |_| Some(compared.clone()), bytes_of).await?;
    if let Some((id, _)) = theirs.iter().find(|(_, seen)| seen.as_slice() != transcript) {
        return Err(BirthError::Differs { member: part.member(*id) });
    }

    let (secret, addressed) = dkg::round2(secret, &packages)?;
    let send = |id| Some(DkgStep::Round2 { package: B64(addressed.get(&id)?.to_vec()) });
    let received: Addressed =
        part.exchange(3, send, bytes_of).await?.into_iter().map(|(id, p)| (id, Zeroizing::new(p))).collect();
    let born = dkg::round3(&secret, &packages, &received)?;

    let mut epoch = describe(ceremony, &born.public, &transcript);
    let statement = epoch.statement(&held.manifest.realm);
    let signature = B64(node.keys.message.sign(&statement).to_vec());
    let step = DkgStep::Born { signature: signature.clone() };
    for (id, signature) in part.exchange(4, |_| Some(step.clone()), bytes_of).await? {
        let member = part.member(id);
        let now = node.clock.now();
        if !held.manifest.keys_of(&member, KeyUse::Message, now).any(|key| key.verifies(&statement, &signature)) {
            return Err(BirthError::OtherResult { member });
        }
        epoch.signatures.insert(member, B64(signature));
    }
    epoch.signatures.insert(node.config.member.clone(), signature);

    node.shares.keep(epoch.epoch, epoch.generation, born.share, &node.sealer)?;
    let mut event = Event::new(Happened::KeyBorn, node.clock.now());
    event.epoch = Some(epoch.epoch);
    event.detail = Some(protocol::encoding::b64(&transcript));
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(epoch)
}

fn bytes_of(step: DkgStep) -> Vec<u8> {
    match step {
        DkgStep::Round1 { package } | DkgStep::Round2 { package } => package.0,
        DkgStep::Compared { transcript } => transcript.0,
        DkgStep::Born { signature } => signature.0,
    }
}

fn describe(ceremony: &Ceremony, public: &pseudonym::PublicKey, transcript: &[u8; 32]) -> KeyEpoch {
    let holder = |(id, share): (u16, [u8; 32])| {
        let member = ceremony.holders.get(&id)?.clone();
        Some(KeyHolder { id, member, public_share: B64(share.to_vec()) })
    };
    KeyEpoch {
        epoch: ceremony.epoch,
        generation: 1,
        threshold: ceremony.threshold,
        group_key: B64(public.group_key().to_vec()),
        holders: public.shares().filter_map(holder).collect(),
        transcript: B64(transcript.to_vec()),
        not_before: ceremony.not_before,
        signatures: BTreeMap::new(),
    }
}

/// Our part in a ceremony.
struct Part<'a> {
    node: &'a Arc<Node>,
    held: &'a Held,
    ceremony: &'a Ceremony,
    id: u16,
}

impl<'a> Part<'a> {
    fn new(node: &'a Arc<Node>, held: &'a Held, ceremony: &'a Ceremony) -> Result<Self, BirthError> {
        if ceremony.session.0.len() != 16 {
            return Err(BirthError::Ceremony("its session is not 16 bytes long"));
        }
        if held.manifest.epoch(ceremony.epoch).is_some() || node.shares.has(ceremony.epoch) {
            return Err(BirthError::Ceremony("the epoch exists already"));
        }
        if !ceremony.holders.values().all(|member| is_holder(held, member)) {
            return Err(BirthError::Ceremony("somebody named is not a key holder in the manifest"));
        }
        let mine = ceremony.holders.iter().find(|(_, member)| *member == &node.config.member);
        let (&id, _) = mine.ok_or(BirthError::Ceremony("we are not one of its holders"))?;
        Ok(Part { node, held, ceremony, id })
    }

    fn member(&self, id: u16) -> MemberId {
        self.ceremony.holders.get(&id).cloned().unwrap_or_else(|| self.node.config.member.clone())
    }

    /// Sends each other holder its step of `round` and waits for theirs; by sender.
    async fn exchange<T>(
        &self,
        round: u8,
        send: impl Fn(u16) -> Option<DkgStep>,
        read: impl Fn(DkgStep) -> T,
    ) -> Result<BTreeMap<u16, T>, BirthError> {
        let others: Vec<(u16, &MemberId)> =
            self.ceremony.holders.iter().filter(|(id, _)| **id != self.id).map(|(id, m)| (*id, m)).collect();
        let sending = others.iter().map(|(id, member)| {
            let step = send(*id);
            async move {
                let step = step.ok_or(BirthError::Ceremony("a round-2 package is missing"))?;
                self.deliver(member, round, step).await
            }
        });
        try_join_all(sending).await?;
        let taking = others.iter().map(|(id, member)| async {
            Ok::<_, BirthError>((*id, self.node.dkg.take(&self.ceremony.session.0, round, member).await?))
        });
        Ok(try_join_all(taking).await?.into_iter().map(|(id, step)| (id, read(step))).collect())
    }

    /// Sends until it is taken or the round is over: the other may not have begun yet.
    async fn deliver(&self, to: &MemberId, round: u8, step: DkgStep) -> Result<(), BirthError> {
        let attempts = async {
            loop {
                match self.send(to, step.clone()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => tracing::debug!(member = %to, %error, "holder not reached yet"),
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        let silent = |_| BirthError::Silent { member: to.clone(), round };
        tokio::time::timeout(ROUND, attempts).await.map_err(silent)?
    }

    async fn send(&self, to: &MemberId, step: DkgStep) -> Result<Result<(), CallError>, BirthError> {
        let message = DkgMessage {
            iss: self.node.config.member.clone(),
            aud: to.clone(),
            iat: self.node.clock.now(),
            session: self.ceremony.session.clone(),
            step,
        };
        let body = jws::sign(&self.node.keys.message, &message)?;
        Ok(self.post(to, body).await)
    }

    async fn post(&self, to: &MemberId, body: String) -> Result<(), CallError> {
        let member = self.held.manifest.member(to);
        let url = member.and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
        let request = http::Request::post("/v1/dkg").body(Bytes::from(body)).map_err(|_| CallError::BadUrl)?;
        self.node.client.call(&self.held.manifest.spiffe(to), url, request, DEADLINE).await.map(drop)
    }
}
