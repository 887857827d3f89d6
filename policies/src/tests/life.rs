//! The life of a consent: answers, withdrawal in part and whole, refusals and objections, expiry, receipts, export.

use super::{ENGINE, NOW, by_consent, by_mandate, comparing, in_danger, member, with_approval};
use crate::example::Decided;
use crate::letter::Letter;
use crate::receipt::{self, Tongue};
use crate::record::{
    Answer, Answers, ConsentEvent, ConsentHappened, ConsentRecord, ConsentState, Method, Party, jointly,
};
use crate::tests::rules::with_templates;
use crate::{AnswerMode, Refusal};
use protocol::consent::{Acting, TemplateRef};
use protocol::notice::ReviewOutcome;
use protocol::query::PENDING_SECONDS;
use protocol::{ConsentId, FieldId, Reason, Timestamp};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn answers(given: &[&str], refused: &[&str]) -> Answers {
    let each = |names: &[&str], answer| names.iter().map(|name| ((*name).to_owned(), answer)).collect::<Vec<_>>();
    each(given, Answer::Given).into_iter().chain(each(refused, Answer::Refused)).collect()
}

#[test]
fn guardians_consent_together_or_not_at_all() {
    let both = jointly(&[answers(&["a", "b"], &[]), answers(&["a"], &["b"])]).unwrap();
    assert_eq!(both, answers(&["a"], &["b"]));
    let silent = jointly(&[answers(&["a", "b"], &[]), answers(&["a"], &[])]).unwrap();
    assert_eq!(silent, answers(&["a"], &["b"]), "what one did not answer is refused");
    let conflict = jointly(&[answers(&["a"], &[]), answers(&[], &["a"])]);
    assert_eq!(conflict, Err(Reason::GuardiansDisagree));
    assert_eq!(jointly(&[answers(&[], &["a"]), answers(&[], &["a"])]), Ok(answers(&[], &["a"])));
}

#[test]
fn a_withdrawn_module_takes_its_fields_and_no_others() {
    let mut scenario = by_consent();
    scenario.withdrawn_modules.insert("benefits".into());
    assert!(scenario.decide(&ENGINE).is_ok());
    scenario.withdrawn_modules.insert("labour-status".into());
    assert_eq!(scenario.decide(&ENGINE).unwrap_err().reason(), Reason::ConsentWithdrawn);
}

/// A later version that permits more does not reach a consent to an earlier one.
#[test]
fn a_new_template_version_never_widens_an_old_consent() {
    let wider = with_templates(|templates| {
        let versions = templates.get_mut("instead-of-certificate").unwrap();
        let mut newer = versions[0].clone();
        newer.version = "2.0".into();
        let old = versions[0].modules.get_mut("labour-status").unwrap();
        old.permissions[0].fields = BTreeSet::from(["pup.status".parse().unwrap()]);
        versions.push(newer);
    });
    let fields: Vec<_> =
        by_consent().decide(&wider).unwrap().fields().iter().map(|field| field.as_str().to_owned()).collect();
    assert_eq!(fields, ["pup.status"]);
    let mut newer = by_consent();
    newer.grant.as_mut().unwrap().template.version = "2.0".into();
    assert_eq!(newer.decide(&wider).unwrap().fields().len(), 2);
    let ended = with_templates(|templates| {
        templates.get_mut("instead-of-certificate").unwrap()[0].valid_to = Some(NOW + -1);
    });
    assert_eq!(by_consent().decide(&ended).unwrap_err().reason(), Reason::ConsentTemplateExpired);
}

#[test]
fn specific_beats_general_and_later_beats_earlier() {
    let refused = |refusal: Refusal| {
        let mut scenario = by_consent();
        scenario.refusals = vec![refusal];
        scenario.decide(&ENGINE).map(|permit| permit.fields().len()).map_err(|denial| denial.reason())
    };
    let all = Refusal { recipient: None, purpose: None, fields: None, at: NOW };
    let earlier = NOW + -1;
    assert_eq!(refused(all.clone()), Err(Reason::ConsentRefused), "said at the same moment");
    assert_eq!(refused(Refusal { at: earlier, ..all.clone() }), Ok(2), "consented since, to exactly this");
    let status = Some(BTreeSet::from(["pup.status".parse().unwrap()]));
    assert_eq!(refused(Refusal { fields: status.clone(), at: earlier, ..all.clone() }), Ok(1), "this field never");
    let other = Refusal { recipient: Some(member("registry")), fields: status, ..all.clone() };
    assert_eq!(refused(other), Ok(2), "another recipient");
    let purpose = Some("housing-welfare-management".parse().unwrap());
    assert_eq!(refused(Refusal { purpose, ..all }), Ok(2), "another purpose");
}

