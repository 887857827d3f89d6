//! The caller of a handler, by certificate.

use crate::{PeerIdentity, ProblemResponse};
use axum::extract::FromRequestParts;
use http::request::Parts;
use protocol::Problem;
use protocol::saying::pick;

/// Extracts the peer the server put into the request. Refuses with 401 `peer_required` where there is none, as on the
/// local API.
#[derive(Clone, Debug)]
pub struct Peer(pub PeerIdentity);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ProblemResponse> {
        let peer = parts.extensions.get::<PeerIdentity>().cloned();
        let words = [
            "Only members' nodes are answered here.",
            "Ask your own institution's node.",
            "Tu odpowiada się tylko węzłom członków federacji.",
            "Zwróć się do węzła własnej jednostki.",
        ];
        peer.map(Peer).ok_or_else(|| Problem::said(401, "peer_required", |language| pick(words, language)).into())
    }
}
