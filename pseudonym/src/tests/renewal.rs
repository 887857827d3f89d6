//! Shares are renewed, holders come and go, and the key stays what it was; whoever spoils it is named.

use std::collections::BTreeMap;

use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::birth::born;
use super::{TestRng, ask, deal as dealt, inputs, plain, quorums, run, secret, server_secret};
use crate::dkg::{Addressed, DkgError};
use crate::quorum::{Quorum, QuorumError};
use crate::reshare::{Dealing, Plan, deal, join};
use crate::{Blinded, CombineError, KeyShare, PublicKey};

type Shares = BTreeMap<u16, KeyShare>;

/// Everything sent in one ceremony.
struct Sent {
    plan: Plan,
    dealings: BTreeMap<u16, Dealing>,
    packages: BTreeMap<u16, Vec<u8>>,
    /// By recipient, then dealer.
    inboxes: BTreeMap<u16, Addressed>,
}

impl Sent {
    fn new(plan: Plan, dealers: &[u16], shares: &Shares, rng: &mut TestRng) -> Self {
        let (mut dealings, mut packages) = (BTreeMap::new(), BTreeMap::new());
        for id in dealers {
            let (dealing, package) = deal(&plan, &shares[id], rng).unwrap();
            dealings.insert(*id, dealing);
            packages.insert(*id, package);
        }
        let mut inboxes = BTreeMap::<u16, Addressed>::new();
        for (&dealer, dealing) in &dealings {
            for (recipient, package) in dealing.addressed(&plan, &packages).unwrap() {
                inboxes.entry(recipient).or_default().insert(dealer, package);
            }
        }
        Self { plan, dealings, packages, inboxes }
    }

    fn join(&self, id: u16) -> Result<(PublicKey, KeyShare), DkgError> {
        join(&self.plan, id, &self.packages, &self.inboxes[&id]).map(|born| (born.public, born.share))
    }

    fn finish(&self) -> (PublicKey, Shares) {
        let public = self.plan.public_key(&self.packages).unwrap();
        let joined = self.inboxes.keys().map(|&id| self.join(id).unwrap());
        let shares = joined.map(|(theirs, share)| {
            assert_eq!((&theirs, theirs.digest()), (&public, public.digest()));
            (share.id(), share)
        });
        let shares = shares.collect();
        (public, shares)
    }
}

fn renew(
    public: &PublicKey,
    shares: &Shares,
    dealers: &[u16],
    recipients: &[u16],
    rng: &mut TestRng,
) -> (PublicKey, Shares) {
    Sent::new(Plan::new(public, dealers, recipients).unwrap(), dealers, shares, rng).finish()
}

#[test]
fn the_key_and_its_pseudonyms_stay() {
    let cases = [
        // Refresh: everybody stays, and t of them are up.
        (2, &[1, 2, 3][..], &[1, 3][..], &[1, 2, 3][..]),
        // Holder 3 is replaced by 4, without its help.
        (2, &[1, 2, 3], &[1, 2], &[1, 2, 4]),
        // One is added, one left out.
        (2, &[1, 2, 3], &[2, 3], &[1, 2, 3, 4]),
        (3, &[1, 2, 3, 4, 5], &[1, 3, 5], &[1, 3, 4, 5]),
        // Everybody is new.
        (3, &[1, 2, 3, 4, 5], &[2, 3, 4], &[6, 7, 65535]),
        (2, &[7, 300, 65535], &[7, 65535], &[7, 300]),
    ];
    for (threshold, ids, dealers, recipients) in cases {
        let mut rng = TestRng::new(1);
        let (public, shares) = born(ids, threshold, &mut rng);
        let outputs = run(&public, &shares, dealers, 2, &mut rng);
        let (renewed, new) = renew(&public, &shares, dealers, recipients, &mut rng);

        assert_eq!((renewed.group_key(), renewed.threshold()), (public.group_key(), threshold));
        assert_eq!(new.keys().copied().collect::<Vec<_>>(), recipients);
        for (id, share) in &new {
            assert!(renewed.lists(share) && !public.lists(share));
            assert!(shares.get(id).is_none_or(|old| secret(old) != secret(share) && !renewed.lists(old)));
        }
        for quorum in quorums(recipients, threshold.into()) {
            assert_eq!(run(&renewed, &new, &quorum, 2, &mut rng), outputs, "{quorum:?} of {recipients:?}");
        }
    }
}

