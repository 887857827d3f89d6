//! What members are told to look at: notes written into queues, and read from them by `POST /v1/review`.
//!
//! A note says no more than locating would have shown its reader, or names a member and no resident. A resident stands in
//! it only as [`review_handle`], which the reader alone can compute back; the other member of a meeting only as its sealed
//! entry, which the reader opens with its own key for that resident. Under the storage key on top, a note's place tells
//! whoever has the disk how many there are in some queue, and from which second.

use crate::admit::{Admitted, compute, whole};
use crate::blind::{Blind, CONTENT_BYTES};
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{NoteKey, Row};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use protocol::manifest::Manifest;
use protocol::registry::SEALED_BYTES;
use protocol::review::{MAX_REVIEW_ITEMS, News, ReviewAnswer, ReviewItem, ReviewRequest, review_handle};
use protocol::{Bytes as Base64, Epoch, Index, MemberId, Timestamp};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use transport::Peer;

/// Notes are shown once no request that was admitted before can still write one: readers go on from the last they saw.
const SETTLED_SECONDS: i64 = 120;

pub(crate) async fn read(
    State(registry): State<Arc<Registry>>,
    Peer(peer): Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReviewAnswer>, Refusal> {
    let body = whole(body)?;
    let admitting = registry.clone();
    let Admitted { claims, now, digest, .. } = compute(move || admitting.admit::<ReviewRequest>(&peer, &body)).await?;
    let queue = registry.blind.queue(Some(&claims.iss));
    let after = match &claims.after {
        Some(position) => place(queue, &position.0).ok_or(Refusal::Malformed("after"))?,
        None => NoteKey { queue, ..NoteKey::FIRST },
    };
    let through = NoteKey { queue, at: now + -SETTLED_SECONDS, ..NoteKey::LAST };
    let mut notes = registry.store.notes(after, through, MAX_REVIEW_ITEMS).await?;
    let next = notes.last().map(|(key, _)| Base64([&key.at.0.to_be_bytes(), key.id.as_slice()].concat()));
    let items: Vec<_> =
        notes.iter_mut().filter_map(|(key, row)| decode(key.at, registry.blind.open_note(key, row)?)).collect();
    if items.len() < notes.len() {
        tracing::error!(damaged = notes.len() - items.len(), "notes do not open under this storage key");
    }
    let event = Event::Review { member: claims.iss, manifest: claims.manifest, request: digest, items: items.len() };
    let _recorded = registry.journal.append(event).await?;
    Ok(Json(ReviewAnswer { items, next }))
}

fn place(queue: [u8; 32], position: &[u8]) -> Option<NoteKey> {
    let (at, id) = position.split_first_chunk()?;
    Some(NoteKey { queue, at: Timestamp(i64::from_be_bytes(*at)), id: id.try_into().ok()? })
}

/// Somebody's resident, as news are about it.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) index: &'a Index,
}

impl Blind {
    /// `news` for the queue of `reader` about one of its residents. The same news at the same moment is one note.
    pub(crate) fn tell(
        &self,
        reader: &MemberId,
        at: Timestamp,
        about: About<'_>,
        news: &News,
    ) -> io::Result<(NoteKey, Row)> {
        let handle = review_handle(reader, about.index);
        self.note(reader, at, about.epoch, handle, news)
    }

    /// `news` about a member for everybody who has an officer, but for the member itself.
    pub(crate) fn tell_officers(
        &self,
        manifest: &Manifest,
        at: Timestamp,
        about: Option<About<'_>>,
        (member, news): (&MemberId, &News),
    ) -> io::Result<Vec<(NoteKey, Row)>> {
        let readers: BTreeSet<_> = manifest.officers.keys.iter().map(|o| &o.member).filter(|o| *o != member).collect();
        let tell = |reader: &MemberId| match about {
            Some(about) => self.tell(reader, at, about, news),
            None => self.note(reader, at, Epoch(0), [0; 16], news),
        };
        readers.into_iter().map(tell).collect()
    }

    /// Where a note stands that says when a provisional entry lapses.
    pub(crate) fn lapse_note(&self, writer: &MemberId, expires: Timestamp, about: About<'_>) -> NoteKey {
        let handle = review_handle(writer, about.index);
        self.place(writer, expires, about.epoch, handle, &News::NeverConverted)
    }

    fn note(
        &self,
        reader: &MemberId,
        at: Timestamp,
        epoch: Epoch,
        handle: [u8; 16],
        news: &News,
    ) -> io::Result<(NoteKey, Row)> {
        let key = self.place(reader, at, epoch, handle, news);
        let content = encode(epoch, handle, news).ok_or_else(|| io::Error::other("news that fit in no note"))?;
        Ok((key, self.seal_note(&key, &content)?))
    }

