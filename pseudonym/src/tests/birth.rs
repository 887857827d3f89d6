//! Key generation over real rounds, and the ways it must end early.

use std::collections::BTreeMap;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use super::{TestRng, plain, quorums, run, server_secret};
use crate::dkg::{Addressed, Born, DkgError, Secret1, Secret2, round1, round1_digest, round2, round3};
use crate::{KeyShare, PublicKey};

type Published = BTreeMap<u16, Vec<u8>>;

fn publish(ids: &[u16], threshold: u16, rng: &mut TestRng) -> (BTreeMap<u16, Secret1>, Published) {
    let count = u16::try_from(ids.len()).unwrap();
    let (mut secrets, mut published) = (BTreeMap::new(), BTreeMap::new());
    for &id in ids {
        let (secret, package) = round1(id, count, threshold, rng).unwrap();
        secrets.insert(id, secret);
        published.insert(id, package);
    }
    (secrets, published)
}

/// Round 2 at every holder; the packages come back by recipient, then sender.
fn exchange(
    secrets: BTreeMap<u16, Secret1>,
    published: &Published,
) -> (BTreeMap<u16, Secret2>, BTreeMap<u16, Addressed>) {
    let (mut kept, mut inboxes) = (BTreeMap::new(), BTreeMap::<u16, Addressed>::new());
    for (sender, secret) in secrets {
        let (secret, addressed) = round2(secret, published).unwrap();
        kept.insert(sender, secret);
        for (recipient, package) in addressed {
            inboxes.entry(recipient).or_default().insert(sender, package);
        }
    }
    (kept, inboxes)
}

pub(super) fn born(ids: &[u16], threshold: u16, rng: &mut TestRng) -> (PublicKey, BTreeMap<u16, KeyShare>) {
    let (secrets, published) = publish(ids, threshold, rng);
    let (secrets, inboxes) = exchange(secrets, &published);
    let born: Vec<Born> =
        secrets.iter().map(|(id, secret)| round3(secret, &published, &inboxes[id]).unwrap()).collect();
    let public = born[0].public.clone();
    for born in &born {
        assert_eq!((&born.public, born.public.digest()), (&public, public.digest()));
    }
    (public, born.into_iter().map(|born| (born.share.id(), born.share)).collect())
}

#[test]
fn a_born_key_works_with_every_quorum() {
    for (threshold, ids) in [(2, &[1, 2, 3][..]), (3, &[1, 2, 3, 4, 5]), (2, &[7, 300, 65535])] {
        let mut rng = TestRng::new(u64::from(threshold));
        let (public, shares) = born(ids, threshold, &mut rng);
        assert_eq!(public.threshold(), threshold);
        let listed: BTreeMap<u16, [u8; 32]> = shares.iter().map(|(&id, share)| (id, share.public_share())).collect();
        assert_eq!(public.shares().collect::<BTreeMap<_, _>>(), listed);

        let mut outputs = None;
        for quorum in quorums(ids, threshold.into()) {
            // Reconstructed in this test only.
            let key: Scalar = quorum.iter().map(|id| server_secret(&shares[id], &quorum)).sum();
            assert_eq!(RistrettoPoint::mul_base(&key).compress().to_bytes(), public.group_key());
            let through_quorum = run(&public, &shares, &quorum, 2, &mut rng);
            assert_eq!(through_quorum, plain(&key, 2));
            assert_eq!(*outputs.get_or_insert(through_quorum.clone()), through_quorum);
        }
    }
}

#[test]
fn two_ceremonies_make_two_keys() {
    let mut rng = TestRng::new(1);
    assert_ne!(born(&[1, 2, 3], 2, &mut rng).0.digest(), born(&[1, 2, 3], 2, &mut rng).0.digest());
}

#[test]
fn impossible_parameters_are_refused() {
    for (id, holders, threshold) in [(0, 3, 2), (1, 3, 4), (1, 3, 1), (1, 3, 0), (1, 0, 0)] {
        assert_eq!(round1(id, holders, threshold, &mut TestRng::new(1)).unwrap_err(), DkgError::Parameters);
    }
}

/// Round 2 of holder 1 after `change` was made to what it received.
#[track_caller]
fn round2_refused(change: impl FnOnce(&mut Published, &mut TestRng), error: &DkgError) {
    let mut rng = TestRng::new(2);
    let (mut secrets, mut published) = publish(&[1, 2, 3], 2, &mut rng);
    change(&mut published, &mut rng);
    assert_eq!(round2(secrets.remove(&1).unwrap(), &published).unwrap_err(), *error);
}

#[test]
fn round_2_names_whose_package_is_wrong() {
    let wrong_count = |found| DkgError::Count { expected: 3, found };
    round2_refused(|published, _| drop(published.remove(&3)), &wrong_count(2));
    round2_refused(|published, _| drop(published.insert(4, published[&3].clone())), &wrong_count(4));
    round2_refused(|published, _| published.get_mut(&1).unwrap()[9] ^= 1, &DkgError::OwnPackage);
    round2_refused(|published, _| drop(published.insert(2, vec![])), &DkgError::Package { holder: 2 });
    round2_refused(|published, _| published.get_mut(&3).unwrap().push(0), &DkgError::Package { holder: 3 });
    // A package replayed under another id, and one whose proof was changed.
    round2_refused(|published, _| drop(published.insert(3, published[&2].clone())), &DkgError::Proof { holder: 3 });
    round2_refused(|published, _| change_last_scalar(published.get_mut(&2).unwrap()), &DkgError::Proof { holder: 2 });
    round2_refused(
        |published, rng| drop(published.insert(3, round1(3, 3, 3, rng).unwrap().1)),
        &DkgError::Threshold { holder: 3 },
    );
}

