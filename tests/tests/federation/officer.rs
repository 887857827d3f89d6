//! The data-protection officer's own access: recorded, of its own institution alone, never by a value that stays.

use crate::local_api::{Answer, request};
use audit::verify_export;
use node::OutcomeKind;
use serde_json::{Value, json};
use tests::{Harness, pesel_of, read_log};

async fn ask(harness: &Harness, units: &str) {
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": pesel_of(units) }), basis).await;
    assert_eq!(outcome.outcome, OutcomeKind::Answered);
}

async fn search(harness: &Harness, unit: &'static str, body: &Value) -> Answer {
    request(harness, unit, "POST", "/v1/audit/search").of("iod", &["dpo"]).json(body).send().await
}

fn entries(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let page: Value = serde_json::from_str(&answer.text).expect("JSON");
    page["entries"].as_array().expect("entries").iter().map(|entry| entry["payload"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_by_what_people_say_and_stands_in_the_log_itself() {
    let mut harness = Harness::filled().await;
    ask(&harness, "mops+pup").await;
    ask(&harness, "mops+pup+css").await;
    let resident = json!({ "pesel": pesel_of("mops+pup") });
    let events =
        |found: &[Value]| found.iter().map(|e| e["event"].as_str().expect("a name").to_owned()).collect::<Vec<_>>();

    let found = entries(&search(&harness, "mops", &json!({ "filter": { "resident": resident } })).await);
    assert_eq!(events(&found), ["query.asking", "query.outcome"]);
    assert!(found.iter().all(|e| e["schema"] == 1 && e["file"].is_string() && e.get("replay").is_none()), "{found:?}");
    // At the holder the same resident is another file, and the log another's.
    let held = entries(&search(&harness, "pup", &json!({ "filter": { "resident": resident } })).await);
    assert_eq!(events(&held), ["query.answered"]);
    assert_ne!(held[0]["file"], found[0]["file"]);

    for (filter, expected) in [
        (json!({ "case_ref": "MOPS/2026/1", "event": "query.asking" }), 2),
        (json!({ "staff": "caseworker", "peer": "pup", "event": "query.outcome" }), 2),
        (json!({ "staff": "somebody" }), 0),
        (json!({ "basis": "mandate", "purpose": tests::PURPOSE, "event": "query.asking" }), 2),
        (json!({ "event": "query.asking", "until": 1 }), 0),
    ] {
        let found = entries(&search(&harness, "mops", &json!({ "filter": filter })).await);
        assert_eq!(found.len(), expected, "{filter}");
    }
    // Page by page.
    let mut start = json!(0);
    let (mut seen, mut pages) = (0, 0);
    while !start.is_null() {
        pages += 1;
        let body = json!({ "filter": { "peer": "pup", "purpose": tests::PURPOSE }, "limit": 1, "start": start });
        let answer = search(&harness, "mops", &body).await;
        seen += entries(&answer).len();
        start = serde_json::from_str::<Value>(&answer.text).expect("JSON")["next"].clone();
    }
    assert_eq!(seen, 4);

    for (body, status, code) in [
        (json!({ "filter": { "resident": { "pesel": pesel_of("css") } } }), 404, "resident_unknown"),
        (json!({ "filter": { "resident": { "pesel": "80010300036" } } }), 422, "pesel_checksum"),
        (json!({ "limit": 0 }), 422, "value_invalid"),
        (json!({ "filter": { "from": 2, "until": 2 } }), 422, "value_invalid"),
        (json!({ "filter": { "staff": "a", "user": "b" } }), 422, "value_invalid"),
    ] {
        let answer = search(&harness, "mops", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        let problem: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert_eq!(problem["code"], code);
        assert!(!answer.text.contains(pesel_of("css")));
    }
    let refused = request(&harness, "mops", "POST", "/v1/audit/search").json(&json!({})).send().await;
    assert_eq!(refused.status, 403, "{}", refused.text);

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let acts: Vec<Value> = read_log(&harness, "mops").into_iter().filter(|e| e["event"] == "dpo.searched").collect();
    assert_eq!(acts.len(), 1 + 5 + pages + 1, "every page, and the resident who is not there");
    assert_eq!((&acts[0]["filter"], &acts[0]["file"]), (&json!(["file"]), &found[0]["file"]));
    assert_eq!(acts[0]["counts"], json!({ "found": 2 }));
    assert!(acts.iter().all(|act| act["role"] == "dpo" && act["user"].is_string()));
    assert!(acts.iter().all(|act| act.get("case").is_none() && !act.to_string().contains("caseworker")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_alone_and_the_specific_report_needs_two() {
    let mut harness = Harness::filled().await;
    ask(&harness, "mops+pup").await;
    let dpo = harness.federation.token(&tests::member("mops"), "iod", &["dpo"]).expect("a token");
    let other = harness.federation.token(&tests::member("mops"), "zastepca", &["dpo"]).expect("a token");
    let local = harness.federation.local(&tests::member("mops")).expect("a local API");
    let body = json!({ "filter": { "resident": { "pesel": pesel_of("mops+pup") } }, "reason": "wniosek" });
    let dir = harness.extracts();
    let bundle = async |body: &Value, second: Option<&str>| {
        let mut file = tempfile::tempfile_in(&dir).expect("a file");
        local.download("/v1/audit/export", &dpo, second, body, &mut file).await.map(|()| file)
    };
    let mut file = bundle(&body, None).await.expect("an export");
    std::io::Seek::rewind(&mut file).expect("rewound");
    tar::Archive::new(file).unpack(dir.join("unpacked")).expect("a tar file");
    let mut events = Vec::new();
    let exported = verify_export(
        &dir.join("unpacked/export"),
        None,
        &[],
        |_, entry| events.push(entry["event"].as_str().expect("a name").to_owned()),
        |_| {},
    )
    .expect("it verifies");
    assert_eq!(events, ["query.asking", "query.outcome", "dpo.exported"]);
    assert_eq!(exported.vkey.name(), "test.ogniwo.example/mops");

    let specific = json!({ "filter": { "staff": "caseworker" }, "report": "R9" });
    for second in [None, Some(dpo.as_str())] {
        assert_eq!(bundle(&specific, second).await.expect_err("alone").code, "confirmation_missing");
    }
    let caseworker = harness.federation.token(&tests::member("mops"), "jan", &["caseworker"]).expect("a token");
    assert_eq!(bundle(&specific, Some(&caseworker)).await.expect_err("no officer").code, "role_not_allowed");
    bundle(&specific, Some(&other)).await.expect("two officers");
    assert_eq!(bundle(&json!({ "report": "R99" }), None).await.expect_err("unknown").code, "value_invalid");
    let exports = harness.home().join("mops/data/exports");
    assert_eq!(std::fs::read_dir(exports).expect("a directory").count(), 0, "nothing stays in clear");

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let reported: Vec<_> = log.iter().filter(|e| e["event"] == "dpo.reported").collect();
    assert_eq!(reported.len(), 1);
    assert!(reported[0]["confirmed_by"].is_string() && reported[0]["confirmed_by"] != reported[0]["user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_one_side_hides_is_found_by_the_other() {
    let mut harness = Harness::filled().await;
    ask(&harness, "mops+pup").await;
    ask(&harness, "mops+pup+css").await;
    // Somebody at mops asks past mops's node, with mops's own keys: only pup's log knows.
    let mops = tests::Member::of(&harness, "mops");
    let output = mops.output(pesel_of("mops+pup")).await;
    let ticket = mops.ticket(&output).await;
    let hidden = mops.request(&output, "pup", &ticket, |_| {});
    mops.query("pup", &hidden).await.expect("answered");
    let digest = protocol::encoding::b64(&protocol::jws::digest(&hidden));

    let post = async |unit: &'static str, path: &str, body: Value| -> Value {
        let answer = request(&harness, unit, "POST", path).of("iod", &["dpo"]).json(&body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(&answer.text).expect("JSON")
    };
    let now = harness.clock.now().0;
    let until = now + 60;
    let at_mops = post("mops", "/v1/audit/reconcile", json!({ "peer": "pup", "from": now - 60, "until": until })).await;
    assert_eq!(at_mops["matched"], 2, "{at_mops}");
    let findings = at_mops["findings"].as_array().expect("findings").clone();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["kind"], &findings[0]["request"]), (&json!("only_there"), &json!(digest)));
    let at_pup = post("pup", "/v1/audit/reconcile", json!({ "peer": "mops", "from": now - 60, "until": until })).await;
    assert_eq!((&at_pup["findings"][0]["kind"], &at_pup["matched"]), (&json!("only_here"), &json!(2)));
    // Nobody else is told: css took part in nothing of this.
    let at_css = post("css", "/v1/audit/reconcile", json!({ "peer": "pup", "from": now - 60, "until": until })).await;
    assert_eq!((&at_css["matched"], &at_css["findings"]), (&json!(0), &json!([])));

    // Looked at once, it stays so when it is found again.
    let id = findings[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/audit/findings/{id}");
    let reviewed = post("mops", &path, json!({ "state": "confirmed", "note": "zgłoszone" })).await;
    assert_eq!((&reviewed["state"], &reviewed["note"]), (&json!("confirmed"), &json!("zgłoszone")));
    let again = post("mops", "/v1/audit/reconcile", json!({ "peer": "pup", "from": now - 60, "until": until })).await;
    assert_eq!(again["findings"], json!([reviewed]));
    let unknown = request(&harness, "mops", "POST", "/v1/audit/findings/AAAA").of("iod", &["dpo"]);
    let unknown = unknown.json(&json!({ "state": "open", "note": "x" })).send().await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    let listed = request(&harness, "mops", "GET", "/v1/audit/findings").of("iod", &["dpo"]).send().await;
    assert_eq!(serde_json::from_str::<Value>(&listed.text).expect("JSON"), json!([reviewed]));

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let happened = |event: &str| log.iter().filter(|entry| entry["event"] == event).count();
    assert_eq!((happened("log.reconciled"), happened("finding.reviewed")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_residents_data_are_shown_and_erased_on_the_officers_word() {
    let mut harness = Harness::filled().await;
    let resident = json!({ "pesel": pesel_of("mops+pup") });
    let post = async |path: &str, role: &str, body: &Value| {
        request(&harness, "mops", "POST", path).of("iod", &[role]).json(body).send().await
    };
    let (show, erase) = ("/v1/audit/residents/show", "/v1/audit/residents/erase");
    let body = json!({ "resident": resident, "reason": "wniosek" });
    let shown = post(show, "dpo", &body).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let data: Value = serde_json::from_str(&shown.text).expect("JSON");
    assert!(!data["rows"].as_array().expect("rows").is_empty() && data["sealed"] == true, "there is a sealed field");
    assert!(!shown.text.contains("mops.nk"), "which is not shown");
    assert_eq!(post(show, "caseworker", &body).await.status, 403);
    assert_eq!(post(show, "dpo", &json!({ "resident": resident, "reason": " " })).await.status, 422);

    let doubtful = json!({ "resident": resident, "reason": "wniosek", "no_exception_applies": false });
    assert_eq!(post(erase, "dpo", &doubtful).await.status, 422);
    let sure = json!({ "resident": resident, "reason": "wniosek", "no_exception_applies": true });
    assert_eq!(post(erase, "caseworker", &sure).await.status, 403);
    assert_eq!(post(show, "dpo", &body).await.status, 200, "nothing was erased so far");
    assert_eq!(post(erase, "dpo", &sure).await.status, 200);
    assert_eq!(post(show, "dpo", &body).await.status, 404);
    assert_eq!(post(erase, "dpo", &sure).await.status, 404);
    assert_eq!(harness.enrol("mops").await.expect("enrolled").removed, 1, "nor does the registry know");

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let of = |event: &str| -> Vec<Value> { log.iter().filter(|e| e["event"] == event).cloned().collect() };
    let (shown, erased) = (of("resident.shown"), of("resident.erased"));
    assert_eq!((shown.len(), erased.len()), (3, 1));
    assert_eq!((&erased[0]["file"], &shown[0]["file"]), (&data["file"], &data["file"]));
    assert_eq!(shown[2]["counts"], json!({ "found": 0 }));
}
