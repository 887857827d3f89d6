//! Ceremonies among key holders, without a dealer: the birth of a pseudonym key, and new shares of an old one for the
//! same holders or others (ADR 0010).
//!
//! One participant invites, each other one joins when its operator says so. Nobody need be up at the same time: a
//! ceremony is one row of the store, changed under one lock. What a later round needs is in it before anything leaves,
//! what arrives is in it before it is acknowledged, and what is not acknowledged is sent again. So whoever restarts goes
//! on where it was; whoever is restored from a backup may have forgotten what it sent, contradicts itself, and is
//! refused.
//!
//! | round | who sends | to whom | what |
//! |---|---|---|---|
//! | 0 | who invites | all | the ceremony |
//! | 1 | publishers: at a birth all holders, else the dealers | all | a package, the same to everybody |
//! | 2 | all | all | the digest of all packages; any difference aborts |
//! | 3 | publishers | each holder | a secret package |
//! | 4 | all | all | the signature over the result; a holder's share is on its disk by then |
//!
//! When all signatures are here and ours are delivered, everything secret is erased and the result stays: the
//! [`KeyEpoch`] for the officers' next manifest. The new shares serve once a manifest lists them; the old ones are
//! destroyed some time after ([`crate::shares`]).

mod commands;
mod deliver;
mod rounds;

use crate::events::{Event, Happened};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table};
use protocol::dkg::{Ceremony, DkgMessage, DkgStep};
use protocol::encoding::{b64, sha256};
use protocol::jws::{self, JwsError};
use protocol::manifest::{Duty, KeyEpoch, Member};
use protocol::query::MAX_LIFE_SECONDS;
use protocol::time::DAY_SECONDS;
use protocol::{MemberId, Reason, Timestamp};
use pseudonym::dkg::DkgError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{Mutex, Notify};
use zeroize::Zeroizing;

pub(crate) use commands::router;
pub use commands::{CeremonyState, CeremonyStatus, Invitation, SessionRef};
pub(crate) use deliver::work;

/// Ceremonies kept at most; further invitations are refused until some are abandoned or grow old.
const MAX_KEPT: usize = 16;
/// A ceremony that nobody joined, or that is over, is forgotten after this long.
const FORGET_SECONDS: i64 = 30 * DAY_SECONDS;
/// The round of a ceremony that is over.
const OVER: u8 = 5;

/// Why a ceremony is not begun, or ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// The ceremony does not fit the manifest or what is held here.
    #[error("the ceremony is not acceptable: {0}")]
    Refused(&'static str),
    /// Participants received different packages.
    #[error("{member} received other round-1 packages than we did: somebody cheats or interferes")]
    Differs {
        /// Who reports another transcript.
        member: MemberId,
    },
    /// A participant's signature on the result does not verify: it saw another key.
    #[error("{member} signed another result than ours; nothing may be used")]
    OtherResult {
        /// Who.
        member: MemberId,
    },
    /// It ended here before.
    #[error("{0}")]
    Failed(String),
    /// The mathematics refuses, naming the holder.
    #[error(transparent)]
    Dkg(#[from] DkgError),
    /// A message could not be signed.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Store, log, keys.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl CeremonyError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CeremonyError::Closed(reason) => reason.code(),
            CeremonyError::Node(error) => error.code(),
            _ => "ceremony_aborted",
        }
    }

    /// Whether trying again later may do.
    fn passes(&self) -> bool {
        matches!(self, CeremonyError::Closed(_) | CeremonyError::Node(_) | CeremonyError::Jws(_))
    }
}

impl From<StoreError> for CeremonyError {
    fn from(error: StoreError) -> Self {
        CeremonyError::Node(error.into())
    }
}

/// One change at a time, and who waits for one.
#[derive(Default)]
pub(crate) struct Ceremonies {
    lock: Mutex<()>,
    changed: Notify,
}

/// Packages by number of their sender or recipient.
type Packages = BTreeMap<u16, Zeroizing<Vec<u8>>>;

/// A ceremony as kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    ceremony: Ceremony,
    invited_by: MemberId,
    since: Timestamp,
    /// The round whose packages are waited for: 0 until we join, [`OVER`] at the end.
    round: u8,
    /// Why it ended without a result.
    failed: Option<String>,
    /// The key before this ceremony, if there was one.
    before: Option<KeyEpoch>,
    /// What only we know, from one round to the next.
    secret: Zeroizing<Vec<u8>>,
    /// By round and recipient, what is not acknowledged yet.
    outgoing: BTreeMap<u8, Packages>,
    /// By round and sender, our own among them.
    received: BTreeMap<u8, Packages>,
    transcript: Option<protocol::Bytes>,
    result: Option<KeyEpoch>,
}