#[test]
fn a_key_is_renewed_again_and_again() {
    let mut rng = TestRng::new(2);
    let (mut public, mut shares) = born(&[1, 2, 3], 2, &mut rng);
    let outputs = run(&public, &shares, &[1, 2], 2, &mut rng);
    for generation in 1..=4_u16 {
        let ids: Vec<u16> = (generation..generation + 3).collect();
        let next: Vec<u16> = ids.iter().map(|id| id + 1).collect();
        (public, shares) = renew(&public, &shares, &ids[1..], &next, &mut rng);
        assert_eq!(run(&public, &shares, &next[..2], 2, &mut rng), outputs);
    }
}

/// t − 1 old shares and t − 1 new ones: no choice of t among them interpolates to the key.
#[test]
fn too_few_old_shares_are_useless_beside_too_few_new_ones() {
    let mut rng = TestRng::new(3);
    let dealt = dealt(3, &[1, 2, 3, 4, 5], &mut rng);
    let (_, new) = renew(&dealt.public, &dealt.shares, &[1, 2, 3], &[1, 2, 3, 4, 5], &mut rng);
    let interpolate = |parts: &[(u16, &Shares)]| -> Scalar {
        let mut ids: Vec<u16> = parts.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        parts.iter().map(|(id, shares)| server_secret(&shares[id], &ids)).sum()
    };
    for quorum in quorums(&[1, 2, 3, 4, 5], 3) {
        let of = |mask: usize| -> Vec<(u16, &Shares)> {
            let pick = |(place, &id)| (id, if mask >> place & 1 == 0 { &dealt.shares } else { &new });
            quorum.iter().enumerate().map(pick).collect()
        };
        assert_eq!(interpolate(&of(0)), dealt.key);
        assert_eq!(interpolate(&of(7)), dealt.key);
        for mixed in 1..7 {
            assert_ne!(interpolate(&of(mixed)), dealt.key, "{quorum:?}, {mixed:03b}");
        }
    }
}

/// A holder restored from an old backup can neither deal nor answer; a client names it.
#[test]
fn a_share_of_an_earlier_generation_is_noticed() {
    let mut rng = TestRng::new(4);
    let (public, old) = born(&[1, 2, 3], 2, &mut rng);
    let (renewed, new) = renew(&public, &old, &[1, 2], &[1, 2, 3], &mut rng);

    assert!(!renewed.lists(&old[&2]) && renewed.lists(&new[&2]));
    let plan = Plan::new(&renewed, &[1, 2], &[1, 2, 3]).unwrap();
    assert_eq!(deal(&plan, &old[&2], &mut rng).unwrap_err(), DkgError::StaleShare);

    let blinded = Blinded::new(&renewed, inputs(2), &mut rng).unwrap();
    let mut answers = ask(&blinded, &new, &[1, 2], &mut rng);
    answers.extend(ask(&blinded, &old, &[1, 2], &mut rng).into_iter().filter(|(holder, _)| *holder == 2));
    assert_eq!(blinded.verify_and_finish(&[1, 2], &answers).unwrap_err(), CombineError::BadProof { holder: 2 });
}

#[test]
fn only_a_share_as_listed_is_of_the_key() {
    let mut rng = TestRng::new(5);
    let (one, other) = (dealt(2, &[1, 2, 3], &mut rng), dealt(2, &[1, 2, 3], &mut rng));
    let lists =
        |id, threshold, of: &KeyShare| one.public.lists(&KeyShare::new(id, threshold, secret(of).as_bytes()).unwrap());
    assert!(lists(1, 2, &one.shares[&1]));
    assert!(!lists(2, 2, &one.shares[&1]) && !lists(4, 2, &one.shares[&1]) && !lists(1, 3, &one.shares[&1]));
    assert!(!one.public.lists(&other.shares[&1]));
}

#[test]
fn only_quorums_deal_and_only_to_enough_holders() {
    let (public, _) = born(&[1, 2, 3], 2, &mut TestRng::new(6));
    let refused = |dealers: &[u16], recipients: &[u16]| Plan::new(&public, dealers, recipients).unwrap_err();
    let quorum = |error: QuorumError| DkgError::Dealers(error.into());
    assert_eq!(refused(&[1], &[1, 2, 3]), quorum(QuorumError::Size { threshold: 2, found: 1 }));
    assert_eq!(refused(&[1, 4], &[1, 2, 3]), quorum(QuorumError::UnknownHolder { holder: 4 }));
    for recipients in [&[1][..], &[], &[0, 1], &[2, 1], &[1, 1]] {
        assert_eq!(refused(&[1, 2], recipients), DkgError::Parameters);
    }

    let mut rng = TestRng::new(7);
    let single = dealt(1, &[1, 2], &mut rng);
    assert_eq!(Plan::new(&single.public, &[1], &[1, 2]).unwrap_err(), DkgError::Parameters);

    let many = dealt(2, &[1, 2, 3], &mut rng);
    let plan = Plan::new(&many.public, &[1, 2], &[1, 2, 3]).unwrap();
    assert_eq!(deal(&plan, &many.shares[&3], &mut rng).unwrap_err(), DkgError::Parameters);
}

