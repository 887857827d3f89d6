//! Every reason a decision can give: a fully valid request with one fact broken.

use super::{ENGINE, NOW, by_consent, by_mandate, comparing, in_danger, member, with_approval};
use crate::example::{Decided, Scenario};
use crate::{Asked, BasisRef, Denial, Engine, Refusal, StatusFact, Step, Tier};
use protocol::agreement::{AnswerMode, Hours, Weekday};
use protocol::consent::Acting;
use protocol::jws::JwsError;
use protocol::query::{Basis, EmergencyClaim, PENDING_SECONDS};
use protocol::registry::{OLD_TICKET_SECONDS, TICKET_SECONDS};
use protocol::{Bytes, ConsentId, Epoch, FieldId, Index, Reason, SubjectId, Timestamp};
use std::collections::BTreeSet;

/// Parts of the facts. Some denials lie between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Manifest,
    Peer,
    Request,
    Replay,
    Ticket,
    Subject,
    Consent,
    Quota,
    Arrival,
    Revoked,
    Approval,
}
use Part::{Approval, Arrival, Consent, Manifest, Peer, Quota, Replay, Request, Revoked, Subject, Ticket};

/// One broken fact and the reason it must give.
pub(super) struct Break {
    pub(super) reason: Reason,
    pub(super) parts: &'static [Part],
    pub(super) apply: fn(&mut Scenario),
}

const fn b(reason: Reason, parts: &'static [Part], apply: fn(&mut Scenario)) -> Break {
    Break { reason, parts, apply }
}

macro_rules! on_request {
    ($($change:tt)+) => { |s: &mut Scenario| { let r = s.request_mut(); r.$($change)+; } };
}
macro_rules! on_ticket {
    ($($change:tt)+) => { |s: &mut Scenario| { let t = s.ticket.as_mut().unwrap().as_mut().unwrap(); t.$($change)+; } };
}
macro_rules! on_agreement {
    ($($change:tt)+) => { |s: &mut Scenario| { let a = &mut s.manifest.agreements[0].terms; a.$($change)+; } };
}
macro_rules! on_grant {
    ($($change:tt)+) => { |s: &mut Scenario| { let g = s.grant.as_mut().unwrap(); g.$($change)+; } };
}

