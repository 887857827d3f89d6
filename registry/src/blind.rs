//! How an entry becomes a row that says nothing: the two secrets of the registry at work.
//!
//! | what | how |
//! |---|---|
//! | row key, 32 bytes | HMAC(pepper, `"row"` ‖ epoch 4 ‖ index 32 ‖ member) |
//! | audience tag, 16 bytes | HMAC(pepper, `"aud"` ‖ row key 32 ‖ member), the first half |
//! | row's own key, 32 bytes | HMAC(storage key, row key) |
//! | content, 557 bytes | expires 8 ‖ since 8 ‖ state 1 ‖ 16 tags ‖ the member's sealed value 284 |
//! | row, 585 bytes | nonce 12 ‖ ChaCha20-Poly1305(content) ‖ tag 16, under the row's own key |
//! | queue of a member, 32 bytes | HMAC(pepper, `"queue"` ‖ member) |
//! | note | as a row: 557 bytes of content under HMAC(another storage key, queue ‖ at 8 ‖ id 16) |
//! | meter, 32 bytes | HMAC(pepper, `"meter"` ‖ kind 1 ‖ period 8 ‖ SHA-256(member) ‖ what else) |
//!
//! HMAC is HMAC-SHA-256 (RFC 2104) under a key derived from the secret; in each message only the last part varies in
//! length. Tags short of sixteen are random, and all are sorted, so that neither number nor order of readers shows.
//! The writer alone can address its row: nobody finds a row without knowing pepper, index and member.

use crate::store::{MeterId, NoteKey, ROW_BYTES, RequestId, Row, RowKey};
use keyring::{MacKey, StorageKey, random};
use protocol::encoding::sha256;
use protocol::registry::{MAX_AUDIENCE, SEALED_BYTES};
use protocol::{Epoch, Index, MemberId, Timestamp};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::collections::BTreeSet;
use std::io;
use subtle::{Choice, ConstantTimeEq as _};

const TAG_BYTES: usize = 16;
const TAGS_BYTES: usize = TAG_BYTES * MAX_AUDIENCE;
/// Length of a row's content.
pub(crate) const CONTENT_BYTES: usize = 8 + 8 + 1 + TAGS_BYTES + SEALED_BYTES;
const AAD: &[u8] = b"ogniwo/v1/row";

/// The registry's two secrets, as keys. Neither is kept in or beside the index.
pub struct Blind {
    pepper: MacKey,
    rows: MacKey,
    notes: MacKey,
}

/// What a row says about its writer and the resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The member knows the resident.
    Live = 1,
    /// It expects to.
    Provisional = 2,
    /// Its entry was removed.
    Deleted = 3,
    /// Its provisional entry was removed.
    DeletedProvisional = 4,
    /// There is no such resident; written by the officers.
    Honeypot = 5,
    /// The member was succeeded by one that has put its own.
    Succeeded = 6,
}

/// What a row is made of.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// When it lapses; of a removed entry, when that is forgotten.
    pub expires: Timestamp,
    /// When the entry was first put.
    pub since: Timestamp,
    /// What it says.
    pub state: State,
    /// Who may see it: at most [`MAX_AUDIENCE`].
    pub audience: &'a BTreeSet<MemberId>,
    /// The member's own sealed value.
    pub sealed: &'a [u8; SEALED_BYTES],
}

/// A row opened, borrowed from it.
#[derive(Clone, Copy)]
pub struct Entry<'r> {
    /// When it lapses; of a removed entry, when that is forgotten.
    pub expires: Timestamp,
    /// When the entry was first put.
    pub since: Timestamp,
    /// What it says.
    pub state: State,
    tags: &'r [u8; TAGS_BYTES],
    /// The member's own sealed value: the registry cannot open it.
    pub sealed: &'r [u8; SEALED_BYTES],
}

/// What stands in an entry for one member of its audience: 16 bytes, of which only this registry knows whose they are.
#[derive(Clone, Copy)]
pub struct Tag([u8; TAG_BYTES]);

impl Entry<'_> {
    /// Whether the member says now that it knows the resident.
    #[must_use]
    pub fn live(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Live | State::Provisional) && self.expires > now
    }

    /// Whether `tag` stands in it, in the same time whichever fits.
    #[must_use]
    pub fn admits(&self, tag: &Tag) -> bool {
        let tag = u128::from_ne_bytes(tag.0);
        let tags = self.tags.as_chunks().0.iter().map(|other| u128::from_ne_bytes(*other));
        tags.fold(Choice::from(0), |found, other| found | other.ct_eq(&tag)).into()
    }
}

impl Blind {
    /// From the storage key and the pepper.
    #[must_use]
    pub fn new(storage: &StorageKey, pepper: &StorageKey) -> Self {
        Blind { pepper: pepper.mac("pepper"), rows: storage.mac("index-rows"), notes: storage.mac("index-notes") }
    }

    /// Where `member`'s entry on `index` stands.
    #[must_use]
    pub fn row_key(&self, epoch: Epoch, index: &Index, member: &MemberId) -> RowKey {
        RowKey(self.pepper.mac(&[b"row", &epoch.0.to_be_bytes(), index.as_bytes(), member.as_str().as_bytes()]))
    }

    /// Where an entry on `index` stands that the officers planted.
    #[must_use]
    pub fn honeypot_key(&self, epoch: Epoch, index: &Index) -> RowKey {
        RowKey(self.pepper.mac(&[b"row", &epoch.0.to_be_bytes(), index.as_bytes()]))
    }

    /// The id under which a request by `member` is remembered.
    #[must_use]
    pub fn request_id(&self, member: &MemberId, jti: &[u8], until: Timestamp) -> RequestId {
        RequestId { id: self.pepper.mac(&[b"jti", &sha256(&[member.as_str().as_bytes()]), jti]), until }
    }

