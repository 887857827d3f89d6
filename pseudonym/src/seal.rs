//! Sealing a registry value so that only who can name the resident can read it.

use std::fmt;

use rand_core::CryptoRng;
use ring::aead;
use zeroize::Zeroizing;

use crate::ENTRY_BYTES;
use crate::names::{LabelError, expand, label_length};

const NONCE: usize = 12;
const TAG: usize = 16;

/// Length of a sealed entry: nonce 12, ciphertext 256, tag 16.
pub const SEALED_BYTES: usize = NONCE + ENTRY_BYTES + TAG;

/// The ChaCha20-Poly1305 key (RFC 8439) of one resident's registry values. Wiped on drop; redacting `Debug`.
///
/// A nonce is drawn at random for each seal: at a handful of values a resident and epoch, 96 bits do not collide.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

/// The value was not sealed under this key, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open under this key")]
pub struct OpenError;

impl SealKey {
    /// A key kept encrypted by the node; any 32 bytes are a key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The 32 bytes, for encrypted storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// A word on `matter` that only who knows the resident can tell, for `member` alone (a member id, `[a-z0-9-]{1,32}`),
    /// 32 bytes: HKDF-Expand-SHA-512 (RFC 5869 §2.3) with info `ogniwo/v1/mark` ‖ len8 ‖ member ‖ matter.
    ///
    /// # Errors
    /// [`LabelError`] if `member` is not a member id.
    pub fn mark(&self, member: &str, matter: &[u8; 16]) -> Result<[u8; 32], LabelError> {
        let length = label_length(member, "a member id")?;
        Ok(*expand(self.0.as_ref(), &[b"ogniwo/v1/mark", &[length], member.as_bytes(), matter]))
    }

    /// Seals an encoded [`Entry`](crate::Entry): nonce 12 | ciphertext 256 | tag 16.
    pub fn seal(&self, plaintext: &[u8; ENTRY_BYTES], rng: &mut impl CryptoRng) -> [u8; SEALED_BYTES] {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let mut sealed = [0; SEALED_BYTES];
        let (head, rest) = sealed.split_at_mut(NONCE);
        let (body, tail) = rest.split_at_mut(ENTRY_BYTES);
        head.copy_from_slice(&nonce);
        body.copy_from_slice(plaintext);
        tail.copy_from_slice(self.encrypt(nonce, body).as_ref());
        sealed
    }

    /// Opens what [`seal`](Self::seal) made: 284 bytes in, 256 out.
    ///
    /// # Errors
    /// [`OpenError`], without a reason: another length, another key and a changed byte look alike.
    pub fn open(&self, sealed: &[u8]) -> Result<[u8; ENTRY_BYTES], OpenError> {
        let sealed: &[u8; SEALED_BYTES] = sealed.try_into().map_err(|_| OpenError)?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(OpenError)?;
        let mut body = Zeroizing::new(rest.to_vec());
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let plaintext = self.key().open_in_place(nonce, aead::Aad::empty(), &mut body).map_err(|_| OpenError)?;
        (&*plaintext).try_into().map_err(|_| OpenError)
    }

    fn encrypt(&self, nonce: [u8; NONCE], body: &mut [u8]) -> aead::Tag {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        #[expect(clippy::expect_used, reason = "fails only above 256 GB")]
        self.key().seal_in_place_separate_tag(nonce, aead::Aad::empty(), body).expect("sealing 256 bytes")
    }

    fn key(&self) -> aead::LessSafeKey {
        #[expect(clippy::expect_used, reason = "fails only on a length other than 32")]
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, self.0.as_ref()).expect("a 32-byte key");
        aead::LessSafeKey::new(key)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::TestRng;

    #[test]
    fn opens_under_its_own_key_only() {
        let (key, other) = (SealKey::from_bytes(&[1; 32]), SealKey::from_bytes(&[2; 32]));
        let sealed = key.seal(&[9; 256], &mut TestRng::new(1));
        assert_eq!(key.open(&sealed), Ok([9; 256]));
        assert_eq!(SealKey::from_bytes(&key.to_bytes()).open(&sealed), Ok([9; 256]));
        assert_eq!(other.open(&sealed), Err(OpenError));
    }

    #[test]
    fn the_nonce_is_fresh() {
        let (key, mut rng) = (SealKey::from_bytes(&[1; 32]), TestRng::new(1));
        let (first, second) = (key.seal(&[9; 256], &mut rng), key.seal(&[9; 256], &mut rng));
        assert_ne!(first[..NONCE], second[..NONCE]);
    }

    #[test]
    fn a_mark_is_one_residents_members_and_matters_own() {
        let mark =
            |key: u8, member: &str, matter: u8| SealKey::from_bytes(&[key; 32]).mark(member, &[matter; 16]).unwrap();
        let one = mark(1, "pup", 1);
        assert_eq!(mark(1, "pup", 1), one);
        assert!([mark(2, "pup", 1), mark(1, "css", 1), mark(1, "pup", 2)].iter().all(|other| other != &one));
        assert!(SealKey::from_bytes(&[1; 32]).mark("PUP", &[1; 16]).is_err());
    }

    proptest! {
        #[test]
        fn any_changed_byte_or_length_is_refused(position in 0..SEALED_BYTES, change in 1_u8.., cut in 0..SEALED_BYTES) {
            let key = SealKey::from_bytes(&[1; 32]);
            let mut sealed = key.seal(&[9; 256], &mut TestRng::new(1));
            prop_assert_eq!(key.open(&sealed[..cut]), Err(OpenError));
            sealed[position] ^= change;
            prop_assert_eq!(key.open(&sealed), Err(OpenError));
        }
    }
}
