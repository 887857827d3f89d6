//! Blindness: with everything the registry has, its keys too, trying all PESEL numbers of a
//! birth month names nobody. The same program with t shares of the key names everybody, so that it can fail.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[cfg(test)]
mod guess;

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::scalar::Scalar;
use getrandom::SysRng;
use guess::{born_in, key_of, recover};
use jiff::civil::date;
use proptest::prelude::*;
use pseudonym::dkg::{Addressed, round1, round2, round3};
use pseudonym::{Blinded, Entry, KeyShare, Kind, Pesel, PublicKey, SEALED_BYTES, SealKey, frame};
use rand_core::UnwrapErr;
use ring::hmac;

const REALM: &str = "lodz";
const EPOCH: u32 = 3;
const MEMBERS: [&str; 3] = ["mops", "pup", "zlm"];
/// The registry's own secret.
const PEPPER: &[u8] = b"the pepper, stolen with the disk";

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A 2-of-3 key, born without a dealer.
fn born() -> (PublicKey, Vec<KeyShare>) {
    let begun: Vec<_> = (1..=3_u16).map(|id| (id, round1(id, 3, 2, &mut rng()).unwrap())).collect();
    let published: BTreeMap<u16, Vec<u8>> = begun.iter().map(|(id, (_, package))| (*id, package.clone())).collect();
    let (mut secrets, mut inboxes) = (vec![], BTreeMap::<u16, Addressed>::new());
    for (id, (secret, _)) in begun {
        let (secret, addressed) = round2(secret, &published).unwrap();
        secrets.push((id, secret));
        for (recipient, package) in addressed {
            inboxes.entry(recipient).or_default().insert(id, package);
        }
    }
    let born = secrets.iter().map(|(id, secret)| round3(secret, &published, &inboxes[id]).unwrap());
    let (publics, shares): (Vec<_>, Vec<_>) = born.map(|born| (born.public, born.share)).unzip();
    (publics[0].clone(), shares)
}

/// The registry's row key (`registry/src/blind.rs`): what the registry's disk has of a resident and a member.
fn row_key(pepper: &[u8], index: &[u8; 32], member: &str) -> [u8; 32] {
    let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper);
    let message = [b"row".as_slice(), &EPOCH.to_be_bytes(), index, member.as_bytes()].concat();
    hmac::sign(&pepper, &message).as_ref().try_into().unwrap()
}

/// The rows of `pesels`, of one to three members each, enrolled through the crate.
fn rows(pesels: &[String], public: &PublicKey, shares: &[KeyShare]) -> BTreeSet<[u8; 32]> {
    let inputs = pesels.iter().map(|pesel| frame(REALM, Kind::Pesel, EPOCH, pesel).unwrap()).collect();
    let blinded = Blinded::new(public, inputs, &mut rng()).unwrap();
    let answer = |share: &KeyShare| (share.id(), share.evaluate(&[1, 3], blinded.elements(), &mut rng()).unwrap());
    let answers = [&shares[0], &shares[2]].map(answer).into();
    let outputs = blinded.verify_and_finish(&[1, 3], &answers).unwrap();
    let of = |(n, output): (usize, &pseudonym::Output)| {
        let index = output.index();
        MEMBERS[..=n % MEMBERS.len()].iter().map(move |member| row_key(PEPPER, &index, member))
    };
    outputs.iter().enumerate().flat_map(of).collect()
}

#[test]
fn a_month_of_pesel_numbers_names_nobody_without_t_shares() {
    let (public, shares) = born();
    let month = born_in(1980, 2);
    let residents: Vec<String> = month.iter().step_by(7_919).cloned().collect();
    let rows = rows(&residents, &public, &shares);
    let known =
        |pepper: &[u8], index: &[u8; 32]| MEMBERS.iter().any(|member| rows.contains(&row_key(pepper, index, member)));
    let recover = |key: &Scalar, pesels, pepper| recover(REALM, EPOCH, key, pesels, |index| known(pepper, index));

    assert!(recover(&key_of(&[]), &month, PEPPER).is_empty());
    // t − 1 holders collude with the registry.
    assert!(recover(&key_of(&shares[1..2]), &month, PEPPER).is_empty());
    // t holders: the program works, everybody is named, and nobody else.
    assert_eq!(recover(&key_of(&shares[1..]), &month, PEPPER), residents);
    // But not on a stolen disk alone, not even if it is known whom to look for: the pepper is kept elsewhere.
    assert!(recover(&key_of(&shares[1..]), &residents, b"a guess").is_empty());
}

#[test]
fn the_thief_tries_every_valid_number_of_a_month() {
    for (year, month, days) in [(1944, 5, 31), (1900, 2, 28), (2000, 2, 29), (1899, 12, 31), (2004, 11, 30)] {
        let numbers = born_in(year, month);
        assert_eq!(numbers.len(), days * 10_000);
        assert!(numbers.is_sorted_by(|a, b| a < b), "all distinct");
        for number in &numbers {
            let born = Pesel::parse(number, date(2026, 11, 21)).unwrap().birth_date();
            assert_eq!((born.year(), born.month()), (year, month));
        }
    }
    assert!(born_in(1944, 5).contains(&"44051401359".to_owned()));
}

proptest! {
    /// Nothing about an entry shows in its length.
    #[test]
    fn sealed_values_have_one_size(member in "[a-z0-9-]{1,32}", purpose in "[a-z0-9-]{1,32}", issued in 0..i64::from(u32::MAX)) {
        let entry = Entry {
            epoch: EPOCH,
            index: [1; 32],
            member,
            issued,
            expires: issued + 1,
            purpose,
            case_mac: [2; 32],
        };
        let sealed = SealKey::from_bytes(&[3; 32]).seal(&entry.encode(REALM, |_| [4; 64]).unwrap(), &mut rng());
        prop_assert_eq!(sealed.as_slice().len(), SEALED_BYTES);
        prop_assert_eq!(SEALED_BYTES, 284);
    }
}
