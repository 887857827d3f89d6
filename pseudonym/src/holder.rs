//! A key holder's side: one share, evaluated for one quorum, with one proof for the whole batch.

use std::fmt;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::group::{Elements, decode_scalar};
use crate::quorum::{Quorum, QuorumError};
use crate::{MAX_BATCH, dleq};

/// One holder's share `k_j = f(j)` of the pseudonym key. Wiped on drop; redacting `Debug`.
pub struct KeyShare {
    id: u16,
    threshold: u16,
    // Boxed so that moving the share leaves no copies on the stack.
    secret: Box<Zeroizing<Scalar>>,
}

/// What a holder answers: `k'_j·B` for each blinded element B, in order, and their RFC 9497 proof under `λ_j·PK_j`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One canonical 32-byte element for each asked one.
    pub elements: Vec<[u8; 32]>,
    /// `c || s`, two little-endian scalars (RFC 9497 §2.2.1).
    pub proof: [u8; 64],
}

/// Why bytes are not a key share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyShareError {
    /// Holder ids and thresholds start at 1.
    #[error("a key share's holder id and threshold start at 1")]
    Header,
    /// The secret is zero or not a canonical scalar.
    #[error("a key share's secret is not a canonical non-zero scalar")]
    Secret,
}

/// Why a holder refuses to evaluate: each is the asker's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The quorum is malformed or not of the key's threshold.
    #[error("the quorum is not acceptable")]
    Quorum(#[from] QuorumError),
    /// The quorum does not name this holder.
    #[error("holder {holder} is not in the quorum")]
    NotInQuorum {
        /// This holder's id.
        holder: u16,
    },
    /// No elements, or more than [`MAX_BATCH`].
    #[error("a batch has 1 to {MAX_BATCH} elements, not {found}")]
    Count {
        /// How many were asked.
        found: usize,
    },
    /// An element that is non-canonical or the identity.
    #[error("element {position} is not a canonical group element")]
    Element {
        /// Its place in the batch, from 0.
        position: usize,
    },
}

impl KeyShare {
    /// A share as [`to_bytes`](Self::to_bytes) writes it: id u16be, threshold u16be, 32-byte little-endian scalar.
    ///
    /// # Errors
    /// [`KeyShareError`] for a zero id or threshold, or a scalar that is zero or not reduced.
    pub fn from_bytes(bytes: &[u8; 36]) -> Result<Self, KeyShareError> {
        let [id1, id0, threshold1, threshold0, secret @ ..] = bytes;
        Self::new(u16::from_be_bytes([*id1, *id0]), u16::from_be_bytes([*threshold1, *threshold0]), secret)
    }

    pub(crate) fn new(id: u16, threshold: u16, secret: &[u8; 32]) -> Result<Self, KeyShareError> {
        if id == 0 || threshold == 0 {
            return Err(KeyShareError::Header);
        }
        let secret = Box::new(Zeroizing::new(decode_scalar(secret).ok_or(KeyShareError::Secret)?));
        if **secret == Scalar::ZERO {
            return Err(KeyShareError::Secret);
        }
        Ok(Self { id, threshold, secret })
    }

    /// The share for encrypted storage: id u16be, threshold u16be, 32-byte little-endian scalar.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 36]> {
        let mut bytes = Zeroizing::new([0; 36]);
        let header = self.id.to_be_bytes().into_iter().chain(self.threshold.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(header.chain(self.secret.as_bytes().iter().copied())) {
            *to = from;
        }
        bytes
    }

    /// The holder's id, from 1.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// How many holders must answer together.
    #[must_use]
    pub fn threshold(&self) -> u16 {
        self.threshold
    }

    /// `PK_j = k_j·G`, 32 bytes: what the manifest must list for this holder.
    #[must_use]
    pub fn public_share(&self) -> [u8; 32] {
        (&**self.secret * RISTRETTO_BASEPOINT_TABLE).compress().to_bytes()
    }

    /// Evaluates 1 to [`MAX_BATCH`] blinded elements for `quorum` (exactly t ascending ids, this holder's among them).
    ///
    /// Equals RFC 9497 `BlindEvaluate` of a server with key `λ_j(S)·k_j` and public key `λ_j(S)·PK_j`.
    ///
    /// # Errors
    /// [`EvaluateError`]; nothing is evaluated unless everything is acceptable.
    pub fn evaluate(
        &self,
        quorum: &[u16],
        elements: &[[u8; 32]],
        rng: &mut impl CryptoRng,
    ) -> Result<Answer, EvaluateError> {
        let quorum = Quorum::new(quorum, self.threshold)?;
        if !quorum.contains(self.id) {
            return Err(EvaluateError::NotInQuorum { holder: self.id });
        }
        if !(1..=MAX_BATCH).contains(&elements.len()) {
            return Err(EvaluateError::Count { found: elements.len() });
        }
        let blinded = Elements::decode(elements).map_err(|position| EvaluateError::Element { position })?;

        let key = self.weighted(&quorum);
        // dalek compresses a batch with one inversion, but only doubled points: multiply by half the key.
        let half = Zeroizing::new(key.div_by_2());
        let halves: Vec<RistrettoPoint> = blinded.points.iter().map(|point| point * *half).collect();
        let evaluated: Vec<[u8; 32]> =
            RistrettoPoint::double_and_compress_batch(&halves).iter().map(CompressedRistretto::to_bytes).collect();

        let public = (&*key * RISTRETTO_BASEPOINT_TABLE).compress().to_bytes();
        let nonce = hedged_nonce(&key, &public, elements, rng);
        let proof = dleq::prove(&key, &public, &blinded, &evaluated, &nonce);
        Ok(Answer { elements: evaluated, proof })
    }

