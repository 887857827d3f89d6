//! `POST /v1/locate`: which other members know these residents.
//!
//! Over each index the asker's own row is read, one row for every member it has an agreement with, and the place where the
//! officers may have planted one of nobody's. An entry is shown
//! when four things hold: the asker's own entry is live, the other's is live, the other's audience includes the asker,
//! and the asker's own audience includes the other: seeing is mutual. Where one fails the answer is empty, the same
//! whichever it was.
//!
//! **Time.** The reads depend on the request and the manifest alone. Of what was read the asker's own place and nobody's are
//! opened, whether a row stands there or not; what follows depends on whether the asker's own entry is live, which it knows;
//! if it is, every candidate costs the same, its row present or not. Indexes without an own entry are metered; that some of
//! them were planted is told to others later. `benches/locate.rs` holds the times against each other.

use crate::admit::{Admitted, compute, distinct, whole};
use crate::blind::Blind;
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Batch, ROW_BYTES, Row, RowKey};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use futures_util::future::try_join_all;
use protocol::registry::{LocateAnswer, LocateRequest, Located, MAX_BATCH, TICKET_SECONDS, Ticket};
use protocol::{Bytes as Base64, Index, MemberId, Timestamp, jws};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use transport::Peer;

/// Indexes that one lane works on: while one lane's rows are read another's are opened, on whatever processor is free.
const LANE: usize = 250;
/// Long after the answer has left.
const ALARM_AFTER: Duration = Duration::from_secs(1);

