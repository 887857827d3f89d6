//! How an entry becomes a row that says nothing: the two secrets of the registry at work.
//!
//! | what | how |
//! |---|---|
//! | row key, 32 bytes | HMAC(pepper, `"row"` ‖ epoch 4 ‖ index 32 ‖ member) |
//! | audience tag, 16 bytes | HMAC(pepper, `"aud"` ‖ row key 32 ‖ member), the first half |
//! | row's own key, 32 bytes | HMAC(storage key, row key) |
//! | content, 548 bytes | expires 8 ‖ 16 tags ‖ the member's sealed value 284 |
//! | row, 576 bytes | nonce 12 ‖ ChaCha20-Poly1305(content) ‖ tag 16, under the row's own key |
//!
//! HMAC is HMAC-SHA-256 (RFC 2104) under a key derived from the secret; in each message only the last part varies in
//! length. Tags short of sixteen are random, and all are sorted, so that neither number nor order of readers shows.
//! The writer alone can address its row: nobody finds a row without knowing pepper, index and member.

use crate::store::{ROW_BYTES, RequestId, Row, RowKey};
use keyring::{MacKey, StorageKey, random};
use protocol::registry::{MAX_AUDIENCE, SEALED_BYTES};
use protocol::{Epoch, Index, MemberId, Timestamp};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::collections::BTreeSet;
use std::io;

const TAG_BYTES: usize = 16;
const TAGS_BYTES: usize = TAG_BYTES * MAX_AUDIENCE;
const AAD: &[u8] = b"ogniwo/v1/row";

/// The registry's two secrets, as keys. Neither is kept in or beside the index.
pub struct Blind {
    pepper: MacKey,
    storage: MacKey,
}

/// A row opened, borrowed from it.
#[derive(Clone, Copy)]
pub struct Entry<'r> {
    /// When it lapses.
    pub expires: Timestamp,
    tags: &'r [u8; TAGS_BYTES],
    /// The member's own sealed value: the registry cannot open it.
    pub sealed: &'r [u8; SEALED_BYTES],
}

/// What stands in an entry for one member of its audience: 16 bytes, of which only this registry knows whose they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; TAG_BYTES]);

impl Entry<'_> {
    /// Whether `tag` stands in it. Looks at every tag, whichever fits.
    #[must_use]
    pub fn admits(&self, tag: &Tag) -> bool {
        self.tags.as_chunks().0.iter().filter(|other| **other == tag.0).count() > 0
    }
}

impl Blind {
    /// From the storage key and the pepper.
    #[must_use]
    pub fn new(storage: &StorageKey, pepper: &StorageKey) -> Self {
        Blind { pepper: pepper.mac("pepper"), storage: storage.mac("index-rows") }
    }

    /// Where `member`'s entry on `index` stands.
    #[must_use]
    pub fn row_key(&self, epoch: Epoch, index: &Index, member: &MemberId) -> RowKey {
        RowKey(self.pepper.mac(&[b"row", &epoch.0.to_be_bytes(), index.as_bytes(), member.as_str().as_bytes()]))
    }

    /// The id under which a request by `member` is remembered.
    #[must_use]
    pub fn request_id(&self, member: &MemberId, jti: &[u8], until: Timestamp) -> RequestId {
        let member = protocol::encoding::sha256(&[member.as_str().as_bytes()]);
        RequestId { id: self.pepper.mac(&[b"jti", &member, jti]), until }
    }

    /// The row for `key` that lapses at `expires` and that the `audience`, at most [`MAX_AUDIENCE`], may see.
    ///
    /// # Errors
    /// An I/O error without randomness.
    pub fn seal(
        &self,
        key: &RowKey,
        expires: Timestamp,
        audience: &BTreeSet<MemberId>,
        sealed: &[u8; SEALED_BYTES],
    ) -> io::Result<Row> {
        let mut tags = [[0; TAG_BYTES]; MAX_AUDIENCE];
        let mut readers = audience.iter();
        for tag in &mut tags {
            *tag = readers.next().map_or_else(random, |member| Ok(self.tag(key, member).0))?;
        }
        tags.sort_unstable();

        let mut body = [&expires.0.to_be_bytes(), tags.as_flattened(), sealed].concat();
        let nonce = random::<NONCE_LEN>()?;
        self.row_cipher(key)
            .and_then(|cipher| {
                cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(AAD), &mut body)
            })
            .map_err(|_| io::Error::other("sealing failed"))?;
        let row = <Box<[u8; ROW_BYTES]>>::try_from([nonce.as_slice(), &body].concat().into_boxed_slice());
        row.map(Row).map_err(|_| io::Error::other("a row of the wrong length"))
    }

    /// The entry in `row`, which is opened in place. `None` if it was not sealed for `key` with these secrets.
    pub fn open<'r>(&self, key: &RowKey, row: &'r mut Row) -> Option<Entry<'r>> {
        let (nonce, body) = row.0.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let content = &*self.row_cipher(key).ok()?.open_in_place(nonce, Aad::from(AAD), body).ok()?;
        let (expires, rest) = content.split_first_chunk()?;
        let (tags, sealed) = rest.split_first_chunk()?;
        Some(Entry { expires: Timestamp(i64::from_be_bytes(*expires)), tags, sealed: sealed.try_into().ok()? })
    }

    /// The mark by which `member` may see the entry at `key`.
    #[must_use]
    pub fn tag(&self, key: &RowKey, member: &MemberId) -> Tag {
        Tag(half(self.pepper.mac(&[b"aud", &key.0, member.as_str().as_bytes()])))
    }

    fn row_cipher(&self, key: &RowKey) -> Result<LessSafeKey, ring::error::Unspecified> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.storage.mac(&[&key.0])).map(LessSafeKey::new)
    }
}

/// The first half of a MAC: truncation as RFC 2104 §5 permits it.
pub(crate) fn half(mac: [u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(mac.split_at(16).0);
    first
}

#[cfg(test)]
mod tests;