/// Breaks of a request on either basis.
pub(super) const EITHER: &[Break] = &[
    b(Reason::ManifestExpired, &[Manifest], |s| s.manifest.expires = NOW + -1),
    b(Reason::NodeClosed, &[Manifest], |s| s.manifest.library.digest = Bytes(vec![0; 32])),
    b(Reason::NodeClosed, &[Manifest], |s| s.manifest.library.version += 1),
    b(Reason::NodeClosed, &[Manifest], |s| s.me = member("nobody")),
    b(Reason::PeerUnknown, &[Peer], |s| s.active = false),
    b(Reason::PeerUnknown, &[Manifest], |s| s.manifest.members.retain(|m| m.id != s.peer)),
    b(Reason::PeerUnknown, &[Peer], |s| s.peer = member("stranger")),
    b(Reason::PeerUnknown, &[Peer], |s| s.peer = s.me.clone()),
    b(Reason::CertificateMismatch, &[Peer], |s| s.peer = member("registry")),
    b(Reason::CertificateMismatch, &[Peer], |s| s.certificate[31] ^= 1),
    b(Reason::CertificateMismatch, &[Request], on_request!(cnf.x5t_s256 = Bytes(vec![]))),
    b(Reason::RequestMalformed, &[Request], |s| s.request = Err(JwsError::Malformed)),
    b(Reason::RequestMalformed, &[Request], |s| s.request = Err(JwsError::WrongKind)),
    b(Reason::RequestMalformed, &[Request], on_request!(jti.0.truncate(15))),
    b(Reason::RequestMalformed, &[Request], |s| {
        s.request_mut().expected.insert("pup.status".parse().unwrap(), "bezrobotny".into());
    }),
    b(Reason::SignatureInvalid, &[Request], |s| s.request = Err(JwsError::UnknownKey)),
    b(Reason::SignatureInvalid, &[Request], |s| s.request = Err(JwsError::BadSignature)),
    b(Reason::SignatureInvalid, &[Request], |s| s.request = Err(JwsError::WrongIssuer)),
    b(Reason::SignatureInvalid, &[Request], |s| s.request = Err(JwsError::Signing)),
    b(Reason::AudienceWrong, &[Request], on_request!(aud = member("registry"))),
    b(Reason::RequestStale, &[Request], |s| {
        let request = s.request_mut();
        (request.iat, request.exp) = (NOW + 31, NOW + 60);
    }),
    b(Reason::RequestStale, &[Request], |s| {
        let request = s.request_mut();
        (request.iat, request.exp) = (NOW + -31, NOW + -1);
    }),
    b(Reason::RequestStale, &[Request], on_request!(exp = NOW + 61)),
    b(Reason::RequestStale, &[Arrival], |s| s.received = NOW + 1),
    b(Reason::RequestStale, &[Arrival], |s| s.received = NOW + -1),
    b(Reason::RequestStale, &[Arrival], |s| s.received = NOW + -(PENDING_SECONDS + 1)),
    b(Reason::RequestStale, &[Request], |s| {
        let request = s.request_mut();
        (request.iat, request.exp) = (NOW + 10, NOW);
    }),
    b(Reason::ManifestMismatch, &[Request, Manifest], on_request!(manifest.hash = Bytes(vec![0xee; 32]))),
    b(Reason::RequestReplayed, &[Replay], |s| s.first_use = false),
    b(Reason::EpochUnknown, &[Manifest], |s| s.manifest.epochs[0].epoch = Epoch(9)),
    b(Reason::EpochUnknown, &[Manifest], |s| s.manifest.epochs[0].not_before = NOW + 1),
    b(Reason::TicketMissing, &[Ticket], |s| s.ticket = None),
    b(Reason::TicketInvalid, &[Ticket], |s| s.ticket = Some(Err(JwsError::BadSignature))),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(iss = member("asker"))),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(epoch = Epoch(2))),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(nonce.0.push(0))),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(exp = NOW + TICKET_SECONDS + 1)),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(iat = NOW + 31)),
    b(Reason::TicketInvalid, &[Ticket], on_ticket!(exp = NOW + -1)),
    b(Reason::TicketInvalid, &[Manifest], |s| s.manifest.members.retain(|m| m.roles.is_empty())),
    b(Reason::TicketExpired, &[Ticket], |s| age_ticket(s, TICKET_SECONDS + 1)),
    b(Reason::TicketExpired, &[Ticket], |s| {
        age_ticket(s, OLD_TICKET_SECONDS + 1);
        s.registry_away = true;
    }),
    b(Reason::TicketWrongAsker, &[Ticket], on_ticket!(sub = member("holder"))),
    b(Reason::AgreementMissing, &[Manifest], |s| s.manifest.agreements.clear()),
    b(Reason::AgreementMissing, &[Manifest], on_agreement!(asker = member("registry"))),
    b(Reason::AgreementMissing, &[Manifest], on_agreement!(holder = member("registry"))),
    b(Reason::AgreementMissing, &[Manifest], on_agreement!(queries.clear())),
    b(Reason::AgreementMissing, &[Manifest], on_agreement!(purposes.clear())),
    b(Reason::AgreementExpired, &[Manifest], on_agreement!(valid_to = NOW + -1)),
    b(Reason::AgreementExpired, &[Manifest], on_agreement!(valid_from = NOW + 1)),
    b(Reason::AgreementRevoked, &[Manifest], |s| s.manifest.agreements[0].revocation = Some(String::new())),
    b(Reason::AgreementRevoked, &[Revoked], |s| {
        s.revoked = s.manifest.agreements.iter().map(|signed| signed.terms.reference()).collect();
    }),
    b(Reason::QueryUnknown, &[Manifest, Request], |s| ask(s, "q99")),
    b(Reason::QueryUnknown, &[Manifest, Request], |s| ask(s, "q06")),
    b(Reason::QueryUnknown, &[Manifest], |s| s.manifest.members[0].kind = "css".parse().unwrap()),
    b(Reason::RoleNotAllowed, &[Request], on_request!(user.role = "technician".parse().unwrap())),
    b(Reason::BasisMissing, &[Request], on_request!(basis = Basis::None)),
    b(Reason::MandateUnknown, &[Request], on_request!(basis = Basis::Mandate { id: "none".into() })),
    b(Reason::MandateUnknown, &[Request], on_request!(basis = Basis::Mandate { id: "usr-23".into() })),
    b(Reason::EmergencyReason, &[Request], |s| danger(s, |claim| claim.reason = "whim".into())),
    b(Reason::EmergencyReason, &[Request], |s| danger(s, |_| {})),
    b(Reason::QuotaExceeded, &[Quota], |s| s.used.today = 100),
    b(Reason::UserQuotaExceeded, &[Quota], |s| s.used.today_by_user = 20),
    b(Reason::OutsideHours, &[Manifest], |s| {
        s.manifest.agreements[0].terms.hours = [Hours { day: Weekday::Sunday, from_minute: 0, to_minute: 1440 }].into();
    }),
    b(Reason::QuotaExceeded, &[Manifest], on_agreement!(queries_per_day = 0)),
    b(Reason::SubjectUnknown, &[Subject], |s| s.subject = None),
    b(Reason::TicketWrongSubject, &[Subject, Ticket], |s| s.subject.as_mut().unwrap().0 = Index([0xee; 32])),
    b(Reason::TicketWrongSubject, &[Ticket], on_ticket!(bind.0.truncate(31))),
    b(Reason::SubjectUnlisted, &[Subject], |s| s.subject.as_mut().unwrap().1.unlisted = true),
    b(Reason::SubjectDeceased, &[Subject], |s| s.subject.as_mut().unwrap().1.deceased = true),
    b(Reason::SubjectRestricted, &[Subject], |s| s.subject.as_mut().unwrap().1.restricted = true),
    b(Reason::NoFields, &[Request], on_request!(fields = BTreeSet::from(["mops.income".parse().unwrap()]))),
    b(Reason::NoFields, &[Request], on_request!(fields.clear())),
    b(Reason::NoFields, &[Manifest], on_agreement!(fields.clear())),
    b(Reason::ApprovalPending, &[Manifest], on_agreement!(mode = AnswerMode::Human)),
];

