//! Removing or corrupting a fact never opens what was closed.

use super::reasons::{Break, CONSENT, EITHER, EMERGENCY, HUMAN, MANDATE, Part, VERIFY};
use super::{ENGINE, NOW, by_consent, by_mandate, comparing, in_danger, member, with_approval};
use crate::StatusFact;
use crate::example::{Decided, Scenario};
use proptest::prelude::*;
use protocol::jws::JwsError;
use protocol::{Bytes, ConsentId, Index, SubjectId};

type Damage = (Part, fn(&mut Scenario, [u8; 32]));

/// Damage to one fact: removed, or replaced by noise.
const DAMAGE: &[Damage] = &[
    (Part::Manifest, |s, n| s.manifest.library = Bytes(n.to_vec())),
    (Part::Manifest, |s, n| s.manifest_hash = n),
    (Part::Manifest, |s, _| s.manifest.agreements.clear()),
    (Part::Manifest, |s, _| s.manifest.epochs.clear()),
    (Part::Manifest, |s, n| drop(s.manifest.members.remove(usize::from(n[0]) % s.manifest.members.len()))),
    (Part::Manifest, |s, n| s.manifest.expires = NOW + noise(n)),
    (Part::Peer, |s, _| s.active = false),
    (Part::Peer, |s, n| s.certificate = n),
    (Part::Peer, |s, n| s.peer = who(n)),
    (Part::Request, |s, n| s.request = Err(error(n))),
    (Part::Request, |s, n| request(s, |r| r.cnf.x5t_s256 = Bytes(n.to_vec()))),
    (Part::Request, |s, n| request(s, |r| r.sub = SubjectId(n))),
    (Part::Request, |s, n| request(s, |r| r.iat = NOW + noise(n))),
    (Part::Request, |s, n| request(s, |r| r.exp = NOW + noise(n))),
    (Part::Request, |s, n| request(s, |r| r.iss = who(n))),
    (Part::Request, |s, n| request(s, |r| r.aud = who(n))),
    (Part::Request, |s, _| request(s, |r| r.case = None)),
    (Part::Request, |s, _| request(s, |r| r.fields.clear())),
    (Part::Replay, |s, _| s.first_use = false),
    (Part::Ticket, |s, _| s.ticket = None),
    (Part::Ticket, |s, n| s.ticket = Some(Err(error(n)))),
    (Part::Ticket, |s, n| ticket(s, |t| t.bind = Bytes(n.to_vec()))),
    (Part::Ticket, |s, n| ticket(s, |t| t.nonce = Bytes(n[..16].to_vec()))),
    (Part::Ticket, |s, n| ticket(s, |t| t.iat = NOW + noise(n))),
    (Part::Ticket, |s, n| ticket(s, |t| t.exp = NOW + noise(n))),
    (Part::Ticket, |s, n| ticket(s, |t| t.sub = who(n))),
    (Part::Ticket, |s, n| ticket(s, |t| t.iss = who(n))),
    (Part::Subject, |s, _| s.subject = None),
    (Part::Subject, |s, n| s.subject = s.subject.map(|(_, flags)| (Index(n), flags))),
    (Part::Consent, |s, _| s.grant = None),
    (Part::Consent, |s, _| s.status = None),
    (Part::Consent, |s, n| s.status = Some(StatusFact { as_of: NOW + noise(n), withdrawn: n[9] & 1 == 1 })),
    (Part::Consent, |s, _| s.withdrawn = true),
    (Part::Consent, |s, n| grant(s, |g| g.sub = SubjectId(n))),
    (Part::Consent, |s, n| grant(s, |g| g.consent = ConsentId(n[..16].try_into().unwrap()))),
    (Part::Consent, |s, n| grant(s, |g| g.recipient = who(n))),
    (Part::Consent, |s, n| grant(s, |g| g.valid_to = NOW + noise(n))),
    (Part::Consent, |s, _| grant(s, |g| g.fields.clear())),
    (Part::Consent, |s, _| grant(s, |g| g.modules.clear())),
    (Part::Consent, |s, _| s.withdrawn_modules.extend(["labour-status".to_owned()])),
    (Part::Quota, |s, n| s.used.today = u64::from_be_bytes(n[..8].try_into().unwrap())),
    (Part::Quota, |s, n| s.used.today_by_user = u64::from(n[0])),
    (Part::Quota, |s, n| s.used.guesses = u32::from(n[0])),
    (Part::Quota, |s, n| s.used.emergencies_today = u32::from(n[0])),
    (Part::Arrival, |s, n| s.received = NOW + noise(n)),
    (Part::Revoked, |s, _| s.revoked.clear()),
    (Part::Approval, |s, _| s.decided = Decided::Nothing),
    (Part::Approval, |s, _| s.decided = Decided::Lapsed),
    (Part::Approval, |s, n| approved(s, |question, _| *question = n)),
    (Part::Approval, |s, n| approved(s, |_, by| by.0 = n.to_vec())),
];

