//! What a peer can learn of a resident from a refusal: nothing.

use super::reasons::{Break, CONSENT, EITHER, EMERGENCY, HUMAN, MANDATE, Part, VERIFY};
use super::{ENGINE, by_consent, by_mandate, comparing, in_danger, with_approval};
use crate::example::Scenario;
use crate::{Engine, Library};
use protocol::{Index, Reason, Told};

const STATES: [fn(&mut Scenario); 5] = [
    |s| s.subject = None,
    |s| s.subject.as_mut().unwrap().1.restricted = true,
    |s| s.subject.as_mut().unwrap().1.unlisted = true,
    |s| s.subject.as_mut().unwrap().1.deceased = true,
    |s| s.subject.as_mut().unwrap().0 = Index([0xdd; 32]),
];

/// Whatever else is wrong or right with a request, the four states are told alike.
fn told_alike(base: fn() -> Scenario, breaks: &[Break]) {
    for (position, broken) in breaks.iter().enumerate().filter(|(_, b)| !b.parts.contains(&Part::Subject)) {
        let told = STATES.map(|state| {
            let mut scenario = base();
            (broken.apply)(&mut scenario);
            state(&mut scenario);
            let denial = scenario.decide(&ENGINE).unwrap_err();
            (denial.told(), denial.step())
        });
        assert!(told.iter().all(|each| each == &told[0]), "break {position}: {told:?}");
    }
}

#[test]
fn unknown_restricted_and_unlisted_are_told_alike_whatever_else_is_wrong() {
    told_alike(by_mandate, EITHER);
    told_alike(by_mandate, MANDATE);
    told_alike(by_consent, EITHER);
    told_alike(by_consent, CONSENT);
    told_alike(comparing, VERIFY);
    told_alike(in_danger, EMERGENCY);
    told_alike(with_approval, HUMAN);
}

#[test]
fn in_an_emergency_sealed_and_unknown_are_told_alike() {
    let mut sealed = in_danger();
    sealed.request_mut().fields = ["mops.nk".parse().unwrap()].into();
    let told = STATES.map(|state| {
        let mut scenario = sealed.clone();
        state(&mut scenario);
        scenario.decide(&ENGINE).unwrap_err().told()
    });
    assert_eq!(told, [sealed.decide(&ENGINE).unwrap_err().told(); 5]);
    // An institution's own forbid is told so too.
    let local = r#"@id("no") forbid (principal, action, resource == Query::"q18");"#;
    let closed = Engine::new(Library::builtin().unwrap(), &[("own.cedar".into(), local.into())]).unwrap();
    assert_eq!(in_danger().decide(&closed).unwrap_err().told(), told[0]);
}

#[test]
fn a_consent_is_not_looked_at_for_a_resident_who_is_not_available() {
    for state in STATES {
        for without in [false, true] {
            let mut scenario = by_consent();
            state(&mut scenario);
            if without {
                scenario.grant = None;
            }
            assert_eq!(scenario.decide(&ENGINE).unwrap_err().told(), Told::NotAvailable);
        }
    }
    let mut known = by_consent();
    known.grant = None;
    assert_eq!(known.decide(&ENGINE).unwrap_err().told(), Told::ConsentMissing);
}

/// Who has no agreement is not shown by the registry who is known here, and must not find out by asking.
#[test]
fn without_an_agreement_known_and_unknown_are_told_alike() {
    for lacking in EITHER.iter().filter(|b| matches!(b.reason, Reason::AgreementMissing | Reason::QuotaExceeded)) {
        let told = |state: fn(&mut Scenario)| {
            let mut scenario = by_consent();
            (lacking.apply)(&mut scenario);
            state(&mut scenario);
            scenario.decide(&ENGINE).unwrap_err().told()
        };
        assert_eq!(told(|_| ()), told(|s| s.subject = None));
    }
}
