//! What an operator does with ceremonies, through the admin socket: invite, join, look, wait, abandon.

use super::rounds::Part;
use super::{CeremonyError, Kept, MAX_KEPT, OVER, check, destroy_share, digest, load, load_all, record};
use crate::admin::{standing, stream};
use crate::events::Happened;
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table};
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use keyring::random;
use protocol::dkg::Ceremony;
use protocol::encoding::{Bytes, b64};
use protocol::manifest::KeyEpoch;
use protocol::{Epoch, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What ceremony to begin; everything else is the node's to find out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The epoch to be born, or whose shares to renew if it exists.
    pub epoch: Epoch,
    /// Holders needed; for a birth alone, new shares keep the key's.
    pub threshold: Option<u16>,
    /// Who shall hold a share afterwards. Who holds one keeps its number.
    pub holders: Vec<MemberId>,
    /// Who deals the old shares: t of the holders; if nobody is named, the first t, ourselves first.
    #[serde(default)]
    pub dealers: Vec<MemberId>,
    /// When the key shall come into use; at once, if not said.
    pub not_before: Option<Timestamp>,
}

/// A ceremony, by its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRef {
    /// 16 bytes, base64url.
    pub session: Bytes,
}

/// How a ceremony stands here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CeremonyStatus {
    /// The ceremony.
    pub ceremony: Ceremony,
    /// SHA-256 of it, for operators to compare before they join.
    pub digest: String,
    /// Who invited.
    pub invited_by: MemberId,
    /// Where it is.
    pub state: CeremonyState,
    /// Who has not sent what this round waits for.
    pub waiting_for: BTreeSet<MemberId>,
    /// Who has not acknowledged what we sent.
    pub undelivered: BTreeSet<MemberId>,
    /// Digest of all published packages.
    pub transcript: Option<String>,
    /// Why it ended without a result.
    pub failed: Option<String>,
    /// The result, for the officers' next manifest.
    pub result: Option<KeyEpoch>,
}

/// Where a ceremony is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CeremonyState {
    /// Waits for our operator to join.
    Invited,
    /// Packages are published.
    Publishing,
    /// All compare what they received.
    Comparing,
    /// Secret packages are exchanged.
    Sharing,
    /// The result is signed.
    Signing,
    /// Over, with a result.
    Done,
    /// Over, without one.
    Failed,
}

/// Routes below `/keyholder` of the admin socket.
pub(crate) fn router() -> Router<Arc<Node>> {
    Router::new()
        .route("/", get(run_status))
        .route("/invite", post(run_invite))
        .route("/begin", post(run_begin))
        .route("/join", post(run_join))
        .route("/wait", post(run_wait))
        .route("/abandon", post(run_abandon))
}

async fn run_status(State(node): State<Arc<Node>>) -> Response {
    standing(load_all(&node).map(|all| all.iter().map(|kept| describe(&node, kept)).collect::<Vec<_>>()))
}

async fn run_invite(State(node): State<Arc<Node>>, Json(invitation): Json<Invitation>) -> Response {
    stream(node, CeremonyError::code, |node, _| async move { invite(&node, &invitation).await })
}

async fn run_begin(State(node): State<Arc<Node>>, Json(ceremony): Json<Ceremony>) -> Response {
    stream(node, CeremonyError::code, |node, _| async move { begin(&node, ceremony).await })
}

async fn run_join(State(node): State<Arc<Node>>, Json(at): Json<SessionRef>) -> Response {
    stream(node, CeremonyError::code, |node, _| async move { join(&node, &at.session.0).await })
}

async fn run_wait(State(node): State<Arc<Node>>, Json(at): Json<SessionRef>) -> Response {
    stream(node, CeremonyError::code, |node, _| async move { wait(&node, &at.session.0).await })
}

async fn run_abandon(State(node): State<Arc<Node>>, Json(at): Json<SessionRef>) -> Response {
    stream(node, CeremonyError::code, |node, _| async move { abandon(&node, &at.session.0).await })
}

const UNKNOWN: CeremonyError = CeremonyError::Refused("no ceremony of this session is known here");

/// Makes the ceremony an operator wants, and begins it.
async fn invite(node: &Arc<Node>, invitation: &Invitation) -> Result<CeremonyStatus, CeremonyError> {
    let held = node.manifest().map_err(CeremonyError::Closed)?;
    begin(node, plan(node, &held, invitation)?).await
}

fn plan(node: &Node, held: &Held, invitation: &Invitation) -> Result<Ceremony, CeremonyError> {
    let before = held.manifest.epoch(invitation.epoch);
    let numbered = |member: &MemberId| before?.holders.iter().find(|h| h.member == *member).map(|h| h.id);
    let mut next = before.map_or(0, |before| before.holders.iter().map(|h| h.id).max().unwrap_or(0));
    let holders = invitation.holders.iter().map(|member| {
        let id = numbered(member).unwrap_or_else(|| {
            next += 1;
            next
        });
        (id, member.clone())
    });
    let holders = holders.collect();
    let threshold = before.map_or(invitation.threshold, |before| Some(before.threshold));
    let threshold = threshold.ok_or(CeremonyError::Refused("a birth needs a threshold"))?;
    if invitation.threshold.is_some_and(|wanted| wanted != threshold) {
        return Err(CeremonyError::Refused("another threshold needs another key: begin a new epoch"));
    }
    let dealers: BTreeMap<u16, MemberId> = match before {
        None => BTreeMap::new(),
        Some(_) if !invitation.dealers.is_empty() => {
            invitation.dealers.iter().filter_map(|member| Some((numbered(member)?, member.clone()))).collect()
        }
        Some(before) => {
            let (own, others): (Vec<_>, Vec<_>) =
                before.holders.iter().partition(|holder| holder.member == node.config.member);
            let first = own.into_iter().chain(others).take(usize::from(threshold));
            first.map(|holder| (holder.id, holder.member.clone())).collect()
        }
    };
    Ok(Ceremony {
        session: Bytes(random::<16>().map_err(NodeError::from)?.to_vec()),
        epoch: invitation.epoch,
        generation: before.map_or(1, |before| before.generation + 1),
        threshold,
        holders,
        dealers,
        not_before: invitation.not_before.unwrap_or_else(|| node.clock.now()),
    })
}

