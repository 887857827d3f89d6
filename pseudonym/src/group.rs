//! ristretto255 in canonical 32-byte form, decoded as RFC 9497 §4.1 asks: no second encoding, no identity.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;

/// A batch of public group elements, each as point and as canonical bytes (kept: transcripts hash the bytes).
pub(crate) struct Elements {
    pub(crate) points: Vec<RistrettoPoint>,
    pub(crate) bytes: Vec<[u8; 32]>,
}

impl Elements {
    /// # Errors
    /// The position of the first element that is non-canonical or the identity.
    pub(crate) fn decode(bytes: &[[u8; 32]]) -> Result<Self, usize> {
        let decode = |(position, bytes)| decode_point(bytes).ok_or(position);
        let points = bytes.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { points, bytes: bytes.to_vec() })
    }

    pub(crate) fn encode(points: Vec<RistrettoPoint>) -> Self {
        let bytes = points.iter().map(|point| point.compress().to_bytes()).collect();
        Self { points, bytes }
    }
}

/// `DeserializeElement`: `None` for a non-canonical encoding and for the identity.
pub(crate) fn decode_point(bytes: &[u8; 32]) -> Option<RistrettoPoint> {
    CompressedRistretto(*bytes).decompress().filter(|point| !point.is_identity())
}

/// `DeserializeScalar`: `None` unless little-endian and below the group order.
pub(crate) fn decode_scalar(bytes: &[u8; 32]) -> Option<Scalar> {
    Scalar::from_canonical_bytes(*bytes).into_option()
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;

    use super::*;

    #[test]
    fn decodes_only_canonical_non_identity_points() {
        let generator = RISTRETTO_BASEPOINT_COMPRESSED.to_bytes();
        assert!(decode_point(&generator).is_some());
        assert!(decode_point(&[0; 32]).is_none(), "identity");
        assert!(decode_point(&[0xff; 32]).is_none(), "above the field");
        // p itself: the non-canonical second encoding of zero.
        let mut prime = [0xff; 32];
        (prime[0], prime[31]) = (0xed, 0x7f);
        assert!(decode_point(&prime).is_none());
        assert_eq!(Elements::decode(&[generator, [0; 32]]).err(), Some(1));
    }

    #[test]
    fn decodes_only_scalars_below_the_order() {
        assert_eq!(decode_scalar(&[0; 32]), Some(Scalar::ZERO));
        assert!(decode_scalar(&[0xff; 32]).is_none());
        let mut order = (-Scalar::ONE).to_bytes();
        assert!(decode_scalar(&order).is_some());
        order[0] += 1;
        assert!(decode_scalar(&order).is_none());
    }
}
