//! The data-protection officer's own access: recorded, of its own institution alone, never by a value that stays.

use crate::local_api::{Answer, request};
use audit::verify_export;
use node::OutcomeKind;
use serde_json::{Value, json};
use tests::{Harness, pesel_of, read_log, until};

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
        (json!({ "file": found[0]["file"], "event": "query.asking" }), 1),
    ] {
        let found = entries(&search(&harness, "mops", &json!({ "filter": filter, "reason": "skarga" })).await);
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
        (json!({ "filter": { "file": found[0]["file"], "resident": resident } }), 422, "value_invalid"),
        (json!({ "filter": { "file": "nobody" } }), 422, "value_invalid"),
        (json!({ "filter": { "staff": "caseworker" } }), 422, "reason_missing"),
        (json!({ "filter": { "event": "query.denid" } }), 422, "value_invalid"),
        (json!({ "filter": { "decision": "foo" } }), 422, "value_invalid"),
    ] {
        let answer = search(&harness, "mops", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        let problem: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert_eq!(problem["code"], code);
        assert!(!answer.text.contains(pesel_of("css")));
    }
    // What no entry says is named with what may be said: an empty list would look as if nothing had happened.
    for (field, wrong, allowed) in
        [("event", "query.denid", "query.denied, "), ("decision", "foo", "permit, deny, mixed")]
    {
        for path in ["/v1/audit/search", "/v1/audit/export"] {
            let body = json!({ "filter": { field: wrong } });
            let answer = request(&harness, "mops", "POST", path).of("iod", &["dpo"]).json(&body).send().await;
            let problem: Value = serde_json::from_str(&answer.text).expect("JSON");
            assert_eq!((answer.status, &problem["field"]), (422, &json!(format!("filter.{field}"))), "{problem}");
            let (pl, en) = (problem["message"]["pl"].as_str(), problem["message"]["en"].as_str());
            assert!(
                pl.is_some_and(|pl| pl.contains(allowed)) && en.is_some_and(|en| en.contains(allowed)),
                "{problem}"
            );
        }
    }
    let refused = request(&harness, "mops", "POST", "/v1/audit/search").json(&json!({})).send().await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    // An export about somebody who is not on file is no less recorded.
    let body = json!({ "filter": { "resident": { "pesel": pesel_of("css") } } });
    let nobody = request(&harness, "mops", "POST", "/v1/audit/export").of("iod", &["dpo"]).json(&body).send().await;
    assert_eq!(nobody.status, 404, "{}", nobody.text);
    another_officer_is_told(&harness).await;
    whom_ids_stand_for(&harness, &found[0]).await;

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let (denied, acts): (Vec<&Value>, Vec<&Value>) =
        log.iter().filter(|entry| entry["event"] == "dpo.searched").partition(|entry| entry["decision"] == "deny");
    assert_eq!(denied.len(), 1, "who is no officer");
    assert_eq!(acts.len(), 1 + 6 + pages + 1 + 1, "every page, the resident who is not there, a list of findings");
    assert_eq!((&acts[0]["filter"], &acts[0]["file"]), (&json!(["file"]), &found[0]["file"]));
    assert_eq!(acts[0]["counts"], json!({ "found": 2 }));
    assert!(acts.iter().all(|act| act["role"] == "dpo" && act["user"].is_string()));
    assert!(acts.iter().all(|act| act.get("case").is_none() && !act.to_string().contains("caseworker")));
}

/// Who looked through one member of staff's accesses alone does not review that; another officer does.
async fn another_officer_is_told(harness: &Harness) {
    let as_officer =
        |who: &'static str, method: &'static str, path: &str| request(harness, "mops", method, path).of(who, &["dpo"]);
    let listed = as_officer("zastepca", "GET", "/v1/audit/findings").send().await;
    let listed: Value = serde_json::from_str(&listed.text).expect("JSON");
    let told: Vec<&Value> = listed["findings"].as_array().expect("findings").iter().collect();
    assert!(told.iter().all(|finding| finding["kind"] == "staff_looked_through"), "{told:?}");
    assert_eq!(told.len(), 2, "one for each member of staff looked through");
    let path = format!("/v1/audit/findings/{}", told[0]["id"].as_str().expect("an id"));
    let review = json!({ "state": "explained", "note": "skarga" });
    let own = as_officer("iod", "POST", &path).json(&review).send().await;
    assert!(own.status == 403 && own.text.contains("finding_own"), "{}", own.text);
    let other = as_officer("zastepca", "POST", &path).json(&review).send().await;
    assert_eq!(other.status, 200, "{}", other.text);
}