#[test]
fn an_objection_beats_a_consent_and_has_a_person_decide_a_public_task() {
    let objecting = |mut scenario: crate::example::Scenario| {
        scenario.subject.as_mut().unwrap().1.objected = true;
        scenario.decide(&ENGINE).map_err(|denial| denial.reason())
    };
    assert_eq!(objecting(by_consent()).unwrap_err(), Reason::SubjectObjected);
    assert!(objecting(by_mandate()).is_ok(), "a legal obligation is not objected to");
    assert!(objecting(in_danger()).is_ok(), "nor is the protection of a life");
    let mut public_task = super::scenario(
        r#"
        name = "public task"
        asker = "pup"
        holder = "mops"
        role = "caseworker"
        query = "q06"
        purpose = "public-service-eligibility-assessment"
        mandate = "urp-2025"
        case = true
        fields = ["mops.contract.from"]
        "#,
    );
    assert!(public_task.decide(&ENGINE).is_ok());
    public_task.subject.as_mut().unwrap().1.objected = true;
    let denial = public_task.decide(&ENGINE).unwrap_err();
    assert_eq!(denial.reason(), Reason::ApprovalPending);
    let proposal = denial.proposal().unwrap();
    assert_eq!((proposal.fields().len(), proposal.until()), (1, NOW + PENDING_SECONDS));
}

#[test]
fn a_minors_consent_is_a_guardians() {
    let mut scenario = by_consent();
    scenario.subject.as_mut().unwrap().1.minor = true;
    scenario.grant.as_mut().unwrap().acting = Acting::Guardian;
    assert!(scenario.decide(&ENGINE).is_ok());
    scenario.grant.as_mut().unwrap().acting = Acting::Attorney;
    assert_eq!(scenario.decide(&ENGINE).unwrap_err().reason(), Reason::ConsentRepresentative);
    scenario.subject.as_mut().unwrap().1.minor = false;
    assert!(scenario.decide(&ENGINE).is_ok());
}

#[test]
fn a_person_approves_in_part_and_later() {
    let mut scenario = with_approval();
    scenario.received = NOW + -3 * 86_400;
    let request = scenario.request_mut();
    (request.iat, request.exp) = (request.iat + -3 * 86_400, request.exp + -3 * 86_400);
    let ticket = scenario.ticket.as_mut().unwrap().as_mut().unwrap();
    (ticket.iat, ticket.exp) = (ticket.iat + -3 * 86_400, ticket.exp + -3 * 86_400);
    assert_eq!(scenario.decide(&ENGINE).unwrap().fields().len(), 2);
    let Decided::Approved { fields, .. } = &mut scenario.decided else { panic!("approved") };
    fields.remove(&"hou.eviction".parse().unwrap());
    assert_eq!(scenario.decide(&ENGINE).unwrap().fields().len(), 1);
    scenario.decided = Decided::Nothing;
    let denial = scenario.decide(&ENGINE).unwrap_err();
    assert_eq!(denial.proposal().unwrap().until(), scenario.received + PENDING_SECONDS);
    // It is decided again, entirely.
    scenario.subject.as_mut().unwrap().1.restricted = true;
    assert_eq!(scenario.decide(&ENGINE).unwrap_err().reason(), Reason::SubjectRestricted);
}

