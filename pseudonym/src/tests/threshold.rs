//! Any t of n holders give what the whole key would give; fewer, or others, do not.

use std::collections::BTreeSet;

use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;

use super::{TestRng, ask, deal, inputs, plain, quorums, run, secret, server_secret};
use crate::quorum::QuorumError;
use crate::{BlindError, Blinded, CombineError, EvaluateError, KeyShare, MAX_BATCH, Output, PublicKey, Verified};

fn threshold_ids() -> impl Strategy<Value = (u16, Vec<u16>)> {
    prop::collection::btree_set(1_u16.., 1..7)
        .prop_flat_map(|ids: BTreeSet<u16>| (1..=u16::try_from(ids.len()).unwrap(), Just(ids.into_iter().collect())))
}

#[test]
fn every_quorum_of_the_usual_sizes_equals_the_whole_key() {
    for (threshold, holders) in [(1, 1), (2, 2), (2, 3), (3, 5), (4, 7)] {
        let mut rng = TestRng::new(u64::from(holders));
        let ids: Vec<u16> = (1..=holders).collect();
        let dealt = deal(threshold, &ids, &mut rng);
        let expected = plain(&dealt.key, 3);
        for quorum in quorums(&ids, threshold.into()) {
            assert_eq!(run(&dealt.public, &dealt.shares, &quorum, 3, &mut rng), expected, "{quorum:?} of {holders}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_quorum_equals_the_whole_key((threshold, ids) in threshold_ids(), seed: u64, count in 1_usize..5) {
        let mut rng = TestRng::new(seed);
        let dealt = deal(threshold, &ids, &mut rng);
        let all = quorums(&ids, threshold.into());
        for quorum in [all.first().unwrap(), all.last().unwrap()] {
            prop_assert_eq!(run(&dealt.public, &dealt.shares, quorum, count, &mut rng), plain(&dealt.key, count));
        }
    }

    /// A holder that drops out is replaced by asking the newcomer alone.
    #[test]
    fn answers_verified_for_one_quorum_serve_another(seed: u64, from in 0_usize..10, to in 0_usize..10) {
        let mut rng = TestRng::new(seed);
        let ids = [1, 2, 3, 4, 5];
        let dealt = deal(3, &ids, &mut rng);
        let (from, to) = (&quorums(&ids, 3)[from], &quorums(&ids, 3)[to]);
        let blinded = Blinded::new(&dealt.public, inputs(3), &mut rng).unwrap();

        let mut verified = vec![];
        for &holder in to {
            let quorum = if from.contains(&holder) { from } else { to };
            let answer = dealt.shares[&holder].evaluate(quorum, blinded.elements(), &mut rng).unwrap();
            verified.push(blinded.verify_answer(quorum, holder, &answer).unwrap());
        }
        let outputs = blinded.finish(to, &verified).unwrap();
        let outputs: Vec<_> = outputs.iter().map(|output| *output.as_bytes()).collect();
        prop_assert_eq!(outputs, plain(&dealt.key, 3));
    }

    /// t − 1 holders are refused by the API, and their shares do not interpolate to the key either.
    #[test]
    fn one_holder_too_few_is_refused_and_learns_nothing((threshold, ids) in threshold_ids(), seed: u64) {
        prop_assume!(threshold > 1);
        let mut rng = TestRng::new(seed);
        let dealt = deal(threshold, &ids, &mut rng);
        let blinded = Blinded::new(&dealt.public, inputs(1), &mut rng).unwrap();
        let fewer = threshold - 1;
        // Somebody who lies about the threshold, on both sides, still does not get the key's outputs.
        let lying = |id: &u16| KeyShare::new(*id, fewer, secret(&dealt.shares[id]).as_bytes()).unwrap();
        let public = PublicKey::new(fewer, dealt.public.group_key(), &dealt.public.shares().collect()).unwrap();
        for quorum in quorums(&ids, fewer.into()) {
            let size = QuorumError::Size { threshold, found: quorum.len() };
            let refused = dealt.shares[&quorum[0]].evaluate(&quorum, blinded.elements(), &mut rng).unwrap_err();
            prop_assert_eq!(refused, EvaluateError::Quorum(size));
            prop_assert_eq!(blinded.finish(&quorum, &[]).unwrap_err(), CombineError::Quorum(size));
            let sum: Scalar = quorum.iter().map(|id| server_secret(&lying(id), &quorum)).sum();
            prop_assert_ne!(sum, dealt.key);
            prop_assert_eq!(public.check_quorum(&quorum), Err(CombineError::KeyMismatch));
        }
    }
}

#[test]
fn a_full_batch_goes_through() {
    let mut rng = TestRng::new(2);
    let dealt = deal(2, &[1, 2, 3], &mut rng);
    let outputs = run(&dealt.public, &dealt.shares, &[1, 3], MAX_BATCH, &mut rng);
    assert_eq!(outputs.len(), MAX_BATCH);
    assert_eq!(outputs[..2], plain(&dealt.key, 2));
    assert_eq!(outputs[MAX_BATCH - 1], plain(&dealt.key, MAX_BATCH)[MAX_BATCH - 1]);
}

#[test]
fn blinding_is_fresh_and_hides_equal_inputs() {
    let mut rng = TestRng::new(3);
    let dealt = deal(2, &[1, 2], &mut rng);
    let twice = inputs(1).into_iter().chain(inputs(1)).collect();
    let blinded = Blinded::new(&dealt.public, twice, &mut rng).unwrap();
    assert_ne!(blinded.elements()[0], blinded.elements()[1]);
    let answers = ask(&blinded, &dealt.shares, &[1, 2], &mut rng);
    let outputs = blinded.verify_and_finish(&[1, 2], &answers).unwrap();
    assert_eq!(outputs[0].as_bytes(), outputs[1].as_bytes());
}

/// Threads are the caller's: a batch is verified for several holders at once.
#[test]
fn batches_keys_and_answers_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<(Blinded, Verified, PublicKey, KeyShare, Output)>();
}

#[test]
fn an_empty_or_oversized_batch_is_refused() {
    let dealt = deal(2, &[1, 2], &mut TestRng::new(4));
    for count in [0, MAX_BATCH + 1] {
        let refused = Blinded::new(&dealt.public, inputs(count), &mut TestRng::new(5)).unwrap_err();
        assert_eq!(refused, BlindError::Count { found: count });
    }
}
