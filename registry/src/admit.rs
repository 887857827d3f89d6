//! The gate: from a body on a member's connection to claims that may be acted on.

use crate::errors::Refusal;
use crate::events::Event;
use crate::manifest::Held;
use crate::server::Registry;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use protocol::encoding::b64;
use protocol::jws::{self, Envelope};
use protocol::manifest::{KeyUse, ManifestRef};
use protocol::registry::{EntriesRequest, LocateRequest};
use protocol::review::{MAX_REVIEW_ITEMS, ReviewRequest};
use protocol::{Bytes as Base64, Epoch, Index, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use transport::PeerIdentity;

/// A request older than this, by its own `iat`, is refused.
pub(crate) const FRESH_SECONDS: i64 = 60;

/// Claims that passed the gate. Nothing else makes one.
pub(crate) struct Admitted<T> {
    /// What the member says.
    pub(crate) claims: T,
    /// The manifest both sides hold.
    pub(crate) held: Arc<Held>,
    /// When it was admitted.
    pub(crate) now: Timestamp,
    /// SHA-256 of the request as it came, base64url.
    pub(crate) digest: String,
}

/// What every signed request to the registry carries.
pub(crate) trait Request: Envelope {
    fn common(&self) -> Common<'_>;
}

/// The part that all of them have.
pub(crate) struct Common<'a> {
    iat: Timestamp,
    jti: &'a Base64,
    manifest: &'a ManifestRef,
    /// Which key its indexes are of, if it has any.
    epoch: Option<Epoch>,
    /// How many indexes.
    indexes: usize,
}

impl Request for EntriesRequest {
    fn common(&self) -> Common<'_> {
        let (epoch, indexes) = (Some(self.epoch), self.put.len().saturating_add(self.delete.len()));
        Common { iat: self.iat, jti: &self.jti, manifest: &self.manifest, epoch, indexes }
    }
}

impl Request for LocateRequest {
    fn common(&self) -> Common<'_> {
        let (epoch, indexes) = (Some(self.epoch), self.indexes.len());
        Common { iat: self.iat, jti: &self.jti, manifest: &self.manifest, epoch, indexes }
    }
}

impl Request for ReviewRequest {
    fn common(&self) -> Common<'_> {
        Common { iat: self.iat, jti: &self.jti, manifest: &self.manifest, epoch: None, indexes: MAX_REVIEW_ITEMS }
    }
}

impl Registry {
    /// Admits a signed request: the registry is open, the peer a member, the signature that member's, the request
    /// fresh, written under the manifest held here, for an epoch in it, and not more than the member's share. Blocks.
    pub(crate) fn admit<T: Request>(&self, peer: &PeerIdentity, body: &Bytes) -> Result<Admitted<T>, Refusal> {
        let now = self.clock.now();
        let held = self.open_house(now)?;
        let member = peer.spiffe.member();
        if peer.spiffe.realm() != &held.manifest.realm || held.manifest.member(member).is_none() {
            return Err(Refusal::PeerUnknown(member.clone()));
        }
        let token = std::str::from_utf8(body).map_err(|_| Refusal::Malformed("body"))?;
        let claims: T =
            jws::verify(token, |kid| held.manifest.key(kid, KeyUse::Message, now)).map_err(Refusal::Signature)?;
        if claims.issuer() != member {
            return Err(Refusal::IssuerNotPeer(member.clone()));
        }
        let common = claims.common();
        if !common.iat.not_ahead_of(now) || now - common.iat > FRESH_SECONDS {
            return Err(Refusal::Stale);
        }
        if !(16..=64).contains(&common.jti.0.len()) {
            return Err(Refusal::Malformed("jti"));
        }
        held.agrees(common.manifest)?;
        if let Some(confirmed_by) = self.recovery.confirm(&held.manifest, member, common.iat, now)? {
            let _recorded = self.journal.append_blocking(Event::Reopened { confirmed_by })?;
            tracing::warn!("the registry is open again after it was restored from a backup");
        }
        if let Some(epoch) = common.epoch {
            held.manifest.epoch(epoch).ok_or(Refusal::EpochUnknown)?;
        }
        self.fair.take(member, common.indexes, self.clock.now_ms())?;
        Ok(Admitted { claims, held, now, digest: b64(&jws::digest(token)) })
    }

    /// The manifest, if it is in force and our clock can be true.
    pub(crate) fn open_house(&self, now: Timestamp) -> Result<Arc<Held>, Refusal> {
        let held = self.manifests.held().ok_or(Refusal::ManifestMissing)?;
        if !held.manifest.issued.not_ahead_of(now) || !self.journal.permits(now) {
            return Err(Refusal::ClockWrong);
        }
        if now > held.manifest.expires { Err(Refusal::ManifestExpired) } else { Ok(held) }
    }
}

/// Refuses an index that comes twice: a repeated one would multiply whatever its handling shows in time.
pub(crate) fn distinct<'a>(indexes: impl Iterator<Item = &'a Index>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if indexes.into_iter().all(|index| seen.insert(index)) { Ok(()) } else { Err(Refusal::IndexRepeated) }
}

/// A body within the limit.
pub(crate) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|rejection| match rejection.status().as_u16() {
        413 => Refusal::BodyTooLarge,
        _ => Refusal::Malformed("body"),
    })
}

/// Runs work of milliseconds (signatures, MACs, ciphers over a batch) where it holds up nobody's connection.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Internal("a batch was not computed"))?
}