/// Breaks of a verify query.
pub(super) const VERIFY: &[Break] = &[
    b(Reason::RequestMalformed, &[Request], on_request!(expected.clear())),
    b(Reason::RequestMalformed, &[Request], |s| {
        s.request_mut().expected.insert("css.paid_in_month".parse().unwrap(), "1".into());
    }),
    b(Reason::RequestMalformed, &[Request], on_request!(fields.clear())),
    b(Reason::GuessLimit, &[Quota], |s| s.used.guesses = 3),
    b(Reason::NoFields, &[Manifest], on_agreement!(fields.clear())),
];

/// Breaks of an emergency.
pub(super) const EMERGENCY: &[Break] = &[
    b(Reason::EmergencyReason, &[Request], |s| danger(s, |claim| claim.reason = "whim".into())),
    b(Reason::EmergencyReason, &[Request], |s| danger(s, |claim| claim.note = Bytes(vec![0; 31]))),
    b(Reason::EmergencyReason, &[Request, Manifest], |s| {
        s.manifest.agreements[0].terms.purposes.insert("housing-welfare-management".parse().unwrap());
        s.request_mut().purpose = "housing-welfare-management".parse().unwrap();
    }),
    b(Reason::EmergencyUnconfirmed, &[Request], |s| danger(s, |claim| claim.confirmed = claim.opened)),
    b(Reason::EmergencyUnconfirmed, &[Request], |s| danger(s, |claim| claim.confirmed = NOW + 31)),
    b(Reason::EmergencyExpired, &[Request], |s| danger(s, |claim| claim.opened = NOW + -3601)),
    b(Reason::EmergencyLimit, &[Quota], |s| s.used.emergencies_today = 5),
    b(Reason::EmergencyReviewOverdue, &[Quota], |s| s.used.review_overdue = true),
    b(Reason::SubjectUnlisted, &[Subject], |s| s.subject.as_mut().unwrap().1.unlisted = true),
    b(Reason::EmergencyClosed, &[Request], on_request!(fields = BTreeSet::from(["mops.nk".parse().unwrap()]))),
];