/// The officer reads whom an entry's ids stand for; what they stand for is in no entry.
async fn whom_ids_stand_for(harness: &Harness, entry: &Value) {
    let who = async |role: &str, body: Value| {
        request(harness, "mops", "POST", "/v1/audit/who").of("iod", &[role]).json(&body).send().await
    };
    let user = who("dpo", json!({ "user": entry["user"], "reason": "skarga" })).await;
    assert_eq!(serde_json::from_str::<Value>(&user.text).expect("JSON")["staff"], "caseworker", "{}", user.text);
    let file = who("dpo", json!({ "file": entry["file"], "reason": "skarga" })).await;
    assert_eq!(file.status, 200, "{}", file.text);
    assert!(file.text.contains("M/"), "{}", file.text);
    let stranger = protocol::encoding::b64(&[7; 32]);
    for (role, body, status) in [
        ("caseworker", json!({ "user": entry["user"], "reason": "x" }), 403),
        ("dpo", json!({ "user": entry["user"], "reason": " " }), 422),
        ("dpo", json!({ "reason": "x" }), 422),
        ("dpo", json!({ "user": stranger, "reason": "x" }), 404),
    ] {
        assert_eq!(who(role, body.clone()).await.status, status, "{body}");
    }
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
        audit::Against::default(),
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
    let (denied, reported): (Vec<&Value>, Vec<&Value>) =
        log.iter().filter(|entry| entry["event"] == "dpo.reported").partition(|entry| entry["decision"] == "deny");
    assert_eq!(reported.len(), 1);
    let why: Vec<_> = denied.iter().map(|entry| (&entry["report"], &entry["reason"])).collect();
    assert_eq!(why, [(&json!("R9"), &json!("confirmation_missing")); 2]);
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
    assert_eq!((&findings[0]["peer"], findings[0]["entries"].as_array().map(Vec::len)), (&json!("pup"), Some(1)));
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
    assert_eq!(serde_json::from_str::<Value>(&listed.text).expect("JSON")["findings"], json!([reviewed]));

    // What one side erased at a resident's demand is no disagreement: its leaf is there, and it is counted.
    let resident = json!({ "pesel": pesel_of("mops+pup+css") });
    let erase = json!({
        "resident": resident, "reason": "wniosek", "no_exception_applies": true, "log_entries": true, "no_proof_needed": true,
    });
    post("pup", "/v1/audit/residents/erase", erase).await;
    for (unit, peer) in [("mops", "pup"), ("pup", "mops")] {
        let body = json!({ "peer": peer, "from": now - 60, "until": until });
        let compared = post(unit, "/v1/audit/reconcile", body).await;
        let count = compared["findings"].as_array().map(Vec::len);
        assert_eq!(
            (&compared["matched"], &compared["erased"], count),
            (&json!(1), &json!(1), Some(1)),
            "{unit}: {compared}"
        );
    }

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let happened = |event: &str| log.iter().filter(|entry| entry["event"] == event).count();
    assert_eq!((happened("log.reconciled"), happened("finding.reviewed")), (3, 1));
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
    // With the log's entries too, which nothing but the officer's word lets go.
    let other = json!({ "resident": { "pesel": pesel_of("mops+css") }, "reason": "sprawdzenie" });
    assert_eq!(post(show, "dpo", &other).await.status, 200);
    let mut whole = json!({ "resident": other["resident"], "reason": "wniosek", "no_exception_applies": true, "log_entries": true });
    assert_eq!(post(erase, "dpo", &whole).await.status, 422);
    whole["no_proof_needed"] = json!(true);
    let gone = post(erase, "dpo", &whole).await;
    assert_eq!(serde_json::from_str::<Value>(&gone.text).expect("JSON")["log_entries"], 1, "{}", gone.text);

    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let denied: Vec<_> = log.iter().filter(|entry| entry["decision"] == "deny").collect();
    let tried: Vec<_> = denied.iter().map(|entry| (&entry["event"], &entry["reason"])).collect();
    let role = json!("role_not_allowed");
    assert_eq!(tried, [(&json!("resident.shown"), &role), (&json!("resident.erased"), &role)], "others than officers");
    let of = |event: &str| -> Vec<Value> {
        log.iter().filter(|e| e["event"] == event && e["decision"] != "deny").cloned().collect()
    };
    let (shown, erased) = (of("resident.shown"), of("resident.erased"));
    assert_eq!((shown.len(), erased.len()), (3, 3), "of the last one only that it was erased");
    let payloads = of("log.payloads_erased");
    assert_eq!((&payloads[0]["file"], &payloads[0]["counts"]), (&erased[2]["file"], &json!({ "entries": 1 })));
    assert_eq!(erased[1]["counts"], json!({ "found": 0 }), "also that nobody was there any more");
    assert_eq!((&erased[0]["file"], &shown[0]["file"]), (&data["file"], &data["file"]));
    assert_eq!(shown[2]["counts"], json!({ "found": 0 }));
}