#[test]
fn what_an_answer_may_say_follows_the_tier() {
    let permit = comparing().decide(&ENGINE).unwrap();
    assert!(permit.fields().is_empty());
    assert_eq!(permit.compared().iter().map(protocol::FieldId::as_str).collect::<Vec<_>>(), ["css.amount"]);
    let mut danger = in_danger();
    danger.manifest.agreements[0].terms.mode = AnswerMode::Human;
    danger.manifest.agreements[0].terms.queries_per_day = 0;
    danger.subject.as_mut().unwrap().1.do_not_contact = true;
    let permit = danger.decide(&ENGINE).unwrap();
    assert_eq!(permit.obligations().review_by, Some(NOW + 7 * 86_400));
    assert!(permit.obligations().do_not_contact && permit.compared().is_empty());
    assert_eq!(permit.basis().to_string(), "emergency:vital-interest@2");
}

struct Kept {
    reference: TemplateRef,
    answers: Answers,
    events: Vec<ConsentEvent>,
}

fn event(happened: ConsentHappened, at: i64) -> ConsentEvent {
    let method = Some(Method::CounterPaper);
    ConsentEvent { happened, at: NOW + at, by: Some("u".to_owned()), method, place: member("mops") }
}

fn kept(events: Vec<ConsentEvent>) -> Kept {
    let reference = TemplateRef { id: "instead-of-certificate".into(), version: "1.0".into() };
    Kept { reference, answers: answers(&["labour-status", "labour-benefit"], &["benefits"]), events }
}

