//! What people decide beside the rules: flags, approvals, emergencies, comparisons.

use crate::identities::days_later;
use crate::local_api::request;
use cli::exit::Failure;
use node::{
    ApprovalList, ApprovalState, ApprovalView, Decision, DecisionList, EmergencyList, EmergencyView, FlagList, Outcome,
    OutcomeKind, QueryResult,
};
use serde_json::{Value, json};
use tests::{CANARY_SURNAME, Harness, PURPOSE, member, pesel_of, read_log};

const SHARED: &str = "mops+pup";

fn resident() -> Value {
    json!({ "pesel": pesel_of(SHARED) })
}

fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

fn code<T: std::fmt::Debug>(done: Result<T, Failure>) -> String {
    match done {
        Err(failure) => failure.code,
        Ok(value) => format!("{value:?}"),
    }
}

async fn flag(harness: &Harness, unit: &str, change: &str, flag: &str, resident: Value) -> Result<FlagList, Failure> {
    let body = json!({ "resident": resident, change: [flag], "reason": "a letter" });
    harness.post(unit, "dpo", "/v1/flags", &body).await
}

async fn get<T: serde::de::DeserializeOwned>(
    harness: &Harness,
    unit: &str,
    role: &str,
    path: &str,
) -> Result<T, Failure> {
    let unit = member(unit);
    let token = harness.federation.token(&unit, role, &[role])?;
    harness.federation.local(&unit)?.call(http::Method::GET, path, &token, None).await
}

/// What is printed at `path`.
async fn printed(harness: &Harness, unit: &str, role: &str, path: &str) -> Result<String, Failure> {
    let unit = member(unit);
    let token = harness.federation.token(&unit, role, &[role])?;
    harness.federation.local(&unit)?.text(path, &token).await
}

fn said(outcome: &Outcome) -> (OutcomeKind, &str) {
    (outcome.outcome, outcome.reason.as_deref().unwrap_or_default())
}

const UNAVAILABLE: (OutcomeKind, &str) = (OutcomeKind::Denied, "not_available");
const ANSWERED: (OutcomeKind, &str) = (OutcomeKind::Answered, "");

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_obeyed_and_told_alike() {
    let mut harness = Harness::filled().await;
    let ask = async || harness.ask("mops", "pup", "q02", resident(), mandate()).await;
    assert_eq!(said(&ask().await), ANSWERED);
    assert_eq!(
        code(
            harness
                .post::<FlagList>(
                    "pup",
                    "caseworker",
                    "/v1/flags",
                    &json!({
            "resident": resident(), "set": ["restricted"], "reason": "x" })
                )
                .await
        ),
        "role_not_allowed"
    );
    for name in ["restricted", "deceased"] {
        flag(&harness, "pup", "set", name, resident()).await.expect("set");
        let refused = ask().await;
        assert_eq!(said(&refused), UNAVAILABLE, "{name}");
        let message = refused.message.expect("words");
        assert!(!message.pl.contains(name) && !message.en.contains(name), "{message:?}");
        lift(&harness, "pup", name, resident()).await;
        assert_eq!(said(&ask().await), ANSWERED, "{name} lifted");
    }
    flag(&harness, "pup", "set", "do_not_contact", resident()).await.expect("set");
    assert!(ask().await.obligations.expect("duties").do_not_contact);
    let shown: FlagList =
        harness.post("pup", "caseworker", "/v1/flags/show", &json!({ "resident": resident() })).await.expect("shown");
    assert_eq!(shown.flags.len(), 1);
    let refused = tests::refusals(&mut harness, "pup").await;
    assert_eq!(refused, ["subject_restricted", "subject_deceased"]);
    let log = read_log(&harness, "pup");
    let set: Vec<_> = log.iter().filter(|e| e["event"] == "flag.set").map(|e| e["detail"].clone()).collect();
    assert_eq!(set, ["restricted", "deceased", "do_not_contact"]);
}