impl Kept {
    fn new(ceremony: Ceremony, invited_by: MemberId, since: Timestamp) -> Self {
        Kept {
            ceremony,
            invited_by,
            since,
            round: 0,
            failed: None,
            before: None,
            secret: Zeroizing::default(),
            outgoing: BTreeMap::new(),
            received: BTreeMap::new(),
            transcript: None,
            result: None,
        }
    }

    fn number_of(&self, member: &MemberId) -> Option<u16> {
        self.ceremony.participants().into_iter().find(|(_, m)| m == member).map(|(id, _)| id)
    }

    fn others(&self, me: &MemberId) -> BTreeMap<u16, MemberId> {
        self.ceremony.participants().into_iter().filter(|(_, member)| member != me).collect()
    }

    /// Who sends something to `me` in `round`, `me` itself included if it keeps its own there.
    fn senders(&self, round: u8, me: &MemberId) -> BTreeMap<u16, MemberId> {
        let ceremony = &self.ceremony;
        match round {
            1 => ceremony.publishers().clone(),
            2 | 4 => ceremony.participants(),
            3 if !ceremony.holders.values().any(|holder| holder == me) => BTreeMap::new(),
            3 if ceremony.dealers.is_empty() => self.others(me),
            3 => ceremony.dealers.clone(),
            _ => BTreeMap::new(),
        }
    }

    fn missing(&self, me: &MemberId) -> BTreeSet<MemberId> {
        let here = self.received.get(&self.round);
        let absent = |id: &u16| here.is_none_or(|here| !here.contains_key(id));
        self.senders(self.round, me).into_iter().filter(|(id, _)| absent(id)).map(|(_, member)| member).collect()
    }

    fn is_running(&self) -> bool {
        (1..OVER).contains(&self.round) && self.failed.is_none()
    }

    /// Erases what is secret; whether it ended well or not, nobody needs it any more.
    fn erase(&mut self) {
        self.secret = Zeroizing::default();
        self.received.clear();
    }

    fn save(&self, node: &Node) -> Result<(), StoreError> {
        node.store.write(|write| write.put(Table::CEREMONIES, &self.ceremony.session.0, self))
    }
}

/// Destroys the share a ceremony made that ends without a result, unless the manifest lists it all the same.
async fn destroy_share(node: &Node, held: &Held, kept: &Kept, why: &str) -> Result<(), CeremonyError> {
    let (epoch, generation) = (kept.ceremony.epoch, kept.ceremony.generation);
    let listed = held.manifest.epoch(epoch).is_some_and(|listed| listed.generation >= generation);
    if !listed && kept.result.is_some() && node.shares.destroy(epoch, generation)? {
        record(node, Happened::KeyShareDestroyed, kept, Some(why.to_owned())).await?;
    }
    Ok(())
}

fn load(node: &Node, session: &[u8]) -> Result<Option<Kept>, StoreError> {
    node.store.read()?.get(Table::CEREMONIES, session)
}

fn load_all(node: &Node) -> Result<Vec<Kept>, StoreError> {
    let read = node.store.read()?;
    let keys = read.keys_with(Table::CEREMONIES, &[])?;
    keys.iter().filter_map(|key| read.get(Table::CEREMONIES, key).transpose()).collect()
}

/// SHA-256 of what was agreed on, for operators to compare before they join.
fn digest(ceremony: &Ceremony) -> String {
    b64(&sha256(&[&serde_json::to_vec(ceremony).unwrap_or_default()]))
}

/// Takes a participant's message in, durably; `false` if it is not acceptable.
pub(crate) async fn receive(node: &Node, peer: &MemberId, token: &str) -> Result<bool, Reason> {
    let held = node.manifest()?;
    let now = node.now()?;
    let message: DkgMessage = jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| Reason::SignatureInvalid)?;
    let ours = message.aud == node.config.member && &message.iss == peer;
    let fresh = message.iat.not_ahead_of(now) && now - message.iat <= MAX_LIFE_SECONDS;
    if !ours || !fresh || !is_holder(&held, peer) {
        return Ok(false);
    }
    let _one_at_a_time = node.ceremonies.lock.lock().await;
    let taken = take(node, &held, message, now).map_err(|error| {
        tracing::error!(%error, "a ceremony's message cannot be kept");
        Reason::NodeClosed
    })?;
    node.ceremonies.changed.notify_waiters();
    Ok(taken)
}