/// Breaks of a query that a person approved.
pub(super) const HUMAN: &[Break] = &[
    b(Reason::ApprovalPending, &[Approval], |s| s.decided = Decided::Nothing),
    b(Reason::ApprovalRefused, &[Approval], |s| s.decided = Decided::Refused),
    b(Reason::ApprovalExpired, &[Approval], |s| s.decided = Decided::Lapsed),
    b(Reason::ApprovalExpired, &[Approval], |s| approval(s, |_, _, _, until| *until = NOW + -1)),
    b(Reason::ApprovalInvalid, &[Approval], |s| approval(s, |question, _, _, _| question[0] ^= 1)),
    b(Reason::ApprovalInvalid, &[Approval], |s| approval(s, |_, by, _, _| by.0.clear())),
    b(
        Reason::ApprovalInvalid,
        &[Request],
        on_request!(fields = BTreeSet::from(["hou.eviction.notice".parse().unwrap()])),
    ),
    b(Reason::ApprovalInvalid, &[Request], on_request!(case = Some(Bytes(vec![0xee; 32])))),
    b(Reason::NoFields, &[Approval], |s| approval(s, |_, _, fields, _| fields.clear())),
];

/// Breaks of a request by statute.
pub(super) const MANDATE: &[Break] = &[
    b(Reason::CaseMissing, &[Request], on_request!(case = None)),
    b(Reason::CaseMissing, &[Request], on_request!(case = Some(Bytes::default()))),
    b(Reason::MandateUnknown, &[Request, Manifest], |s| {
        let purpose = "housing-welfare-management".parse().unwrap();
        s.manifest.agreements[0].terms.purposes.insert(purpose);
        s.request_mut().purpose = "housing-welfare-management".parse().unwrap();
    }),
    b(Reason::BasisNotAllowed, &[Request, Manifest, Peer], |s| {
        // The housing list rests on consent alone.
        ask(s, "q12");
        s.manifest.members[0].kind = "hou".parse().unwrap();
    }),
];

