//! The asking side: blind, verify each holder, combine, unblind. Nothing comes out before every proof holds.

use std::collections::BTreeMap;
use std::fmt;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::group::Elements;
use crate::oprf::{self, Domain, Expand, Mode};
use crate::quorum::{Quorum, QuorumError};
use crate::{Answer, Input, MAX_BATCH, Output, PublicKey, dleq};

/// A batch on its way through the holders: inputs and blinding secrets (wiped on drop) and the blinded elements.
///
/// The same elements may be sent to any number of holders and quorums: they are uniformly random to each of them.
pub struct Blinded {
    key: PublicKey,
    inputs: Vec<Input>,
    secrets: Zeroizing<Vec<Scalar>>,
    elements: Elements,
    batch: [u8; 32],
}

/// One holder's answer to one batch, found correct for the quorum it was asked under. Only
/// [`Blinded::verify_answer`] makes it.
#[derive(Clone, Debug)]
pub struct Verified {
    holder: u16,
    quorum: Quorum,
    batch: [u8; 32],
    elements: Vec<RistrettoPoint>,
}

/// Why a batch was not blinded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlindError {
    /// No inputs, or more than [`MAX_BATCH`].
    #[error("a batch has 1 to {MAX_BATCH} inputs, not {found}")]
    Count {
        /// How many were given.
        found: usize,
    },
    /// The input hashes to the identity element (RFC 9497 `InvalidInputError`; happens with probability 2⁻²⁵²).
    #[error("input {position} cannot be hashed to the group")]
    Unmappable {
        /// Its place in the batch, from 0.
        position: usize,
    },
}

