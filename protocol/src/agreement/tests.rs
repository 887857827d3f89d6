use super::*;
use crate::manifest::{ManifestError, Member, MemberKey, OfficerKey, Officers, Quotas, SignedManifest};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn member(id: &str, seed: u8) -> Member {
    Member {
        id: id.parse().unwrap(),
        name: id.into(),
        kind: id.parse().unwrap(),
        endpoints: vec![],
        roles: BTreeSet::new(),
        operator: "IT".into(),
        keys: vec![MemberKey {
            usage: KeyUse::Message,
            key: key(seed).public(),
            valid_from: Timestamp(0),
            valid_to: Timestamp(100),
            revoked_at: None,
        }],
        quotas: Quotas { evaluations_burst: 1, evaluations_per_day: 1, first_enrolment: None },
        duty_desk: None,
    }
}

fn terms() -> Agreement {
    Agreement {
        id: "mops-pup".into(),
        version: 1,
        asker: "mops".parse().unwrap(),
        holder: "pup".parse().unwrap(),
        queries: ["q02".parse().unwrap()].into(),
        fields: ["pup.status".parse().unwrap()].into(),
        purposes: ["social-welfare-provision".parse().unwrap()].into(),
        queries_per_day: 100,
        queries_per_user_per_day: Some(10),
        hours: [Hours { day: Weekday::Monday, from_minute: 420, to_minute: 1140 }].into(),
        mode: AnswerMode::Automatic,
        valid_from: Timestamp(10),
        valid_to: Timestamp(1_000),
    }
}

fn signed(terms: Agreement) -> SignedAgreement {
    let mut agreement = SignedAgreement::draft(terms);
    for (party, seed) in [("mops", 1), ("pup", 2)] {
        agreement.assent(&party.parse().unwrap(), &key(seed), Timestamp(50)).unwrap();
    }
    agreement
}

fn manifest(version: u64, agreements: Vec<SignedAgreement>) -> Manifest {
    Manifest {
        realm: "lodz.example".parse().unwrap(),
        version,
        issued: Timestamp(60),
        expires: Timestamp(1_000),
        officers: Officers {
            threshold: 1,
            keys: vec![OfficerKey { member: "mops".parse().unwrap(), key: key(9).public() }],
        },
        members: vec![member("mops", 1), member("pup", 2), member("css", 3)],
        epochs: vec![],
        agreements,
        successions: vec![],
        library: crate::bundle::LibraryPin { version: 1, digest: Bytes(vec![0; 32]) },
    }
}

fn check(agreement: &SignedAgreement) -> Result<(), AgreementError> {
    agreement.check(&manifest(1, vec![]))
}

#[test]
fn both_parties_sign_the_terms_that_stand() {
    assert_eq!(check(&signed(terms())), Ok(()));
    let mut one = signed(terms());
    one.assents.remove(&"pup".parse().unwrap());
    assert_eq!(check(&one), Err(AgreementError::Unsigned));
    let mut changed = signed(terms());
    changed.terms.queries_per_day += 1;
    assert_eq!(check(&changed), Err(AgreementError::Unsigned));
    let mut forged = signed(terms());
    forged.assent(&"pup".parse().unwrap(), &key(1), Timestamp(50)).unwrap();
    assert_eq!(check(&forged), Err(AgreementError::Unsigned), "the asker signs for the holder");
    let mut late = signed(terms());
    late.assent(&"pup".parse().unwrap(), &key(2), Timestamp(101)).unwrap();
    assert_eq!(check(&late), Err(AgreementError::Unsigned), "the key was past its time");
    let mut copied = signed(terms());
    let [mops, pup] = ["mops", "pup"].map(|party| party.parse().unwrap());
    let of_mops = copied.assents[&mops].clone();
    copied.assents.insert(pup, of_mops);
    assert_eq!(check(&copied), Err(AgreementError::Unsigned));
}

#[test]
fn terms_that_contradict_are_refused_whoever_signed() {
    let bad: [fn(&mut Agreement); 3] = [
        |t| t.holder = t.asker.clone(),
        |t| t.valid_to = Timestamp(9),
        |t| t.hours = [Hours { day: Weekday::Friday, from_minute: 600, to_minute: 600 }].into(),
    ];
    for change in bad {
        let mut terms = terms();
        change(&mut terms);
        assert_eq!(check(&signed(terms)), Err(AgreementError::Malformed));
    }
}

#[test]
fn either_party_alone_revokes_and_no_one_else() {
    for (party, seed) in [("mops", 1), ("pup", 2)] {
        let mut agreement = signed(terms());
        agreement.revocation = Some(agreement.revoke(&party.parse().unwrap(), &key(seed), Timestamp(55)).unwrap());
        assert_eq!(check(&agreement), Ok(()));
        assert!(!agreement.in_force(Timestamp(56)) && signed(terms()).in_force(Timestamp(56)));
    }
    let mut stranger = signed(terms());
    stranger.revocation = Some(stranger.revoke(&"css".parse().unwrap(), &key(3), Timestamp(55)).unwrap());
    assert_eq!(check(&stranger), Err(AgreementError::BadRevocation));
    let mut other = signed(terms());
    let about = SignedAgreement::draft(Agreement { version: 2, ..terms() });
    other.revocation = Some(about.revoke(&"pup".parse().unwrap(), &key(2), Timestamp(55)).unwrap());
    assert_eq!(check(&other), Err(AgreementError::BadRevocation), "of another version");
}

fn manifests(version: u64, agreements: Vec<SignedAgreement>) -> SignedManifest {
    let mut draft = SignedManifest::draft(&manifest(version, agreements)).unwrap();
    draft.sign(&key(9));
    draft
}

#[test]
fn a_manifest_carries_only_what_both_signed_and_never_lets_it_change() {
    let held = manifests(1, vec![signed(terms())]);
    assert!(held.accept_held().is_ok());
    let unsigned = manifests(1, vec![SignedAgreement::draft(terms())]);
    assert!(matches!(unsigned.accept_held(), Err(ManifestError::Agreement(..))));
    let twice = manifests(1, vec![signed(terms()), signed(terms())]);
    assert_eq!(twice.accept_held().unwrap_err(), ManifestError::Inconsistent);

    let more = Agreement { queries_per_day: 101, ..terms() };
    let changed = manifests(2, vec![signed(more.clone())]).accept_after(&held);
    assert!(matches!(changed, Err(ManifestError::AgreementChanged(_))));
    let renewed = vec![signed(terms()), signed(Agreement { version: 2, ..more })];
    assert!(manifests(2, renewed).accept_after(&held).is_ok());
    assert!(manifests(2, vec![]).accept_after(&held).is_ok(), "one that nobody revoked may be dropped");
}

#[test]
fn a_revocation_stays() {
    let mut revoked = signed(terms());
    revoked.revocation = Some(revoked.revoke(&"pup".parse().unwrap(), &key(2), Timestamp(55)).unwrap());
    let held = manifests(1, vec![revoked.clone()]);
    assert!(manifests(2, vec![revoked]).accept_after(&held).is_ok());
    for revived in [vec![signed(terms())], vec![]] {
        let refused = manifests(2, revived).accept_after(&held);
        assert!(matches!(refused, Err(ManifestError::AgreementChanged(_))));
    }
    let mut without_pup = manifest(2, vec![]);
    without_pup.members.retain(|member| member.id.as_str() != "pup");
    let mut draft = SignedManifest::draft(&without_pup).unwrap();
    draft.sign(&key(9));
    assert!(draft.accept_after(&held).is_ok(), "a party left, and its agreements with it");
}
