//! `PUT` and `DELETE /v1/entries`: a member changes its own entries.
//!
//! Verify, record, store, acknowledge, in this order. The same body goes to either method and may put and delete at
//! once. A request that was stored once is refused if it comes again, so that an old put cannot undo a deletion.

use crate::admit::{Admitted, FRESH_SECONDS, compute, distinct, whole};
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Batch, RequestId, Row, RowKey, Written};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use protocol::registry::{EntriesAnswer, EntriesRequest, MAX_AUDIENCE, MAX_BATCH, PutEntry, SEALED_BYTES};
use protocol::time::MAX_SKEW_SECONDS;
use protocol::{Index, MemberId, Timestamp};
use std::sync::Arc;
use transport::Peer;

/// An entry lapses at most this many days after it is put.
pub(crate) const LONGEST_DAYS: i64 = 400;

pub(crate) async fn change(
    State(registry): State<Arc<Registry>>,
    Peer(peer): Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EntriesAnswer>, Refusal> {
    let body = whole(body)?;
    let preparing = registry.clone();
    let Change { time, event, batch } = compute(move || preparing.prepare(preparing.admit(&peer, &body)?)).await?;
    let stored = batch.put.len();
    let _recorded = registry.journal.append(time, event).await?;
    match registry.store.write(batch).await? {
        Written::Stored { deleted } => Ok(Json(EntriesAnswer { stored, deleted })),
        Written::Replayed => Err(Refusal::Replayed),
    }
}

/// A request worked out: what to record, then what to store.
struct Change {
    time: Timestamp,
    event: Event,
    batch: Batch,
}

impl Registry {
    fn prepare(&self, admitted: Admitted<EntriesRequest>) -> Result<Change, Refusal> {
        let Admitted { claims, held, now, digest } = admitted;
        if claims.put.len() + claims.delete.len() > MAX_BATCH {
            return Err(Refusal::BatchTooLarge);
        }
        let put = || claims.put.iter().map(|entry| &entry.index);
        distinct(put().chain(&claims.delete))?;
        let known = claims.audience.iter().all(|member| held.manifest.member(member).is_some());
        if claims.audience.len() > MAX_AUDIENCE || !known {
            return Err(Refusal::AudienceInvalid);
        }
        let key = |index: &Index| self.blind.row_key(claims.epoch, index, &claims.iss);
        let seal = |(place, entry): (usize, &PutEntry)| -> Result<(RowKey, Row), Refusal> {
            let sealed: &[u8; SEALED_BYTES] =
                entry.sealed.0.as_slice().try_into().map_err(|_| Refusal::SealedLength(place))?;
            if entry.expires <= now || entry.expires - now > LONGEST_DAYS * 86_400 {
                return Err(Refusal::ExpiryInvalid(place));
            }
            let key = key(&entry.index);
            Ok((key, self.blind.seal(&key, entry.expires, &claims.audience, sealed)?))
        };
        let batch = Batch {
            request: self.request_id(&claims.iss, &claims.jti.0, claims.iat),
            put: claims.put.iter().enumerate().map(seal).collect::<Result<_, _>>()?,
            delete: claims.delete.iter().map(key).collect(),
        };
        let event = Event::Entries {
            put: put().map(|index| self.journal.mac(index)).collect(),
            delete: claims.delete.iter().map(|index| self.journal.mac(index)).collect(),
            member: claims.iss,
            epoch: claims.epoch,
            manifest: claims.manifest,
            request: digest,
            audience: claims.audience,
        };
        Ok(Change { time: now, event, batch })
    }

    /// Remembered for as long as the request is fresh on the slowest clock.
    fn request_id(&self, member: &MemberId, jti: &[u8], iat: Timestamp) -> RequestId {
        self.blind.request_id(member, jti, iat + FRESH_SECONDS + MAX_SKEW_SECONDS)
    }
}