/// Holders 1 and 3 of 2-of-3 deal to 1, 2 and 4.
fn scene(seed: u64) -> (Sent, TestRng) {
    let mut rng = TestRng::new(seed);
    let (public, shares) = born(&[1, 2, 3], 2, &mut rng);
    let plan = Plan::new(&public, &[1, 3], &[1, 2, 4]).unwrap();
    (Sent::new(plan, &[1, 3], &shares, &mut rng), rng)
}

/// What a dealer, a new holder and anybody say after `change` was made to what was published.
#[track_caller]
fn published_refused(change: impl FnOnce(&mut BTreeMap<u16, Vec<u8>>, &mut TestRng), error: &DkgError) {
    let (mut sent, mut rng) = scene(8);
    change(&mut sent.packages, &mut rng);
    assert_eq!(sent.dealings[&1].addressed(&sent.plan, &sent.packages).unwrap_err(), *error);
    assert_eq!(sent.join(2).unwrap_err(), *error);
    assert_eq!(sent.plan.public_key(&sent.packages).unwrap_err(), *error);
}

#[test]
fn a_wrong_published_package_names_its_dealer() {
    let count = |found| DkgError::Count { expected: 2, found };
    published_refused(|packages, _| drop(packages.remove(&3)), &count(1));
    published_refused(|packages, _| drop(packages.insert(2, packages[&3].clone())), &count(3));
    published_refused(|packages, _| drop(packages.insert(3, vec![])), &DkgError::Package { holder: 3 });
    published_refused(|packages, _| packages.get_mut(&3).unwrap().push(0), &DkgError::Package { holder: 3 });
    published_refused(|packages, _| packages.get_mut(&3).unwrap().truncate(32), &DkgError::Package { holder: 3 });
    published_refused(|packages, _| packages.get_mut(&3).unwrap()[32..].fill(0), &DkgError::Package { holder: 3 });
    published_refused(|packages, _| packages.get_mut(&1).unwrap()[32..].fill(0xff), &DkgError::Package { holder: 1 });
    published_refused(
        |packages, _| packages.get_mut(&3).unwrap().rotate_left(32),
        &DkgError::OtherSecret { holder: 3 },
    );
    published_refused(
        |packages, _| drop(packages.insert(3, packages[&1].clone())),
        &DkgError::OtherSecret { holder: 3 },
    );
    // A dealer that would make another key of it.
    published_refused(
        |packages, rng| {
            let (public, shares) = born(&[1, 2, 3], 2, rng);
            let plan = Plan::new(&public, &[1, 3], &[1, 2, 4]).unwrap();
            packages.insert(3, deal(&plan, &shares[&3], rng).unwrap().1);
        },
        &DkgError::OtherSecret { holder: 3 },
    );
}

/// What new holder 2 says after `change` was made to its inbox.
#[track_caller]
fn secret_refused(change: impl FnOnce(&mut Addressed, &BTreeMap<u16, Addressed>), error: &DkgError) {
    let (mut sent, _) = scene(9);
    let all = sent.inboxes.clone();
    change(sent.inboxes.get_mut(&2).unwrap(), &all);
    assert_eq!(sent.join(2).unwrap_err(), *error);
}

#[test]
fn a_wrong_secret_package_names_its_dealer() {
    let count = |found| DkgError::Count { expected: 2, found };
    secret_refused(|inbox, _| drop(inbox.remove(&3)), &count(1));
    secret_refused(|inbox, all| drop(inbox.insert(2, all[&2][&3].clone())), &count(3));
    secret_refused(|inbox, _| drop(inbox.insert(3, Zeroizing::new(vec![1; 31]))), &DkgError::Package { holder: 3 });
    secret_refused(|inbox, _| drop(inbox.insert(1, Zeroizing::new(vec![0xff; 32]))), &DkgError::Package { holder: 1 });
    secret_refused(|inbox, _| inbox.get_mut(&3).unwrap()[0] ^= 1, &DkgError::Share { holder: 3 });
    secret_refused(|inbox, all| drop(inbox.insert(1, all[&4][&1].clone())), &DkgError::Share { holder: 1 });
    secret_refused(|inbox, all| drop(inbox.insert(1, all[&2][&3].clone())), &DkgError::Share { holder: 1 });
}

