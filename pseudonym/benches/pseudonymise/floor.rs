//! The unavoidable steps of one pseudonym, written plainly from RFC 9497 on `curve25519-dalek`: no part of the crate is
//! used, so that its own cost does not hide in the measure. The federation's benchmark takes this file too.

use std::hint::black_box;
use std::time::Duration;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use pseudonym::KeyShare;
use rand_core::Rng;
use ring::{aead, hkdf};
use sha2::{Digest, Sha512};

use crate::{MEMBER, REALM, rng, timed};

/// The steps measured, t being the number of holders that answer.
pub(crate) const PARTS: [&str; 6] = [
    "hash to group",
    "two fixed-base multiplications",
    "t × (decode, variable-base multiplication, batched encode)",
    "t batch proofs made and checked",
    "HKDF of three names",
    "AEAD of one entry",
];

const CONTEXT: &[u8] = b"OPRFV1-\x01-ristretto255-SHA512";

/// A batch at each stage of its way, so that each step can be measured by itself.
pub(crate) struct Floor {
    inputs: Vec<Vec<u8>>,
    secret: Scalar,
    table: RistrettoBasepointTable,
    blinds: Vec<Scalar>,
    blinded: Vec<[u8; 32]>,
    holders: Vec<Holder>,
}

struct Holder {
    key: Scalar,
    public: RistrettoPoint,
    blinded: Vec<RistrettoPoint>,
    evaluated: Vec<[u8; 32]>,
    points: Vec<RistrettoPoint>,
}

impl Floor {
    /// For the holders that `shares` belong to, as many as the threshold is.
    pub(crate) fn new(shares: &[&KeyShare], pesels: &[String]) -> Self {
        Self::of(shares.iter().map(|share| weighted(share, shares)).collect(), pesels)
    }

    /// For holders whose weighted shares are `keys`.
    pub(crate) fn of(keys: Vec<Scalar>, pesels: &[String]) -> Self {
        let inputs: Vec<_> = pesels.iter().map(|pesel| framed(pesel)).collect();
        let secret: Scalar = keys.iter().sum();
        let table = RistrettoBasepointTable::create(&(&secret * RISTRETTO_BASEPOINT_TABLE));
        let blinds: Vec<Scalar> = pesels.iter().map(|_| Scalar::random(&mut rng())).collect();
        let blind =
            |(x, r): (&Vec<u8>, &Scalar)| (hash_to_group(x) + r * RISTRETTO_BASEPOINT_TABLE).compress().to_bytes();
        let blinded: Vec<_> = inputs.iter().zip(&blinds).map(blind).collect();
        let holders = keys.into_iter().map(|key| Holder::new(key, &blinded)).collect();
        Self { inputs, secret, table, blinds, blinded, holders }
    }

    /// The processor time of each of [`PARTS`] for the whole batch.
    pub(crate) fn measure(&self) -> [Duration; PARTS.len()] {
        let outputs = self.outputs();
        [
            each(&self.inputs, |input| hash_to_group(input)),
            // One table after the other: together they do not fit the first-level cache.
            each(&self.blinds, |blind| blind * RISTRETTO_BASEPOINT_TABLE)
                + each(&self.blinds, |blind| blind * &self.table),
            each(&self.holders, |holder| holder.evaluate(&self.blinded)),
            each(&self.holders, |holder| {
                let proof = holder.prove(&self.blinded);
                assert!(holder.verify(&self.blinded, &proof), "a proof that holds");
            }),
            each(&outputs, names),
            each(&outputs, seal),
        ]
    }

    /// The registry's addresses.
    pub(crate) fn indexes(&self) -> Vec<[u8; 32]> {
        self.outputs().iter().map(|output| names(output)[0]).collect()
    }

    /// The outputs by the whole key, which is RFC 9497's `Evaluate`.
    fn outputs(&self) -> Vec<[u8; 64]> {
        let output = |input: &Vec<u8>| {
            let element = (hash_to_group(input) * self.secret).compress().to_bytes();
            let length = u16::try_from(input.len()).expect("a short input").to_be_bytes();
            sha512(&[&length, input, &[0, 32], &element, b"Finalize"])
        };
        self.inputs.iter().map(output).collect()
    }
}

impl Holder {
    fn new(key: Scalar, blinded: &[[u8; 32]]) -> Self {
        let mut holder = Self {
            key,
            public: &key * RISTRETTO_BASEPOINT_TABLE,
            blinded: decode(blinded),
            evaluated: vec![],
            points: vec![],
        };
        holder.evaluated = holder.evaluate(blinded);
        holder.points = decode(&holder.evaluated);
        holder
    }

    fn evaluate(&self, blinded: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let half = self.key.div_by_2();
        let halves: Vec<_> = decode(blinded).into_iter().map(|point| point * half).collect();
        RistrettoPoint::double_and_compress_batch(&halves).into_iter().map(|it| it.to_bytes()).collect()
    }