/// Why answers do not combine; names the holder at fault where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// The quorum is malformed, not of the key's threshold, or names an unknown holder.
    #[error("the quorum is not acceptable")]
    Quorum(#[from] QuorumError),
    /// The public shares of the quorum do not add up to the group key: the pinned key itself is wrong.
    #[error("the quorum's public shares do not add up to the group key")]
    KeyMismatch,
    /// An answer of a holder that the quorum does not name.
    #[error("holder {holder} is not in the quorum")]
    UnexpectedHolder {
        /// Who answered.
        holder: u16,
    },
    /// The quorum names a holder whose answer is not there.
    #[error("the answer of holder {holder} is missing")]
    MissingAnswer {
        /// Who did not answer.
        holder: u16,
    },
    /// The answer does not have one element for each asked one.
    #[error("holder {holder} answered {found} elements instead of {expected}")]
    WrongCount {
        /// Who answered.
        holder: u16,
        /// How many were asked.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// An answered element is non-canonical or the identity.
    #[error("element {position} of holder {holder} is not a canonical group element")]
    BadElement {
        /// Who answered.
        holder: u16,
        /// Its place in the batch, from 0.
        position: usize,
    },
    /// The proof does not hold: the holder did not evaluate this batch with its share for this quorum.
    #[error("the proof of holder {holder} does not hold")]
    BadProof {
        /// Who answered.
        holder: u16,
    },
    /// The answer was verified for another batch or another public key.
    #[error("the answer of holder {holder} belongs to another batch")]
    OtherBatch {
        /// Who answered.
        holder: u16,
    },
}

impl Blinded {
    /// Blinds 1 to [`MAX_BATCH`] inputs for the pinned `key`: B = H2G(x) + r·G, a fresh r for each.
    ///
    /// # Errors
    /// [`BlindError`].
    pub fn new(key: &PublicKey, inputs: Vec<Input>, rng: &mut impl CryptoRng) -> Result<Self, BlindError> {
        if !(1..=MAX_BATCH).contains(&inputs.len()) {
            return Err(BlindError::Count { found: inputs.len() });
        }
        // One draw for the whole batch: the operating system's generator costs a call for each.
        let mut random = Zeroizing::new(vec![[0; 64]; inputs.len()]);
        rng.fill_bytes(random.as_flattened_mut());
        let secrets: Vec<Scalar> = random.iter().map(Scalar::from_bytes_mod_order_wide).collect();
        let secrets = Zeroizing::new(secrets);

        let hash = Expand::new(Domain::HashToGroup, Mode::Voprf);
        let blind = |(position, (input, secret)): (usize, (&Input, &Scalar))| {
            // Whoever sees this point can find a PESEL by trying them all.
            let hashed = Zeroizing::new(hash.to_group(input.as_bytes()));
            if hashed.is_identity() {
                return Err(BlindError::Unmappable { position });
            }
            Ok(*hashed + secret * RISTRETTO_BASEPOINT_TABLE)
        };
        let points = inputs.iter().zip(secrets.iter()).enumerate().map(blind).collect::<Result<_, _>>()?;
        let elements = Elements::encode(points);
        let batch = Sha256::new_with_prefix(key.digest()).chain_update(elements.bytes.as_flattened()).finalize().into();
        Ok(Self { key: key.clone(), inputs, secrets, elements, batch })
    }

    /// What the holders are sent: one 32-byte element for each input, in order.
    #[must_use]
    pub fn elements(&self) -> &[[u8; 32]] {
        &self.elements.bytes
    }

    /// Checks one holder's answer for the quorum it was asked under, so that a bad holder can be replaced early.
    ///
    /// # Errors
    /// [`CombineError`] naming the holder: not in the quorum, wrong count, an unacceptable element, a proof that does not
    /// hold under `λ_j·PK_j`.
    pub fn verify_answer(&self, quorum: &[u16], holder: u16, answer: &Answer) -> Result<Verified, CombineError> {
        let quorum = self.key.quorum(quorum)?;
        let server_key = self.key.server_key(&quorum, holder).ok_or(CombineError::UnexpectedHolder { holder })?;
        let (expected, found) = (self.inputs.len(), answer.elements.len());
        if expected != found {
            return Err(CombineError::WrongCount { holder, expected, found });
        }
        let evaluated =
            Elements::decode(&answer.elements).map_err(|position| CombineError::BadElement { holder, position })?;
        if !dleq::verify(&server_key, &self.elements, &evaluated, &answer.proof) {
            return Err(CombineError::BadProof { holder });
        }
        Ok(Verified { holder, quorum, batch: self.batch, elements: evaluated.points })
    }

    /// The outputs, in the order of the inputs, from one verified answer of each holder of `quorum`.
    ///
    /// An answer verified under an earlier quorum S serves too: it is rescaled by `λ_j(S′)/λ_j(S)`, so that after a
    /// drop-out only the newcomer is asked. Equals RFC 9497 VOPRF under the whole key, whichever quorum answered.
    ///
    /// # Errors
    /// [`CombineError`] if the public shares of `quorum` do not add up to the group key, or an answer is missing, not
    /// asked for, or of another batch.
    pub fn finish(&self, quorum: &[u16], verified: &[Verified]) -> Result<Vec<Output>, CombineError> {
        let quorum = self.key.consistent_quorum(quorum)?;
        if let Some(stranger) = verified.iter().find(|answer| !quorum.contains(answer.holder)) {
            return Err(CombineError::UnexpectedHolder { holder: stranger.holder });
        }
        let mut sums = Zeroizing::new(vec![RistrettoPoint::default(); self.inputs.len()]);
        for &holder in quorum.ids() {
            let answer = verified.iter().find(|answer| answer.holder == holder);
            let answer = answer.ok_or(CombineError::MissingAnswer { holder })?;
            if answer.batch != self.batch {
                return Err(CombineError::OtherBatch { holder });
            }
            answer.add_to(&mut sums, &quorum);
        }
        // N = Σ E_j − r·PK = k·H2G(x). Step by step over the batch: the table of PK fills the first-level cache.
        for (sum, secret) in sums.iter_mut().zip(self.secrets.iter()) {
            *sum -= *Zeroizing::new(self.key.multiply(secret));
        }
        Ok(sums.iter().zip(&self.inputs).map(|(element, input)| output(element, input)).collect())
    }

    /// [`verify_answer`](Self::verify_answer) for each answer, then [`finish`](Self::finish).
    ///
    /// # Errors
    /// Those of both; the first holder at fault by ascending id.
    pub fn verify_and_finish(
        &self,
        quorum: &[u16],
        answers: &BTreeMap<u16, Answer>,
    ) -> Result<Vec<Output>, CombineError> {
        let verify = |(&holder, answer)| self.verify_answer(quorum, holder, answer);
        self.finish(quorum, &answers.iter().map(verify).collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Debug for Blinded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blinded").field("count", &self.inputs.len()).finish_non_exhaustive()
    }
}

impl Verified {
    /// Who answered.
    #[must_use]
    pub fn holder(&self) -> u16 {
        self.holder
    }

    /// The quorum it was asked under: ascending holder ids.
    #[must_use]
    pub fn quorum(&self) -> &[u16] {
        self.quorum.ids()
    }

    fn add_to(&self, sums: &mut [RistrettoPoint], quorum: &Quorum) {
        if self.quorum == *quorum {
            sums.iter_mut().zip(&self.elements).for_each(|(sum, element)| *sum += element);
        } else {
            let factor = quorum.lambda(self.holder) * self.quorum.lambda(self.holder).invert();
            sums.iter_mut().zip(&self.elements).for_each(|(sum, element)| *sum += element * factor);
        }
    }
}

/// `P = SHA-512(x, N)`.
fn output(element: &RistrettoPoint, input: &Input) -> Output {
    let element = Zeroizing::new(element.compress().to_bytes());
    Output::new(Zeroizing::new(oprf::finalize(input.as_bytes(), &element)))
}