/// Begins a ceremony as its first participant: joins it, and invites the others.
async fn begin(node: &Arc<Node>, ceremony: Ceremony) -> Result<CeremonyStatus, CeremonyError> {
    let _one_at_a_time = node.ceremonies.lock.lock().await;
    let held = node.manifest().map_err(CeremonyError::Closed)?;
    let now = node.now().map_err(CeremonyError::Closed)?;
    if load(node, &ceremony.session.0)?.is_some() {
        return Err(CeremonyError::Refused("a ceremony of this session is there already: join it"));
    }
    if node.store.read()?.count(Table::CEREMONIES)? >= MAX_KEPT as u64 {
        return Err(CeremonyError::Refused("too many ceremonies are kept here: abandon some"));
    }
    let text = Zeroizing::new(serde_json::to_vec(&ceremony).map_err(|_| StoreError::Shape("ceremonies"))?);
    let mut kept = Kept::new(ceremony, node.config.member.clone(), now);
    let others = kept.others(&node.config.member).into_keys();
    kept.outgoing.insert(0, others.map(|id| (id, text.clone())).collect());
    take_part(node, &held, &mut kept)?;
    Ok(describe(node, &kept))
}

/// Joins a ceremony we were invited to; what follows needs nobody here any more.
async fn join(node: &Arc<Node>, session: &[u8]) -> Result<CeremonyStatus, CeremonyError> {
    let _one_at_a_time = node.ceremonies.lock.lock().await;
    let held = node.manifest().map_err(CeremonyError::Closed)?;
    let mut kept = load(node, session)?.ok_or(UNKNOWN)?;
    if kept.round == 0 {
        take_part(node, &held, &mut kept)?;
    }
    Ok(describe(node, &kept))
}

fn take_part(node: &Node, held: &Held, kept: &mut Kept) -> Result<(), CeremonyError> {
    let shares = |ceremony: &Ceremony| (ceremony.epoch, ceremony.generation);
    if load_all(node)?.iter().any(|other| other.is_running() && shares(&other.ceremony) == shares(&kept.ceremony)) {
        return Err(CeremonyError::Refused("we take part in another one for the same shares: abandon that first"));
    }
    kept.before = check(node, held, &kept.ceremony)?;
    Part::new(node, held, kept)?.join()?;
    kept.save(node)?;
    node.ceremonies.changed.notify_waiters();
    Ok(())
}

/// Waits for the end; the signed epoch, for the officers' next manifest.
async fn wait(node: &Node, session: &[u8]) -> Result<KeyEpoch, CeremonyError> {
    loop {
        let changed = node.ceremonies.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let kept = load(node, session)?.ok_or(UNKNOWN)?;
        match (kept.failed, kept.result) {
            (Some(why), _) => return Err(CeremonyError::Failed(why)),
            (None, Some(epoch)) if kept.round == OVER => return Ok(epoch),
            _ => changed.await,
        }
    }
}

/// Ends our part and erases it, the share it gave us too, unless the manifest lists that one.
async fn abandon(node: &Node, session: &[u8]) -> Result<CeremonyStatus, CeremonyError> {
    let _one_at_a_time = node.ceremonies.lock.lock().await;
    let held = node.manifest().map_err(CeremonyError::Closed)?;
    let mut kept = load(node, session)?.ok_or(UNKNOWN)?;
    destroy_share(node, &held, &kept, "ceremony abandoned").await?;
    record(node, Happened::KeyCeremonyFailed, &kept, Some("abandoned".to_owned())).await?;
    kept.failed = Some("abandoned here".to_owned());
    kept.erase();
    let last = describe(node, &kept);
    node.store.write(|write| write.remove(Table::CEREMONIES, session).map(drop)).map_err(|e: StoreError| e)?;
    node.ceremonies.changed.notify_waiters();
    Ok(last)
}

fn describe(node: &Node, kept: &Kept) -> CeremonyStatus {
    let me = &node.config.member;
    let state = match kept.round {
        _ if kept.failed.is_some() => CeremonyState::Failed,
        0 => CeremonyState::Invited,
        1 => CeremonyState::Publishing,
        2 => CeremonyState::Comparing,
        3 => CeremonyState::Sharing,
        4 => CeremonyState::Signing,
        _ => CeremonyState::Done,
    };
    let unsent: BTreeSet<u16> = kept.outgoing.values().flat_map(|packages| packages.keys().copied()).collect();
    let participants = kept.ceremony.participants();
    CeremonyStatus {
        ceremony: kept.ceremony.clone(),
        digest: digest(&kept.ceremony),
        invited_by: kept.invited_by.clone(),
        state,
        waiting_for: if kept.is_running() { kept.missing(me) } else { BTreeSet::new() },
        undelivered: unsent.iter().filter_map(|id| participants.get(id).cloned()).collect(),
        transcript: kept.transcript.as_ref().map(|digest| b64(&digest.0)),
        failed: kept.failed.clone(),
        result: kept.result.clone().filter(|_| kept.round == OVER),
    }
}
