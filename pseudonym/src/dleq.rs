//! The batch proof of RFC 9497 §2.2: one discrete-logarithm equality for a whole answer, 64 bytes, VOPRF mode.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use crate::group::{Elements, decode_scalar};
use crate::oprf::{Domain, Expand, Mode, Tag};

/// The length prefix of a serialised element, I2OSP(32, 2).
const ELEMENT: &[u8] = &[0, 32];

/// `GenerateProof(k, G, public, blinded, evaluated)` with the nonce `r` given: `c || s`.
///
/// `public` is k·G and `evaluated` the batch k·`blinded`, element by element. `nonce` must never be used twice.
pub(crate) fn prove(
    secret: &Scalar,
    public: &[u8; 32],
    blinded: &Elements,
    evaluated: &[[u8; 32]],
    nonce: &Scalar,
) -> [u8; 64] {
    let weights = weights(public, &blinded.bytes, evaluated);
    // Variable time is fine on what crossed the wire; the secret and the nonce go through constant-time products.
    let composite = RistrettoPoint::vartime_multiscalar_mul(&weights, &blinded.points);
    let product = composite * secret;
    let challenge = challenge(public, &composite, &product, &(nonce * RISTRETTO_BASEPOINT_TABLE), &(composite * nonce));
    let response = nonce - challenge * secret;

    let mut proof = [0; 64];
    let (c, s) = proof.split_at_mut(32);
    c.copy_from_slice(challenge.as_bytes());
    s.copy_from_slice(response.as_bytes());
    proof
}

/// `VerifyProof(G, public, blinded, evaluated, proof)`. False for non-canonical scalars too.
///
/// The two batches must be of one length.
pub(crate) fn verify(public: &RistrettoPoint, blinded: &Elements, evaluated: &Elements, proof: &[u8; 64]) -> bool {
    let Some((claimed, response)) = split(proof) else { return false };
    let public_bytes = public.compress().to_bytes();
    let weights = weights(&public_bytes, &blinded.bytes, &evaluated.bytes);
    let composite = RistrettoPoint::vartime_multiscalar_mul(&weights, &blinded.points);
    let product = RistrettoPoint::vartime_multiscalar_mul(&weights, &evaluated.points);
    let left = RistrettoPoint::vartime_double_scalar_mul_basepoint(&claimed, public, &response);
    let right = RistrettoPoint::vartime_multiscalar_mul([response, claimed], [composite, product]);
    challenge(&public_bytes, &composite, &product, &left, &right).ct_eq(&claimed).into()
}

fn split(proof: &[u8; 64]) -> Option<(Scalar, Scalar)> {
    let (challenge, rest) = proof.split_first_chunk()?;
    Some((decode_scalar(challenge)?, decode_scalar(rest.first_chunk()?)?))
}

/// The weights `d_i` of `ComputeComposites` (RFC 9497 §2.2.1).
fn weights(public: &[u8; 32], blinded: &[[u8; 32]], evaluated: &[[u8; 32]]) -> Vec<Scalar> {
    let seed_tag = Tag::new(Domain::Seed, Mode::Voprf);
    let mut hash = Sha512::new();
    hash.update(ELEMENT);
    hash.update(public);
    hash.update([0, seed_tag.length]);
    seed_tag.hash_into(&mut hash);
    let seed: [u8; 64] = hash.finalize().into();

    let hash = Expand::new(Domain::HashToScalar, Mode::Voprf);
    let pairs = (0_u16..).zip(blinded.iter().zip(evaluated));
    let weight = |(i, (c, d)): (u16, (&[u8; 32], &[u8; 32]))| {
        hash.to_scalar(&[&[0, 64], &seed, &i.to_be_bytes(), ELEMENT, c, ELEMENT, d, b"Composite"])
    };
    pairs.map(weight).collect()
}

fn challenge(
    public: &[u8; 32],
    composite: &RistrettoPoint,
    product: &RistrettoPoint,
    left: &RistrettoPoint,
    right: &RistrettoPoint,
) -> Scalar {
    let [m, z, t2, t3] = [composite, product, left, right].map(|point| point.compress().to_bytes());
    let hash = Expand::new(Domain::HashToScalar, Mode::Voprf);
    hash.to_scalar(&[ELEMENT, public, ELEMENT, &m, ELEMENT, &z, ELEMENT, &t2, ELEMENT, &t3, b"Challenge"])
}