fn take(node: &Node, held: &Held, message: DkgMessage, now: Timestamp) -> Result<bool, CeremonyError> {
    let round = message.step.round();
    let kept = load(node, &message.session.0)?;
    if let DkgStep::Invite { ceremony } = &message.step {
        let Ok(ceremony) = serde_json::from_slice::<Ceremony>(&ceremony.0) else { return Ok(false) };
        if let Some(kept) = kept {
            return Ok(kept.ceremony == ceremony);
        }
        let named = ceremony.participants().values().any(|member| member == &message.iss);
        let room = node.store.read()?.count(Table::CEREMONIES)? < MAX_KEPT as u64;
        if ceremony.session != message.session || !named || !room || check(node, held, &ceremony).is_err() {
            return Ok(false);
        }
        Kept::new(ceremony, message.iss, now).save(node)?;
        return Ok(true);
    }
    let Some(mut kept) = kept else { return Ok(false) };
    let senders = kept.senders(round, &node.config.member);
    let Some((&id, _)) = senders.iter().find(|(_, member)| **member == message.iss) else { return Ok(false) };
    if kept.round == OVER || kept.failed.is_some() {
        // Said before, or of no use any more: the sender need not say it again.
        return Ok(true);
    }
    let bytes = Zeroizing::new(message.step.into_bytes().0);
    let place = kept.received.entry(round).or_default();
    if let Some(held) = place.get(&id) {
        return Ok(*held == bytes);
    }
    place.insert(id, bytes);
    kept.save(node)?;
    Ok(true)
}

fn is_holder(held: &Held, member: &MemberId) -> bool {
    held.manifest.member(member).is_some_and(|m| m.roles.contains(&Duty::KeyHolder))
}

/// Whether `ceremony` fits the manifest, and us; the key whose shares it renews, if it does.
fn check(node: &Node, held: &Held, ceremony: &Ceremony) -> Result<Option<KeyEpoch>, CeremonyError> {
    let refuse = |why| Err(CeremonyError::Refused(why));
    let participants = ceremony.participants();
    let members: BTreeSet<&MemberId> = participants.values().collect();
    if ceremony.session.0.len() != 16 {
        return refuse("its session is not 16 bytes long");
    }
    let same_number = ceremony.dealers.iter().all(|(id, member)| participants.get(id) == Some(member));
    if members.len() != participants.len() || participants.contains_key(&0) || !same_number {
        return refuse("a number stands for two members, or a member has two");
    }
    if !members.iter().all(|member| is_holder(held, member)) {
        return refuse("somebody named is not a key holder in the manifest");
    }
    if !members.contains(&node.config.member) {
        return refuse("we are not one of its holders");
    }
    // As the manifest compares them: what it would refuse is not begun.
    let operated_by = |member| held.manifest.member(member).and_then(Member::operated_by);
    let operators: BTreeSet<String> = ceremony.holders.values().filter_map(operated_by).collect();
    if operators.len() != ceremony.holders.len() {
        return refuse("two holders have one operator, who would control two shares, or one names none");
    }
    if usize::from(ceremony.threshold) > ceremony.holders.len() || ceremony.threshold < 2 {
        return refuse("its threshold must be 2 to the number of holders");
    }
    let before = held.manifest.epoch(ceremony.epoch);
    if node.shares.get(ceremony.epoch, ceremony.generation).is_some() {
        return refuse("the epoch exists already in this generation of shares");
    }
    let Some(before) = before else {
        let first = ceremony.generation == 1 && ceremony.dealers.is_empty() && !node.shares.has(ceremony.epoch);
        let newest = held.manifest.epochs.iter().max_by_key(|epoch| epoch.epoch);
        return match newest {
            _ if !first => refuse("there is no such key to renew shares of"),
            Some(newest) if !succeeds(newest, ceremony) => {
                refuse("a new key comes after the last one, and at least t holders of that must be among its holders")
            }
            _ => Ok(None),
        };
    };
    if ceremony.dealers.is_empty() {
        return refuse("the epoch exists already");
    }
    let dealers = ceremony.dealers.iter().all(|(id, m)| before.holder(*id).is_some_and(|holder| holder.member == *m));
    let fits = ceremony.generation == before.generation + 1
        && ceremony.threshold == before.threshold
        && ceremony.dealers.len() == usize::from(before.threshold);
    if dealers && fits { Ok(Some(before.clone())) } else { refuse("it does not renew the generation in use") }
}

fn succeeds(newest: &KeyEpoch, ceremony: &Ceremony) -> bool {
    let old = newest.holders.iter().filter(|old| ceremony.holders.values().any(|new| *new == old.member)).count();
    ceremony.epoch > newest.epoch && old >= usize::from(newest.threshold)
}

async fn record(node: &Node, happened: Happened, kept: &Kept, detail: Option<String>) -> Result<(), NodeError> {
    let generation = u64::from(kept.ceremony.generation);
    let mut event = Event::new(happened, &node.clock).counting([("generation", generation)]);
    (event.epoch, event.detail) = (Some(kept.ceremony.epoch), detail);
    let _recorded = node.log.append(&event).await?;
    Ok(())
}