    /// `λ_j(S)·k_j`. Not zero: neither factor is.
    pub(crate) fn weighted(&self, quorum: &Quorum) -> Zeroizing<Scalar> {
        Zeroizing::new(quorum.lambda(self.id) * **self.secret)
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyShare").field("id", &self.id).field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

/// The proof nonce r, from fresh randomness *and* the key and statement: repeating r reveals the key, so a stuck
/// generator alone must not repeat it for another statement.
fn hedged_nonce(key: &Scalar, public: &[u8; 32], elements: &[[u8; 32]], rng: &mut impl CryptoRng) -> Zeroizing<Scalar> {
    let mut fresh = Zeroizing::new([0; 64]);
    rng.fill_bytes(fresh.as_mut());
    let mut hash = Sha512::new_with_prefix(b"ogniwo/v1/dleq-nonce");
    hash.update(key.as_bytes());
    hash.update(*fresh);
    hash.update(public);
    hash.update(elements.as_flattened());
    let wide: Zeroizing<[u8; 64]> = Zeroizing::new(hash.finalize().into());
    Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::TestRng;

    const GENERATOR: [u8; 32] = curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED.0;

    fn share() -> KeyShare {
        KeyShare::new(2, 2, Scalar::from(77_u8).as_bytes()).unwrap()
    }

    #[track_caller]
    fn refused(quorum: &[u16], elements: &[[u8; 32]], error: EvaluateError) {
        assert_eq!(share().evaluate(quorum, elements, &mut TestRng::new(1)).unwrap_err(), error);
    }

    #[test]
    fn refuses_quorums_that_are_not_its_own() {
        refused(&[2], &[GENERATOR], QuorumError::Size { threshold: 2, found: 1 }.into());
        refused(&[1, 2, 3], &[GENERATOR], QuorumError::Size { threshold: 2, found: 3 }.into());
        refused(&[0, 2], &[GENERATOR], QuorumError::ZeroId.into());
        refused(&[2, 2], &[GENERATOR], QuorumError::NotAscending.into());
        refused(&[2, 1], &[GENERATOR], QuorumError::NotAscending.into());
        refused(&[1, 3], &[GENERATOR], EvaluateError::NotInQuorum { holder: 2 });
    }

    #[test]
    fn refuses_bad_batches_naming_the_position() {
        refused(&[1, 2], &[], EvaluateError::Count { found: 0 });
        refused(&[1, 2], &vec![GENERATOR; 4097], EvaluateError::Count { found: 4097 });
        refused(&[1, 2], &[GENERATOR, [0; 32]], EvaluateError::Element { position: 1 });
        refused(&[1, 2], &[GENERATOR, GENERATOR, [0xff; 32]], EvaluateError::Element { position: 2 });
    }

    #[test]
    fn evaluates_a_full_batch() {
        let answer = share().evaluate(&[1, 2], &vec![GENERATOR; MAX_BATCH], &mut TestRng::new(1)).unwrap();
        assert_eq!(answer.elements.len(), MAX_BATCH);
    }

    #[test]
    fn a_stuck_generator_does_not_repeat_the_nonce_for_another_statement() {
        let key = Scalar::from(9_u8);
        let nonce = |elements: &[[u8; 32]]| hedged_nonce(&key, &GENERATOR, elements, &mut TestRng::new(1));
        assert_ne!(*nonce(&[[1; 32]]), *nonce(&[[2; 32]]));
    }

    #[test]
    fn bytes_round_trip_and_are_strict() {
        let bytes = share().to_bytes();
        let again = KeyShare::from_bytes(&bytes).unwrap();
        assert_eq!((again.id(), again.threshold(), again.public_share()), (2, 2, share().public_share()));

        let with = |range: std::ops::Range<usize>, value| {
            let mut bytes = *bytes;
            bytes[range].fill(value);
            KeyShare::from_bytes(&bytes).unwrap_err()
        };
        assert_eq!(with(0..2, 0), KeyShareError::Header);
        assert_eq!(with(2..4, 0), KeyShareError::Header);
        assert_eq!(with(4..36, 0), KeyShareError::Secret);
        assert_eq!(with(4..36, 0xff), KeyShareError::Secret);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", share()), "KeyShare { id: 2, threshold: 2, .. }");
    }
}
