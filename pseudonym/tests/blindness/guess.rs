//! The thief: tries every PESEL number of a birth month on what was stolen. Written from the published formulas on
//! `curve25519-dalek` and `ring` alone, so that a mistake of the crate does not hide in it.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use pseudonym::KeyShare;
use ring::digest::{self, SHA512};
use ring::hmac;

/// The pseudonym key as whoever holds `shares` can make it: their interpolation at zero, which is the key if there are t
/// of them. Without any share, 1: the function without a key.
pub(crate) fn key_of(shares: &[KeyShare]) -> Scalar {
    let weighted = |share: &KeyShare| {
        let own = Scalar::from(share.id());
        let others = shares.iter().map(|other| Scalar::from(other.id())).filter(|other| *other != own);
        let lambda: Scalar = others.map(|other| other * (other - own).invert()).product();
        lambda * Scalar::from_canonical_bytes(share.to_bytes()[4..].try_into().unwrap()).unwrap()
    };
    if shares.is_empty() { Scalar::ONE } else { shares.iter().map(weighted).sum() }
}

/// Every valid number of people born in that month of 1800 to 2299: 10,000 for each day. The days are 1 to 31, as far as
/// the month has them.
pub(crate) fn born_in(year: i16, month: i8) -> Vec<String> {
    let offset = match year {
        1800..=1899 => 80,
        2000..=2099 => 20,
        2100..=2199 => 40,
        2200..=2299 => 60,
        _ => 0,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i8::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let number = |day, serial| {
        let mut number = format!("{:02}{:02}{day:02}{serial:04}", year % 100, offset + month);
        let sum: u32 = number.bytes().zip([1, 3, 7, 9].into_iter().cycle()).map(|(c, w)| u32::from(c - b'0') * w).sum();
        number.push_str(&((10 - sum % 10) % 10).to_string());
        number
    };
    (1..=days).flat_map(|day| (0..10_000).map(move |serial| number(day, serial))).collect()
}

/// The numbers among `pesels` whose registry index, made with `key` for this realm and epoch, is `known`. On all cores.
pub(crate) fn recover(
    realm: &str,
    epoch: u32,
    key: &Scalar,
    pesels: &[String],
    known: impl Fn(&[u8; 32]) -> bool + Sync,
) -> Vec<String> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lane = |pesels: &[String]| -> Vec<String> {
        let indexes = pesels.chunks(256).flat_map(|pesels| indexes(realm, epoch, key, pesels));
        pesels.iter().zip(indexes).filter(|(_, index)| known(index)).map(|(pesel, _)| pesel.clone()).collect()
    };
    std::thread::scope(|scope| {
        let part = pesels.len().div_ceil(lanes).max(1);
        let lanes: Vec<_> = pesels.chunks(part).map(|pesels| scope.spawn(move || lane(pesels))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

/// `P = SHA-512(len16 x | x | 0020 | k·H2G(x) | "Finalize")`, index = HKDF-Expand(P, `ogniwo/v1/index`), 32 bytes.
fn indexes(realm: &str, epoch: u32, key: &Scalar, pesels: &[String]) -> Vec<[u8; 32]> {
    let inputs: Vec<Vec<u8>> = pesels.iter().map(|pesel| framed(realm, epoch, pesel)).collect();
    let half = key.div_by_2();
    let halves: Vec<RistrettoPoint> = inputs.iter().map(|input| hash_to_group(input) * half).collect();
    let elements = RistrettoPoint::double_and_compress_batch(&halves);
    let index = |(input, element): (&Vec<u8>, &CompressedRistretto)| {
        let length = u16::try_from(input.len()).unwrap().to_be_bytes();
        let output = sha512(&[&length, input, &[0, 32], element.as_bytes(), b"Finalize"]);
        let name = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &output), b"ogniwo/v1/index\x01");
        name.as_ref()[..32].try_into().unwrap()
    };
    inputs.iter().zip(&elements).map(index).collect()
}

/// `x` of a PESEL: `"ogniwo" 01 | len8 realm | len8 kind | epoch u32be | len16 id | id`.
fn framed(realm: &str, epoch: u32, pesel: &str) -> Vec<u8> {
    let length = u8::try_from(realm.len()).unwrap();
    let head = [b"ogniwo\x01", [length].as_slice(), realm.as_bytes(), b"\x05pesel", &epoch.to_be_bytes()].concat();
    [head.as_slice(), &[0, 11], pesel.as_bytes()].concat()
}

/// `HashToGroup` of RFC 9497 §4.1, over `expand_message_xmd` (RFC 9380 §5.3.1).
fn hash_to_group(input: &[u8]) -> RistrettoPoint {
    const TAG: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512\x28";
    let first = sha512(&[&[0; 128], input, &[0, 64, 0], TAG]);
    RistrettoPoint::from_uniform_bytes(&sha512(&[&first, &[1], TAG]))
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = digest::Context::new(&SHA512);
    for part in parts {
        hash.update(part);
    }
    hash.finish().as_ref().try_into().unwrap()
}
