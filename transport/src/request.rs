//! What happens around each request before and after its handler.

use crate::connection::{Activity, Listener};
use crate::problem::{ProblemResponse, Refusal, uniform};
use crate::{PeerIdentity, TrustError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use protocol::Problem;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tower::ServiceExt;

/// Answers one request: trust, then room for the peer and for all, then size, then the router within its time.
pub(crate) async fn respond(
    listener: Arc<Listener>,
    activity: Arc<Activity>,
    peer: Option<PeerIdentity>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let running = activity.begin();
    let response = answer(&listener, &activity, peer, request).await.unwrap_or_else(IntoResponse::into_response);
    drop(running);
    // An answer counts as alive only while its bytes move.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            activity.touch();
            frame
        }))
    }))
}

async fn answer(
    listener: &Listener,
    activity: &Activity,
    peer: Option<PeerIdentity>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ProblemResponse> {
    if let (Some(trust), Some(peer)) = (&listener.trust, &peer)
        && let Err(error) = trust.check(peer)
    {
        tracing::warn!(member = %peer.spiffe.member(), code = error.code(), "a peer was refused on an open connection");
        activity.close();
        return Err(distrusted(&error));
    }
    let own = peer.as_ref().map(|peer| peer.spiffe.member());
    let most = listener.limits.max_requests_per_peer;
    // One's own share first: who has used it up takes nothing from the others.
    let _place = own.map(|own| listener.running.take(own, most).ok_or_else(busy)).transpose()?;
    let _permit = listener.requests.try_acquire().map_err(|_| busy())?;
    let max = listener.limits.max_body;
    if request.body().size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let exceeded = Arc::new(AtomicBool::new(false));
    let mut request = request.map(|body| limited(body, max, exceeded.clone()));
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let handled = tokio::time::timeout(listener.limits.request, listener.router.clone().oneshot(request));
    let Ok(Ok(response)) = handled.await else {
        return Err(Refusal::REQUEST_TIMEOUT.problem().retry_after(5).into());
    };
    if exceeded.load(Ordering::SeqCst) { Err(too_large()) } else { Ok(uniform(response)) }
}

/// The body cut at `max` bytes. `exceeded` tells, whatever the handler made of the error.
fn limited(body: Incoming, max: usize, exceeded: Arc<AtomicBool>) -> Body {
    Body::new(Limited::new(body, max).map_err(move |error| {
        if error.is::<LengthLimitError>() {
            exceeded.store(true, Ordering::SeqCst);
        }
        error
    }))
}

fn busy() -> ProblemResponse {
    Refusal::BUSY.problem().retry_after(1).into()
}

fn too_large() -> ProblemResponse {
    Refusal::BODY_TOO_LARGE.problem().into()
}

fn distrusted(error: &TrustError) -> ProblemResponse {
    let status = if error.is_ours() { 503 } else { 403 };
    Problem::said(status, error.code(), |language| error.saying(language)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_says_in_both_languages_what_to_do() {
        use TrustError::{Certificate, CrlMissing, Expired, Revoked, WrongMember, WrongRealm};
        let mut said = std::collections::BTreeSet::new();
        for error in [Revoked, Expired, WrongMember, WrongRealm, Certificate("x"), CrlMissing] {
            let ProblemResponse(problem) = distrusted(&error);
            assert_eq!((problem.status, &*problem.code), (if error == CrlMissing { 503 } else { 403 }, error.code()));
            let message = problem.message.unwrap();
            assert!(message.pl != message.en && said.insert(message.pl.clone()), "{message:?}");
            assert!(problem.detail.is_some_and(|detail| message.en.ends_with(&detail)));
        }
    }
}
