//! What other members may call, over mutual TLS.

use crate::agreements::{self, REVOCATIONS};
use crate::consents::WITHDRAWALS;
use crate::dpo::Act;
use crate::events::Happened;
use crate::node::Node;
use crate::trace::Trace;
use crate::{ceremony, emergencies, grants, holder, query, reconcile, results};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::consent::StatusCopy;
use protocol::evaluation::MEDIA_TYPE;
use protocol::{MemberId, Problem, Reason};
use std::sync::Arc;
use transport::{Peer, ProblemResponse};

type Answer<T> = Result<T, ProblemResponse>;

/// Routes for members.
pub(crate) fn router(node: &Arc<Node>) -> Router {
    Router::new()
        .route("/v1/query", post(answer))
        .route("/v1/evaluate", post(evaluate))
        .route("/v1/dkg", post(step))
        .route("/v1/grants", post(grant))
        .route(WITHDRAWALS, post(withdrawal))
        .route("/v1/refusals", post(refusal))
        .route(REVOCATIONS, post(revocation))
        .route("/v1/decided", post(decided))
        .route("/v1/reviewed", post(reviewed))
        .route("/v1/status", get(status).post(pushed_status))
        .route("/v1/status/copy", get(status_copy))
        .route("/v1/log/sides", post(sides))
        .with_state(node.clone())
        .merge(node.circle.clone().router())
}

/// Runs detached from the connection, so that a caller hanging up cannot stop between reading and recording.
async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Answer<T> {
    // Boxed: these futures are large, and would be moved several times.
    tokio::spawn(Box::pin(work))
        .await
        .map_err(|_| Problem::new(500, "internal", "The node failed; see its trace").into())
}

async fn answer(State(node): State<Arc<Node>>, Peer(peer): Peer, headers: HeaderMap, body: String) -> Answer<Response> {
    let trace = Trace::carried(&headers);
    let answer = detached(async move { query::answer(node, peer, trace, body).await }).await?;
    match answer {
        Ok(message) => Ok(Json(message).into_response()),
        Err(error) => {
            tracing::error!(%error, "a query was not answered");
            Err(error.problem().into())
        }
    }
}

async fn evaluate(State(node): State<Arc<Node>>, Peer(peer): Peer, body: Bytes) -> Answer<Response> {
    let asker = peer.spiffe.member().clone();
    let done = detached(async move { holder::evaluate(&node, &asker, &body).await }).await?;
    let bytes = done.map_err(|error| {
        tracing::warn!(%error, asker = %peer.spiffe.member(), "an evaluation was refused");
        error.problem()
    })?;
    Ok(([("content-type", MEDIA_TYPE)], bytes).into_response())
}

async fn step(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    let taken = detached(async move { ceremony::receive(&node, peer.spiffe.member(), &body).await }).await?;
    match taken {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Problem::new(409, "ceremony_refused", "Not a step of a ceremony expected here").into()),
        Err(reason) => Err(closed(reason)),
    }
}

async fn grant(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    taken(detached(async move { grants::take_grant(&node, member(&peer), &body).await }).await?)
}

async fn withdrawal(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    let known = detached(async move { grants::take_withdrawal(&node, member(&peer), &body).await }).await?;
    // Who withdraws elsewhere is told whether anybody knows the consent.
    let status = known.as_ref().is_ok_and(|known| *known);
    taken(known.map(drop)).map(|_| if status { StatusCode::OK } else { StatusCode::ACCEPTED })
}

async fn refusal(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    taken(detached(async move { grants::take_refusal(&node, member(&peer), &body).await }).await?)
}

async fn revocation(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    taken(detached(async move { agreements::take_revocation(&node, member(&peer), &body).await }).await?)
}

async fn decided(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    taken(results::take_decided(&node, member(&peer), &body))
}

async fn reviewed(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    taken(detached(async move { emergencies::take_review(&node, member(&peer), &body).await }).await?)
}

fn member(peer: &transport::PeerIdentity) -> &MemberId {
    peer.spiffe.member()
}

fn taken(done: Result<(), grants::GrantError>) -> Answer<StatusCode> {
    match done {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => {
            tracing::warn!(%error, "a message is not taken");
            Err(error.problem().into())
        }
    }
}

async fn status(State(node): State<Arc<Node>>, Peer(peer): Peer) -> Answer<Response> {
    let held = node.manifest().map_err(closed)?;
    if held.manifest.member(member(&peer)).is_none() {
        return Err(Problem::because(403, Reason::PeerUnknown).into());
    }
    if node.owes_withdrawals(member(&peer)) {
        return Err(Problem::new(503, "withdrawals_waiting", "Take the withdrawals that wait first")
            .retry_after(5)
            .into());
    }
    if !node.list_is_whole().unwrap_or_default() {
        return Err(Problem::new(503, "status_incomplete", "The status list came from a backup and is not whole yet")
            .retry_after(5)
            .into());
    }
    let list = node.own_status().map_err(|error| {
        tracing::error!(%error, "the status list cannot be signed");
        Problem::new(503, "store_failed", "The status list cannot be read")
    })?;
    Ok(list.into_response())
}

/// What we hold of the peer's own list.
async fn status_copy(State(node): State<Arc<Node>>, Peer(peer): Peer) -> Answer<Json<StatusCopy>> {
    let held = node.manifest().map_err(closed)?;
    if held.manifest.member(member(&peer)).is_none() {
        return Err(Problem::because(403, Reason::PeerUnknown).into());
    }
    node.copy_of(member(&peer)).map(Json).map_err(|error| {
        tracing::error!(%error, "a copy of a status list cannot be read");
        Problem::new(503, "store_failed", "The copy of the status list cannot be read").into()
    })
}

/// The entries of our log that the peer took part in; that they were given is recorded first.
async fn sides(
    State(node): State<Arc<Node>>,
    Peer(peer): Peer,
    Json(asked): Json<reconcile::Asked>,
) -> Answer<Json<reconcile::Handed>> {
    let held = node.manifest().map_err(closed)?;
    if held.manifest.member(member(&peer)).is_none() {
        return Err(Problem::because(403, Reason::PeerUnknown).into());
    }
    let unwritten = |_| Problem::new(503, "log_unavailable", "The log cannot be written");
    let unsigned = |_| Problem::new(503, "log_unavailable", "The log cannot be signed");
    let checkpoint = node.log.checkpoint().await.map_err(unsigned)?;
    let (reader, asker) = (node.clone(), member(&peer).clone());
    let read = tokio::task::spawn_blocking(move || reconcile::page(&reader, &asker, &asked, &checkpoint)).await;
    let handed = read.ok().and_then(Result::ok).ok_or_else(|| {
        tracing::error!("the log cannot be read for a peer");
        Problem::new(503, "log_unavailable", "The log cannot be read")
    })?;
    node.now().map_err(closed)?;
    let mut act = Act::new(Happened::LogRead, &node.clock);
    act.asker = Some(member(&peer).clone());
    act.counts = [("sides", handed.count())].into();
    let _recorded = node.log.append(&act).await.map_err(unwritten)?;
    Ok(Json(handed))
}

async fn pushed_status(State(node): State<Arc<Node>>, Peer(peer): Peer, body: String) -> Answer<StatusCode> {
    match node.take_status(&body, member(&peer)) {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(reason) => Err(closed(reason)),
    }
}

fn closed(reason: Reason) -> ProblemResponse {
    let status = if reason.told() == protocol::Told::Closed { 503 } else { 403 };
    Problem::because(status, reason).into()
}