/// Lifts a flag; a restriction as only the officer may, once the resident was told (GDPR art. 18(3)).
async fn lift(harness: &Harness, unit: &str, name: &str, resident: serde_json::Value) {
    if name != "restricted" {
        flag(harness, unit, "clear", name, resident).await.expect("lifted");
        return;
    }
    assert_eq!(code(flag(harness, unit, "clear", name, resident.clone()).await), "value_invalid");
    let body = json!({ "resident": resident, "reason": "koniec", "lift": true, "resident_informed": true });
    let lifted = harness.post::<node::Restricted>(unit, "dpo", "/v1/audit/residents/restrict", &body).await;
    assert!(!lifted.expect("lifted").restricted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_resident_leaves_the_registry_and_does_not_come_back() {
    let harness = Harness::filled().await;
    flag(&harness, "pup", "set", "unlisted", resident()).await.expect("set");
    // Whether its entry is gone already or not.
    let refused = harness.ask("mops", "pup", "q02", resident(), mandate()).await;
    assert!(matches!(refused.reason.as_deref(), Some("not_available" | "no_holder")), "{refused:?}");
    let again = harness.enrol("pup").await.expect("enrolled");
    assert_eq!(again.published, 0, "{again:?}");
    // The entry is gone: the asker finds no holder at all.
    let outcome = harness.ask("mops", "pup", "q02", resident(), mandate()).await;
    assert_eq!((outcome.outcome, outcome.reason.as_deref()), (OutcomeKind::Denied, Some("no_holder")));
    flag(&harness, "pup", "clear", "unlisted", resident()).await.expect("lifted");
    assert_eq!(harness.enrol("pup").await.expect("enrolled").published, 1);
    assert_eq!(said(&harness.ask("mops", "pup", "q02", resident(), mandate()).await), ANSWERED);
}

/// A question that a person of zlm decides.
pub(crate) async fn eviction(harness: &Harness) -> QueryResult {
    let body = json!({
        "resident": { "pesel": pesel_of("mops+zlm") }, "asks": [{ "query": "q11", "holder": "zlm" }],
        "purpose": PURPOSE, "basis": mandate(), "case_ref": "MOPS/2026/1", "reason": "test",
    });
    harness.post("mops", "caseworker", "/v1/queries", &body).await.expect("a result")
}

pub(crate) async fn waiting(harness: &Harness) -> ApprovalView {
    let list: ApprovalList = get(harness, "zlm", "supervisor", "/v1/approvals").await.expect("a list");
    list.approvals.into_iter().find(|view| view.state == ApprovalState::Waiting).expect("one waits")
}

async fn fetch(harness: &Harness, id: &str) -> Outcome {
    let result: QueryResult = get(harness, "mops", "caseworker", &format!("/v1/queries/{id}")).await.expect("a result");
    result.outcomes.into_iter().next().expect("an outcome")
}

/// Fetches until the outcome is no longer pending: the notice travels by itself.
pub(crate) async fn settled(harness: &Harness, id: &str) -> Outcome {
    for _ in 0..200 {
        let outcome = fetch(harness, id).await;
        if outcome.outcome != OutcomeKind::Pending {
            return outcome;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("still pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_after_a_restart_and_the_asker_is_told() {
    let mut harness = Harness::filled().await;
    let asked = eviction(&harness).await;
    assert_eq!(said(&asked.outcomes[0]), (OutcomeKind::Pending, "pending"));
    assert_eq!(fetch(&harness, &asked.id).await.outcome, OutcomeKind::Pending, "nobody decided");
    let zlm = member("zlm");
    harness.federation.nodes.get_mut(&zlm).expect("zlm").stop().await.expect("stopped");
    harness.federation.nodes.get_mut(&zlm).expect("zlm").restart().await.expect("started");
    let view = waiting(&harness).await;
    assert_eq!((view.asker.as_str(), view.query.as_str(), view.case), ("mops", "q11", true));
    let path = format!("/v1/approvals/{}/grant", view.id);
    let body = json!({ "fields": ["hou.eviction"] });
    assert_eq!(code(harness.post::<ApprovalView>("zlm", "dpo", &path, &body).await), "role_not_allowed");
    // Who approves is never who asks: users of the asker's institution are nobody here.
    let of_asker = harness.federation.token(&member("mops"), "supervisor", &["supervisor"]).expect("a token");
    let api = harness.federation.local(&zlm).expect("an API");
    let stranger = api.call::<ApprovalView>(http::Method::POST, &path, &of_asker, Some(&body)).await;
    assert!(code(stranger).starts_with("token_"));
    let wider = json!({ "fields": ["hou.arrears.amount"] });
    assert_eq!(code(harness.post::<ApprovalView>("zlm", "supervisor", &path, &wider).await), "value_invalid");
    let granted: ApprovalView = harness.post("zlm", "supervisor", &path, &body).await.expect("granted");
    assert_eq!(granted.state, ApprovalState::Granted);
    assert_eq!(code(harness.post::<ApprovalView>("zlm", "supervisor", &path, &body).await), "already_decided");
    let outcome = settled(&harness, &asked.id).await;
    assert_eq!(said(&outcome), ANSWERED);
    let fields: Vec<_> = outcome.fields.keys().map(protocol::FieldId::as_str).collect();
    assert_eq!(fields, ["hou.eviction"], "no more than was approved");
    // It waited, was asked again and answered: one decision, and so to be tried again.
    let list: DecisionList = get(&harness, "zlm", "dpo", "/v1/decisions").await.expect("a list");
    assert_eq!((list.decisions.len(), list.left_out), (1, 0));
    let asked: Vec<_> = list.decisions[0].fields.iter().map(protocol::FieldId::as_str).collect();
    assert_eq!(asked, ["hou.eviction", "hou.eviction.notice", "hou.eviction.social_tenancy"], "all of the query's");
    // The question that waited and the one answered stand in both logs alike.
    let now = harness.clock.now().0;
    for (unit, peer) in [("mops", "zlm"), ("zlm", "mops")] {
        let body = json!({ "peer": peer, "from": now - 3_600, "until": now + 60 });
        let compared: node::Reconciled =
            harness.post(unit, "dpo", "/v1/audit/reconcile", &body).await.expect("compared");
        assert_eq!((compared.matched, compared.findings.len()), (2, 0), "{unit}: {compared:?}");
    }
    for (unit, events) in [
        ("zlm", ["approval.waiting", "approval.granted", "query.answered"].as_slice()),
        ("mops", &["query.asking", "query.outcome"]),
    ] {
        harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("stopped");
        let log = read_log(&harness, unit);
        for event in events {
            assert!(log.iter().any(|entry| entry["event"] == *event), "{unit} {event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_refuses_or_nobody_decides() {
    let mut harness = Harness::filled().await;
    let asked = eviction(&harness).await;
    let path = format!("/v1/approvals/{}/refuse", waiting(&harness).await.id);
    let _refused: ApprovalView =
        harness.post("zlm", "supervisor", &path, &json!({ "reason": "not needed" })).await.expect("refused");
    let outcome = settled(&harness, &asked.id).await;
    assert_eq!(said(&outcome), (OutcomeKind::Denied, "declined"));
    // The same question later is a new one; this one nobody decides.
    days_later(&harness, 8).await;
    let asked = eviction(&harness).await;
    assert_eq!(asked.outcomes[0].outcome, OutcomeKind::Pending);
    days_later(&harness, 8).await;
    assert_eq!(said(&fetch(&harness, &asked.id).await), (OutcomeKind::Denied, "approval_expired"));
    assert_eq!(tests::refusals(&mut harness, "zlm").await, ["approval_refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_goes_within_a_day_though_another_question_waits() {
    let harness = Harness::filled().await;
    let body = json!({
        "resident": { "pesel": pesel_of("mops+pup+zlm") },
        "asks": [{ "query": "q02", "holder": "pup" }, { "query": "q11", "holder": "zlm" }],
        "purpose": PURPOSE, "basis": mandate(), "case_ref": "MOPS/2026/1", "reason": "test",
    });
    let asked: QueryResult = harness.post("mops", "caseworker", "/v1/queries", &body).await.expect("a result");
    let path = format!("/v1/queries/{}", asked.id);
    let kept = async || {
        let kept: QueryResult = get(&harness, "mops", "caseworker", &path).await.expect("a result");
        kept.outcomes.into_iter().map(|outcome| (outcome.outcome, outcome.fields.len())).collect::<Vec<_>>()
    };
    let (answered, pending) = (OutcomeKind::Answered, OutcomeKind::Pending);
    let first = kept().await;
    assert!(first[0].0 == answered && first[0].1 > 0 && first[1] == (pending, 0), "{first:?}");
    days_later(&harness, 2).await;
    assert_eq!(kept().await, [(answered, 0), (pending, 0)], "a day after it came");
    let grant = format!("/v1/approvals/{}/grant", waiting(&harness).await.id);
    let _granted: ApprovalView = harness.post("zlm", "supervisor", &grant, &json!({})).await.expect("granted");
    tests::until("the answer is fetched", async || kept().await[1].0 == answered).await;
    let last = kept().await;
    assert!(last[0] == (answered, 0) && last[1].1 > 0, "what comes later has its own day: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_must_still_be_permitted() {
    let mut harness = Harness::filled().await;
    let asked = eviction(&harness).await;
    let view = waiting(&harness).await;
    let of = json!({ "pesel": pesel_of("mops+zlm") });
    flag(&harness, "zlm", "set", "restricted", of.clone()).await.expect("set");
    let path = format!("/v1/approvals/{}/grant", view.id);
    let refused = harness.post::<ApprovalView>("zlm", "supervisor", &path, &json!({})).await;
    assert_eq!(code(refused), "subject_restricted");
    lift(&harness, "zlm", "restricted", of.clone()).await;
    let _granted: ApprovalView = harness.post("zlm", "supervisor", &path, &json!({})).await.expect("granted");
    flag(&harness, "zlm", "set", "restricted", of).await.expect("set");
    assert_eq!(said(&settled(&harness, &asked.id).await), UNAVAILABLE, "and once more when it is fetched");
    assert_eq!(tests::refusals(&mut harness, "zlm").await, ["subject_restricted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_lets_a_person_decide_a_public_task() {
    let harness = Harness::filled().await;
    let of = json!({ "pesel": pesel_of("pup+zlm") });
    let ask = async || {
        let body = json!({
            "resident": of, "asks": [{ "query": "q03", "holder": "pup" }], "purpose": "housing-welfare-management",
            "basis": { "kind": "mandate", "id": "uopl-21" }, "case_ref": "ZLM/1", "reason": "test",
        });
        let result: QueryResult = harness.post("zlm", "caseworker", "/v1/queries", &body).await.expect("a result");
        result.outcomes.into_iter().next().expect("an outcome")
    };
    assert_eq!(said(&ask().await), ANSWERED);
    flag(&harness, "pup", "set", "objected", of.clone()).await.expect("set");
    assert_eq!(ask().await.outcome, OutcomeKind::Pending);
    // A legal obligation is not objected to.
    flag(&harness, "pup", "set", "objected", resident()).await.expect("set");
    assert_eq!(said(&harness.ask("mops", "pup", "q02", resident(), mandate()).await), ANSWERED);
}

async fn verify(harness: &Harness, user: &str, expected: Value) -> Value {
    let body = json!({
        "resident": resident(), "asks": [{ "query": "q09", "holder": "pup", "expected": expected }],
        "purpose": PURPOSE, "basis": mandate(), "case_ref": "MOPS/1", "reason": "test",
    });
    let asked = request(harness, "mops", "POST", "/v1/queries").of(user, &["caseworker"]).json(&body).send().await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    serde_json::from_str::<Value>(&asked.text).expect("JSON")["outcomes"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_says_no_value_and_a_series_is_cut_off() {
    let mut harness = Harness::filled().await;
    let name = |text: &str| json!({ "person.surname": text });
    let first = verify(
        &harness,
        "jan",
        json!({ "person.surname": CANARY_SURNAME.to_uppercase(), "person.given_names": "Ewa" }),
    )
    .await;
    assert_eq!(first["outcome"], "answered", "{first}");
    assert_eq!(first["matches"], json!({ "person.surname": "match", "person.given_names": "mismatch" }));
    assert!(first.get("fields").is_none(), "no values: {first}");
    assert_eq!(verify(&harness, "ewa", name("Nowak")).await["matches"]["person.surname"], "mismatch");
    assert_eq!(verify(&harness, "ola", name("Kowalska")).await["matches"]["person.surname"], "mismatch");
    // Users of one member cannot take turns.
    let cut = verify(&harness, "ula", name("Zielińska")).await;
    assert_eq!((&cut["outcome"], &cut["reason"]), (&json!("denied"), &json!("quota_exceeded")));
    assert!(cut["message"]["pl"].as_str().is_some_and(|words| !words.is_empty()), "{cut}");
    assert_eq!(verify(&harness, "ula", json!({ "person.given_names": "Ola" })).await["outcome"], "answered");
    days_later(&harness, 20).await;
    assert_eq!(verify(&harness, "jan", name("Nowak")).await["reason"], "quota_exceeded");
    assert_eq!(tests::refusals(&mut harness, "pup").await, ["guess_limit", "guess_limit"]);
}

/// What a power cut takes from the guard comes back from the log.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_outlive_the_guard_that_counted_them() {
    let mut harness = Harness::filled().await;
    let (pup, guard) = (member("pup"), harness.home().join("pup/data/guard"));
    let before = harness.extracts().join("guard");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::create_dir_all(to).expect("a directory");
        for entry in walkdir(from) {
            let to = to.join(entry.strip_prefix(from).expect("below"));
            std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            std::fs::copy(&entry, to).expect("copied");
        }
    };
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    copy(&guard, &before);
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    harness.clock.advance(60);
    for guess in ["Nowak", "Kowalska", "Wójcik"] {
        let said = verify(&harness, "jan", json!({ "person.surname": guess })).await;
        assert_eq!(said["matches"]["person.surname"], "mismatch", "{said}");
    }
    let used = async |harness: &Harness| {
        let status: node::NodeStatus = harness.federation.admin(&pup).get("/status").await.expect("a status");
        let used = status.agreements.into_iter().find(|used| used.asker.as_str() == "mops").expect("the agreement");
        (used.today, used.mismatches)
    };
    assert_eq!(used(&harness).await, (3, 3));
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    std::fs::remove_dir_all(&guard).expect("removed");
    copy(&before, &guard);
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    assert_eq!(used(&harness).await, (3, 3));
    harness.clock.advance(60);
    let cut = verify(&harness, "ewa", json!({ "person.surname": "Zielińska" })).await;
    assert_eq!(cut["reason"], "quota_exceeded", "{cut}");
    let words = [&cut["message"]["pl"], &cut["message"]["en"]].map(|said| said.as_str().expect("words").to_owned());
    assert!(words.iter().all(|said| said.contains("30 d")) && !words[1].contains("tomorrow"), "{words:?}");
    assert_eq!(tests::refusals(&mut harness, "pup").await, ["guess_limit"]);
}

/// Every file below `dir`.
fn walkdir(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
}

async fn emergency_question(harness: &Harness, id: &str) -> Result<QueryResult, Failure> {
    let body = json!({
        "resident": { "pesel": pesel_of(SHARED) }, "asks": [{ "query": "q18", "holder": "mops" }],
        "purpose": "public-service-provision", "basis": { "kind": "emergency", "id": id }, "reason": "test",
    });
    harness.post("pup", "caseworker", "/v1/queries", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_confirmed_counted_and_reviewed() {
    let mut harness = Harness::filled().await;
    let body = json!({ "resident": resident(), "reason": "life", "text": "found unconscious" });
    let open = async || harness.post::<EmergencyView>("pup", "caseworker", "/v1/emergencies", &body).await;
    let wrong = json!({ "resident": resident(), "reason": "curiosity", "text": "x" });
    let refused = harness.post::<EmergencyView>("pup", "caseworker", "/v1/emergencies", &wrong).await;
    assert_eq!(code(refused), "emergency_reason");
    let opened = open().await.expect("opened");
    assert_eq!(code(emergency_question(&harness, &opened.id).await), "emergency_unconfirmed");
    let confirm = format!("/v1/emergencies/{}/confirm", opened.id);
    let confirmed = async || harness.post::<EmergencyView>("pup", "caseworker", &confirm, &json!({})).await;
    assert_eq!(code(confirmed().await), "emergency_unconfirmed", "in the same second");
    let body_of_review =
        json!({ "outcome": "justified", "text": "an ambulance was called", "notice": { "informed": "letter" } });
    let review = format!("/v1/emergencies/{}/review", opened.id);
    let early = harness.post::<EmergencyView>("pup", "dpo", &review, &body_of_review).await;
    assert_eq!(code(early), "emergency_unconfirmed", "it opened nothing yet");
    harness.clock.advance(2);
    assert!(confirmed().await.expect("confirmed").confirmed);
    let outcome = emergency_question(&harness, &opened.id).await.expect("a result").outcomes.remove(0);
    assert_eq!(said(&outcome), ANSWERED, "{outcome:?}");
    assert!(outcome.obligations.expect("duties").review_by.is_some());
    // Both officers have it in their queues.
    for (unit, side) in [("pup", node::Side::Taken), ("mops", node::Side::Answered)] {
        let list: EmergencyList = get(&harness, unit, "dpo", "/v1/emergencies").await.expect("a list");
        assert_eq!((list.emergencies.len(), list.emergencies[0].side), (1, side), "{unit}");
        assert_eq!(list.emergencies[0].id, opened.id, "{unit}");
    }
    harness.clock.advance(60 * 60);
    assert_eq!(code(emergency_question(&harness, &opened.id).await), "emergency_expired");
    // Not reviewed in time: the user gets no other.
    days_later(&harness, 7).await;
    assert_eq!(code(open().await), "emergency_review_overdue");
    let list: EmergencyList = get(&harness, "pup", "dpo", "/v1/emergencies").await.expect("a list");
    assert!(list.emergencies[0].overdue);
    let by_caseworker = harness.post::<EmergencyView>("pup", "caseworker", &review, &body_of_review).await;
    assert_eq!(code(by_caseworker), "role_not_allowed");
    let letter = format!("/v1/emergencies/{}/letter", opened.id);
    assert_eq!(code(printed(&harness, "pup", "dpo", &letter).await), "value_invalid", "not reviewed");
    // Whether the resident is told is a part of the review, and why not wants a reason.
    for notice in [Value::Null, json!({ "not_informed": " " })] {
        let silent = json!({ "outcome": "justified", "text": "an ambulance was called", "notice": notice });
        assert_eq!(code(harness.post::<EmergencyView>("pup", "dpo", &review, &silent).await), "value_invalid");
    }
    let reviewed: EmergencyView = harness.post("pup", "dpo", &review, &body_of_review).await.expect("reviewed");
    assert!(!reviewed.overdue && reviewed.notice.is_some());
    // What the resident gets: who saw what, when, why, on what basis; nothing of the user, and nothing of the values.
    assert_eq!(code(printed(&harness, "pup", "caseworker", &letter).await), "role_not_allowed");
    for (language, said) in [
        ("pl", ["Zawiadomienie o dostępie", "zagrożenie życia", "Skąd i jakie dane: MOPS", "art. 6 ust. 1 lit. d"]),
        ("en", ["Notice of access", "danger to life", "which data: MOPS", "art. 6 para. 1 point d"]),
        ("uk", ["Повідомлення про доступ", "загроза життю", "Звідки і які дані: MOPS", "ст. 6 п. 1 літ. d"]),
    ] {
        let text = printed(&harness, "pup", "dpo", &format!("{letter}?language={language}")).await.expect("a letter");
        for said in said {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("found unconscious") && !text.contains("an ambulance"), "{text}");
    }
    let page = printed(&harness, "pup", "dpo", &format!("{letter}?html=true")).await.expect("a letter");
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    let list: EmergencyList = get(&harness, "mops", "dpo", "/v1/emergencies").await.expect("a list");
    assert!(list.emergencies[0].outcome.is_some(), "the holder was told");
    // The holder's officer can close what the asker's leaves open, and a review ends what it reviews.
    let second = open().await.expect("opened");
    harness.clock.advance(2);
    let path = |what: &str| format!("/v1/emergencies/{}/{what}", second.id);
    let _confirmed: EmergencyView =
        harness.post("pup", "caseworker", &path("confirm"), &json!({})).await.expect("confirmed");
    let outcome = emergency_question(&harness, &second.id).await.expect("a result").outcomes.remove(0);
    assert_eq!(said(&outcome), ANSWERED, "{outcome:?}");
    let there: EmergencyView =
        harness.post("mops", "dpo", &path("review"), &body_of_review).await.expect("reviewed by the holder");
    assert_eq!((there.side, there.outcome.is_some()), (node::Side::Answered, true));
    let dangerous = json!({ "outcome": "unjustified", "text": "none", "notice": { "not_informed": "read by others" } });
    let _here: EmergencyView = harness.post("pup", "dpo", &path("review"), &dangerous).await.expect("reviewed");
    assert_eq!(code(printed(&harness, "pup", "dpo", &path("letter")).await), "value_invalid", "not to be told");
    assert_eq!(code(emergency_question(&harness, &second.id).await), "emergency_expired", "reviewed is over");
    harness.federation.nodes.get_mut(&member("pup")).expect("pup").stop().await.expect("stopped");
    let log = read_log(&harness, "pup");
    let count = |event: &str| log.iter().filter(|entry| entry["event"] == event).count();
    assert_eq!(count("emergency.declared"), 2);
    assert_eq!((count("emergency.opened"), count("emergency.reviewed")), (2, 2));
    let notices = log.iter().filter(|entry| entry["event"] == "emergency.notice");
    let notices: Vec<_> = notices.map(|entry| entry["detail"].as_str().expect("a detail")).collect();
    assert_eq!(notices, ["letter", "printed", "printed", "printed", "printed", "not_informed"]);
    harness.federation.nodes.get_mut(&member("mops")).expect("mops").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let answered = log.iter().find(|entry| entry["event"] == "query.answered").expect("an entry");
    assert_eq!((&answered["basis"], &answered["detail"]), (&json!("emergency:vital-interest@2"), &json!("life")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_says_whom_to_call_and_tells_sealed_and_unknown_alike() {
    let mut harness = Harness::filled().await;
    let ask = async |of: Value, fields: Value| {
        let body = json!({ "resident": of, "reason": "life", "text": "found unconscious" });
        let opened: EmergencyView = harness.post("pup", "caseworker", "/v1/emergencies", &body).await.expect("opened");
        harness.clock.advance(2);
        let path = format!("/v1/emergencies/{}/confirm", opened.id);
        let _confirmed: EmergencyView = harness.post("pup", "caseworker", &path, &json!({})).await.expect("confirmed");
        let body = json!({
            "resident": of, "asks": [{ "query": "q18", "holder": "mops", "fields": fields }],
            "purpose": "public-service-provision", "basis": { "kind": "emergency", "id": opened.id }, "reason": "test",
        });
        let result: QueryResult = harness.post("pup", "caseworker", "/v1/queries", &body).await.expect("a result");
        serde_json::to_value(&result.outcomes[0]).expect("JSON")
    };
    let desk = json!({ "mops": tests::DUTY_DESK });
    let open = json!(["mops.duty.phone", "mops.emergency.contact"]);
    let answered = ask(resident(), open.clone()).await;
    assert_eq!((&answered["outcome"], &answered["duty_desks"]), (&json!("answered"), &desk), "{answered}");
    // Sealed, and not to be answered on: the same, to the letter.
    let sealed = ask(resident(), json!(["mops.nk"])).await;
    assert_eq!((&sealed["reason"], &sealed["duty_desks"]), (&json!("not_available"), &desk), "{sealed}");
    flag(&harness, "mops", "set", "deceased", resident()).await.expect("set");
    assert_eq!(ask(resident(), open.clone()).await, sealed);
    // Not known there at all: nobody is asked, and the desk is told all the same.
    let unknown = ask(json!({ "pesel": pesel_of("pup+zlm") }), open).await;
    assert_eq!((&unknown["reason"], &unknown["duty_desks"]), (&json!("no_holder"), &desk), "{unknown}");
    assert_eq!(tests::refusals(&mut harness, "mops").await, ["emergency_closed", "subject_deceased"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_takes_so_many_emergencies_of_a_member_in_a_day() {
    let mut harness = Harness::filled().await;
    let mut outcomes = Vec::new();
    for n in 0..6 {
        let body = json!({ "resident": resident(), "reason": "life", "text": format!("number {n}") });
        let opened: EmergencyView = harness.post("pup", "caseworker", "/v1/emergencies", &body).await.expect("opened");
        harness.clock.advance(1);
        let path = format!("/v1/emergencies/{}/confirm", opened.id);
        let _confirmed: EmergencyView = harness.post("pup", "caseworker", &path, &json!({})).await.expect("confirmed");
        // Used twice, it is one emergency.
        for _ in 0..2 {
            let result = emergency_question(&harness, &opened.id).await.expect("a result");
            outcomes.push(result.outcomes[0].outcome);
        }
    }
    assert_eq!(outcomes[..10], [OutcomeKind::Answered; 10]);
    assert_eq!(outcomes[10..], [OutcomeKind::Denied; 2]);
    assert_eq!(tests::refusals(&mut harness, "mops").await, ["emergency_limit", "emergency_limit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_decision_is_explained_and_can_be_tried_again() {
    let harness = Harness::filled().await;
    assert_eq!(said(&harness.ask("mops", "pup", "q02", resident(), mandate()).await), ANSWERED);
    flag(&harness, "pup", "set", "deceased", resident()).await.expect("set");
    assert_eq!(said(&harness.ask("mops", "pup", "q02", resident(), mandate()).await), UNAVAILABLE);
    assert_eq!(code(get::<DecisionList>(&harness, "pup", "caseworker", "/v1/decisions").await), "role_not_allowed");
    let list: DecisionList = get(&harness, "pup", "dpo", "/v1/decisions").await.expect("a list");
    assert_eq!((list.decisions.len(), list.left_out), (2, 0));
    let engine = policies::Engine::new(policies::Library::builtin().expect("a library"), &[]).expect("an engine");
    let simulated = engine.simulate(&engine, &list.decisions);
    assert_eq!((simulated.decisions, simulated.unchanged), (2, 2));
    let status: node::NodeStatus = harness.federation.admin(&member("pup")).get("/status").await.expect("a status");
    let used = status.agreements.iter().find(|used| used.asker.as_str() == "mops").expect("the agreement");
    assert_eq!((used.today, used.denied), (2, 1), "refused questions count");
    let mut harness = harness;
    harness.federation.nodes.get_mut(&member("pup")).expect("pup").stop().await.expect("stopped");
    let log = read_log(&harness, "pup");
    let entry = |event: &str| log.iter().find(|entry| entry["event"] == event).expect("an entry");
    let (denied, answered) = (entry("query.denied"), entry("query.answered"));
    let path = |of: &Value| format!("/v1/decisions/{}", of["request"].as_str().expect("a digest"));
    harness.federation.nodes.get_mut(&member("pup")).expect("pup").restart().await.expect("started");
    let why: Decision = get(&harness, "pup", "dpo", &path(denied)).await.expect("a decision");
    assert_eq!(why.entry["reason"], "subject_deceased");
    assert!(why.message.is_some() && !why.entry.contains_key("file") && !why.entry.contains_key("user"));
    let steps = |why: &Decision| why.passed.iter().map(|seen| seen.step.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(steps(&why), "node peer request ticket agreement query basis quota");
    assert_eq!(why.stopped.expect("a step").step, "subject");
    // A permit too, step by step, with names and no values.
    let why: Decision = get(&harness, "pup", "dpo", &path(answered)).await.expect("a decision");
    let all = "node peer request ticket agreement query basis quota subject consent policy fields mode";
    assert_eq!((steps(&why), why.stopped.is_none()), (all.to_owned(), true));
    let saw = |step: &str| why.passed.iter().find(|seen| seen.step == step).expect("a step").saw.clone();
    assert_eq!(saw("peer"), "mops, kind mops");
    assert_eq!(saw("consent"), "mandate:ups-105@2");
    assert!(saw("fields").contains("pup.status"), "{why:?}");
    let unknown = get::<Decision>(&harness, "pup", "dpo", "/v1/decisions/AAAA").await;
    assert_eq!(code(unknown), "unknown");

    // Each reading is in the log, and also that there was nothing.
    harness.federation.nodes.get_mut(&member("pup")).expect("pup").stop().await.expect("stopped");
    let log = read_log(&harness, "pup");
    let read: Vec<_> = log.iter().filter(|entry| entry["event"] == "log.read").collect();
    let told = |of: &serde_json::Value| (of["filter"][0].clone(), of["counts"]["found"].clone(), of["role"].clone());
    let told: Vec<_> = read.iter().map(|entry| told(entry)).collect();
    let dpo = json!("dpo");
    let expected = [("period", 2), ("request", 1), ("request", 1), ("request", 0)];
    assert_eq!(told, expected.map(|(by, found)| (json!(by), json!(found), dpo.clone())));
    assert_eq!(read[1]["file"], denied["file"], "the resident's list shows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_at_the_desk_stands_in_the_log() {
    let mut harness = Harness::filled().await;
    let consent = harness.consent("mops", "pup", resident()).await.expect("a consent").id;
    let shown = |who: &str| json!({ "resident": { "pesel": pesel_of(who) } });
    let post = async |role: &str, path: &str, body: Value| code(harness.post::<Value>("mops", role, path, &body).await);
    for (role, path) in [
        ("dpo", "/v1/emergencies".to_owned()),
        ("supervisor", "/v1/approvals".to_owned()),
        ("front-desk", format!("/v1/consents/{consent}")),
        ("front-desk", format!("/v1/consents/{consent}/export")),
    ] {
        get::<Value>(&harness, "mops", role, &path).await.expect("shown");
    }
    let receipt = format!("/v1/consents/{consent}/receipt");
    assert_eq!(request(&harness, "mops", "GET", &receipt).of("okienko", &["front-desk"]).send().await.status, 200);
    post("front-desk", "/v1/consents/list", shown(SHARED)).await;
    assert_eq!(post("front-desk", "/v1/consents/list", shown("css")).await, "not_served");
    post("caseworker", "/v1/flags/show", shown(SHARED)).await;
    assert_eq!(post("caseworker", "/v1/flags/show", shown("css")).await, "not_served");
    assert_eq!(post("front-desk", "/v1/flags/show", shown(SHARED)).await, "role_not_allowed");

    harness.federation.nodes.get_mut(&member("mops")).expect("mops").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let file = log.iter().find(|entry| entry["event"] == "consent.recorded").expect("recorded")["file"].clone();
    let read: Vec<Value> = log
        .iter()
        .filter(|entry| entry["event"] == "log.read")
        .map(|entry| json!([entry["filter"][0], entry["counts"]["found"], entry["role"], entry["file"] == file]))
        .collect();
    let expected = [
        json!(["emergency", 0, "dpo", false]),
        json!(["approval", 0, "supervisor", false]),
        json!(["consent", 1, "front-desk", true]),
        json!(["consent", 1, "front-desk", true]),
        json!(["consent", 1, "front-desk", true]),
        json!(["consent", 1, "front-desk", true]),
        json!(["consent", 0, "front-desk", false]),
        json!(["flag", 0, "caseworker", true]),
        json!(["flag", 0, "caseworker", false]),
    ];
    assert_eq!(read, expected);
    assert!(log.iter().filter(|entry| entry["event"] == "log.read").all(|entry| entry["user"].is_string()));
}
