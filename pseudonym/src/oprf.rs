//! The building blocks of RFC 9497 for the suite ristretto255-SHA512 (§4.1), on RFC 9380 hashing.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// The protocol variant (RFC 9497 §3.1). It separates the domains of all hashes.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// The base mode is not used here; the RFC's vectors for it check the shared hashing.
    #[cfg(test)]
    Oprf = 0,
    Voprf = 1,
}

/// The domain separators that use the context string, `prefix || "OPRFV1-" || mode || "-ristretto255-SHA512"`.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    HashToGroup,
    HashToScalar,
    Seed,
    #[cfg(test)]
    DeriveKeyPair,
}

/// A domain separation tag as the parts it is joined from, and their total length.
pub(crate) struct Tag {
    prefix: &'static [u8],
    mode: u8,
    pub(crate) length: u8,
}

impl Tag {
    pub(crate) fn new(domain: Domain, mode: Mode) -> Self {
        let (prefix, length): (&[u8], u8) = match domain {
            Domain::HashToGroup => (b"HashToGroup-", 12),
            Domain::HashToScalar => (b"HashToScalar-", 13),
            Domain::Seed => (b"Seed-", 5),
            #[cfg(test)]
            Domain::DeriveKeyPair => (b"DeriveKeyPair", 13),
        };
        // 28 is the length of the context string.
        Self { prefix, mode: mode as u8, length: length + 28 }
    }

    pub(crate) fn hash_into(&self, hash: &mut Sha512) {
        for part in [self.prefix, b"OPRFV1-", &[self.mode], b"-ristretto255-SHA512"] {
            hash.update(part);
        }
    }
}

/// `expand_message_xmd` with SHA-512 and 64 bytes out (RFC 9380 §5.3.1) under one tag, for many messages.
pub(crate) struct Expand {
    /// After the block of zeros with which every message begins.
    start: Sha512,
    tag: Tag,
}

impl Expand {
    pub(crate) fn new(domain: Domain, mode: Mode) -> Self {
        Self { start: Sha512::new_with_prefix([0; 128]), tag: Tag::new(domain, mode) }
    }

    /// `HashToGroup` (RFC 9497 §4.1): the one-way map of RFC 9496 §4.3.4 over 64 uniform bytes.
    pub(crate) fn to_group(&self, input: &[u8]) -> RistrettoPoint {
        RistrettoPoint::from_uniform_bytes(&self.expand(&[input]))
    }

    /// `HashToScalar` (RFC 9497 §4.1): 64 uniform bytes, little-endian, modulo the order.
    pub(crate) fn to_scalar(&self, parts: &[&[u8]]) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.expand(parts))
    }

    /// One output block, so `b_1` alone.
    fn expand(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
        let mut hash = self.start.clone();
        for part in parts {
            hash.update(part);
        }
        hash.update([0, 64, 0]);
        self.tag.hash_into(&mut hash);
        hash.update([self.tag.length]);
        let first: Zeroizing<[u8; 64]> = Zeroizing::new(hash.finalize().into());

        let mut hash = Sha512::new();
        hash.update(*first);
        hash.update([1]);
        self.tag.hash_into(&mut hash);
        hash.update([self.tag.length]);
        Zeroizing::new(hash.finalize().into())
    }
}

/// `Finalize` after unblinding (RFC 9497 §3.3.1), with `element` the 32 bytes of `k·H2G(input)`.
///
/// `input` is at most 65535 bytes: [`Input`](crate::Input) cannot be longer.
pub(crate) fn finalize(input: &[u8], element: &[u8; 32]) -> [u8; 64] {
    #[expect(clippy::expect_used, reason = "an Input is at most 347 bytes")]
    let length = u16::try_from(input.len()).expect("input longer than 65535 bytes");
    let hash = Sha512::new().chain_update(length.to_be_bytes()).chain_update(input);
    hash.chain_update([0, 32]).chain_update(element).chain_update(b"Finalize").finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_counts_its_own_bytes() {
        for domain in [Domain::HashToGroup, Domain::HashToScalar, Domain::Seed, Domain::DeriveKeyPair] {
            let tag = Tag::new(domain, Mode::Voprf);
            assert_eq!(
                usize::from(tag.length),
                tag.prefix.len() + b"OPRFV1-".len() + 1 + b"-ristretto255-SHA512".len()
            );
        }
    }
}