/// Asks the labour office as a caseworker of mops, on a case.
async fn ask_on(harness: &Harness, units: &str, case: &str) {
    let body = json!({
        "resident": { "pesel": pesel_of(units) }, "asks": [{ "query": "q02", "holder": "pup" }],
        "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": case, "reason": "test",
    });
    let result: node::QueryResult = harness.post("mops", "caseworker", "/v1/queries", &body).await.expect("an outcome");
    assert_eq!(result.outcomes[0].outcome, OutcomeKind::Answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn accesses_are_explained_first_and_the_rest_is_found_once() {
    let mut harness = Harness::filled().await;
    // NOON is a Saturday: what nothing explains is also out of hours.
    let own = format!("M/{}", tests::RESIDENTS.iter().position(|r| r.units == "mops+pup").expect("a resident"));
    ask_on(&harness, "mops+pup", &own).await;
    ask_on(&harness, "mops+pup+css", "MOPS/2026/1").await;
    let post = async |unit: &'static str, role: &str, path: &str, body: Value| {
        request(&harness, unit, "POST", path).of("iod", &[role]).json(&body).send().await
    };
    let look = async |unit: &'static str| -> Value {
        let answer = post(unit, "dpo", "/v1/audit/anomalies", json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(&answer.text).expect("JSON")
    };
    let at_mops = look("mops").await;
    assert_eq!((&at_mops["examined"], &at_mops["explained"]), (&json!(2), &json!({ "case": 1 })), "{at_mops}");
    let kinds = |found: &Value| -> Vec<String> {
        let findings = found["findings"].as_array().expect("findings").iter();
        findings.map(|finding| finding["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    assert_eq!(kinds(&at_mops), ["out_of_hours", "unexplained"]);
    let found = at_mops["findings"].as_array().expect("findings").clone();
    // Each leads to the entry it is about, and both to the same.
    assert_eq!(found[0]["entries"], found[1]["entries"]);
    let start = found[0]["entries"][0].as_u64().expect("an index");
    let entry = search(&harness, "mops", &json!({ "start": start, "limit": 1 })).await;
    let entry = &entries(&entry)[0];
    assert_eq!(
        (&entry["event"], &entry["file"], &entry["user"]),
        (&json!("query.outcome"), &found[1]["file"], &found[1]["user"])
    );
    // The holder sees the hour, and no more of the case than a MAC it cannot read.
    let at_pup = look("pup").await;
    assert_eq!((kinds(&at_pup), &at_pup["findings"][0]["peer"]), (vec!["out_of_hours".to_owned()], &json!("mops")));

    // A review stays when the same is found again; what comes to it later opens it.
    let path = format!("/v1/audit/findings/{}", found[1]["id"].as_str().expect("an id"));
    let review = async |state: &str| {
        let answer = post("mops", "dpo", &path, json!({ "state": state, "note": "nowa sprawa" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    review("confirmed").await;
    assert_eq!(look("mops").await["findings"][1]["state"], "confirmed");
    ask_on(&harness, "mops+pup+css", "MOPS/2026/1").await;
    let more = look("mops").await;
    assert_eq!(
        (&more["findings"][1]["state"], more["findings"][1]["entries"].as_array().map(Vec::len)),
        (&json!("open"), Some(2))
    );
    let page = async |query: &str| {
        let path = format!("/v1/audit/findings{query}");
        let answer = request(&harness, "mops", "GET", &path).of("iod", &["dpo"]).send().await;
        (answer.status, serde_json::from_str::<Value>(&answer.text).expect("JSON"))
    };
    let (_, all) = page("").await;
    assert_eq!((all["findings"].as_array().map(Vec::len), &all["next"]), (Some(2), &Value::Null));
    let (_, one) = page("?limit=1").await;
    assert_eq!((&one["findings"], &one["next"]), (&json!([all["findings"][0]]), &all["findings"][1]["id"]));
    let (_, other) = page(&format!("?limit=1&start={}", one["next"].as_str().expect("an id"))).await;
    assert_eq!((&other["findings"], &other["next"]), (&json!([all["findings"][1]]), &Value::Null));
    for (wrong, field) in [("?start=AAAA", "start"), ("?limit=0", "limit"), ("?limit=1001", "limit")] {
        let (status, problem) = page(wrong).await;
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }

    // Once the officer found it explained, the reference is known: a case people work on.
    review("explained").await;
    harness.clock.advance(12 * 60 * 60);
    let now = harness.clock.now().0;
    ask_on(&harness, "mops+pup+css", "MOPS/2026/1").await;
    let next = post("mops", "dpo", "/v1/audit/anomalies", json!({ "from": now - 60, "until": now + 60 })).await;
    let next: Value = serde_json::from_str(&next.text).expect("JSON");
    assert_eq!((&next["explained"], &next["findings"]), (&json!({ "case": 1 }), &json!([])));

    for (role, body, status) in [
        ("caseworker", json!({}), 403),
        ("dpo", json!({ "from": 2, "until": 2 }), 422),
        ("dpo", json!({ "from": 0, "until": 400 * 24 * 60 * 60 }), 422),
    ] {
        let refused = post("mops", role, "/v1/audit/anomalies", body).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node").stop().await.expect("stopped");
    let looks =
        read_log(&harness, "mops").into_iter().filter(|e| e["event"] == "log.reviewed" && e["user"].is_string());
    let (denied, looks): (Vec<Value>, Vec<Value>) = looks.partition(|entry| entry["decision"] == "deny");
    assert_eq!((denied.len(), looks.len()), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_is_the_officers_word_and_its_end_too() {
    let mut harness = Harness::filled().await;
    let resident = json!({ "pesel": pesel_of("mops+pup") });
    let post = async |role: &str, more: Value| {
        let mut body = json!({ "resident": resident, "reason": "wniosek" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let asked = request(&harness, "pup", "POST", "/v1/audit/residents/restrict").of("iod", &[role]);
        asked.json(&body).send().await
    };
    assert_eq!(post("steward", json!({})).await.status, 403);
    let restricted = post("dpo", json!({})).await;
    assert_eq!(restricted.status, 200, "{}", restricted.text);
    let answer: Value = serde_json::from_str(&restricted.text).expect("JSON");
    assert_eq!(answer["restricted"], true);
    let basis = || json!({ "kind": "mandate", "id": "ups-105" });
    let refused = harness.ask("mops", "pup", "q02", resident.clone(), basis()).await;
    assert_eq!((refused.outcome, refused.reason.as_deref()), (OutcomeKind::Denied, Some("not_available")));
    // The resident is told first.
    let untold = post("dpo", json!({ "lift": true })).await;
    assert_eq!(untold.status, 422, "{}", untold.text);
    assert!(untold.text.contains("resident_informed"));
    assert_eq!(post("dpo", json!({ "lift": true, "resident_informed": true })).await.status, 200);
    let answered = harness.ask("mops", "pup", "q02", resident.clone(), basis()).await;
    assert_eq!(answered.outcome, OutcomeKind::Answered);
    assert_eq!(post("dpo", json!({ "resident": { "pesel": pesel_of("mops") } })).await.status, 404);

    harness.federation.nodes.get_mut(&tests::member("pup")).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "pup");
    let acts: Vec<&Value> = log.iter().filter(|entry| entry["event"] == "resident.restricted").collect();
    let decisions: Vec<&Value> = acts.iter().map(|act| &act["decision"]).collect();
    assert_eq!(decisions, [&json!("deny"), &json!("restricted"), &json!("lifted"), &Value::Null]);
    assert_eq!((&acts[1]["file"], &acts[3]["counts"]), (&answer["file"], &json!({ "found": 0 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_past_their_time_go_but_for_the_restricted_and_sealed() {
    let mut harness = Harness::filled().await;
    let mops = tests::member("mops");
    let config = harness.home().join("mops/node.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let category = "\n[retention.B5]\ndays = 144\nsources = [\"pomost\"]\nsince = \"mops.benefit.decision_to\"\n";
    let node = harness.federation.nodes.get_mut(&mops).expect("a node");
    node.stop().await.expect("stopped");
    std::fs::write(&config, text + category).expect("written");
    node.restart().await.expect("restarted");

    let restrict = json!({ "resident": { "pesel": pesel_of("mops+css") }, "reason": "wniosek" });
    let restricted = request(&harness, "mops", "POST", "/v1/audit/residents/restrict").of("iod", &["dpo"]);
    assert_eq!(restricted.json(&restrict).send().await.status, 200);
    let admin = harness.federation.admin(&mops);
    let sweep = async |dry_run: bool| -> Vec<node::Swept> {
        admin.run(&format!("/retention?dry_run={dry_run}"), &json!({}), &|_| {}).await.expect("swept")
    };
    let clients = async || admin.get::<node::NodeStatus>("/status").await.expect("a status").clients;
    // The 30th of June and 144 days are the 21st of November: that whole day they stay.
    assert_eq!(sweep(false).await[0].rows, 0);
    harness.clock.advance(12 * 60 * 60);
    let before = clients().await;
    let due = sweep(true).await;
    assert_eq!(clients().await, before, "a dry run removes nothing");
    let of_mops = tests::RESIDENTS.iter().filter(|resident| resident.at("mops"));
    let sealed = of_mops.clone().filter(|resident| resident.sealed).count() as u64;
    let gone = of_mops.count() as u64 - sealed - 1;
    let expected =
        node::Swept { category: "B5".to_owned(), rows: gone, residents: gone, files: gone, restricted: 1, sealed };
    assert_eq!(due, [expected]);
    assert_eq!(sweep(false).await, due);
    assert_eq!(clients().await, before - gone);
    assert_eq!(sweep(true).await[0].rows, 0, "once");
    // What was published is taken back, and nobody finds the resident here any more.
    assert_eq!(harness.enrol("mops").await.expect("enrolled").removed, gone);
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": pesel_of("mops+pup+zlm") }), basis).await;
    assert_eq!(outcome.reason.as_deref(), Some("not_served"));
    // An import that still has them brings them back.
    harness.import("mops", &harness.extracts().join("mops.csv"), node::ImportMode::Update).await.expect("imported");
    assert_eq!(clients().await, before);

    harness.federation.nodes.get_mut(&mops).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let swept: Vec<&Value> = log.iter().filter(|entry| entry["event"] == "retention.applied").collect();
    assert_eq!(swept.len(), 1, "a dry run and a sweep of nothing are none");
    // What was done at the machine, what is in use and that the node was closed stand there as well.
    let of = |event: &str| -> Vec<&Value> { log.iter().filter(|entry| entry["event"] == event).collect() };
    let acts = of("admin.acted");
    let by_hand =
        acts.iter().filter_map(|act| act["detail"].as_str()).filter(|what| what.starts_with("/retention by uid "));
    assert_eq!(by_hand.count(), 4, "{acts:?}");
    let ends: Vec<&Value> = of("node.closed").iter().map(|end| &end["detail"]).collect();
    assert_eq!(ends, [&json!("stopped"), &json!("stopped")]);
    for changed in ["policy.changed", "certificate.changed", "crl.changed"] {
        assert_eq!(of(changed).len(), 1, "{changed}: a restart changes nothing");
    }
    let list = &of("crl.changed")[0]["counts"];
    assert!(list["number"].is_u64() && list["revoked"] == 0, "{list}");
    assert!(of("policy.changed")[0]["library"].is_string() && of("certificate.changed")[0]["certificate"].is_string());
    assert_eq!((&swept[0]["retention"], &swept[0]["counts"]["rows"]), (&json!("B5"), &json!(gone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_day_logs_are_compared_accesses_looked_through_and_old_entries_erased() {
    const DAY: i64 = 24 * 60 * 60;
    let mut harness = Harness::filled().await;
    let mops = tests::member("mops");
    ask(&harness, "mops+pup").await;
    let config = harness.home().join("mops/node.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("log_retention_days = 1\n{text}")).expect("written");
    // A start is a look whether a day began.
    harness.clock.advance(60 * 60);
    crate::identities::days_later(&harness, 1).await;
    restart(&mut harness).await;
    let erased = happened(&harness, "log.payloads_erased", 1).await;
    assert!(erased[0]["counts"]["entries"].as_u64().is_some_and(|entries| entries >= 2), "{erased:?}");
    assert_eq!(erased[0]["retention"], "log");
    let by_itself = |found: &[Value]| found.iter().all(|entry| entry.get("user").is_none());
    let compared = happened(&harness, "log.reconciled", 1).await;
    let pups: Vec<&Value> = compared.iter().filter(|entry| entry["holder"] == "pup").collect();
    assert_eq!(pups.iter().map(|entry| &entry["counts"]["matched"]).collect::<Vec<_>>(), [&json!(1)], "{compared:?}");
    let looked = happened(&harness, "log.reviewed", 1).await;
    assert!(by_itself(&compared) && by_itself(&looked));
    assert_eq!(looked[0]["counts"]["examined"], 1);
    // What was asked is past its time; by whom and about whom nobody can read any more.
    assert_eq!(entries(&search(&harness, "mops", &json!({ "filter": { "event": "query.outcome" } })).await).len(), 0);
    let given = entries(&search(&harness, "pup", &json!({ "filter": { "event": "log.read" } })).await);
    assert!(!given.is_empty() && given.iter().all(|entry| entry["asker"] == "mops"), "{given:?}");

    // Nor is what was found in it kept any longer.
    assert!(looked[0]["counts"]["findings"].as_u64().is_some_and(|found| found >= 1), "{looked:?}");
    let removed = happened(&harness, "retention.applied", 1).await;
    assert_eq!(
        (&removed[0]["retention"], &removed[0]["counts"]),
        (&json!("findings"), &json!({ "removed": looked[0]["counts"]["findings"] }))
    );
    let listed = request(&harness, "mops", "GET", "/v1/audit/findings").of("iod", &["dpo"]).send().await;
    assert_eq!(serde_json::from_str::<Value>(&listed.text).expect("JSON"), json!({ "findings": [], "next": null }));

    // Who gives nothing for two days is a finding, once; here since no revocation list is current any more.
    harness.clock.advance(2 * DAY);
    let mut told = Vec::new();
    for _ in 0..2 {
        restart(&mut harness).await;
        let listed = async || -> Vec<Value> {
            let answer = request(&harness, "mops", "GET", "/v1/audit/findings").of("iod", &["dpo"]).send().await;
            let mut all: Value = serde_json::from_str(&answer.text).expect("JSON");
            let Value::Array(all) = all["findings"].take() else { panic!("findings") };
            all.into_iter().filter(|finding| finding["kind"] == "not_given" && finding["peer"] == "pup").collect()
        };
        until("a finding", async || !listed().await.is_empty()).await;
        told = listed().await;
    }
    assert_eq!((told.len(), &told[0]["state"]), (1, &json!("open")));
    harness.federation.nodes.get_mut(&mops).expect("a node").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let not_given = |entry: &&Value| entry["reason"] == "not_given" && entry["holder"] == "pup";
    assert_eq!(log.iter().filter(not_given).count(), 1);
}

async fn restart(harness: &mut Harness) {
    let node = harness.federation.nodes.get_mut(&tests::member("mops")).expect("a node");
    node.stop().await.expect("stopped");
    node.restart().await.expect("restarted");
}

/// The entries of an event at mops, once there are so many.
async fn happened(harness: &Harness, event: &str, times: usize) -> Vec<Value> {
    let body = json!({ "filter": { "event": event } });
    until(event, async || entries(&search(harness, "mops", &body).await).len() >= times).await;
    entries(&search(harness, "mops", &body).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_one_trace_on_every_side_and_a_mixed_outcome_is_found_as_both() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let harness = Harness::filled().await;
    let body = json!({
        "resident": { "pesel": pesel_of("mops+pup+css") },
        // Of the second css gives nothing.
        "asks": [{ "query": "q02", "holder": "pup" }, { "query": "q07", "holder": "css" }],
        "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": "X", "reason": "test",
    });
    let flagged = json!({ "resident": body["resident"], "set": ["deceased"], "reason": "akt zgonu" });
    let _flags: node::FlagList = harness.post("css", "dpo", "/v1/flags", &flagged).await.expect("set");
    let ask = async |trace: &str| -> Vec<Value> {
        let asked = request(&harness, "mops", "POST", "/v1/queries").json(&body);
        let answer = asked.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let result: Value = serde_json::from_str(&answer.text).expect("JSON");
        result["outcomes"].as_array().expect("outcomes").iter().map(|outcome| outcome["outcome"].clone()).collect()
    };
    assert_eq!(ask(TRACE).await, ["answered", "denied"]);
    let of = async |unit: &'static str, filter: Value| {
        let found = search(&harness, unit, &json!({ "filter": filter, "reason": "skarga" })).await;
        entries(&found).into_iter().filter(|entry| entry["event"] != "dpo.searched").collect::<Vec<Value>>()
    };
    for decision in ["permit", "deny", "mixed"] {
        let found = of("mops", json!({ "decision": decision })).await;
        assert_eq!(found.len(), 1, "{decision}: {found:?}");
        assert_eq!((&found[0]["event"], &found[0]["decision"]), (&json!("query.outcome"), &json!("mixed")));
    }
    let asked = of("mops", json!({ "event": "query.asking" })).await;
    let outcome = of("mops", json!({ "event": "query.outcome" })).await;
    let (pup, css) = (of("pup", json!({ "peer": "mops" })).await, of("css", json!({ "peer": "mops" })).await);
    let answered: Vec<&Value> = pup.iter().filter(|entry| entry["event"] == "query.answered").collect();
    let denied: Vec<&Value> = css.iter().filter(|entry| entry["event"] == "query.denied").collect();
    for entry in [&asked[0], &outcome[0], answered[0], denied[0]] {
        assert_eq!((&entry["trace"], &entry["clock"]), (&json!(TRACE), &json!("agrees")), "{entry}");
    }
    // Both sides say how much it was, and the holder how old.
    assert!(answered[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{}", answered[0]);
    for (side, line) in [answered[0], denied[0]].into_iter().zip(outcome[0]["outcomes"].as_array().expect("outcomes")) {
        assert_eq!((&side["bytes"], &side["response"]), (&line["bytes"], &line["response"]));
    }
    assert_eq!((&answered[0]["as_of"], denied[0].get("as_of")), (&json!(tests::NOON.0), None));
    // What may be somebody's number is not taken over.
    assert_eq!(ask("00000000000000000000044051401359").await, ["answered", "denied"]);
    let second = of("mops", json!({ "event": "query.asking" })).await.remove(1);
    let trace = second["trace"].as_str().expect("a trace");
    assert!(trace.len() == 32 && !trace.contains("44051401359") && trace != TRACE, "{trace}");
}

/// Whether `needle` stands in a file below `dir`.
fn stands_below(dir: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("a directory").flatten().any(|entry| match entry.file_type().expect("a kind") {
        kind if kind.is_dir() => stands_below(&entry.path(), needle),
        kind if kind.is_file() => contains(&std::fs::read(entry.path()).expect("a file"), needle),
        _ => false,
    })
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_say_by_what_how_surely_from_where_and_for_whom_and_a_terminals_name_is_nowhere() {
    const TERMINAL: &str = "STANOWISKO-ZIELONA-SOWA";
    let mut harness = Harness::filled().await;
    let mops = tests::member("mops");
    let config = harness.home().join("mops/node.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let named = text.replace("[local.tokens]\n", "[local.tokens]\nterminal = \"ws\"\n");
    assert_ne!(text, named);
    std::fs::write(&config, named).expect("written");
    restart(&mut harness).await;

    let provider = harness.federation.founded.identity_provider(&mops).expect("a provider");
    let now = harness.clock.now().0;
    let token = |role: &str| {
        let claims = json!({
            "iss": "https://login.mops.example", "aud": cli::idp::AUDIENCE, "sub": "principal", "act": { "sub": "deputy" },
            "roles": [role], "exp": now + 600, "azp": "pomost", "acr": "urn:two-factors", "ws": TERMINAL,
        });
        provider.sign(&claims).expect("a token")
    };
    let body = json!({
        "resident": { "pesel": pesel_of("mops+pup") }, "asks": [{ "query": "q02", "holder": "pup" }],
        "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": "A", "reason": "test",
    });
    let local = harness.federation.local(&mops).expect("a local API");
    let call = async |role: &str, path: &str, body: &Value| -> Value {
        local.call(http::Method::POST, path, &token(role), Some(body)).await.expect("an answer")
    };
    let result = call("caseworker", "/v1/queries", &body).await;
    assert_eq!(result["outcomes"][0]["outcome"], "answered", "{result}");
    // What stands in a flag's entry comes of the same piece of code, and an officer's own act too.
    let flag =
        json!({ "resident": { "pesel": pesel_of("mops+pup") }, "set": ["do_not_contact"], "reason": "prosi o to" });
    call("steward", "/v1/flags", &flag).await;
    call("dpo", "/v1/audit/search", &json!({})).await;

    let of = async |unit: &'static str, filter: Value| {
        entries(&search(&harness, unit, &json!({ "filter": filter, "reason": "skarga" })).await)
    };
    let mine = of("mops", json!({ "terminal_name": TERMINAL })).await;
    let names: Vec<&Value> = mine.iter().map(|entry| &entry["event"]).collect();
    assert_eq!(names, ["query.asking", "query.outcome", "flag.set", "dpo.searched"]);
    for entry in &mine {
        assert_eq!((&entry["system"], &entry["auth"]), (&json!("pomost"), &json!("urn:two-factors")), "{entry}");
        assert!(entry["ms"].as_u64().is_some_and(|ms| ms < 1000), "{entry}");
        for (field, filter) in
            [("user", json!({ "staff": "deputy" })), ("on_behalf_of", json!({ "staff": "principal" }))]
        {
            assert!(of("mops", filter).await.contains(entry), "{field}: {entry}");
        }
        assert_ne!(entry["user"], entry["on_behalf_of"]);
        assert_eq!(entry["terminal"], mine[0]["terminal"]);
    }
    assert_eq!(of("mops", json!({ "terminal": mine[0]["terminal"], "event": "query.asking" })).await.len(), 1);
    let who = json!({ "user": mine[0]["on_behalf_of"], "reason": "skarga" });
    let who = request(&harness, "mops", "POST", "/v1/audit/who").of("iod", &["dpo"]).json(&who).send().await;
    assert!(who.text.contains("principal"), "{}", who.text);
    // The holder is told the application and the level, and neither for whom nor from where.
    let theirs = of("pup", json!({ "peer": "mops", "event": "query.answered" })).await.remove(0);
    assert_eq!((&theirs["system"], &theirs["auth"]), (&json!("pomost"), &json!("urn:two-factors")));
    assert_eq!((theirs.get("terminal"), theirs.get("on_behalf_of")), (None, None));
    assert_eq!(theirs["user"], mine[0]["user"]);
    // A terminal may be one person's: nobody looks through what was done from it unseen.
    let alone = search(&harness, "mops", &json!({ "filter": { "terminal_name": TERMINAL } })).await;
    assert!(alone.status == 422 && alone.text.contains("reason_missing"), "{}", alone.text);
    let siem = json!({ "filter": { "event": "query.asking" }, "stream": "siem" });
    let siem = entries(&search(&harness, "mops", &siem).await).remove(0);
    assert_eq!((&siem["terminal"], siem.get("on_behalf_of")), (&mine[0]["terminal"], None));
    // Whoever acts for an officer is no second one.
    let found = request(&harness, "mops", "POST", "/v1/audit/export").of("principal", &["dpo"]);
    let second = format!("Bearer {}", token("dpo"));
    let found = found.header("confirmation", &second).json(&json!({ "report": "R9" })).send().await;
    assert!(found.status == 403 && found.text.contains("confirmation_missing"), "{}", found.text);

    harness.federation.nodes.get_mut(&mops).expect("a node").stop().await.expect("stopped");
    assert!(stands_below(harness.home(), b"local.tokens"), "the search finds what is there");
    assert!(!stands_below(harness.home(), TERMINAL.as_bytes()));
    let messages = tests::unwrapped(&tests::lock(&harness.messages));
    assert!(contains(&messages, b"urn:two-factors") && !contains(&messages, TERMINAL.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_data_relatives_and_colleagues_are_noticed_by_what_the_identity_provider_says() {
    let mut harness = Harness::filled().await;
    let mops = tests::member("mops");
    let config = harness.home().join("mops/node.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let person = "\n[local.tokens.person]\npesel = \"pesel\"\nsurname = \"family_name\"\n";
    std::fs::write(&config, text + person).expect("written");
    restart(&mut harness).await;

    let provider = harness.federation.founded.identity_provider(&mops).expect("a provider");
    let now = harness.clock.now().0;
    let token = |user: &str, more: Value| {
        let mut claims = json!({
            "iss": "https://login.mops.example", "aud": cli::idp::AUDIENCE, "sub": user, "roles": ["caseworker"], "exp": now + 600,
        });
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        provider.sign(&claims).expect("a token")
    };
    let local = harness.federation.local(&mops).expect("a local API");
    // Each on a case of one's own, which explains nothing.
    let asks = async |token: &str, case: &str, units: &str| {
        let body = json!({
            "resident": { "pesel": pesel_of(units) }, "asks": [{ "query": "q02", "holder": "pup" }],
            "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": case,
            "reason": "test",
        });
        let result: node::QueryResult =
            local.call(http::Method::POST, "/v1/queries", token, Some(&body)).await.expect("an outcome");
        assert_eq!(result.outcomes[0].outcome, OutcomeKind::Answered);
    };
    // Jan is a client of this unit himself, and Anna has the surname of every resident here.
    let jan = token("jan", json!({ "pesel": pesel_of("mops+pup") }));
    let anna = token("anna", json!({ "family_name": tests::CANARY_SURNAME.to_uppercase() }));
    asks(&jan, "J", "mops+pup").await;
    asks(&anna, "A", "mops+pup+css").await;
    asks(&anna, "A", "mops+pup").await;
    let nobody = token("ewa", json!({}));
    asks(&nobody, "E", "mops+pup+css").await;

    let found =
        request(&harness, "mops", "POST", "/v1/audit/anomalies").of("iod", &["dpo"]).json(&json!({})).send().await;
    let found: Value = serde_json::from_str(&found.text).expect("JSON");
    let of = |kind: &str| -> Vec<&Value> {
        found["findings"].as_array().expect("findings").iter().filter(|finding| finding["kind"] == kind).collect()
    };
    let (own, relatives, colleagues) = (of("own_record"), of("relative"), of("colleague"));
    assert_eq!((own.len(), relatives.len(), colleagues.len()), (1, 2, 1), "{found}");
    assert_eq!(colleagues[0]["user"], relatives[0]["user"]);
    assert_eq!(colleagues[0]["file"], own[0]["file"], "whom Anna looked up works here");
    assert_ne!(own[0]["user"], relatives[0]["user"]);
    // Of the claims nothing is in the store in clear: the harness searches every file.
    harness.federation.nodes.get_mut(&mops).expect("a node").stop().await.expect("stopped");
}