/// The package ends with the proof's response, 32 bytes little-endian.
fn change_last_scalar(package: &mut [u8]) {
    let start = package.len() - 32;
    package[start] ^= 1;
}

/// Round 3 of holder 1 after `change` was made to what it received.
#[track_caller]
fn round3_refused(change: impl FnOnce(&mut Published, &mut BTreeMap<u16, Addressed>), error: &DkgError) {
    let mut rng = TestRng::new(3);
    let (secrets, mut published) = publish(&[1, 2, 3], 2, &mut rng);
    let (secrets, mut inboxes) = exchange(secrets, &published);
    change(&mut published, &mut inboxes);
    assert_eq!(round3(&secrets[&1], &published, &inboxes[&1]).unwrap_err(), *error);
}

#[test]
fn round_3_names_whose_share_is_wrong() {
    fn inbox(inboxes: &mut BTreeMap<u16, Addressed>) -> &mut Addressed {
        inboxes.get_mut(&1).unwrap()
    }
    let count = |found| DkgError::Count { expected: 2, found };
    round3_refused(|_, inboxes| drop(inbox(inboxes).remove(&2)), &count(1));
    round3_refused(
        |_, inboxes| {
            let stray = inbox(inboxes).remove(&3).unwrap();
            inbox(inboxes).insert(1, stray);
        },
        &count(2),
    );
    round3_refused(
        |_, inboxes| drop(inbox(inboxes).insert(2, Zeroizing::new(vec![1, 2]))),
        &DkgError::Package { holder: 2 },
    );
    round3_refused(
        |_, inboxes| change_last_scalar(inbox(inboxes).get_mut(&2).unwrap()),
        &DkgError::Share { holder: 2 },
    );
    // A share meant for holder 2.
    round3_refused(
        |_, inboxes| {
            let misaddressed = inboxes[&2][&3].clone();
            inbox(inboxes).insert(3, misaddressed);
        },
        &DkgError::Share { holder: 3 },
    );
    round3_refused(|published, _| published.get_mut(&2).unwrap()[9] ^= 1, &DkgError::TranscriptChanged);
}

/// Holder 3 publishes one package to holder 1 and another to holder 2: the digests differ before any secret is sent.
#[test]
fn two_faces_of_one_holder_show_in_the_digest() {
    let mut rng = TestRng::new(4);
    let (_, seen_by_1) = publish(&[1, 2, 3], 2, &mut rng);
    let mut seen_by_2 = seen_by_1.clone();
    seen_by_2.insert(3, round1(3, 3, 2, &mut rng).unwrap().1);
    assert_eq!(round1_digest(&seen_by_1), round1_digest(&seen_by_1.clone()));
    assert_ne!(round1_digest(&seen_by_1), round1_digest(&seen_by_2));

    // Packages that would read the same without their lengths.
    let digest = |a: &[u8], b: &[u8]| round1_digest(&BTreeMap::from([(1, a.to_vec()), (2, b.to_vec())]));
    assert_ne!(digest(b"a\0\x02b", b"c"), digest(b"a", b"b\0\x02c"));
}

/// A holder that restarts between rounds goes on from what it kept, with the same packages as before.
#[test]
fn a_ceremony_outlives_restarts() {
    let mut rng = TestRng::new(6);
    let (secrets, published) = publish(&[1, 2, 3], 2, &mut rng);
    let restart = |secret: &Secret1| Secret1::from_bytes(&secret.to_bytes().unwrap()).unwrap();
    let again = secrets.iter().map(|(&id, secret)| (id, restart(secret))).collect();
    let (secrets, inboxes) = exchange(secrets, &published);
    assert_eq!(exchange(again, &published).1, inboxes);

    let born = |secret: &Secret2, id| round3(secret, &published, &inboxes[id]).unwrap();
    for (id, secret) in &secrets {
        let restarted = Secret2::from_bytes(&secret.to_bytes().unwrap()).unwrap();
        let (straight, restarted) = (born(secret, id), born(&restarted, id));
        assert_eq!(straight.public, restarted.public);
        assert_eq!(straight.share.to_bytes(), restarted.share.to_bytes());
    }
}

#[test]
fn a_damaged_state_is_refused() {
    let mut rng = TestRng::new(7);
    let (mut secrets, published) = publish(&[1, 2], 2, &mut rng);
    let first = secrets[&1].to_bytes().unwrap();
    let second = round2(secrets.remove(&1).unwrap(), &published).unwrap().0.to_bytes().unwrap();
    for cut in 0..first.len() {
        assert_eq!(Secret1::from_bytes(&first[..cut]).unwrap_err(), DkgError::State);
    }
    for cut in 0..second.len() {
        assert_eq!(Secret2::from_bytes(&second[..cut]).unwrap_err(), DkgError::State);
    }
    assert_eq!(Secret1::from_bytes(&[&first, [0].as_slice()].concat()).unwrap_err(), DkgError::State);
    assert_eq!(Secret2::from_bytes(&[&second, [0].as_slice()].concat()).unwrap_err(), DkgError::State);
    assert_eq!(Secret1::from_bytes(&[0xff; 8]).unwrap_err(), DkgError::State);
}

#[test]
fn secrets_are_not_printed() {
    let (secret, _) = round1(1, 3, 2, &mut TestRng::new(5)).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret1 { id: 1, .. }");
}