    /// `GenerateProof` (RFC 9497 §2.2.1).
    fn prove(&self, blinded: &[[u8; 32]]) -> [Scalar; 2] {
        let weights = weights(&self.public, blinded, &self.evaluated);
        let composite = RistrettoPoint::vartime_multiscalar_mul(&weights, &self.blinded);
        let nonce = Scalar::random(&mut rng());
        let (one, two) = (&nonce * RISTRETTO_BASEPOINT_TABLE, composite * nonce);
        let challenge = challenge(&[self.public, composite, composite * self.key, one, two]);
        [challenge, nonce - challenge * self.key]
    }

    /// `VerifyProof` (RFC 9497 §2.2.2).
    fn verify(&self, blinded: &[[u8; 32]], [claimed, response]: &[Scalar; 2]) -> bool {
        let weights = weights(&self.public, blinded, &self.evaluated);
        let composite = RistrettoPoint::vartime_multiscalar_mul(&weights, &self.blinded);
        let product = RistrettoPoint::vartime_multiscalar_mul(&weights, &self.points);
        let one = RistrettoPoint::vartime_double_scalar_mul_basepoint(claimed, &self.public, response);
        let two = RistrettoPoint::vartime_multiscalar_mul([response, claimed], [composite, product]);
        challenge(&[self.public, composite, product, one, two]) == *claimed
    }
}

/// `λ_j(S)·k_j`.
fn weighted(share: &KeyShare, quorum: &[&KeyShare]) -> Scalar {
    let own = Scalar::from(share.id());
    let others = quorum.iter().map(|other| Scalar::from(other.id())).filter(|other| *other != own);
    let lambda: Scalar = others.map(|other| other * (other - own).invert()).product();
    let secret = share.to_bytes()[4..].try_into().expect("32 bytes");
    lambda * Scalar::from_canonical_bytes(secret).expect("a scalar")
}

/// `x` of docs/PROTOCOL.md for epoch 1.
fn framed(pesel: &str) -> Vec<u8> {
    let length = u8::try_from(REALM.len()).expect("a short realm");
    [b"ogniwo\x01".as_slice(), &[length], REALM.as_bytes(), b"\x05pesel\0\0\0\x01\0\x0b", pesel.as_bytes()].concat()
}

fn hash_to_group(input: &[u8]) -> RistrettoPoint {
    RistrettoPoint::from_uniform_bytes(&expand(&[input], b"HashToGroup-"))
}

fn hash_to_scalar(parts: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&expand(parts, b"HashToScalar-"))
}

/// `expand_message_xmd` with SHA-512 to 64 bytes (RFC 9380 §5.3.1).
fn expand(parts: &[&[u8]], domain: &[u8]) -> [u8; 64] {
    let tag = [domain, CONTEXT].concat();
    let length = [u8::try_from(tag.len()).expect("a short tag")];
    let first = sha512(&[&[0; 128], &parts.concat(), &[0, 64, 0], &tag, &length]);
    sha512(&[&first, &[1], &tag, &length])
}

fn weights(public: &RistrettoPoint, blinded: &[[u8; 32]], evaluated: &[[u8; 32]]) -> Vec<Scalar> {
    let tag = [b"Seed-", CONTEXT].concat();
    let length = u16::try_from(tag.len()).expect("a short tag").to_be_bytes();
    let seed = sha512(&[&[0, 32], public.compress().as_bytes(), &length, &tag]);
    let weight = |(i, (c, d)): (u16, (&[u8; 32], &[u8; 32]))| {
        hash_to_scalar(&[&[0, 64], &seed, &i.to_be_bytes(), &[0, 32], c, &[0, 32], d, b"Composite"])
    };
    (0..).zip(blinded.iter().zip(evaluated)).map(weight).collect()
}

/// Over the public key, the two composites and the two commitments.
fn challenge(points: &[RistrettoPoint; 5]) -> Scalar {
    let mut transcript = Vec::new();
    for point in points {
        transcript.extend([0, 32]);
        transcript.extend(point.compress().to_bytes());
    }
    hash_to_scalar(&[&transcript, b"Challenge"])
}

fn names(output: &[u8; 64]) -> [[u8; 32]; 3] {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let key = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, output);
    let subject = ["ogniwo/v1/subject\x04", MEMBER].concat();
    [b"ogniwo/v1/index".as_slice(), b"ogniwo/v1/seal", subject.as_bytes()].map(|info| {
        let mut name = [0; 32];
        key.expand(&[info], Length).and_then(|okm| okm.fill(&mut name)).expect("32 bytes");
        name
    })
}

fn seal(output: &[u8; 64]) -> Vec<u8> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &output[..32]).expect("a key");
    let mut nonce = [0; 12];
    rng().fill_bytes(&mut nonce);
    let mut body = vec![7; 256];
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::empty(), &mut body)
        .expect("sealed");
    body
}

fn decode(elements: &[[u8; 32]]) -> Vec<RistrettoPoint> {
    elements.iter().map(|bytes| CompressedRistretto(*bytes).decompress().expect("an element")).collect()
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn each<T, R>(items: &[T], step: impl Fn(&T) -> R) -> Duration {
    timed(|| items.iter().for_each(|item| drop(black_box(step(item))))).1
}
