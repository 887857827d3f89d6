//! Holders that cheat, fail or are confused: refused before anything is output, and named.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Dealt, TestRng, ask, deal, inputs};
use crate::{Answer, Blinded, CombineError, KeyShare, QuorumError};

const QUORUM: [u16; 3] = [1, 3, 4];

struct Scene {
    dealt: Dealt,
    blinded: Blinded,
    answers: BTreeMap<u16, Answer>,
    rng: TestRng,
}

/// Three items asked of 1, 3 and 4 of a 3-of-5 key, all answers honest.
fn scene(seed: u64) -> Scene {
    let mut rng = TestRng::new(seed);
    let dealt = deal(3, &[1, 2, 3, 4, 5], &mut rng);
    let blinded = Blinded::new(&dealt.public, inputs(3), &mut rng).unwrap();
    let answers = ask(&blinded, &dealt.shares, &QUORUM, &mut rng);
    Scene { dealt, blinded, answers, rng }
}

impl Scene {
    #[track_caller]
    fn refused(&self, error: CombineError) {
        assert_eq!(self.blinded.verify_and_finish(&QUORUM, &self.answers).unwrap_err(), error);
    }

    fn answer(&mut self, holder: u16) -> &mut Answer {
        self.answers.get_mut(&holder).unwrap()
    }
}

#[test]
fn a_wrong_share_is_caught() {
    let mut scene = scene(1);
    let wrong = KeyShare::new(3, 3, &scene.dealt.shares[&2].to_bytes()[4..].try_into().unwrap()).unwrap();
    let answer = wrong.evaluate(&QUORUM, scene.blinded.elements(), &mut scene.rng).unwrap();
    scene.answers.insert(3, answer);
    scene.refused(CombineError::BadProof { holder: 3 });
}

#[test]
fn a_lambda_of_another_quorum_is_caught() {
    let mut scene = scene(2);
    let answer = scene.dealt.shares[&4].evaluate(&[2, 3, 4], scene.blinded.elements(), &mut scene.rng).unwrap();
    scene.answers.insert(4, answer);
    scene.refused(CombineError::BadProof { holder: 4 });
}

#[test]
fn swapped_proofs_and_answers_are_caught() {
    let mut scene = scene(3);
    let (first, third) = (scene.answers[&1].clone(), scene.answers[&3].clone());
    scene.answer(1).proof = third.proof;
    scene.refused(CombineError::BadProof { holder: 1 });

    scene.answers.insert(1, first.clone());
    scene.answers.insert(3, first);
    scene.refused(CombineError::BadProof { holder: 3 });
}

#[test]
fn swapped_elements_within_an_answer_are_caught() {
    let mut scene = scene(4);
    scene.answer(3).elements.swap(0, 2);
    scene.refused(CombineError::BadProof { holder: 3 });
}

#[test]
fn a_replaced_element_is_caught() {
    let mut scene = scene(5);
    let other = scene.answers[&1].elements[1];
    scene.answer(4).elements[1] = other;
    scene.refused(CombineError::BadProof { holder: 4 });
}

#[test]
fn unacceptable_points_are_caught_by_position() {
    for bad in [[0; 32], [0xff; 32]] {
        let mut scene = scene(6);
        scene.answer(3).elements[2] = bad;
        scene.refused(CombineError::BadElement { holder: 3, position: 2 });
    }
}

#[test]
fn a_proof_of_unreduced_scalars_is_caught() {
    let mut scene = scene(7);
    scene.answer(1).proof = [0xff; 64];
    scene.refused(CombineError::BadProof { holder: 1 });
    scene.answer(1).proof = [0; 64];
    scene.refused(CombineError::BadProof { holder: 1 });
}

#[test]
fn wrong_counts_are_caught() {
    let mut scene = scene(8);
    let extra = scene.answers[&1].elements[0];
    scene.answer(4).elements.push(extra);
    scene.refused(CombineError::WrongCount { holder: 4, expected: 3, found: 4 });
    scene.answer(4).elements.clear();
    scene.refused(CombineError::WrongCount { holder: 4, expected: 3, found: 0 });
}

