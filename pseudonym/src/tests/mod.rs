//! What the crate's parts promise together, and the helpers all tests share.

mod birth;
mod hostile;
mod renewal;
mod rfc9497;
mod threshold;
mod voprf_crate;

use std::collections::BTreeMap;
use std::convert::Infallible;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use sha2::{Digest, Sha512};

use crate::oprf::{Domain, Expand, Mode};
use crate::quorum::Quorum;
use crate::{Answer, Blinded, Input, KeyShare, Kind, PublicKey, frame};

/// A reproducible generator: SHA-512 over seed and counter.
pub(crate) struct TestRng {
    seed: u64,
    counter: u64,
}

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(64) {
            let block = Sha512::new().chain_update(self.seed.to_le_bytes()).chain_update(self.counter.to_le_bytes());
            chunk.copy_from_slice(&block.finalize()[..chunk.len()]);
            self.counter += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// A key dealt by somebody who knows it: what the real system never has.
pub(crate) struct Dealt {
    pub(crate) key: Scalar,
    pub(crate) shares: BTreeMap<u16, KeyShare>,
    pub(crate) public: PublicKey,
}

/// Shamir shares of a random key at `ids`, on a random polynomial of degree `threshold − 1`.
pub(crate) fn deal(threshold: u16, ids: &[u16], rng: &mut impl CryptoRng) -> Dealt {
    let coefficients: Vec<Scalar> = (0..threshold).map(|_| Scalar::random(rng)).collect();
    deal_polynomial(&coefficients, ids)
}

pub(crate) fn deal_polynomial(coefficients: &[Scalar], ids: &[u16]) -> Dealt {
    let at = |x: Scalar| coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * x + coefficient);
    let threshold = u16::try_from(coefficients.len()).unwrap();
    let share = |&id: &u16| (id, KeyShare::new(id, threshold, at(Scalar::from(id)).as_bytes()).unwrap());
    let shares: BTreeMap<u16, KeyShare> = ids.iter().map(share).collect();
    let key = coefficients[0];
    let group = RistrettoPoint::mul_base(&key).compress().to_bytes();
    let public_shares = shares.iter().map(|(&id, share)| (id, share.public_share())).collect();
    Dealt { key, shares, public: PublicKey::new(threshold, group, &public_shares).unwrap() }
}

/// The secret of a share, read back from its bytes.
pub(crate) fn secret(share: &KeyShare) -> Scalar {
    Scalar::from_canonical_bytes(share.to_bytes()[4..].try_into().unwrap()).unwrap()
}

/// `λ_j(S)·k_j`: the key of the RFC 9497 server that a holder is for one quorum.
pub(crate) fn server_secret(share: &KeyShare, quorum: &[u16]) -> Scalar {
    Quorum::new(quorum, share.threshold()).unwrap().lambda(share.id()) * secret(share)
}

/// Distinct framed inputs.
pub(crate) fn inputs(count: usize) -> Vec<Input> {
    let number = |n: usize| frame("test", Kind::Document, 1, &format!("PASSPORT|POL|ZS{n}")).unwrap();
    (0..count).map(number).collect()
}

/// Asks every holder of `quorum`.
pub(crate) fn ask(
    blinded: &Blinded,
    shares: &BTreeMap<u16, KeyShare>,
    quorum: &[u16],
    rng: &mut impl CryptoRng,
) -> BTreeMap<u16, Answer> {
    let answer = |&id| (id, shares[&id].evaluate(quorum, blinded.elements(), rng).unwrap());
    quorum.iter().map(answer).collect()
}

/// All outputs through `quorum`, as bytes.
pub(crate) fn run(
    public: &PublicKey,
    shares: &BTreeMap<u16, KeyShare>,
    quorum: &[u16],
    count: usize,
    rng: &mut impl CryptoRng,
) -> Vec<[u8; 64]> {
    let blinded = Blinded::new(public, inputs(count), rng).unwrap();
    let answers = ask(&blinded, shares, quorum, rng);
    let outputs = blinded.verify_and_finish(quorum, &answers).unwrap();
    outputs.iter().map(|output| *output.as_bytes()).collect()
}

/// The same outputs computed by somebody who has the key: RFC 9497 `Evaluate`, without blinding.
pub(crate) fn plain(key: &Scalar, count: usize) -> Vec<[u8; 64]> {
    let evaluate = |input: &Input| {
        let element = Expand::new(Domain::HashToGroup, Mode::Voprf).to_group(input.as_bytes()) * key;
        crate::oprf::finalize(input.as_bytes(), element.compress().as_bytes())
    };
    inputs(count).iter().map(evaluate).collect()
}

/// Every way to choose `size` of `ids`, ascending.
pub(crate) fn quorums(ids: &[u16], size: usize) -> Vec<Vec<u16>> {
    match (size, ids) {
        (0, _) => vec![vec![]],
        (_, []) => vec![],
        (_, [first, rest @ ..]) => {
            let with = quorums(rest, size - 1).into_iter().map(|tail| [vec![*first], tail].concat());
            with.chain(quorums(rest, size)).collect()
        }
    }
}