/// Breaks of a request by consent.
pub(super) const CONSENT: &[Break] = &[
    b(Reason::ConsentUnknown, &[Consent], |s| s.grant = None),
    b(Reason::ConsentUnknown, &[Consent], on_grant!(consent = ConsentId([0xee; 16]))),
    b(Reason::ConsentOtherSubject, &[Consent], on_grant!(sub = SubjectId([0xee; 32]))),
    b(Reason::ConsentOtherSubject, &[Request, Consent], on_request!(sub = SubjectId([0xee; 32]))),
    b(Reason::ConsentOtherSubject, &[Consent], on_grant!(epoch = Epoch(2))),
    b(Reason::ConsentOtherQuery, &[Consent], on_grant!(modules.clear())),
    b(Reason::ConsentOtherQuery, &[Consent], on_grant!(modules = BTreeSet::from(["benefits".to_owned()]))),
    b(Reason::ConsentWithdrawn, &[Consent], |s| assert!(s.withdrawn_modules.insert("labour-status".into()))),
    b(Reason::ConsentRepresentative, &[Consent, Subject], on_grant!(acting = Acting::Guardian)),
    b(Reason::ConsentRepresentative, &[Consent, Subject], |s| s.subject.as_mut().unwrap().1.minor = true),
    b(Reason::ConsentRefused, &[Consent, Subject], |s| s.refusals = vec![refusal(NOW)]),
    b(Reason::SubjectObjected, &[Subject], |s| s.subject.as_mut().unwrap().1.objected = true),
    b(Reason::ConsentUnknown, &[Consent], on_grant!(aud = member("registry"))),
    b(Reason::ConsentUnknown, &[Consent], on_grant!(evidence = Bytes::default())),
    b(Reason::BasisNotAllowed, &[Consent], on_grant!(template.version = "0.9".into())),
    b(Reason::BasisNotAllowed, &[Consent], on_grant!(template.id = "none".into())),
    b(Reason::ConsentOtherRecipient, &[Consent], on_grant!(recipient = member("registry"))),
    b(Reason::ConsentOtherPurpose, &[Consent], on_grant!(purposes.clear())),
    b(Reason::ConsentExpired, &[Consent], on_grant!(valid_to = NOW + -1)),
    b(Reason::ConsentExpired, &[Consent], on_grant!(valid_from = NOW + 1)),
    b(Reason::ConsentExpired, &[Consent], on_grant!(iat = NOW + 31)),
    b(Reason::ConsentExpired, &[Consent], on_grant!(valid_from = NOW + (-185 * 86_400))),
    b(Reason::ConsentWithdrawn, &[Consent], |s| s.withdrawn = true),
    b(Reason::ConsentWithdrawn, &[Consent], |s| s.status.as_mut().unwrap().withdrawn = true),
    b(Reason::ConsentStatusStale, &[Consent], |s| s.status = None),
    b(Reason::ConsentStatusStale, &[Consent], |s| {
        s.status = Some(StatusFact { as_of: NOW + -61, withdrawn: false });
    }),
    b(Reason::ConsentStatusStale, &[Consent], |s| {
        s.status = Some(StatusFact { as_of: NOW + 31, withdrawn: false });
    }),
    b(Reason::ConsentSameUser, &[Request, Consent], |s| {
        let taker = s.grant.as_ref().unwrap().collected_by.clone();
        s.request_mut().user.id = taker;
    }),
    b(Reason::ConsentSameUser, &[Consent], on_grant!(collected_by = Bytes::default())),
    b(Reason::NoFields, &[Consent], on_grant!(fields.clear())),
];

/// Claims an emergency, changed so.
fn danger(scenario: &mut Scenario, change: impl FnOnce(&mut EmergencyClaim)) {
    let mut claim =
        EmergencyClaim { reason: "life".into(), note: Bytes(vec![13; 32]), opened: NOW + -10, confirmed: NOW };
    change(&mut claim);
    scenario.request_mut().basis = Basis::Emergency(claim);
}

fn approval(
    scenario: &mut Scenario,
    change: impl FnOnce(&mut [u8; 32], &mut Bytes, &mut BTreeSet<FieldId>, &mut Timestamp),
) {
    let Decided::Approved { question, by, fields, until } = &mut scenario.decided else { panic!("approved") };
    change(question, by, fields, until);
}

fn refusal(at: Timestamp) -> Refusal {
    Refusal { recipient: None, purpose: None, fields: None, at }
}

fn age_ticket(scenario: &mut Scenario, seconds: i64) {
    let ticket = scenario.ticket.as_mut().unwrap().as_mut().unwrap();
    ticket.iat = NOW + -seconds;
    ticket.exp = ticket.iat + TICKET_SECONDS;
}

fn ask(scenario: &mut Scenario, query: &str) {
    scenario.manifest.agreements[0].terms.queries.insert(query.parse().unwrap());
    scenario.request_mut().query = query.parse().unwrap();
}

fn check(base: fn() -> Scenario, breaks: &[Break]) -> Vec<Reason> {
    base().decide(&ENGINE).expect("the fixture is valid");
    let broken = breaks.iter().enumerate().map(|(position, broken)| {
        let mut scenario = base();
        (broken.apply)(&mut scenario);
        let denial = scenario.decide(&ENGINE).expect_err("one fact is broken");
        assert_eq!(denial.reason(), broken.reason, "break {position}: {denial}");
        broken.reason
    });
    broken.collect()
}