fn approved(s: &mut Scenario, change: impl FnOnce(&mut [u8; 32], &mut Bytes)) {
    if let Decided::Approved { question, by, .. } = &mut s.decided {
        change(question, by);
    }
}

fn request(s: &mut Scenario, change: impl FnOnce(&mut protocol::query::QueryRequest)) {
    if let Ok(request) = &mut s.request {
        change(request);
    }
}

fn ticket(s: &mut Scenario, change: impl FnOnce(&mut protocol::registry::Ticket)) {
    if let Some(Ok(ticket)) = &mut s.ticket {
        change(ticket);
    }
}

fn grant(s: &mut Scenario, change: impl FnOnce(&mut protocol::consent::Grant)) {
    if let Some(grant) = &mut s.grant {
        change(grant);
    }
}

/// Seconds within a few days of zero, mostly near it.
fn noise(n: [u8; 32]) -> i64 {
    i64::from(i32::from_be_bytes(n[..4].try_into().unwrap()) >> (n[4] % 31))
}

fn who(n: [u8; 32]) -> protocol::MemberId {
    member(["asker", "holder", "registry", "stranger"][usize::from(n[5] % 4)])
}

fn error(n: [u8; 32]) -> JwsError {
    [JwsError::Malformed, JwsError::UnknownKey, JwsError::BadSignature, JwsError::WrongIssuer][usize::from(n[6] % 4)]
}

/// A valid request with everything that can be broken of it.
type Case = (fn() -> Scenario, &'static [&'static [Break]]);
const CASES: &[Case] = &[
    (by_mandate, &[EITHER, MANDATE]),
    (by_consent, &[EITHER, CONSENT]),
    (comparing, &[VERIFY]),
    (in_danger, &[EMERGENCY]),
    (with_approval, &[HUMAN]),
];

fn breaks(case: &Case) -> Vec<&'static Break> {
    case.1.iter().copied().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn damage_never_turns_a_denial_into_a_permit(
        case: prop::sample::Index, broken: prop::sample::Index, damage: prop::sample::Index, noise: [u8; 32],
    ) {
        let case = &CASES[case.index(CASES.len())];
        let all = breaks(case);
        let broken = all[broken.index(all.len())];
        let (part, damage) = DAMAGE[damage.index(DAMAGE.len())];
        // The broken fact itself may be mended by another value; any other may not make up for it.
        prop_assume!(!broken.parts.contains(&part));
        let mut scenario = case.0();
        (broken.apply)(&mut scenario);
        damage(&mut scenario, noise);
        prop_assert!(scenario.decide(&ENGINE).is_err(), "{:?} and then {part:?}", broken.reason);
    }

    #[test]
    fn damage_never_widens_a_permit(
        case: prop::sample::Index, damages in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 32]>()), 1..4),
    ) {
        let case = &CASES[case.index(CASES.len())];
        let whole = case.0();
        let mut scenario = whole.clone();
        for (damage, noise) in damages {
            DAMAGE[damage.index(DAMAGE.len())].1(&mut scenario, noise);
        }
        if let Ok(permit) = scenario.decide(&ENGINE) {
            let before = whole.decide(&ENGINE).unwrap();
            prop_assert!(permit.fields().is_subset(before.fields()));
            prop_assert!(permit.compared().is_subset(before.compared()));
        }
    }

    #[test]
    fn two_broken_facts_are_no_better_than_one(
        case: prop::sample::Index, first: prop::sample::Index, second: prop::sample::Index,
    ) {
        let case = &CASES[case.index(CASES.len())];
        let all = breaks(case);
        let (first, second) = (all[first.index(all.len())], all[second.index(all.len())]);
        prop_assume!(first.parts.iter().all(|part| !second.parts.contains(part)));
        let mut scenario = case.0();
        (first.apply)(&mut scenario);
        (second.apply)(&mut scenario);
        prop_assert!(scenario.decide(&ENGINE).is_err());
    }
}
