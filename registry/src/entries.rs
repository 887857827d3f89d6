//! `PUT` and `DELETE /v1/entries`: a member changes its own entries.
//!
//! Verify, record, store, look for meetings, acknowledge, in this order. The same body goes to either method and may put
//! and delete at once. A request that was stored once is refused if it comes again, so that an old put cannot undo a
//! deletion. A deleted entry leaves its row behind for 90 days, as one that says nothing: whoever puts, looks and removes
//! is seen to have done so.
//!
//! Of an institution that follows others (`protocol::succession`), what those had put counts: its own entry takes the place
//! of theirs and is as old as the oldest, whether they are members still or not.
//!
//! Meetings are looked for after the entries are stored: of two members that put at the same moment, the later one finds
//! the other. Where the program dies in between, nothing was acknowledged, and the entries are young enough to be looked
//! at again when the request is repeated.

use crate::admit::{Admitted, FRESH_SECONDS, compute, distinct, whole};
use crate::blind::{Content, State as Says};
use crate::errors::Refusal;
use crate::events::Event;
use crate::review::About;
use crate::server::Registry;
use crate::store::{Batch, NoteKey, RequestId, Row, RowKey, Written};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use protocol::manifest::Manifest;
use protocol::registry::{
    EntriesAnswer, EntriesRequest, MAX_AUDIENCE, MAX_BATCH, PROVISIONAL_DAYS, PutEntry, SEALED_BYTES,
};
use protocol::review::{News, REVIEW_DAYS};
use protocol::time::{DAY_SECONDS, MAX_SKEW_SECONDS};
use protocol::{Bytes as Base64, Index, MemberId, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use transport::Peer;

/// An entry lapses at most this many days after it is put.
pub(crate) const LONGEST_DAYS: i64 = 400;
/// So long after its first put an entry's meetings are looked for again, and may be told twice.
const YOUNG_SECONDS: i64 = 3600;

pub(crate) async fn change(
    State(registry): State<Arc<Registry>>,
    Peer(peer): Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EntriesAnswer>, Refusal> {
    let body = whole(body)?;
    let planning = registry.clone();
    let plan = compute(move || planning.plan(planning.admit(&peer, &body)?)).await?;
    let claims = &plan.asked.claims;
    registry.charge_provisional(&claims.iss, &provisional_by_user(&claims.put), plan.asked.now).await?;
    let keys = plan.own.iter().chain(&plan.honeypots).chain(&plan.followed);
    let rows = registry.store.get(keys.copied().collect()).await?;
    let preparing = registry.clone();
    let mut change = compute(move || preparing.prepare(plan, rows)).await?;
    let _recorded = registry.journal.append(change.event).await?;
    let Written::Stored { .. } = registry.store.write(std::mem::take(&mut change.batch)).await? else {
        return Err(Refusal::Replayed);
    };
    if let Some(fresh) = change.fresh {
        registry.introduce(fresh).await?;
    }
    Ok(Json(change.answer))
}

fn provisional_by_user(put: &[PutEntry]) -> HashMap<&[u8], u64> {
    let mut users = HashMap::new();
    for provisional in put.iter().filter_map(|entry| entry.provisional.as_ref()) {
        *users.entry(provisional.user.0.as_slice()).or_default() += 1;
    }
    users
}

/// A request that may be acted on, with the rows it needs: the writer's own, for puts and then deletions, what the officers
/// may have planted there, and in the same order those of everybody the writer follows.
struct Plan {
    asked: Admitted<EntriesRequest>,
    own: Vec<RowKey>,
    honeypots: Vec<RowKey>,
    /// Whether each of them is wholly followed.
    before: Vec<bool>,
    followed: Vec<RowKey>,
}

/// A request worked out: what to record, what to store, what to look at then, what to answer.
struct Change {
    event: Event,
    batch: Batch,
    fresh: Option<Fresh>,
    answer: EntriesAnswer,
}

/// What the followed ones had at an index: since when, and the rows that say nothing from now on.
#[derive(Default)]
struct Inherited {
    since: Option<Timestamp>,
    gone: Vec<(RowKey, Row)>,
}

/// Entries stored whose meetings are to be looked for: own key, own sealed value, and whether it came back.
struct Fresh {
    asked: Admitted<EntriesRequest>,
    entries: Vec<(Index, RowKey, Base64, bool)>,
}

impl Registry {
    fn plan(&self, asked: Admitted<EntriesRequest>) -> Result<Plan, Refusal> {
        let Admitted { claims, held, now, .. } = &asked;
        if claims.put.len() + claims.delete.len() > MAX_BATCH {
            return Err(Refusal::BatchTooLarge);
        }
        let indexes = || claims.put.iter().map(|entry| &entry.index).chain(&claims.delete);
        distinct(indexes())?;
        let known = claims.audience.iter().all(|member| held.manifest.member(member).is_some());
        if claims.audience.len() > MAX_AUDIENCE || !known {
            return Err(Refusal::AudienceInvalid);
        }
        if !claims.put.is_empty() && held.manifest.is_succeeded(&claims.iss, *now) {
            return Err(Refusal::Succeeded);
        }
        for (place, entry) in claims.put.iter().enumerate() {
            let days = if entry.provisional.is_some() { PROVISIONAL_DAYS } else { LONGEST_DAYS };
            if entry.expires <= *now || entry.expires - *now > days * DAY_SECONDS {
                return Err(Refusal::ExpiryInvalid(place));
            }
            if entry.sealed.0.len() != SEALED_BYTES {
                return Err(Refusal::SealedLength(place));
            }
            if entry.provisional.as_ref().is_some_and(|provisional| !(16..=32).contains(&provisional.user.0.len())) {
                return Err(Refusal::ProvisionalUser(place));
            }
        }
        let own = indexes().map(|index| self.blind.row_key(claims.epoch, index, &claims.iss)).collect();
        let honeypots = indexes().map(|index| self.blind.honeypot_key(claims.epoch, index)).collect();
        let before = held.manifest.predecessors(&claims.iss, *now);
        let row = |index| before.iter().map(move |member| self.blind.row_key(claims.epoch, index, member));
        let followed = indexes().flat_map(row).collect();
        let before = before.iter().map(|member| held.manifest.is_succeeded(member, *now)).collect();
        Ok(Plan { asked, own, honeypots, before, followed })
    }

    fn prepare(&self, plan: Plan, mut rows: Vec<Option<Row>>) -> Result<Change, Refusal> {
        let Plan { asked, own, honeypots, before, followed } = plan;
        let Admitted { claims, held, now, digest } = &asked;
        let (now, epoch) = (*now, claims.epoch);
        let (own_rows, others) = rows.split_at_mut(own.len());
        let (planted, followed_rows) = others.split_at_mut(honeypots.len());
        let request = self.request_id(&claims.iss, &claims.jti.0, claims.iat);
        let mut batch = Batch { request: Some(request), ..Batch::default() };
        let mut fresh = Vec::new();
        let mut posted = 0;
        let mut deleted = 0;
        let mut inherited = self.inherit(now, &before, &followed, followed_rows)?.into_iter();

        let (put_keys, delete_keys) = own.split_at(claims.put.len());
        let (put_rows, delete_rows) = own_rows.split_at_mut(claims.put.len());
        for (place, (entry, (key, row))) in claims.put.iter().zip(put_keys.iter().zip(put_rows)).enumerate() {
            let about = About { epoch, index: &entry.index };
            let old = row.as_mut().and_then(|row| self.blind.open(key, row));
            let live = old.filter(|old| old.live(now));
            let provisional = old.filter(|old| matches!(old.state, Says::Provisional | Says::DeletedProvisional));
            if entry.provisional.is_some() {
                if live.is_some() || provisional.is_some() {
                    return Err(Refusal::ProvisionalRenewed(place));
                }
                batch.note.push(self.blind.tell(&claims.iss, entry.expires, about, &News::NeverConverted)?);
            } else if let Some(old) = provisional.filter(|old| old.live(now)) {
                batch.unnote.push(self.blind.lapse_note(&claims.iss, old.expires, about));
            }
            let sealed: &[u8; SEALED_BYTES] =
                entry.sealed.0.as_slice().try_into().map_err(|_| Refusal::SealedLength(place))?;
            let Inherited { since: theirs, gone } = inherited.next().unwrap_or_default();
            let since = live.map(|old| old.since).into_iter().chain(theirs).min().unwrap_or(now);
            posted += usize::from(live.is_none() && theirs.is_none());
            if entry.provisional.is_none() {
                batch.put.extend(gone);
            }
            if now - since < YOUNG_SECONDS {
                fresh.push((entry.index, *key, entry.sealed.clone(), old.is_some() && live.is_none()));
            }
            let state = if entry.provisional.is_some() { Says::Provisional } else { Says::Live };
            let content = Content { expires: entry.expires, since, state, audience: &claims.audience, sealed };
            batch.put.push((*key, self.blind.seal(key, &content)?));
        }
        for (key, row) in delete_keys.iter().zip(delete_rows) {
            let Inherited { gone, .. } = inherited.next().unwrap_or_default();
            deleted += gone.len();
            batch.put.extend(gone);
            let Some(old) = row.as_mut().and_then(|row| self.blind.open(key, row)) else { continue };
            let state = match old.state {
                Says::Live => Says::Deleted,
                Says::Provisional => Says::DeletedProvisional,
                Says::Deleted | Says::DeletedProvisional | Says::Honeypot | Says::Succeeded => continue,
            };
            deleted += 1;
            let expires = now + REVIEW_DAYS * DAY_SECONDS;
            let content =
                Content { expires, since: now, state, audience: &BTreeSet::new(), sealed: &[0; SEALED_BYTES] };
            batch.put.push((*key, self.blind.seal(key, &content)?));
        }
        let indexes = || claims.put.iter().map(|entry| &entry.index).chain(&claims.delete);
        let touched = self.planted(indexes().zip(&honeypots), planted);
        batch.note.extend(self.alarms(&held.manifest, &claims.iss, epoch, &touched, now)?);
        let told = !enrolling(&held.manifest, &claims.iss, now);
        // Whom a first enrolment meets is not looked for.
        if posted > 0 && told {
            batch.count.push(self.posted(&claims.iss, &request.id, posted, now));
        }
        let event = Event::Entries {
            put: claims.put.iter().map(|entry| self.journal.mac(&entry.index)).collect(),
            delete: claims.delete.iter().map(|index| self.journal.mac(index)).collect(),
            provisional: claims.put.iter().filter_map(|entry| entry.provisional.as_ref().map(|p| p.reason)).collect(),
            member: claims.iss.clone(),
            epoch,
            manifest: claims.manifest.clone(),
            request: digest.clone(),
            audience: claims.audience.clone(),
            honeypots: touched.len(),
        };
        let answer = EntriesAnswer { stored: claims.put.len(), deleted };
        let fresh = (told && !fresh.is_empty()).then_some(Fresh { asked, entries: fresh });
        Ok(Change { event, batch, fresh, answer })
    }

    /// What a writer has of those it follows, at each index: `keys` and `rows` are theirs, as many an index as there are
    /// in `before`.
    fn inherit(
        &self,
        now: Timestamp,
        before: &[bool],
        keys: &[RowKey],
        rows: &mut [Option<Row>],
    ) -> Result<Vec<Inherited>, Refusal> {
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let indexes = keys.chunks(before.len()).zip(rows.chunks_mut(before.len()));
        indexes
            .map(|(keys, rows)| {
                let mut inherited = Inherited::default();
                for (whole, (key, row)) in before.iter().zip(keys.iter().zip(rows)) {
                    let Some(old) = row.as_mut().and_then(|row| self.blind.open(key, row)) else { continue };
                    let counts = matches!(old.state, Says::Live | Says::Succeeded) && old.expires > now;
                    if !counts {
                        continue;
                    }
                    inherited.since = Some(inherited.since.map_or(old.since, |since| since.min(old.since)));
                    if *whole && old.state == Says::Live {
                        let (audience, sealed) = (&BTreeSet::new(), &[0; SEALED_BYTES]);
                        let state = Says::Succeeded;
                        let content = Content { expires: old.expires, since: old.since, state, audience, sealed };
                        inherited.gone.push((*key, self.blind.seal(key, &content)?));
                    }
                }
                Ok(inherited)
            })
            .collect()
    }

    /// Tells both members of every new meeting on a resident.
    async fn introduce(self: &Arc<Self>, fresh: Fresh) -> Result<(), Refusal> {
        let Admitted { claims, held, now, .. } = &fresh.asked;
        let candidates: Vec<MemberId> = held
            .manifest
            .audience(&claims.iss, *now)
            .into_iter()
            .filter(|member| claims.audience.contains(member))
            .collect();
        let registry = self.clone();
        let (epoch, width) = (claims.epoch, candidates.len());
        if width == 0 {
            return Ok(());
        }
        let (fresh, candidates, keys) = compute(move || {
            let keys: Vec<_> = fresh
                .entries
                .iter()
                .flat_map(|(index, ..)| candidates.iter().map(move |member| (index, member)))
                .map(|(index, member)| registry.blind.row_key(epoch, index, member))
                .collect();
            Ok((fresh, candidates, keys))
        })
        .await?;
        let rows = self.store.get(keys.clone()).await?;
        let registry = self.clone();
        let batch = compute(move || registry.meetings(&fresh, &candidates, &keys, rows)).await?;
        if !batch.note.is_empty() {
            self.store.write(batch).await?;
        }
        Ok(())
    }

    fn meetings(
        &self,
        fresh: &Fresh,
        candidates: &[MemberId],
        keys: &[RowKey],
        mut rows: Vec<Option<Row>>,
    ) -> Result<Batch, Refusal> {
        let Admitted { claims, now, .. } = &fresh.asked;
        let mut note: Vec<(NoteKey, Row)> = Vec::new();
        let mut met = 0;
        let width = candidates.len();
        for ((index, _, sealed, again), (keys, rows)) in
            fresh.entries.iter().zip(keys.chunks(width).zip(rows.chunks_mut(width)))
        {
            let about = About { epoch: claims.epoch, index };
            let before = note.len();
            for ((member, key), row) in candidates.iter().zip(keys).zip(rows) {
                let Some(other) = row.as_mut().and_then(|row| self.blind.open(key, row)) else { continue };
                if !other.live(*now) || !other.admits(&self.blind.tag(key, &claims.iss)) {
                    continue;
                }
                let news = |by_reader, sealed| News::Met { by_reader, again: *again, sealed };
                let (theirs, ours) = (Base64(other.sealed.to_vec()), sealed.clone());
                note.push(self.blind.tell(&claims.iss, *now, about, &news(true, theirs))?);
                note.push(self.blind.tell(member, *now, about, &news(false, ours))?);
            }
            met += usize::from(note.len() > before);
        }
        let request = self.request_id(&claims.iss, &claims.jti.0, claims.iat);
        Ok(Batch { note, count: vec![self.met(&claims.iss, &request.id, met, *now)], ..Batch::default() })
    }

    /// Remembered for as long as the request is fresh on the slowest clock.
    fn request_id(&self, member: &MemberId, jti: &[u8], iat: Timestamp) -> RequestId {
        self.blind.request_id(member, jti, iat + FRESH_SECONDS + MAX_SKEW_SECONDS)
    }
}

/// Whether a member's first enrolment is still going on, for which the officers raised its quota.
fn enrolling(manifest: &Manifest, member: &MemberId, now: Timestamp) -> bool {
    let quotas = manifest.member(member).map(|member| &member.quotas);
    quotas.and_then(|quotas| quotas.first_enrolment.as_ref()).is_some_and(|raised| now <= raised.until)
}
