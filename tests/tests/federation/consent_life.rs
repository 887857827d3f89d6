//! The life of a consent, with the cases of Estonia's consent service as a checklist.

use crate::identities::days_later;
use cli::exit::Failure;
use http::Method;
use node::{ConsentList, ConsentReceipt, ConsentState, FlagList, OutcomeKind, QueryResult, WithdrawalReceipt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::{Harness, PURPOSE, member, pesel_of, read_log, refusals};

const EVERYONE: &str = "mops+pup+css+zlm";

fn resident() -> Value {
    json!({ "pesel": pesel_of(EVERYONE) })
}

fn body(recipient: &str, modules: &Value, days: u32) -> Value {
    json!({
        "resident": resident(), "template": "instead-of-certificate", "modules": modules, "recipient": recipient,
        "purposes": [PURPOSE], "days": days, "evidence_sha256": cli::found::evidence().expect("random"),
    })
}

fn labour() -> Value {
    json!({ "labour-status": "given" })
}

async fn record(harness: &Harness, unit: &str, body: &Value) -> Result<ConsentReceipt, Failure> {
    harness.post(unit, "front-desk", "/v1/consents", body).await
}

/// What `asker` is told of `query` to pup on a consent: nothing if it is answered.
async fn told(harness: &Harness, asker: &str, query: &str, purpose: &str, id: &str, of: Value) -> Option<String> {
    let body = json!({
        "resident": of, "asks": [{ "query": query, "holder": "pup" }], "purpose": purpose,
        "basis": { "kind": "consent", "id": id }, "case_ref": "1", "reason": "test",
    });
    let result: QueryResult = harness.post(asker, "caseworker", "/v1/queries", &body).await.expect("a result");
    let outcome = &result.outcomes[0];
    (outcome.outcome != OutcomeKind::Answered).then(|| outcome.reason.clone().expect("a reason"))
}

async fn flag(harness: &Harness, unit: &str, change: &str, flag: &str) {
    let body = json!({ "resident": resident(), change: [flag], "reason": "x" });
    let _list: FlagList = harness.post(unit, "dpo", "/v1/flags", &body).await.expect("flagged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checklist_of_a_consent_service() {
    let mut harness = Harness::filled().await;
    let mut expected = Vec::new();
    let missing = || Some("consent_missing".to_owned());
    let valid = record(&harness, "css", &body("mops", &labour(), 30)).await.expect("a consent");
    let id = valid.id.to_string();
    // Valid; other service; other purpose; other recipient; other person.
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, None);
    assert_eq!(told(&harness, "mops", "q03", PURPOSE, &id, resident()).await, missing());
    expected.push("consent_other_query");
    assert_eq!(told(&harness, "mops", "q02", "social-welfare-provision", &id, resident()).await, missing());
    expected.push("consent_other_purpose");
    assert_eq!(told(&harness, "css", "q02", PURPOSE, &id, resident()).await, missing());
    expected.push("consent_other_recipient");
    let other = json!({ "pesel": pesel_of("mops+pup") });
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, other).await, missing());
    expected.push("consent_other_subject");
    // Representative: the resident turns out to be under age, and only a guardian consents.
    flag(&harness, "pup", "set", "minor").await;
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, missing());
    expected.push("consent_representative");
    flag(&harness, "css", "set", "minor").await;
    let refused = record(&harness, "css", &body("mops", &labour(), 30)).await;
    assert_eq!(refused.expect_err("a guardian consents").code, "consent_representative");
    let mut guardians = body("mops", &labour(), 30);
    guardians["acting"] = json!("guardian");
    guardians["other_guardians"] = json!([{ "labour-status": "refused" }]);
    assert_eq!(record(&harness, "css", &guardians).await.expect_err("they disagree").code, "guardians_disagree");
    guardians["other_guardians"] = json!([labour()]);
    let theirs = record(&harness, "css", &guardians).await.expect("they agree");
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &theirs.id.to_string(), resident()).await, None);
    flag(&harness, "pup", "clear", "minor").await;
    flag(&harness, "css", "clear", "minor").await;
    // Or an attorney, by what proves it: without that nothing is recorded.
    let mut attorney = body("mops", &labour(), 30);
    attorney["acting"] = json!("attorney");
    let by_attorney = record(&harness, "css", &attorney).await.expect("a consent");
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &by_attorney.id.to_string(), resident()).await, None);
    for (unproven, code) in [(json!("AAAA"), "value_invalid"), (json!(null), "body_invalid")] {
        attorney["evidence_sha256"] = unproven;
        assert_eq!(record(&harness, "css", &attorney).await.expect_err("no proof").code, code);
    }
    // Declined: a refusal said at another member stands against the older consent.
    harness.clock.advance(1);
    let declined = record(&harness, "zlm", &body("mops", &json!({ "labour-status": "refused" }), 30)).await;
    assert_eq!(declined.expect("a refusal").state, ConsentState::Refused);
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, missing());
    expected.push("consent_refused");
    // Given again afterwards, it serves; then it expires; then it is withdrawn.
    harness.clock.advance(1);
    let later = record(&harness, "css", &body("mops", &labour(), 1)).await.expect("a consent");
    let later_id = later.id.to_string();
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &later_id, resident()).await, None);
    days_later(&harness, 2).await;
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &later_id, resident()).await, missing());
    expected.push("consent_expired");
    let renewing = json!({ "modules": labour(), "evidence_sha256": cli::found::evidence().expect("random") });
    let path = format!("/v1/consents/{later_id}/renew");
    let renewed: ConsentReceipt = harness.post("css", "front-desk", &path, &renewing).await.expect("renewed");
    assert_eq!((renewed.state, renewed.renews), (ConsentState::Renewed, Some(later.id)));
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &renewed.id.to_string(), resident()).await, None);
    let withdrawn = harness.withdraw("css", &renewed).await.expect("withdrawn");
    assert_eq!(withdrawn.state, ConsentState::Withdrawn);
    let after = told(&harness, "mops", "q02", PURPOSE, &renewed.id.to_string(), resident()).await;
    assert_eq!(after, Some("consent_withdrawn".to_owned()));
    expected.push("consent_withdrawn");
    assert_eq!(refusals(&mut harness, "pup").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_at_any_member_is_refused_at_every_holder_even_while_the_recorder_is_down() {
    let mut harness = Harness::filled().await;
    let modules = json!({ "labour-status": "given", "labour-benefit": "given", "benefits": "given" });
    let consent = record(&harness, "css", &body("mops", &modules, 30)).await.expect("a consent");
    let id = consent.id.to_string();
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, None);
    let stranger = json!({ "pesel": pesel_of("mops+pup+css") });
    let unknown_to_zlm = harness.consent("css", "mops", stranger).await.expect("a consent");
    let css = member("css");
    harness.federation.nodes.get_mut(&css).expect("css").stop().await.expect("stopped");
    // A part of it, at zlm, which neither recorded it nor holds a grant of it.
    let part =
        json!({ "resident": resident(), "consent": id, "modules": ["labour-status"], "method": "phone_recorded" });
    let taken: WithdrawalReceipt = harness.post("zlm", "front-desk", "/v1/withdrawals", &part).await.expect("taken");
    assert!(taken.told.contains(&member("pup")) && taken.undelivered == BTreeSet::from([css.clone()]), "{taken:?}");
    let withdrawn = Some("consent_withdrawn".to_owned());
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, withdrawn);
    assert_eq!(told(&harness, "mops", "q03", PURPOSE, &id, resident()).await, None, "the rest stands");
    assert_eq!(taken.confirmed_by, BTreeSet::from([member("pup")]), "mops holds no grant of it");
    // The rest of it, with neither registry nor enough key holders: what is needed for an own client is at zlm.
    harness.federation.registry.stop().await.expect("stopped");
    let mops = member("mops");
    harness.federation.nodes.get_mut(&mops).expect("mops").stop().await.expect("stopped");
    let whole = json!({ "resident": resident(), "consent": id });
    let withdraw = async |harness: &Harness, body: &Value| {
        harness.post::<WithdrawalReceipt>("zlm", "front-desk", "/v1/withdrawals", body).await
    };
    let taken = withdraw(&harness, &whole).await.expect("taken");
    assert_eq!((taken.confirmed_by.len(), taken.waits_for), (1, None));
    // Somebody whom zlm does not know is named by the key holders: kept until they are back.
    let stranger = json!({ "resident": { "pesel": pesel_of("mops+pup+css") }, "consent": unknown_to_zlm.id });
    let kept = withdraw(&harness, &stranger).await.expect("taken");
    assert_eq!((kept.waits_for.as_deref(), kept.told.len()), (Some("key_holders_unavailable"), 0));
    harness.federation.nodes.get_mut(&mops).expect("mops").restart().await.expect("started");
    harness.federation.registry.restart().await.expect("started");
    assert_eq!(told(&harness, "mops", "q03", PURPOSE, &id, resident()).await, withdrawn);
    let of = json!({ "pesel": pesel_of("mops+pup+css") });
    let named = withdraw(&harness, &stranger).await.expect("taken");
    assert!(named.waits_for.is_none() && named.confirmed_by.contains(&member("pup")), "{named:?}");
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &unknown_to_zlm.id.to_string(), of).await, withdrawn);
    // The recorder hears of it when it is back.
    harness.federation.nodes.get_mut(&css).expect("css").restart().await.expect("started");
    let again = withdraw(&harness, &whole).await.expect("taken");
    assert!(again.undelivered.is_empty() && again.confirmed_by.contains(&css), "{again:?}");
    // What nobody knows is not said to be withdrawn, and modules that no template has are refused.
    let nobodys = json!({ "resident": resident(), "consent": protocol::ConsentId([9; 16]) });
    let nobody = withdraw(&harness, &nobodys).await.expect("taken");
    assert!(nobody.confirmed_by.is_empty() && nobody.undelivered.is_empty(), "{nobody:?}");
    let nonsense = json!({ "resident": resident(), "consent": id, "modules": ["nonsense"] });
    assert_eq!(withdraw(&harness, &nonsense).await.expect_err("no such module").code, "value_invalid");
    let token = harness.federation.token(&css, "front-desk", &["front-desk"]).expect("a token");
    let api = harness.federation.local(&css).expect("an API");
    let shown: ConsentReceipt =
        api.call(Method::GET, &format!("/v1/consents/{id}"), &token, None).await.expect("shown");
    assert_eq!((shown.state, shown.standing.len()), (ConsentState::Withdrawn, 0));
    // Somebody else's withdrawal of it is not taken for this resident's.
    let other = json!({ "resident": { "pesel": pesel_of("mops+css") }, "consent": id });
    let strange = harness.post::<WithdrawalReceipt>("css", "front-desk", "/v1/withdrawals", &other).await;
    assert_eq!(strange.expect_err("another resident's").code, "consent_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_taken_a_withdrawal_gets_no_fresh_status() {
    let mut harness = Harness::filled().await;
    let modules = json!({ "labour-status": "given", "labour-benefit": "given" });
    let consent = record(&harness, "css", &body("mops", &modules, 30)).await.expect("a consent");
    let id = consent.id.to_string();
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &id, resident()).await, None);
    let pup = member("pup");
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    let path = format!("/v1/consents/{id}/withdraw");
    let body = json!({ "modules": ["labour-status"] });
    let part: ConsentReceipt = harness.post("css", "front-desk", &path, &body).await.expect("withdrawn");
    assert_eq!((part.state, part.undelivered.contains(&pup)), (ConsentState::Given, true));
    assert_eq!(part.standing, BTreeSet::from(["labour-benefit".to_owned()]));
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    harness.clock.advance(61);
    let said = told(&harness, "mops", "q02", PURPOSE, &id, resident()).await;
    // Either it has been delivered meanwhile, or the list is too old.
    assert!(matches!(said.as_deref(), Some("consent_withdrawn" | "status_unknown")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_is_asked_answered_printed_and_exported() {
    let mut harness = Harness::filled().await;
    let asking = json!({
        "resident": resident(), "template": "instead-of-certificate", "recipient": "mops", "purposes": [PURPOSE],
        "days": 30,
    });
    let asked: ConsentReceipt =
        harness.post("css", "front-desk", "/v1/consents/requests", &asking).await.expect("asked");
    assert_eq!(asked.state, ConsentState::Requested);
    let answer = json!({
        "modules": { "labour-status": "given", "benefits": "refused" },
        "evidence_sha256": cli::found::evidence().expect("random"),
    });
    let path = format!("/v1/consents/{}/answer", asked.id);
    let given: ConsentReceipt = harness.post("css", "front-desk", &path, &answer).await.expect("answered");
    assert_eq!((given.state, given.id), (ConsentState::Given, asked.id));
    let twice = harness.post::<ConsentReceipt>("css", "front-desk", &path, &answer).await;
    assert_eq!(twice.expect_err("answered before").code, "value_invalid");
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &given.id.to_string(), resident()).await, None);
    let css = member("css");
    let token = harness.federation.token(&css, "front-desk", &["front-desk"]).expect("a token");
    let api = harness.federation.local(&css).expect("an API");
    for (language, heading) in [("pl", "Potwierdzenie zgody"), ("en", "Receipt of consent")] {
        let path = format!("/v1/consents/{}/receipt?language={language}", given.id);
        let text = api.text(&path, &token).await.expect("a receipt");
        assert!(text.starts_with(heading) && text.contains(&given.id.to_string()), "{text}");
        let html = api.text(&format!("{path}&html=true"), &token).await.expect("a receipt");
        assert!(html.starts_with("<!DOCTYPE html>") && html.contains(heading), "{html}");
    }
    let path = format!("/v1/consents/{}/export", given.id);
    let exported: Value = api.call(Method::GET, &path, &token, None).await.expect("exported");
    assert_eq!(exported["dpv:hasConsentStatus"], "dpv:ConsentGiven");

    // Given anew, the old one is over; what is refused in so many words stands against an older consent taken elsewhere.
    let elsewhere = harness.consent("zlm", "mops", resident()).await.expect("a consent");
    let elsewhere = elsewhere.id.to_string();
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &elsewhere, resident()).await, None);
    harness.clock.advance(1);
    let renewing = json!({
        "modules": { "labour-status": "refused", "labour-benefit": "given" }, "method": "portal", "language": "uk",
        "evidence_sha256": cli::found::evidence().expect("random"),
    });
    let path = format!("/v1/consents/{}/renew", given.id);
    let renewed: ConsentReceipt = harness.post("css", "front-desk", &path, &renewing).await.expect("renewed");
    let on = async |query: &str, id: &str| told(&harness, "mops", query, PURPOSE, id, resident()).await;
    assert_eq!(on("q02", &given.id.to_string()).await.as_deref(), Some("consent_withdrawn"));
    assert_eq!(on("q03", &renewed.id.to_string()).await, None);
    assert_eq!(on("q02", &elsewhere).await.as_deref(), Some("consent_missing"), "refused since");
    harness.clock.advance(1);
    let again = harness.consent("css", "mops", resident()).await.expect("a consent");
    assert_eq!(on("q02", &again.id.to_string()).await, None, "given again since");
    let list: ConsentList = harness
        .post("css", "front-desk", "/v1/consents/list", &json!({ "resident": resident() }))
        .await
        .expect("a list");
    let states: Vec<ConsentState> = list.consents.iter().map(|consent| consent.state).collect();
    assert_eq!(states, [ConsentState::Given, ConsentState::Renewed, ConsentState::Superseded]);
    let path = format!("/v1/consents/{}/revoke", again.id);
    let over = json!({ "cause": "court", "text": "III RNs 7/26" });
    let revoked: ConsentReceipt = harness.post("css", "front-desk", &path, &over).await.expect("revoked");
    assert_eq!(revoked.state, ConsentState::Revoked);
    assert_eq!(on("q02", &again.id.to_string()).await.as_deref(), Some("consent_withdrawn"));
    // That the newer one took the place of the old one has an entry of its own, before any holder took it.
    harness.federation.nodes.get_mut(&css).expect("css").stop().await.expect("stopped");
    let log = read_log(&harness, "css");
    let of = |event: &str| -> Vec<&Value> { log.iter().filter(|entry| entry["event"] == event).collect() };
    let replaced = of("consent.superseded");
    assert_eq!((replaced.len(), &replaced[0]["consent"]), (1, &json!(given.id)), "{replaced:?}");
    assert!(replaced[0]["detail"].as_str().is_some_and(|detail| detail.ends_with(&format!(", by {}", renewed.id))));
    assert!(of("consent.withdrawn").iter().all(|entry| entry["consent"] != json!(given.id)));
    let taken: Vec<&Value> =
        of("consent.withdrawal_taken").into_iter().filter(|entry| entry["consent"] == json!(given.id)).collect();
    assert!(taken.len() as u64 == replaced[0]["counts"]["holders"].as_u64().expect("a number") && !taken.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_childs_consent_is_a_guardians_wherever_the_birth_date_says_so() {
    let harness = Harness::new().await;
    let child = tests::Resident { pesel: "12250510019", units: "mops+pup+css", sealed: false };
    tests::write_extracts(&harness.extracts(), &[child]);
    for unit in ["mops", "pup", "css"] {
        let extract = harness.extracts().join(format!("{unit}.csv"));
        harness.import(unit, &extract, node::ImportMode::Update).await.expect("an import");
        harness.enrol(unit).await.expect("an enrolment");
    }
    let of = || json!({ "pesel": child.pesel });
    let own = harness.consent("css", "mops", of()).await;
    assert_eq!(own.expect_err("a guardian consents").code, "consent_representative");
    let mut guardians = body("mops", &labour(), 30);
    (guardians["acting"], guardians["resident"]) = (json!("guardian"), of());
    let theirs = record(&harness, "css", &guardians).await.expect("a consent");
    assert_eq!(told(&harness, "mops", "q02", PURPOSE, &theirs.id.to_string(), of()).await, None, "no flag at either");
}
