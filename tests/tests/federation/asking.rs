//! What an institution refuses its own users by itself, in exact words, before anybody is asked.

use node::{ConsentReceipt, EmergencyList, EmergencyView, Outcome, OutcomeKind, QueryResult};
use serde_json::{Value, json};
use tests::{Harness, PURPOSE, pesel_of, read_log, refusals};

fn resident() -> Value {
    json!({ "pesel": pesel_of("mops+pup") })
}

fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

/// A question of mops to pup on the statute, changed so.
fn question(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = json!({
        "resident": resident(), "asks": [{ "query": "q02", "holder": "pup" }], "purpose": PURPOSE, "basis": mandate(),
        "case_ref": "MOPS/2026/1", "reason": "test",
    });
    change(&mut body);
    body
}

async fn ask(harness: &Harness, unit: &str, body: &Value) -> Outcome {
    let result: QueryResult = harness.post(unit, "caseworker", "/v1/queries", body).await.expect("a result");
    result.outcomes.into_iter().next().expect("an outcome")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_no_resident_is_refused_before_anybody_is_asked() {
    let mut harness = Harness::filled().await;
    let verify = |expected: Value| {
        move |body: &mut Value| {
            body["asks"] = json!([{ "query": "q09", "holder": "pup", "expected": expected }]);
        }
    };
    let surname = || json!({ "person.surname": "Nowak" });
    let cases: [(&str, Value, &str); 12] = [
        ("no case", question(|b| b["case_ref"] = Value::Null), "case_missing"),
        ("an empty case", question(|b| b["case_ref"] = json!("")), "case_missing"),
        ("a blank case", question(|b| b["case_ref"] = json!(" \t")), "case_missing"),
        ("no basis", question(|b| b["basis"] = json!({ "kind": "none" })), "basis_missing"),
        ("no such mandate", question(|b| b["basis"]["id"] = json!("x-1")), "mandate_unknown"),
        ("a mandate of others", question(|b| b["basis"]["id"] = json!("usr-23")), "mandate_unknown"),
        ("no such field", question(|b| b["asks"][0]["fields"] = json!(["pup.nothing"])), "no_fields"),
        ("nothing to compare", question(verify(json!({}))), "request_malformed"),
        ("nothing is compared", question(|b| b["asks"][0]["expected"] = surname()), "request_malformed"),
        ("not this holder's", question(|b| b["asks"][0]["holder"] = json!("css")), "agreement_missing"),
        ("no such query", question(|b| b["asks"][0]["query"] = json!("q99")), "query_unknown"),
        ("of others", question(|b| b["asks"][0]["query"] = json!("q06")), "query_unknown"),
    ];
    for (what, body, code) in &cases {
        let outcome = ask(&harness, "mops", body).await;
        assert_eq!((outcome.outcome, outcome.reason.as_deref()), (OutcomeKind::Denied, Some(*code)), "{what}");
        let message = outcome.message.expect("words");
        assert!(message.pl != message.en && message.en.contains(&outcome.next_step.expect("advice")), "{message:?}");
        let compares = ["nothing to compare", "nothing is compared"].contains(what);
        assert_eq!(message.pl.contains("porówn") && message.en.contains("compare"), compares, "{what}: {message:?}");
        // The same about somebody whom pup does not know.
        let mut other = body.clone();
        other["resident"] = json!({ "pesel": pesel_of("mops") });
        assert_eq!(ask(&harness, "mops", &other).await.reason.as_deref(), Some(*code), "{what}, unknown to pup");
    }
    let compared = ask(&harness, "mops", &question(verify(surname()))).await;
    assert_eq!(compared.outcome, OutcomeKind::Answered, "{compared:?}");
    let purpose = question(|b| b["purpose"] = json!("curiosity"));
    let refused = harness.post::<QueryResult>("mops", "caseworker", "/v1/queries", &purpose).await;
    assert_eq!(refused.expect_err("no such purpose").code, "value_invalid");

    assert_eq!(refusals(&mut harness, "pup").await, [""; 0], "pup heard of none of them");
    harness.federation.nodes.get_mut(&tests::member("mops")).expect("mops").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let noted: Vec<&Value> = log
        .iter()
        .filter(|entry| entry["event"] == "query.outcome" && entry["decision"] == "deny")
        .map(|entry| &entry["reason"])
        .collect();
    let expected: Vec<Value> = cases.iter().flat_map(|(_, _, code)| [json!(code), json!(code)]).collect();
    assert_eq!(noted, expected.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_says_which_questions_it_serves_and_whose_it_is() {
    let harness = Harness::filled().await;
    let body = json!({ "resident": resident(), "reason": "life", "text": "unconscious" });
    let nowhere = harness.post::<EmergencyView>("mops", "caseworker", "/v1/emergencies", &body).await;
    assert_eq!(nowhere.expect_err("mops asks nobody in danger").code, "basis_not_allowed");
    let opened: EmergencyView = harness.post("pup", "caseworker", "/v1/emergencies", &body).await.expect("opened");
    harness.clock.advance(2);
    let path = format!("/v1/emergencies/{}/confirm", opened.id);
    let _confirmed: EmergencyView = harness.post("pup", "caseworker", &path, &json!({})).await.expect("confirmed");
    let question = |query: &str, purpose: &str, id: &str, of: &str| {
        json!({
            "resident": { "pesel": pesel_of(of) }, "asks": [{ "query": query, "holder": "mops" }], "purpose": purpose,
            "basis": { "kind": "emergency", "id": id }, "reason": "test",
        })
    };
    let serves = "public-service-provision";
    for (query, purpose) in [("q06", serves), ("q18", "public-service-eligibility-assessment")] {
        let outcome = ask(&harness, "pup", &question(query, purpose, &opened.id, "mops+pup")).await;
        assert_eq!(outcome.reason.as_deref(), Some("basis_not_allowed"), "{query} {purpose}");
        let message = outcome.message.expect("words");
        assert!(message.pl.contains("q18") && message.en.contains("q18") && message.en.contains(serves), "{message:?}");
    }
    let outcome = ask(&harness, "pup", &question("q18", serves, &opened.id, "mops+pup")).await;
    assert_eq!(outcome.outcome, OutcomeKind::Answered, "{outcome:?}");
    let token = harness.federation.token(&tests::member("mops"), "iod", &["dpo"]).expect("a token");
    let api = harness.federation.local(&tests::member("mops")).expect("an API");
    let list: EmergencyList = api.call(http::Method::GET, "/v1/emergencies", &token, None).await.expect("a list");
    let seen = list.emergencies.first().expect("the holder's officer sees it");
    assert_eq!((seen.opened, seen.expires), (opened.opened, opened.expires), "over when it is over for the asker");
    for (id, of) in [(opened.id.as_str(), "pup+zlm"), ("AAAAAAAAAAAAAAAAAAAAAA", "mops+pup")] {
        let body = question("q18", serves, id, of);
        let refused = harness.post::<QueryResult>("pup", "caseworker", "/v1/queries", &body).await;
        assert_eq!(refused.expect_err("not this emergency").code, "emergency_unknown", "{of}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_concerns_nobody_says_so() {
    let harness = Harness::filled().await;
    let alone = harness.consent("mops", "mops", json!({ "pesel": pesel_of("mops") })).await.expect("a consent");
    let message = alone.message.expect("words");
    assert!(message.pl.contains("żadnej jednostki") && message.en.contains("No unit"), "{message:?}");
    let shared = harness.consent("mops", "mops", resident()).await.expect("a consent");
    assert_eq!(shared.message, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_was_replaced_names_the_newer_one() {
    let mut harness = Harness::filled().await;
    let old = harness.consent("mops", "mops", resident()).await.expect("a consent");
    let on = |id: String| question(move |body| body["basis"] = json!({ "kind": "consent", "id": id }));
    assert_eq!(ask(&harness, "mops", &on(old.id.to_string())).await.outcome, OutcomeKind::Answered);
    harness.clock.advance(1);
    let anew =
        json!({ "modules": { "labour-status": "given" }, "evidence_sha256": cli::found::evidence().expect("random") });
    let path = format!("/v1/consents/{}/renew", old.id);
    let new: ConsentReceipt = harness.post("mops", "front-desk", &path, &anew).await.expect("renewed");
    let outcome = ask(&harness, "mops", &on(old.id.to_string())).await;
    assert_eq!(outcome.reason.as_deref(), Some("consent_superseded"));
    let message = outcome.message.expect("words");
    let newer = new.id.to_string();
    assert!(message.pl.contains(&newer) && message.en.contains(&newer), "{message:?}");
    assert_eq!(ask(&harness, "mops", &on(newer)).await.outcome, OutcomeKind::Answered);
    assert_eq!(refusals(&mut harness, "pup").await, [""; 0]);
}