#[test]
fn every_reason_has_a_fact_that_gives_it() {
    let mut seen: BTreeSet<_> = [
        check(by_mandate, EITHER),
        check(by_consent, EITHER),
        check(by_mandate, MANDATE),
        check(by_consent, CONSENT),
        check(comparing, VERIFY),
        check(in_danger, EMERGENCY),
        check(with_approval, HUMAN),
        // Cedar's two are in `rules`.
        vec![Reason::PolicyDenied, Reason::PolicyError],
        // A library's template that ended is there too.
        vec![Reason::ConsentTemplateExpired],
    ]
    .concat()
    .into_iter()
    .map(Reason::code)
    .collect();
    let elsewhere = [
        // The asking side's own.
        Reason::AnswerInvalid,
        Reason::ConsentSuperseded,
        Reason::EmergencyUnknown,
        Reason::ClockWrong,
        Reason::LogUnavailable,
        Reason::TokenInvalid,
        Reason::NotServed,
        Reason::GuardiansDisagree,
        Reason::NoHolder,
        Reason::PeerUnavailable,
        Reason::RegistryUnavailable,
        Reason::KeyHoldersUnavailable,
    ];
    for reason in elsewhere {
        assert!(seen.insert(reason.code()), "{reason:?} is not a decision's");
    }
    let all: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// What the asking side finds by itself; nothing where there is no such question.
fn before_asking(scenario: &Scenario) -> Option<Result<(), Denial>> {
    let request = scenario.request.as_ref().ok()?;
    let member = |id| scenario.manifest.member(id);
    let asked = Asked::by(request, member(&scenario.peer)?, member(&scenario.me)?);
    Some(ENGINE.answerable(&asked, &scenario.manifest, &scenario.revoked, NOW))
}

#[test]
fn the_asking_side_finds_by_itself_what_depends_on_no_resident() {
    type Base = (fn() -> Scenario, &'static [Break]);
    let bases: [Base; 7] = [
        (by_mandate, EITHER),
        (by_consent, EITHER),
        (by_mandate, MANDATE),
        (by_consent, CONSENT),
        (comparing, VERIFY),
        (in_danger, EMERGENCY),
        (with_approval, HUMAN),
    ];
    let mut found = BTreeSet::new();
    for (base, breaks) in bases {
        assert_eq!(before_asking(&base()), Some(Ok(())));
        for (position, broken) in breaks.iter().enumerate() {
            let mut scenario = base();
            (broken.apply)(&mut scenario);
            let denial = scenario.decide(&ENGINE).expect_err("one fact is broken");
            let Some(judged) = before_asking(&scenario) else { continue };
            match denial.step() {
                Step::Agreement | Step::Query | Step::Basis => {
                    assert_eq!(judged, Err(denial.clone()), "break {position}");
                    found.insert(denial.reason().code());
                }
                // Of a resident, or counted: nobody can say but the holder.
                Step::Quota | Step::Subject | Step::Consent | Step::Mode => {
                    assert_eq!(judged, Ok(()), "break {position}: {denial}");
                }
                _ => {}
            }
        }
    }
    for code in ["agreement_missing", "agreement_revoked", "query_unknown", "request_malformed", "case_missing"] {
        assert!(found.contains(code), "{code}: {found:?}");
    }
    let mut scenario = by_mandate();
    scenario.request_mut().fields = BTreeSet::from(["pup.nothing".parse().unwrap()]);
    let refused = before_asking(&scenario).expect("a question").expect_err("no such field");
    assert_eq!((refused.step(), refused.reason()), (Step::Fields, Reason::NoFields));
}

#[test]
fn a_permit_says_what_it_rests_on() {
    let permit = by_mandate().decide(&ENGINE).unwrap();
    assert_eq!((permit.query().as_str(), permit.tier()), ("q02", Tier::Share));
    let fields: Vec<_> = permit.fields().iter().map(protocol::FieldId::as_str).collect();
    assert_eq!(fields, ["pup.registered_from", "pup.status"]);
    assert_eq!(permit.agreement().to_string(), "example@1");
    assert_eq!(permit.basis().to_string(), "mandate:ups-105@2");
    assert_eq!(permit.policies(), ["federation.cedar#share-fields-of-the-query"]);
    assert_eq!(permit.obligations().delete_after, NOW + 30 * 86_400);
    assert!(!permit.obligations().onward_transfer && !permit.used_old_ticket());

    let permit = by_consent().decide(&ENGINE).unwrap();
    let BasisRef::Consent { recorder, template, .. } = permit.basis() else { panic!("by consent") };
    assert_eq!((recorder.as_str(), template.id.as_str()), ("asker", "instead-of-certificate"));
}

#[test]
fn the_edges_of_time_still_serve() {
    let edges: [fn(&mut Scenario); 9] = [
        |s| s.manifest.expires = NOW,
        on_request!(exp = NOW + 60),
        |s| {
            let request = s.request_mut();
            (request.iat, request.exp) = (NOW + -60, NOW);
        },
        on_request!(iat = NOW + 30),
        |s| age_ticket(s, TICKET_SECONDS),
        on_agreement!(valid_to = NOW),
        on_grant!(valid_to = NOW),
        |s| s.status = Some(StatusFact { as_of: NOW + -60, withdrawn: false }),
        |s| s.used.today = 99,
    ];
    for (position, edge) in edges.iter().enumerate() {
        let mut scenario = by_consent();
        edge(&mut scenario);
        assert!(scenario.decide(&ENGINE).is_ok(), "edge {position}");
    }
}

#[test]
fn an_old_ticket_serves_only_while_the_registry_is_away() {
    let mut scenario = by_mandate();
    scenario.registry_away = true;
    assert!(!scenario.decide(&ENGINE).unwrap().used_old_ticket());
    age_ticket(&mut scenario, OLD_TICKET_SECONDS);
    assert!(scenario.decide(&ENGINE).unwrap().used_old_ticket());
    scenario.registry_away = false;
    assert_eq!(scenario.decide(&ENGINE).unwrap_err().reason(), Reason::TicketExpired);
}

#[test]
fn a_manifest_of_another_version_is_not_an_alarm() {
    let mut scenario = by_mandate();
    let reference = &mut scenario.request_mut().manifest;
    (reference.version, reference.hash) = (8, Bytes(vec![0xee; 32]));
    assert!(scenario.decide(&ENGINE).is_ok());
}

#[test]
fn another_recorders_consent_may_be_used_by_whoever_took_it() {
    let mut scenario = by_consent();
    let taker = scenario.grant.as_ref().unwrap().collected_by.clone();
    scenario.request_mut().user.id = taker;
    scenario.grant.as_mut().unwrap().iss = member("registry");
    assert!(scenario.decide(&ENGINE).is_ok());
}

#[test]
fn of_two_agreements_the_one_in_force_serves() {
    let mut scenario = by_mandate();
    let mut old = scenario.manifest.agreements[0].clone();
    (old.terms.id, old.terms.valid_to) = ("old".into(), NOW + -1);
    scenario.manifest.agreements.insert(0, old);
    assert_eq!(scenario.decide(&ENGINE).unwrap().agreement().id, "example");
    let request = scenario.request.clone().unwrap();
    let found = |purpose| {
        let (manifest, now) = (&scenario.manifest, scenario.now);
        Engine::agreement_for(manifest, &[], &request.iss, &request.aud, &request.query, purpose, now)
    };
    assert_eq!(found(&request.purpose).unwrap().id, "example");
    assert_eq!(found(&"housing-welfare-management".parse().unwrap()).unwrap_err(), Reason::AgreementMissing);
}