pub(crate) async fn locate(
    State(registry): State<Arc<Registry>>,
    Peer(peer): Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LocateAnswer>, Refusal> {
    let body = whole(body)?;
    let admitting = registry.clone();
    let asked = Arc::new(compute(move || inquiry(admitting.admit(&peer, &body)?)).await?);
    let (now, indexes) = (asked.request.now, asked.request.claims.indexes.len());
    let lanes = (0..indexes).step_by(LANE).map(|from| registry.lane(&asked, from..(from + LANE).min(indexes)));
    let seen: Vec<Seen> = try_join_all(lanes).await?;
    let recording = registry.clone();
    let touched: Vec<_> = seen.iter().flat_map(|seen| seen.touched.iter().copied()).collect();
    let event = {
        let (asked, own) = (asked.clone(), seen.iter().map(|seen| seen.own).sum());
        let found = seen.iter().flat_map(|seen| &seen.found).map(|located| located.entries.len()).sum();
        let touched = touched.len();
        compute(move || Ok(recording.describe(&asked, own, found, touched))).await?
    };
    let _recorded = registry.journal.append(event).await?;
    // That it came upon them is in the log already.
    registry.alarms.spawn(registry.clone().raise_alarms(asked.clone(), touched));
    let misses = indexes - seen.iter().map(|seen| seen.own).sum::<usize>();
    registry.charge_misses(&asked.request.held.manifest, &asked.request.claims.iss, misses, now).await?;
    Ok(Json(LocateAnswer { found: seen.into_iter().flat_map(|seen| seen.found).collect() }))
}

/// A request that may be answered, and whom the asker could see.
struct Inquiry {
    request: Admitted<LocateRequest>,
    candidates: Vec<MemberId>,
}

/// What one lane saw.
struct Seen {
    found: Vec<Located>,
    /// Indexes over which the asker has a live entry.
    own: usize,
    /// Indexes that the officers planted.
    touched: Vec<Index>,
}

fn inquiry(request: Admitted<LocateRequest>) -> Result<Inquiry, Refusal> {
    let (claims, manifest) = (&request.claims, &request.held.manifest);
    if claims.indexes.len() > MAX_BATCH {
        return Err(Refusal::BatchTooLarge);
    }
    distinct(claims.indexes.iter())?;
    let mut candidates: Vec<_> = manifest.audience(&claims.iss, request.now).into_iter().collect();
    candidates.retain(|member| manifest.member(member).is_some());
    Ok(Inquiry { request, candidates })
}

impl Registry {
    async fn lane(self: &Arc<Self>, asked: &Arc<Inquiry>, indexes: Range<usize>) -> Result<Seen, Refusal> {
        let (probing, judging) = (self.clone(), self.clone());
        let (probed, judged) = (asked.clone(), asked.clone());
        let part = indexes.clone();
        let keys = compute(move || Ok(probing.probe(&probed, part))).await?;
        let rows = self.store.get(keys.clone()).await?;
        compute(move || judging.judge(&judged, indexes, &keys, rows)).await
    }

    /// Where the rows are that some indexes need: of each the asker's own, each candidate's, nobody's.
    fn probe(&self, asked: &Inquiry, indexes: Range<usize>) -> Vec<RowKey> {
        let claims = &asked.request.claims;
        let keys = |index: &Index| {
            let members = std::iter::once(&claims.iss).chain(&asked.candidates);
            let mut keys: Vec<_> = members.map(|member| self.blind.row_key(claims.epoch, index, member)).collect();
            keys.push(self.blind.honeypot_key(claims.epoch, index));
            keys
        };
        claims.indexes.get(indexes).unwrap_or_default().iter().flat_map(keys).collect()
    }

    fn judge(
        &self,
        asked: &Inquiry,
        indexes: Range<usize>,
        keys: &[RowKey],
        mut rows: Vec<Option<Row>>,
    ) -> Result<Seen, Refusal> {
        let Inquiry { request: Admitted { claims, now, .. }, candidates } = asked;
        let width = candidates.len() + 2;
        let indexes = claims.indexes.get(indexes).unwrap_or_default();
        let mut seen = Seen { found: Vec::with_capacity(indexes.len()), own: 0, touched: Vec::new() };
        for (index, (keys, rows)) in indexes.iter().zip(keys.chunks(width).zip(rows.chunks_mut(width))) {
            let (Some((planted_key, keys)), Some((planted, rows))) = (keys.split_last(), rows.split_last_mut()) else {
                continue;
            };
            seen.touched.extend(self.planted(std::iter::once((index, planted_key)), std::slice::from_mut(planted)));
            let Some(entries) = visible(&self.blind, *now, &claims.iss, candidates, keys, rows) else {
                seen.found.push(Located::default());
                continue;
            };
            seen.own += 1;
            let ticket = if claims.tickets { Some(self.ticket(claims, index, *now)?) } else { None };
            seen.found.push(Located { entries, ticket });
        }
        Ok(seen)
    }

    /// Tells the officers' institutions of planted indexes, if there were any: later, so that the caller does not see by
    /// the time of its answer that somebody is told.
    async fn raise_alarms(self: Arc<Self>, asked: Arc<Inquiry>, touched: Vec<Index>) {
        if touched.is_empty() {
            return;
        }
        tokio::time::sleep(ALARM_AFTER).await;
        let telling = self.clone();
        let told = async {
            let note = compute(move || {
                let Admitted { claims, held, now, .. } = &asked.request;
                telling.alarms(&held.manifest, &claims.iss, claims.epoch, &touched, *now)
            });
            self.store.write(Batch { note: note.await?, ..Batch::default() }).await.map_err(Refusal::from)
        };
        if let Err(error) = told.await {
            tracing::error!(code = "honeypot", reason = error.to_string(), "the officers were not told: see the log");
        }
    }

    /// What to record.
    fn describe(&self, asked: &Inquiry, own: usize, found: usize, honeypots: usize) -> Event {
        let Admitted { claims, digest, .. } = &asked.request;
        Event::Locate {
            member: claims.iss.clone(),
            epoch: claims.epoch,
            manifest: claims.manifest.clone(),
            request: digest.clone(),
            purpose: claims.purpose.clone(),
            indexes: claims.indexes.iter().map(|index| self.journal.mac(index)).collect(),
            own,
            found,
            tickets: if claims.tickets { own } else { 0 },
            honeypots,
        }
    }

    /// Our word that the asker serves the resident behind `index` now.
    fn ticket(&self, claims: &LocateRequest, index: &Index, now: Timestamp) -> Result<String, Refusal> {
        let nonce = keyring::random::<16>()?;
        let ticket = Ticket {
            iss: self.config.member.clone(),
            sub: claims.iss.clone(),
            bind: Base64(Ticket::binding(&nonce, index).to_vec()),
            nonce: Base64(nonce.to_vec()),
            epoch: claims.epoch,
            iat: now,
            exp: now + TICKET_SECONDS,
        };
        jws::sign(&self.keys.message, &ticket).map_err(Refusal::Signature)
    }
}

/// The sealed values `asker` may see at one index; `None` without a live entry of its own. `keys` and `rows` are the
/// asker's, then the candidates'. Rows are opened in place.
fn visible(
    blind: &Blind,
    now: Timestamp,
    asker: &MemberId,
    candidates: &[MemberId],
    keys: &[RowKey],
    rows: &mut [Option<Row>],
) -> Option<Vec<Base64>> {
    let (own_key, keys) = keys.split_first()?;
    let (own, rows) = rows.split_first_mut()?;
    let own = blind.open(own_key, present(own)).filter(|entry| entry.live(now))?;
    let mut entries = Vec::new();
    for ((member, key), row) in candidates.iter().zip(keys).zip(rows) {
        let wanted = own.admits(&blind.tag(own_key, member));
        let tag = blind.tag(key, asker);
        if let Some(entry) = blind.open(key, present(row))
            && wanted
            && entry.admits(&tag)
            && entry.live(now)
        {
            entries.push(Base64(entry.sealed.to_vec()));
        }
    }
    Some(entries)
}

/// The row at a place, or one of nothing, which takes as long to refuse as a row to open.
pub(crate) fn present(row: &mut Option<Row>) -> &mut Row {
    row.get_or_insert_with(|| Row(Box::new([0; ROW_BYTES])))
}