#[test]
fn a_stranger_joins_nothing_and_a_changed_package_is_missed() {
    let (mut sent, mut rng) = scene(10);
    assert_eq!(join(&sent.plan, 3, &sent.packages, &sent.inboxes[&2]).unwrap_err(), DkgError::Parameters);

    let (public, shares) = born(&[1, 2, 3], 2, &mut TestRng::new(10));
    let plan = Plan::new(&public, &[1, 3], &[1, 2, 4]).unwrap();
    assert_eq!(plan, sent.plan);
    // Dealt by the same holder, but not what it kept.
    sent.packages.insert(1, deal(&plan, &shares[&1], &mut rng).unwrap().1);
    assert_eq!(sent.dealings[&1].addressed(&plan, &sent.packages).unwrap_err(), DkgError::OwnPackage);
}

/// A dealer that shows different packages to different holders.
#[test]
fn the_digest_covers_plan_and_packages() {
    let (sent, mut rng) = scene(11);
    let (public, shares) = born(&[1, 2, 3], 2, &mut TestRng::new(11));
    let digest = sent.plan.digest(&sent.packages);
    let mut other = sent.packages.clone();
    other.insert(3, deal(&sent.plan, &shares[&3], &mut rng).unwrap().1);
    assert_ne!(sent.plan.digest(&other), digest);

    let plan = |recipients: &[u16]| Plan::new(&public, &[1, 3], recipients).unwrap();
    assert_eq!(plan(&[1, 2, 4]).digest(&sent.packages), digest);
    assert_ne!(plan(&[1, 2, 5]).digest(&sent.packages), digest);
    let (renewed, _) = sent.finish();
    assert_ne!(Plan::new(&renewed, &[1, 2], &[1, 2, 4]).unwrap().digest(&sent.packages), digest);
}

#[test]
fn a_renewal_outlives_restarts() {
    let (sent, _) = scene(12);
    for dealing in sent.dealings.values() {
        let bytes = dealing.to_bytes();
        let again = Dealing::from_bytes(&bytes).unwrap();
        let addressed = |dealing: &Dealing| dealing.addressed(&sent.plan, &sent.packages).unwrap();
        assert_eq!(addressed(&again), addressed(dealing));
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..8], &bytes[..72], &[], &[0xff; 80]] {
            assert_eq!(Dealing::from_bytes(damaged).unwrap_err(), DkgError::State);
        }
    }
    assert_eq!(format!("{:?}", sent.dealings[&1]), "Dealing { recipients: [1, 2, 4], .. }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever quorum deals to whomever, the new shares are of the old key.
    #[test]
    fn any_quorum_renews_to_any_holders(
        (dealers, recipients) in (0_usize..10, prop::collection::btree_set(1_u16.., 3..7)),
        seed: u64,
    ) {
        let mut rng = TestRng::new(seed);
        let dealt = dealt(3, &[1, 2, 3, 4, 5], &mut rng);
        let dealers = &quorums(&[1, 2, 3, 4, 5], 3)[dealers];
        let recipients: Vec<u16> = recipients.into_iter().collect();
        let (renewed, new) = renew(&dealt.public, &dealt.shares, dealers, &recipients, &mut rng);
        let quorum = &recipients[recipients.len() - 3..];
        prop_assert_eq!(renewed.check_quorum(quorum), Ok(()));
        let lambda = |id: &u16| Quorum::new(quorum, 3).unwrap().lambda(*id) * secret(&new[id]);
        prop_assert_eq!(quorum.iter().map(lambda).sum::<Scalar>(), dealt.key);
        prop_assert_eq!(run(&renewed, &new, quorum, 1, &mut rng), plain(&dealt.key, 1));
    }

    /// Whatever bit changes, published or secret, its dealer is named.
    #[test]
    fn any_changed_byte_names_its_dealer(dealer in prop::sample::select(vec![1_u16, 3]), position in 0_usize..96, change in 1_u8..) {
        let (mut sent, _) = scene(13);
        match position.checked_sub(64) {
            None => sent.packages.get_mut(&dealer).unwrap()[position] ^= change,
            Some(position) => sent.inboxes.get_mut(&2).unwrap().get_mut(&dealer).unwrap()[position] ^= change,
        }
        let named = match sent.join(2).unwrap_err() {
            DkgError::Package { holder } | DkgError::OtherSecret { holder } | DkgError::Share { holder } => holder,
            other => return Err(TestCaseError::fail(other.to_string())),
        };
        prop_assert_eq!(named, dealer);
    }
}
