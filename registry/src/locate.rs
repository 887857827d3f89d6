//! `POST /v1/locate`: which other members know these residents.
//!
//! Over each index the asker's own row is read, one row for every member it has an agreement with, and the place where the
//! officers may have planted one of nobody's. An entry is shown
//! when four things hold: the asker's own entry is live, the other's is live, the other's audience includes the asker,
//! and the asker's own audience includes the other: seeing is mutual. Where one fails the answer is empty, the same
//! whichever it was.
//!
//! **Time.** The reads depend on the request and the manifest alone. What follows them depends on the asker's own entry,
//! which it knows; with a live one, every candidate costs the same, its row present or not. Indexes without an own entry
//! are metered; that some of them were planted is told to others after the answer.

use crate::admit::{Admitted, compute, distinct, whole};
use crate::blind::Blind;
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Batch, NoteKey, ROW_BYTES, Row, RowKey};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use protocol::registry::{LocateAnswer, LocateRequest, Located, MAX_BATCH, TICKET_SECONDS, Ticket};
use protocol::{Bytes as Base64, Index, MemberId, Timestamp, jws};
use std::sync::Arc;
use transport::Peer;

pub(crate) async fn locate(
    State(registry): State<Arc<Registry>>,
    Peer(peer): Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LocateAnswer>, Refusal> {
    let body = whole(body)?;
    let planning = registry.clone();
    let probe = compute(move || planning.probe(planning.admit(&peer, &body)?)).await?;
    let time = probe.asked.now;
    let (member, held) = (probe.asked.claims.iss.clone(), probe.asked.held.clone());
    let rows = registry.store.get(probe.keys.clone()).await?;
    let judging = registry.clone();
    let Judged { event, found, misses, alarms } = compute(move || judging.judge(probe, rows)).await?;
    let _recorded = registry.journal.append(time, event).await?;
    if !alarms.is_empty() {
        let store = registry.store.clone();
        // The caller must not see by the time taken that somebody is told; that it came upon them is in the log already.
        tokio::spawn(async move {
            if let Err(error) = store.write(Batch { note: alarms, ..Batch::default() }).await {
                tracing::error!(code = "honeypot", reason = error.0, "the officers were not told: see the log");
            }
        });
    }
    registry.charge_misses(&held.manifest, &member, misses, time).await?;
    Ok(Json(LocateAnswer { found }))
}

/// A request worked out.
struct Judged {
    event: Event,
    found: Vec<Located>,
    /// Indexes over which the asker has no live entry.
    misses: usize,
    alarms: Vec<(NoteKey, Row)>,
}

/// A request with the rows it needs: for each index the asker's own, each candidate's, nobody's.
struct Probe {
    asked: Admitted<LocateRequest>,
    candidates: Vec<MemberId>,
    keys: Vec<RowKey>,
}

impl Registry {
    fn probe(&self, asked: Admitted<LocateRequest>) -> Result<Probe, Refusal> {
        let claims = &asked.claims;
        if claims.indexes.len() > MAX_BATCH {
            return Err(Refusal::BatchTooLarge);
        }
        distinct(claims.indexes.iter())?;
        let manifest = &asked.held.manifest;
        let mut candidates: Vec<_> = manifest.audience(&claims.iss, asked.now).into_iter().collect();
        candidates.retain(|member| manifest.member(member).is_some());
        let key = |index, member| self.blind.row_key(claims.epoch, index, member);
        let keys = claims
            .indexes
            .iter()
            .flat_map(|index| {
                let members = std::iter::once(&claims.iss).chain(&candidates).map(move |member| key(index, member));
                members.chain(std::iter::once(self.blind.honeypot_key(claims.epoch, index)))
            })
            .collect();
        Ok(Probe { asked, candidates, keys })
    }

    /// The answers, and what to record of them.
    fn judge(&self, probe: Probe, mut rows: Vec<Option<Row>>) -> Result<Judged, Refusal> {
        let Probe { asked: Admitted { claims, held, now, digest }, candidates, keys } = probe;
        let width = candidates.len() + 2;
        let mut found = Vec::with_capacity(claims.indexes.len());
        let (mut own, mut touched) = (0, Vec::new());
        for (index, (keys, rows)) in claims.indexes.iter().zip(keys.chunks(width).zip(rows.chunks_mut(width))) {
            let (Some((planted_key, keys)), Some((planted, rows))) = (keys.split_last(), rows.split_last_mut()) else {
                continue;
            };
            touched.extend(self.planted(std::iter::once((index, planted_key)), std::slice::from_mut(planted)));
            let Some(entries) = visible(&self.blind, now, &claims.iss, &candidates, keys, rows) else {
                found.push(Located::default());
                continue;
            };
            own += 1;
            let ticket = if claims.tickets { Some(self.ticket(&claims, index, now)?) } else { None };
            found.push(Located { entries, ticket });
        }
        let alarms = self.alarms(&held.manifest, &claims.iss, claims.epoch, &touched, now)?;
        let event = Event::Locate {
            indexes: claims.indexes.iter().map(|index| self.journal.mac(index)).collect(),
            own,
            found: found.iter().map(|located| located.entries.len()).sum(),
            tickets: if claims.tickets { own } else { 0 },
            member: claims.iss,
            epoch: claims.epoch,
            manifest: claims.manifest,
            request: digest,
            purpose: claims.purpose,
            honeypots: touched.len(),
        };
        Ok(Judged { event, misses: found.len() - own, found, alarms })
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
    let own = blind.open(own_key, own.as_mut()?).filter(|entry| entry.live(now))?;
    let mut entries = Vec::new();
    for ((member, key), row) in candidates.iter().zip(keys).zip(rows) {
        let wanted = own.admits(&blind.tag(own_key, member));
        let tag = blind.tag(key, asker);
        // A row of nothing takes as long to refuse as a row to open.
        let row = row.get_or_insert_with(|| Row(Box::new([0; ROW_BYTES])));
        if let Some(entry) = blind.open(key, row)
            && wanted
            && entry.admits(&tag)
            && entry.live(now)
        {
            entries.push(Base64(entry.sealed.to_vec()));
        }
    }
    Some(entries)
}