    /// The id under which what the officers planted is remembered.
    pub(crate) fn honeypots_id(&self, hash: &[u8; 32], until: Timestamp) -> RequestId {
        RequestId { id: self.pepper.mac(&[b"planted", hash]), until }
    }

    /// The id under which it is remembered that the index was given another generation than `old`: for good.
    pub(crate) fn renewal_id(&self, old: &[u8; 16]) -> RequestId {
        RequestId { id: self.pepper.mac(&[b"renewed", old]), until: Timestamp(i64::MAX) }
    }

    /// The queue of `member`, or of the registry itself.
    pub(crate) fn queue(&self, member: Option<&MemberId>) -> [u8; 32] {
        self.pepper.mac(&[b"queue", member.map_or("", MemberId::as_str).as_bytes()])
    }

    /// The same news has the same id: 16 bytes.
    pub(crate) fn news_id(&self, about: &[u8], parts: &[&[u8]; 2]) -> [u8; 16] {
        half(self.pepper.mac(&[b"news", &sha256(&[about]), &sha256(&[parts[0]]), parts[1]]))
    }

    /// What `kind` of thing `member` did in `period`; `more` tells its users apart.
    pub(crate) fn meter(&self, kind: u8, period: i64, member: &MemberId, more: &[u8]) -> MeterId {
        let member = sha256(&[member.as_str().as_bytes()]);
        MeterId(self.pepper.mac(&[b"meter", &[kind], &period.to_be_bytes(), &member, more]))
    }

    /// The row for `key`.
    ///
    /// # Errors
    /// An I/O error without randomness.
    pub fn seal(&self, key: &RowKey, content: &Content<'_>) -> io::Result<Row> {
        let random = random::<TAGS_BYTES>()?;
        let (tags, _) = random.as_chunks::<TAG_BYTES>();
        let readers = content.audience.iter().map(|member| self.tag(key, member).0);
        let mut tags: Vec<_> = readers.chain(tags.iter().copied()).take(MAX_AUDIENCE).collect();
        tags.sort_unstable();

        let times = [content.expires.0.to_be_bytes(), content.since.0.to_be_bytes()];
        let parts = [times.as_flattened(), &[content.state as u8], tags.as_flattened(), content.sealed];
        seal(&self.rows.mac(&[&key.0]), &parts.concat())
    }

    /// The entry in `row`, which is opened in place. `None` if it was not sealed for `key` with these secrets.
    pub fn open<'r>(&self, key: &RowKey, row: &'r mut Row) -> Option<Entry<'r>> {
        let (expires, rest) = open(&self.rows.mac(&[&key.0]), row)?.split_first_chunk()?;
        let (since, rest) = rest.split_first_chunk()?;
        let (state, rest) = rest.split_first()?;
        let (tags, sealed) = rest.split_first_chunk()?;
        Some(Entry {
            expires: Timestamp(i64::from_be_bytes(*expires)),
            since: Timestamp(i64::from_be_bytes(*since)),
            state: State::from_byte(*state)?,
            tags,
            sealed: sealed.try_into().ok()?,
        })
    }

    /// The note for `key`.
    pub(crate) fn seal_note(&self, key: &NoteKey, content: &[u8; CONTENT_BYTES]) -> io::Result<Row> {
        seal(&self.note_key(key), content)
    }

    /// The note in `row`, opened in place. `None` if it was not sealed for `key` with this storage key.
    pub(crate) fn open_note<'r>(&self, key: &NoteKey, row: &'r mut Row) -> Option<&'r [u8]> {
        open(&self.note_key(key), row)
    }

    fn note_key(&self, key: &NoteKey) -> [u8; 32] {
        self.notes.mac(&[&key.queue, &key.at.0.to_be_bytes(), &key.id])
    }

    /// The mark by which `member` may see the entry at `key`.
    #[must_use]
    pub fn tag(&self, key: &RowKey, member: &MemberId) -> Tag {
        Tag(half(self.pepper.mac(&[b"aud", &key.0, member.as_str().as_bytes()])))
    }
}

impl State {
    fn from_byte(byte: u8) -> Option<Self> {
        use State::{Deleted, DeletedProvisional, Honeypot, Live, Provisional, Succeeded};
        let all = [Live, Provisional, Deleted, DeletedProvisional, Honeypot, Succeeded];
        all.into_iter().find(|state| *state as u8 == byte)
    }
}

fn seal(key: &[u8; 32], content: &[u8]) -> io::Result<Row> {
    let nonce = random::<NONCE_LEN>()?;
    let mut row = Vec::with_capacity(ROW_BYTES);
    row.extend_from_slice(&nonce);
    row.extend_from_slice(content);
    let (_, body) = row.split_at_mut(NONCE_LEN);
    let tag = cipher(key)
        .and_then(|cipher| cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(AAD), body))
        .map_err(|_| io::Error::other("sealing failed"))?;
    row.extend_from_slice(tag.as_ref());
    let row = <Box<[u8; ROW_BYTES]>>::try_from(row.into_boxed_slice());
    row.map(Row).map_err(|_| io::Error::other("a row of the wrong length"))
}

fn open<'r>(key: &[u8; 32], row: &'r mut Row) -> Option<&'r [u8]> {
    let (nonce, body) = row.0.split_first_chunk_mut::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    Some(&*cipher(key).ok()?.open_in_place(nonce, Aad::from(AAD), body).ok()?)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, ring::error::Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new)
}

/// The first half of a MAC: truncation as RFC 2104 §5 permits it.
pub(crate) fn half(mac: [u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(mac.split_at(16).0);
    first
}

#[cfg(test)]
mod tests;