impl Kept {
    fn with<T>(&self, use_it: impl FnOnce(&ConsentRecord<'_>) -> T) -> T {
        let (mops, pup) = (member("mops"), member("pup"));
        let (welfare, labour) = ("mops".parse().unwrap(), "pup".parse().unwrap());
        let party = |id, name, kind| Party { id, name, kind };
        let holders = [party(&pup, "PUP <Łódź>", &labour)];
        let purposes = BTreeSet::from(["social-welfare-provision".parse().unwrap()]);
        let recipient = party(&mops, "MOPS", &welfare);
        use_it(&ConsentRecord {
            id: ConsentId([5; 16]),
            template: ENGINE.template("instead-of-certificate").unwrap(),
            reference: &self.reference,
            acting: Acting::Resident,
            answers: &self.answers,
            recorder: recipient.clone(),
            recipient,
            holders: &holders,
            purposes: &purposes,
            valid_from: NOW,
            valid_to: NOW + 100 * 86_400,
            method: Method::CounterPaper,
            language: Tongue::Uk,
            evidence: &[7; 32],
            events: &self.events,
        })
    }

    fn state(&self, at: Timestamp) -> ConsentState {
        self.with(|record| record.state(at))
    }
}

#[test]
fn a_consent_lives_and_ends() {
    use ConsentHappened::{Given, PartlyWithdrawn, Renewed, Requested, Withdrawn};
    let module = |name: &str| PartlyWithdrawn(BTreeSet::from([name.to_owned()]));
    let given = kept(vec![event(Requested, -5), event(Given, 0), event(module("labour-status"), 50)]);
    assert_eq!(given.state(NOW + -1), ConsentState::Requested);
    assert_eq!(given.state(NOW), ConsentState::Given);
    assert_eq!(given.state(NOW + 50), ConsentState::Given);
    assert_eq!(given.with(|record| record.standing(NOW + 50)), BTreeSet::from(["labour-benefit".to_owned()]));
    assert_eq!(given.state(NOW + 101 * 86_400), ConsentState::Expired);
    let both = kept(vec![event(Given, 0), event(module("labour-status"), 1), event(module("labour-benefit"), 2)]);
    assert_eq!(both.state(NOW + 2), ConsentState::Withdrawn, "nothing is left");
    let again = kept(vec![event(Given, 0), event(Withdrawn, 1), event(Renewed, 2)]);
    assert_eq!(again.state(NOW + 3), ConsentState::Withdrawn, "final");
    assert!(again.with(|record| record.standing(NOW + 3)).is_empty());
    assert_eq!(kept(vec![event(Given, 0), event(Renewed, 2)]).state(NOW + 3), ConsentState::Renewed);
}

#[test]
fn a_receipt_says_what_was_given_in_three_languages() {
    let kept = kept(vec![event(ConsentHappened::Given, 0)]);
    let catalogue = ENGINE.library().catalogue();
    let (field, mut names): (FieldId, BTreeSet<String>) = ("pup.status".parse().unwrap(), BTreeSet::new());
    for (tongue, words) in [
        (
            Tongue::Pl,
            ["Potwierdzenie zgody", "[x] Rejestracja w urzędzie pracy: tak", "[ ] Pobierane świadczenia: nie"],
        ),
        (Tongue::En, ["Receipt of consent", "[x] Registration at the labour office: yes", "Valid from: 2026-11-21"]),
        (Tongue::Uk, ["Підтвердження згоди", "[x] Реєстрація в службі зайнятості: так", "Діє до: 2027-03-01"]),
    ] {
        let text = kept.with(|record| receipt::text(record, catalogue, tongue, NOW));
        for word in words {
            assert!(text.contains(word), "{text}");
        }
        // What may leave, in the same language.
        let field = tongue.field(catalogue, &field);
        assert!(text.contains(field) && names.insert(field.to_owned()), "{field}: {text}");
        let html = kept.with(|record| receipt::html(record, catalogue, tongue, NOW));
        assert!(html.contains("PUP &lt;Łódź&gt;") && !html.contains("<Łódź>"), "{html}");
    }
}

#[test]
fn a_receipt_of_what_was_not_given_is_none_of_a_consent() {
    let catalogue = ENGINE.library().catalogue();
    let read = |events: Vec<ConsentEvent>, tongue| {
        kept(events).with(|record| {
            (receipt::text(record, catalogue, tongue, NOW), receipt::html(record, catalogue, tongue, NOW))
        })
    };
    for (tongue, asked, declined, to, evidence, withdraw) in [
        (Tongue::Pl, "Prośba o zgodę", "Odmowa zgody", "Ważna do", "Skrót SHA-256", "Działa to od razu"),
        (Tongue::En, "Request for consent", "Refusal of consent", "Valid to", "SHA-256 of", "It works at once"),
        (Tongue::Uk, "Прохання про згоду", "Відмова у згоді", "Діє до", "Відбиток SHA-256", "Це діє негайно"),
    ] {
        let (text, html) = read(vec![event(ConsentHappened::Requested, 0)], tongue);
        for said in [&text, &html] {
            assert!(said.contains(asked), "{said}");
            assert!(![to, evidence, withdraw].iter().any(|word| said.contains(word)), "{said}");
        }
        let (text, html) = read(vec![event(ConsentHappened::Requested, 0), event(ConsentHappened::Refused, 0)], tongue);
        for said in [&text, &html] {
            assert!(said.contains(declined) && said.contains(evidence), "{said}");
            assert!(![to, withdraw].iter().any(|word| said.contains(word)), "{said}");
        }
    }
    let given = kept(vec![event(ConsentHappened::Given, 0)]);
    let nobody = given.with(|record| {
        let record = ConsentRecord { holders: &[], ..record.clone() };
        receipt::text(&record, catalogue, Tongue::Pl, NOW)
    });
    assert!(nobody.contains("Danych udzieli: dziś nie dotyczy żadnej jednostki"), "{nobody}");
}

#[test]
fn a_letter_tells_in_three_languages_what_was_seen_in_an_emergency() {
    let catalogue = ENGINE.library().catalogue();
    let (phone, none) = (BTreeSet::from(["mops.duty.phone".parse().unwrap()]), BTreeSet::new());
    let labour = "pup".parse().unwrap();
    let letter = Letter {
        id: "number",
        asker: "PUP",
        kind: &labour,
        reason: "missing",
        opened: NOW,
        holders: vec![("MOPS <Łódź>", &phone), ("CŚS", &none)],
        outcome: ReviewOutcome::Unjustified,
    };
    for (tongue, words) in [
        (Tongue::Pl, ["zaginięcie", "MOPS <Łódź> (dyżur ośrodka), CŚS", "art. 6 ust. 1 lit. d", "nie był uzasadniony"]),
        (Tongue::En, ["missing person", "(duty desk of the centre)", "art. 6 para. 1 point d", "was not justified"]),
        (Tongue::Uk, ["зникнення людини", "(черговий телефон центру)", "ст. 6 п. 1 літ. d", "не був обґрунтованим"]),
    ] {
        let text = letter.text(catalogue, tongue);
        for word in words.into_iter().chain(["2026-11-21", "number", "PUP", ": 1\n"]) {
            assert!(text.contains(word), "{word}: {text}");
        }
        let html = letter.html(catalogue, tongue);
        assert!(html.contains("MOPS &lt;Łódź&gt;") && !html.contains("<ul>"), "{html}");
    }
    let text = Letter { holders: Vec::new(), ..letter }.text(catalogue, Tongue::En);
    assert!(text.contains("we received no data"), "{text}");
}

#[test]
fn an_export_is_a_consent_record_and_names_nobody() {
    let module = ConsentHappened::PartlyWithdrawn(BTreeSet::from(["labour-benefit".to_owned()]));
    let kept = kept(vec![event(ConsentHappened::Given, 0), event(module, 60)]);
    let export = kept.with(|record| record.export(ENGINE.library().catalogue(), NOW + 60));
    let record = &expanded(&export).unwrap()[0];
    let dpv = |term: &str| format!("https://w3id.org/dpv{term}");
    let dct = |term: &str| format!("http://purl.org/dc/terms/{term}");
    assert_eq!(record["@type"][0], dpv("#ConsentRecord"));
    assert_eq!(record[dpv("#hasConsentStatus")][0]["@id"], dpv("#ConsentGiven"));
    assert_eq!(record[dpv("#hasLegalBasis")][0]["@id"], dpv("/legal/eu/gdpr#A6-1-a"));
    assert_eq!(record[dpv("#hasRight")][0]["@id"], dpv("/legal/eu/gdpr#A7-3"));
    assert_eq!(record[dpv("#hasRecipient")][0]["@id"], "urn:ogniwo:member:mops");
    assert_eq!(record[dpv("#hasRecipient")][0]["@type"][0], dpv("#DataController"));
    let title = record[dpv("#hasNotice")][0][dct("title")].as_array().unwrap();
    let languages: Vec<_> = title.iter().map(|text| text["@language"].as_str().unwrap()).collect();
    assert_eq!(languages, ["en", "pl", "uk"]);
    let day =
        serde_json::json!([{ "@type": "http://www.w3.org/2001/XMLSchema#dateTime", "@value": "2026-11-21T12:00:00Z" }]);
    assert_eq!(record[dpv("#hasDuration")][0]["http://www.w3.org/ns/dcat#startDate"], day);
    let processes = record[dpv("#hasProcess")].as_array().unwrap();
    assert_eq!(processes.len(), 2, "labour status and labour benefit, both at PUP");
    assert_eq!(processes[0][dpv("#hasPurpose")][0]["@id"], dpv("/sector/publicservices#SocialWelfareProvision"));
    assert_eq!(processes[0][dpv("#hasDataSource")][0]["@id"], "urn:ogniwo:member:pup");
    let data = &processes[1][dpv("#hasPersonalData")][3];
    let registration = serde_json::json!(["urn:ogniwo:term:UnemploymentRegistration", dpv("/pd#CurrentEmployment")]);
    assert_eq!(data["@type"], registration);
    assert_eq!(data[dct("title")].as_array().unwrap().len(), 3, "a name in each language");
    let happened = record[dct("hasPart")].as_array().unwrap();
    assert_eq!(happened[1]["@type"][0], dpv("#ConsentWithdrawn"));
    assert_eq!(happened[0][dct("date")], day);

    let mut lost = export.clone();
    lost["dpv:hasDuration"]["from"] = "2026".into();
    assert!(expanded(&lost).is_err(), "a term that stands for nothing");
    let mut lost = export.clone();
    lost["dpv:hasLegalBasis"][0] = "A6-1-a".into();
    assert!(expanded(&lost).is_err(), "a thing without an IRI");
    let mut fetched = export;
    fetched["@context"] = "https://w3id.org/dpv/context".into();
    assert!(expanded(&fetched).unwrap_err().contains("wants to load"));
}

/// What another implementation, pyld, makes of a JSON-LD document: an array of nodes with IRIs alone.
fn expanded(document: &serde_json::Value) -> Result<serde_json::Value, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/expand.py");
    // Debian's own interpreter, for which its package is.
    let mut python = Command::new("/usr/bin/python3");
    let python = python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = python.spawn().unwrap();
    running.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("ModuleNotFoundError"), "`pyld` is missing: install python3-pyld");
    if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(said) }
}