#[test]
fn missing_and_unexpected_holders_are_named() {
    let mut scene = scene(9);
    let answer = scene.answers.remove(&3).unwrap();
    scene.refused(CombineError::MissingAnswer { holder: 3 });
    scene.answers.insert(3, answer.clone());
    scene.answers.insert(5, answer.clone());
    scene.refused(CombineError::UnexpectedHolder { holder: 5 });
    let unknown = scene.blinded.verify_answer(&[1, 3, 9], 3, &answer).unwrap_err();
    assert_eq!(unknown, QuorumError::UnknownHolder { holder: 9 }.into());
}

#[test]
fn a_verified_answer_outside_the_final_quorum_is_named() {
    let scene = scene(10);
    let verified: Vec<_> =
        scene.answers.iter().map(|(&id, answer)| scene.blinded.verify_answer(&QUORUM, id, answer).unwrap()).collect();
    let refused = scene.blinded.finish(&[1, 2, 3], &verified).unwrap_err();
    assert_eq!(refused, CombineError::UnexpectedHolder { holder: 4 });
    let refused = scene.blinded.finish(&[1, 2, 3], &verified[..2]).unwrap_err();
    assert_eq!(refused, CombineError::MissingAnswer { holder: 2 });
}

#[test]
fn answers_of_another_batch_or_key_do_not_mix() {
    let mut scene = scene(11);
    let other = Blinded::new(&scene.dealt.public, inputs(3), &mut scene.rng).unwrap();
    let answers = ask(&other, &scene.dealt.shares, &QUORUM, &mut scene.rng);
    let verified = |blinded: &Blinded, answers: &BTreeMap<u16, Answer>, holder| {
        blinded.verify_answer(&QUORUM, holder, &answers[&holder]).unwrap()
    };
    let mixed = [
        verified(&scene.blinded, &scene.answers, 1),
        verified(&other, &answers, 3),
        verified(&scene.blinded, &scene.answers, 4),
    ];
    assert_eq!(scene.blinded.finish(&QUORUM, &mixed).unwrap_err(), CombineError::OtherBatch { holder: 3 });
    scene.answers = answers;
    scene.refused(CombineError::BadProof { holder: 1 });
}

/// A pinned key whose shares are of another key: every proof holds, and still nothing comes out.
#[test]
fn shares_that_do_not_make_the_group_key_are_caught() {
    let mut scene = scene(12);
    let other = deal(3, &[1, 2, 3, 4, 5], &mut scene.rng);
    let forged = crate::PublicKey::new(3, other.public.group_key(), &scene.dealt.public.shares().collect()).unwrap();
    scene.blinded = Blinded::new(&forged, inputs(3), &mut scene.rng).unwrap();
    scene.answers = ask(&scene.blinded, &scene.dealt.shares, &QUORUM, &mut scene.rng);
    for (&holder, answer) in &scene.answers {
        assert!(scene.blinded.verify_answer(&QUORUM, holder, answer).is_ok());
    }
    scene.refused(CombineError::KeyMismatch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever bit of whatever answer changes, that holder is named.
    #[test]
    fn any_changed_byte_names_its_holder(place in 0_usize..3, position in 0_usize..160, change in 1_u8..) {
        let mut scene = scene(13);
        let holder = QUORUM[place];
        let answer = scene.answer(holder);
        match answer.elements.as_flattened_mut().get_mut(position) {
            Some(byte) => *byte ^= change,
            None => answer.proof[position - 96] ^= change,
        }
        let named = match scene.blinded.verify_and_finish(&QUORUM, &scene.answers).unwrap_err() {
            CombineError::BadProof { holder } | CombineError::BadElement { holder, .. } => holder,
            other => return Err(TestCaseError::fail(other.to_string())),
        };
        prop_assert_eq!(named, holder);
    }
}
