//! Indexes that stand for nobody, planted by the officers: whoever comes upon one was guessing.
//!
//! A planted index is a row of nobody's beside the members' own, of the same size, in the same table: the disk does not
//! tell which. Every request reads the place where one would be, for every index, and answers as if there were none. That
//! it was there stands in the log entry that is written anyway, and in the queues of the officers' institutions.

use crate::admit::{compute, whole};
use crate::blind::{Content, State as Says};
use crate::errors::Refusal;
use crate::events::Event;
use crate::locate::present;
use crate::review::About;
use crate::server::Registry;
use crate::store::{Batch, NoteKey, Row, RowKey, Written};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use protocol::manifest::Manifest;
use protocol::registry::{EntriesAnswer, SEALED_BYTES};
use protocol::review::{MAX_HONEYPOTS, News, SignedHoneypots};
use protocol::{Epoch, Index, MemberId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use transport::Peer;

/// What the officers signed is theirs for this long; the same document does nothing twice in that time.
const VALID_SECONDS: i64 = 7 * 86_400;

/// `PUT /v1/honeypots`: anybody of the realm may bring them; the officers' signatures decide.
pub(crate) async fn plant(
    State(registry): State<Arc<Registry>>,
    _: Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EntriesAnswer>, Refusal> {
    let body = whole(body)?;
    let now = registry.clock.now();
    let held = registry.open_house(now)?;
    let preparing = registry.clone();
    let (event, batch) = compute(move || {
        let signed: SignedHoneypots = serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("body"))?;
        preparing.sow(&held.manifest, &signed, now)
    })
    .await?;
    let stored = batch.put.len();
    let _recorded = registry.journal.append(event).await?;
    match registry.store.write(batch).await? {
        Written::Stored { deleted } => Ok(Json(EntriesAnswer { stored, deleted })),
        Written::Replayed => Err(Refusal::Replayed),
    }
}

impl Registry {
    fn sow(&self, manifest: &Manifest, signed: &SignedHoneypots, now: Timestamp) -> Result<(Event, Batch), Refusal> {
        let honeypots = signed.accept(&manifest.officers).map_err(Refusal::ManifestRefused)?;
        if honeypots.realm != manifest.realm {
            return Err(Refusal::ManifestRefused(protocol::manifest::ManifestError::OtherRealm));
        }
        if honeypots.plant.len() + honeypots.remove.len() > MAX_HONEYPOTS {
            return Err(Refusal::BatchTooLarge);
        }
        if !honeypots.issued.not_ahead_of(now) || now - honeypots.issued > VALID_SECONDS {
            return Err(Refusal::Stale);
        }
        manifest.epoch(honeypots.epoch).ok_or(Refusal::EpochUnknown)?;
        crate::admit::distinct(honeypots.plant.iter().chain(&honeypots.remove))?;
        let row = |index: &Index| -> Result<(RowKey, Row), Refusal> {
            let key = self.blind.honeypot_key(honeypots.epoch, index);
            let content = Content {
                expires: Timestamp(i64::MAX),
                since: now,
                state: Says::Honeypot,
                audience: &BTreeSet::new(),
                sealed: &[0; SEALED_BYTES],
            };
            Ok((key, self.blind.seal(&key, &content)?))
        };
        let batch = Batch {
            request: Some(self.blind.honeypots_id(&signed.hash(), honeypots.issued + VALID_SECONDS + 60)),
            put: honeypots.plant.iter().map(row).collect::<Result<_, _>>()?,
            delete: honeypots.remove.iter().map(|index| self.blind.honeypot_key(honeypots.epoch, index)).collect(),
            ..Batch::default()
        };
        let event = Event::Honeypots { planted: honeypots.plant.len(), removed: honeypots.remove.len() };
        Ok((event, batch))
    }

    /// Those of the indexes that the officers planted; `rows` as they were read at their keys, opened in place.
    pub(crate) fn planted<'a>(
        &self,
        indexes: impl Iterator<Item = (&'a Index, &'a RowKey)>,
        rows: &mut [Option<Row>],
    ) -> Vec<Index> {
        let open = |((index, key), row): ((&'a Index, &RowKey), &mut Option<Row>)| {
            let entry = self.blind.open(key, present(row))?;
            (entry.state == Says::Honeypot).then_some(*index)
        };
        indexes.zip(rows).filter_map(open).collect()
    }

    /// Tells the officers' institutions that `member` came upon planted indexes.
    pub(crate) fn alarms(
        &self,
        manifest: &Manifest,
        member: &MemberId,
        epoch: Epoch,
        touched: &[Index],
        now: Timestamp,
    ) -> Result<Vec<(NoteKey, Row)>, Refusal> {
        let news = News::Honeypot { member: member.clone() };
        let mut notes = Vec::new();
        for index in touched {
            notes.extend(self.blind.tell_officers(manifest, now, Some(About { epoch, index }), (member, &news))?);
        }
        if !touched.is_empty() {
            tracing::error!(code = "honeypot", %member, touched = touched.len(), "a member came upon planted indexes");
        }
        Ok(notes)
    }
}
