//! AEAD and MAC under derived keys.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The bytes were not sealed under this key for this place, or were altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open: altered, or another storage key")]
pub struct OpenError;

/// `N` random bytes of the operating system.
///
/// # Errors
/// An I/O error if the system has no randomness to give.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut out = [0; N];
    fill_random(&mut out)?;
    Ok(out)
}

/// Fills `out` with random bytes of the operating system, in one call of it.
///
/// # Errors
/// As [`random`].
pub fn fill_random(out: &mut [u8]) -> std::io::Result<()> {
    SystemRandom::new().fill(out).map_err(|_| std::io::Error::other("the operating system gave no randomness"))
}

/// ChaCha20-Poly1305 (RFC 8439) with random 12-byte nonces: `nonce 12 | ciphertext | tag 16`.
#[derive(Clone)]
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// A sealer under `key`, 32 bytes.
    ///
    /// # Errors
    /// [`OpenError`] if the library refuses the key.
    pub fn new(key: &[u8; 32]) -> Result<Self, OpenError> {
        UnboundKey::new(&CHACHA20_POLY1305, key).map(|k| Sealer(LessSafeKey::new(k))).map_err(|_| OpenError)
    }

    /// Seals `plaintext` for the place `aad` names; 28 bytes longer.
    ///
    /// # Errors
    /// An I/O error without randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> std::io::Result<Vec<u8>> {
        let nonce = random::<NONCE_LEN>()?;
        let mut out = Vec::with_capacity(NONCE_LEN + plaintext.len() + CHACHA20_POLY1305.tag_len());
        out.extend_from_slice(&nonce);
        let mut body = plaintext.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .map_err(|_| std::io::Error::other("sealing failed"))?;
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Opens what [`Sealer::seal`] made for the same place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(OpenError)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body)
            .map_err(|_| OpenError)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

/// HMAC-SHA-256 (RFC 2104) under a derived key.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A MAC key of 32 bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// MAC of the concatenation of `parts`, 32 bytes. Callers fix the parts' lengths or prefix them.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed_for_this_place() {
        let here = Sealer::new(&[1; 32]).unwrap();
        let sealed = here.seal(b"here", b"secret").unwrap();
        assert_eq!(sealed.len(), 6 + 28);
        assert_eq!(here.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(here.open(b"there", &sealed).unwrap_err(), OpenError);
        assert_eq!(Sealer::new(&[2; 32]).unwrap().open(b"here", &sealed).unwrap_err(), OpenError);
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert_eq!(here.open(b"here", &altered).unwrap_err(), OpenError);
        }
        assert_eq!(here.open(b"here", &sealed[..5]).unwrap_err(), OpenError);
    }

    #[test]
    fn the_mac_is_of_the_concatenation() {
        let key = MacKey::new(&[7; 32]);
        assert_eq!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(key.mac(&[b"abc"]), MacKey::new(&[8; 32]).mac(&[b"abc"]));
    }
}