    fn place(&self, reader: &MemberId, at: Timestamp, epoch: Epoch, handle: [u8; 16], news: &News) -> NoteKey {
        let about = [epoch.0.to_be_bytes().as_slice(), &handle].concat();
        let id = match news {
            News::Met { by_reader, sealed, .. } => self.news_id(&about, &[&sealed.0, &[0, u8::from(*by_reader)]]),
            News::NeverConverted => self.news_id(&about, &[b"", &[1]]),
            News::Honeypot { member } => self.news_id(&about, &[member.as_str().as_bytes(), &[2]]),
            News::MissBudgetSpent { member } => self.news_id(&about, &[member.as_str().as_bytes(), &[3]]),
            News::SeldomMet { member, .. } => self.news_id(&about, &[member.as_str().as_bytes(), &[4]]),
        };
        NoteKey { queue: self.queue(Some(reader)), at, id }
    }
}

/// kind 1 ‖ flags 1 ‖ epoch 4 ‖ handle 16 ‖ posted 8 ‖ met 8 ‖ len8 member 1 + 32 ‖ sealed 284 ‖ zeros.
fn encode(epoch: Epoch, handle: [u8; 16], news: &News) -> Option<[u8; CONTENT_BYTES]> {
    let (nobody, nothing) = (String::new(), Base64::default());
    let (kind, flags, member, posted, met, sealed): (u8, u8, &str, u64, u64, &[u8]) = match news {
        News::Met { by_reader, again, sealed } => {
            (1, u8::from(*by_reader) | u8::from(*again) << 1, &nobody, 0, 0, &sealed.0)
        }
        News::NeverConverted => (2, 0, &nobody, 0, 0, &nothing.0),
        News::Honeypot { member } => (3, 0, member.as_str(), 0, 0, &nothing.0),
        News::MissBudgetSpent { member } => (4, 0, member.as_str(), 0, 0, &nothing.0),
        News::SeldomMet { member, posted, met } => (5, 0, member.as_str(), *posted, *met, &nothing.0),
    };
    let mut out = vec![kind, flags];
    out.extend(epoch.0.to_be_bytes());
    out.extend(handle);
    out.extend(posted.to_be_bytes());
    out.extend(met.to_be_bytes());
    out.push(u8::try_from(member.len()).ok()?);
    out.extend(member.bytes());
    out.resize(MEMBER_END, 0);
    out.extend(sealed);
    (out.len() <= CONTENT_BYTES).then(|| out.resize(CONTENT_BYTES, 0))?;
    out.try_into().ok()
}

const MEMBER_END: usize = 1 + 1 + 4 + 16 + 8 + 8 + 1 + 32;

fn decode(at: Timestamp, content: &[u8]) -> Option<ReviewItem> {
    let ([kind, flags], rest) = content.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (handle, rest) = rest.split_first_chunk::<16>()?;
    let (posted, rest) = rest.split_first_chunk()?;
    let (met, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (member, rest) = rest.split_first_chunk::<32>()?;
    let member = || std::str::from_utf8(member.get(..usize::from(*length))?).ok()?.parse().ok();
    let news = match kind {
        1 => News::Met {
            by_reader: flags & 1 != 0,
            again: flags & 2 != 0,
            sealed: Base64(rest.get(..SEALED_BYTES)?.to_vec()),
        },
        2 => News::NeverConverted,
        3 => News::Honeypot { member: member()? },
        4 => News::MissBudgetSpent { member: member()? },
        5 => News::SeldomMet { member: member()?, posted: u64::from_be_bytes(*posted), met: u64::from_be_bytes(*met) },
        _ => return None,
    };
    Some(ReviewItem { at, epoch: Epoch(u32::from_be_bytes(*epoch)), handle: Base64(handle.to_vec()), news })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_news_fits_and_comes_back() {
        let member = || "m".repeat(32).parse::<MemberId>().unwrap();
        let sealed = || Base64((0..SEALED_BYTES).map(|n| n.to_le_bytes()[0]).collect());
        for news in [
            News::Met { by_reader: true, again: false, sealed: sealed() },
            News::Met { by_reader: false, again: true, sealed: sealed() },
            News::NeverConverted,
            News::Honeypot { member: member() },
            News::MissBudgetSpent { member: member() },
            News::SeldomMet { member: member(), posted: u64::MAX, met: 7 },
        ] {
            let content = encode(Epoch(9), [5; 16], &news).unwrap();
            let item = ReviewItem { at: Timestamp(3), epoch: Epoch(9), handle: Base64(vec![5; 16]), news };
            assert_eq!(decode(Timestamp(3), &content).unwrap(), item);
        }
        assert!(decode(Timestamp(3), &[9; CONTENT_BYTES]).is_none());
    }
}
