//! What a node does for its ceremonies by itself: goes on with each, and sends what is not acknowledged yet.

use super::rounds::Part;
use super::{CeremonyError, FORGET_SECONDS, Kept, OVER, destroy_share, load, load_all, record};
use crate::events::Happened;
use crate::manifests::Held;
use crate::node::Node;
use crate::store::{StoreError, Table};
use bytes::Bytes;
use futures_util::future::join_all;
use protocol::dkg::{DkgMessage, DkgStep};
use protocol::encoding::Bytes as B64;
use protocol::{MemberId, jws};
use std::sync::Arc;
use std::time::Duration;
use transport::CallError;

const DEADLINE: Duration = Duration::from_secs(5);
/// Between two attempts to reach a participant that is not there yet.
const RETRY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(30);

/// Goes on with every ceremony; returns when there is something to do again.
pub(crate) async fn work(node: Arc<Node>) {
    let changed = node.ceremonies.changed.notified();
    tokio::pin!(changed);
    changed.as_mut().enable();
    let again = match node.manifest() {
        Ok(held) => go_on_with_all(&node, &held).await.unwrap_or_else(|error| {
            tracing::error!(%error, "ceremonies cannot be read");
            IDLE
        }),
        Err(_) => IDLE,
    };
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep(again) => {}
    }
}

async fn go_on_with_all(node: &Arc<Node>, held: &Held) -> Result<Duration, CeremonyError> {
    let mut again = IDLE;
    for kept in load_all(node)? {
        // What holds one up holds up no other.
        match go_on(node, held, &kept.ceremony.session.0).await {
            Ok(true) => again = RETRY,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, epoch = kept.ceremony.epoch.0, "a ceremony cannot go on"),
        }
    }
    Ok(again)
}

/// Goes on with one ceremony; whether something of it is to be sent again soon.
async fn go_on(node: &Arc<Node>, held: &Held, session: &[u8]) -> Result<bool, CeremonyError> {
    advance(node, held, session).await?;
    let Some(kept) = load(node, session)? else { return Ok(false) };
    let unsent = send_outgoing(node, held, &kept).await?;
    if !unsent || kept.failed.is_some() {
        forget_if_old(node, &kept).await?;
    }
    Ok(unsent)
}

/// Goes as far as what is here allows. An error that will not pass ends the ceremony, and is kept for the operator.
async fn advance(node: &Node, held: &Held, session: &[u8]) -> Result<(), CeremonyError> {
    let _one_at_a_time = node.ceremonies.lock.lock().await;
    let Some(mut kept) = load(node, session)? else { return Ok(()) };
    loop {
        match Part::new(node, held, &mut kept)?.advance().await {
            Ok(true) => kept.save(node)?,
            Ok(false) => return Ok(()),
            Err(error) if error.passes() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a ceremony ends without a result");
                destroy_share(node, held, &kept, "ceremony failed").await?;
                record(node, Happened::KeyCeremonyFailed, &kept, Some(error.to_string())).await?;
                kept.failed = Some(error.to_string());
                // Another ceremony may make the same share later: that one is not ours to destroy.
                kept.result = None;
                // What is published goes on to the others, so that they find out too.
                kept.outgoing.retain(|round, _| *round <= 2);
                kept.erase();
                kept.save(node)?;
            }
        }
        node.ceremonies.changed.notify_waiters();
    }
}

/// Sends what is not acknowledged yet; whether anything is left.
async fn send_outgoing(node: &Node, held: &Held, kept: &Kept) -> Result<bool, CeremonyError> {
    let recipients = kept.others(&node.config.member);
    let sending = recipients.iter().map(async |(id, member)| {
        // In their order: who does not know of the ceremony yet has no place for a package.
        let mut taken = Vec::new();
        for (round, packages) in &kept.outgoing {
            let Some(bytes) = packages.get(id) else { continue };
            let Some(step) = DkgStep::of(*round, B64(bytes.to_vec())) else { continue };
            match send(node, held, member, kept, step).await? {
                Ok(()) => taken.push((*round, *id)),
                Err(error) => {
                    tracing::debug!(%member, %error, "a participant is not reached yet");
                    break;
                }
            }
        }
        Ok::<_, CeremonyError>(taken)
    });
    let taken: Vec<(u8, u16)> =
        join_all(sending).await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let all: usize = kept.outgoing.values().map(std::collections::BTreeMap::len).sum();
    if !taken.is_empty() {
        let _one_at_a_time = node.ceremonies.lock.lock().await;
        if let Some(mut now) = load(node, &kept.ceremony.session.0)? {
            for (round, id) in &taken {
                now.outgoing.get_mut(round).and_then(|packages| packages.remove(id));
            }
            now.outgoing.retain(|_, packages| !packages.is_empty());
            now.save(node)?;
        }
    }
    Ok(taken.len() < all)
}

async fn send(
    node: &Node,
    held: &Held,
    to: &MemberId,
    kept: &Kept,
    step: DkgStep,
) -> Result<Result<(), CallError>, CeremonyError> {
    let message = DkgMessage {
        iss: node.config.member.clone(),
        aud: to.clone(),
        iat: node.clock.now(),
        session: kept.ceremony.session.clone(),
        step,
    };
    let body = jws::sign(&node.keys.message, &message)?;
    Ok(post(node, held, to, body).await)
}

async fn post(node: &Node, held: &Held, to: &MemberId, body: String) -> Result<(), CallError> {
    let member = held.manifest.member(to);
    let url = member.and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
    let request = http::Request::post("/v1/dkg").body(Bytes::from(body)).map_err(|_| CallError::BadUrl)?;
    node.client.call(&held.manifest.spiffe(to), url, request, DEADLINE).await.map(drop)
}

/// Removes the row of a ceremony that is over, failed or was never joined, when it is old.
async fn forget_if_old(node: &Node, kept: &Kept) -> Result<(), StoreError> {
    let resting = kept.round == 0 || kept.round == OVER || kept.failed.is_some();
    if resting && node.clock.now() - kept.since > FORGET_SECONDS {
        let _one_at_a_time = node.ceremonies.lock.lock().await;
        node.store.write(|write| write.remove(Table::CEREMONIES, &kept.ceremony.session.0).map(drop))?;
    }
    Ok(())
}
