//! What members may ask of a log and its witness.

use crate::{Circle, MAX_LOGS, WITNESS, log_key};
use audit::{AddCheckpoint, Checkpoint, Fault, Refusal, Resource};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use protocol::{MemberId, Problem};
use std::sync::Arc;
use transport::{Peer, Prescribed, ProblemResponse};

const TEXT: &str = "text/plain; charset=utf-8";
/// Media type of the size that a witness answers with status 409 (C2SP `tlog-witness`).
const SIZE: &str = "text/x.tlog.size";

type Answer = Result<Response, ProblemResponse>;

impl Circle {
    /// Routes for members, to be merged into those of a node or the registry.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/checkpoint", get(resource))
            .route("/tile/{*path}", get(resource))
            .route("/add-checkpoint", post(add_checkpoint).layer(DefaultBodyLimit::max(audit::MAX_REQUEST)))
            .route("/witnessed/{*origin}", get(witnessed))
            .with_state(self)
    }

    fn admit(&self, peer: &Peer) -> Result<(), ProblemResponse> {
        if self.standing().members.contains_key(peer.0.spiffe.member()) {
            Ok(())
        } else {
            Err(Problem::new(403, "peer_unknown", "Not an active member").into())
        }
    }

    /// Answers `add-checkpoint`. Blocks.
    pub(crate) fn cosign(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let AddCheckpoint { checkpoint, .. } = AddCheckpoint::parse(body).ok_or(Refusal::Malformed)?;
        let origin = checkpoint.split('\n').next().unwrap_or_default();
        let offered = self.recognise(origin, &checkpoint)?;
        let now = u64::try_from(self.clock.now().0).unwrap_or_default();
        let outcome = self.witness.add_checkpoint(body, now);
        match &outcome {
            Err(Refusal::Fork { known, .. }) => self.alarm(origin, "two trees of one size", Some(known)),
            Err(Refusal::Conflict { known }) if *known > offered.size() => {
                let note = self.witness.newest(origin).unwrap_or_default();
                self.alarm(origin, "fewer entries than were cosigned", note.as_deref());
            }
            Err(Refusal::Proof) => {
                let note = self.witness.newest(origin).unwrap_or_default();
                self.alarm(origin, "not a continuation of what was cosigned", note.as_deref());
            }
            _ => {}
        }
        outcome
    }

    /// Whose log it is decides the key: the one of its member's that signed.
    fn recognise(&self, origin: &str, note: &str) -> Result<Checkpoint, Refusal> {
        let mut standing = self.standing();
        let owner = self.owner(origin).filter(|owner| standing.members.contains_key(owner));
        let owner = owner.ok_or(Refusal::UnknownOrigin)?;
        let keys = standing.members.get(&owner).into_iter().flatten();
        let mut signed = keys.filter_map(|key| {
            let vkey = log_key(origin, key).ok()?;
            Some((Checkpoint::open(note, &vkey).ok()?, vkey))
        });
        let (offered, vkey) = signed.next().ok_or(Refusal::Signature)?;
        if !standing.logs.contains_key(origin) {
            let of_owner = standing.logs.keys().filter(|known| self.owner(known).as_ref() == Some(&owner));
            if of_owner.count() >= MAX_LOGS {
                return Err(Refusal::UnknownOrigin);
            }
        }
        if standing.logs.get(origin) != Some(&vkey) {
            standing.logs.insert(origin.to_owned(), vkey);
            self.witness.trust(standing.logs.values().cloned());
        }
        Ok(offered)
    }

    /// The member that logs as `origin`.
    pub(crate) fn owner(&self, origin: &str) -> Option<MemberId> {
        let rest = origin.strip_prefix(self.realm.as_str())?.strip_prefix('/')?;
        let (member, part) = rest.split_once('/').map_or((rest, None), |(member, part)| (member, Some(part)));
        // What follows the member is in the form of an id.
        part.is_none_or(|part| part != WITNESS && part.parse::<MemberId>().is_ok()).then_some(())?;
        member.parse().ok()
    }
}

async fn resource(State(circle): State<Arc<Circle>>, peer: Peer, uri: Uri) -> Answer {
    circle.admit(&peer)?;
    let path = uri.path().trim_start_matches('/').to_owned();
    let found = blocking(move || circle.log.resource(&path)).await?.map_err(|fault| failed(&fault))?;
    let Some(Resource { content, media_type, immutable }) = found else {
        return Err(Problem::new(404, "tile_unknown", "The log has no such tile").into());
    };
    let caching = if immutable { "max-age=31536000, immutable" } else { "no-store" };
    Ok(([(CONTENT_TYPE, media_type), (CACHE_CONTROL, caching)], content).into_response())
}

async fn add_checkpoint(State(circle): State<Arc<Circle>>, peer: Peer, body: Bytes) -> Answer {
    circle.admit(&peer)?;
    Ok(match blocking(move || circle.cosign(&body)).await? {
        Ok(lines) => ([(CONTENT_TYPE, TEXT)], lines).into_response(),
        Err(refusal) => {
            tracing::warn!(code = refusal.code(), peer = %peer.0.spiffe.member(), "a checkpoint is not cosigned");
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            let media = if status == StatusCode::CONFLICT { SIZE } else { TEXT };
            (status, Extension(Prescribed), [(CONTENT_TYPE, media)], refusal.body()).into_response()
        }
    })
}

async fn witnessed(State(circle): State<Arc<Circle>>, peer: Peer, Path(origin): Path<String>) -> Answer {
    circle.admit(&peer)?;
    let note = blocking(move || circle.witness.newest(&origin)).await?.map_err(|fault| failed(&fault))?;
    let unknown = || Problem::new(404, "log_unknown", "No checkpoint of this log was cosigned here");
    Ok(([(CONTENT_TYPE, TEXT)], note.ok_or_else(unknown)?).into_response())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ProblemResponse> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|_| Problem::new(500, "internal", "The program failed; see its trace").into())
}

fn failed(fault: &Fault) -> ProblemResponse {
    tracing::error!(%fault, "the log's files cannot be read");
    Problem::new(503, "log_unavailable", "The log's files cannot be read").into()
}
