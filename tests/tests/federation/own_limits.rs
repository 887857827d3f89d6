//! What an institution lets its own users ask, by role: questions a day and hours, judged before anything leaves it.

use crate::decisions::{eviction, settled, waiting};
use crate::identities::days_later;
use cli::exit::Failure;
use cli::federation::Part;
use node::{ApprovalView, EmergencyView, Outcome, OutcomeKind, QueryResult};
use serde_json::{Value, json};
use tests::{Harness, Options, member, pesel_of, read_log};

fn unit<'h>(harness: &'h mut Harness, unit: &str) -> &'h mut Part {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node")
}

/// Limits every caseworker of `name`: a quota and, if wanted, hours until 14 o'clock today, a Saturday, and all Sunday.
async fn limit(harness: &mut Harness, name: &str, queries_per_day: u32, hours: bool) {
    let path = harness.federation.founded.node_config(&member(name));
    let mut words = std::fs::read_to_string(&path).expect("a configuration");
    words = words.replace("\"dpo\" = \"dpo\"\n", "\"dpo\" = \"dpo\"\n\"coordinator\" = \"coordinator\"\n");
    words.push_str(&format!("\n[local.limits.caseworker]\nqueries_per_day = {queries_per_day}\n"));
    if hours {
        let span = |day, to| format!("{{ day = \"{day}\", from_minute = 0, to_minute = {to} }}");
        words.push_str(&format!("hours = [{}, {}]\n", span("saturday", 840), span("sunday", 1440)));
    }
    std::fs::write(path, words).expect("written");
    unit(harness, name).stop().await.expect("stopped");
    unit(harness, name).restart().await.expect("started");
}

/// What came of `times` the same question of pup's to mops by one user in these roles.
async fn ask(harness: &Harness, user: &str, roles: &[&str], times: usize, basis: Value) -> Vec<Outcome> {
    let query = if basis["kind"] == "emergency" { "q18" } else { "q06" };
    let body = json!({
        "resident": { "pesel": pesel_of("mops+pup") }, "asks": vec![json!({ "query": query, "holder": "mops" }); times],
        "purpose": "public-service-provision", "basis": basis, "case_ref": "1", "reason": "test",
    });
    let token = harness.federation.token(&member("pup"), user, roles).expect("a token");
    let api = harness.federation.local(&member("pup")).expect("an API");
    let said: Result<QueryResult, Failure> = api.call(http::Method::POST, "/v1/queries", &token, Some(&body)).await;
    said.expect("a result").outcomes
}

/// Of a caseworker, on the statute.
async fn asked(harness: &Harness, user: &str, times: usize) -> Vec<Option<String>> {
    let basis = json!({ "kind": "mandate", "id": "urp-2025" });
    ask(harness, user, &["caseworker"], times, basis).await.into_iter().map(|outcome| outcome.reason).collect()
}

/// Whether the caseworker's emergency is answered.
async fn in_danger(harness: &Harness) -> bool {
    let body = json!({ "resident": { "pesel": pesel_of("mops+pup") }, "reason": "life", "text": "unconscious" });
    let opened: EmergencyView = harness.post("pup", "caseworker", "/v1/emergencies", &body).await.expect("opened");
    harness.clock.advance(2);
    let confirm = format!("/v1/emergencies/{}/confirm", opened.id);
    let confirmed: EmergencyView = harness.post("pup", "caseworker", &confirm, &json!({})).await.expect("confirmed");
    let basis = json!({ "kind": "emergency", "id": confirmed.id });
    ask(harness, "caseworker", &["caseworker"], 1, basis).await[0].outcome == OutcomeKind::Answered
}

const QUOTA: &str = "user_quota_exceeded";
const HOURS: &str = "outside_hours";

fn refused(reason: &str) -> Vec<Option<String>> {
    vec![Some(reason.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_limited_by_their_role_before_anything_leaves() {
    let mut harness = Harness::filled().await;
    limit(&mut harness, "pup", 2, true).await;
    assert_eq!(asked(&harness, "caseworker", 3).await, [vec![None, None], refused(QUOTA)].concat());
    unit(&mut harness, "pup").stop().await.expect("stopped");
    unit(&mut harness, "pup").restart().await.expect("started");
    assert_eq!(asked(&harness, "caseworker", 1).await, refused(QUOTA), "after a restart");
    assert_eq!(asked(&harness, "another", 1).await, [None], "each user has a quota");
    // The role a question is asked in counts: of several the first by name that may ask it.
    let mandate = || json!({ "kind": "mandate", "id": "urp-2025" });
    for (roles, reason) in [(["coordinator", "caseworker"].as_slice(), Some(QUOTA)), (&["coordinator"], None)] {
        let outcome = ask(&harness, "caseworker", roles, 1, mandate()).await.remove(0);
        assert_eq!(outcome.reason.as_deref(), reason, "{roles:?}");
        if reason.is_some() {
            let message = outcome.message.expect("words");
            assert!(message.pl.contains("Poczekaj do jutra") && message.en.contains("Wait until tomorrow"));
        }
    }
    assert!(in_danger(&harness).await, "danger waits for no quota");
    harness.clock.advance(60 * 60);
    assert_eq!(asked(&harness, "another", 1).await, refused(HOURS));
    assert!(in_danger(&harness).await, "danger waits for no hour");

    // Nothing was counted at a closed hour. With nobody there, who is refused here never gets as far as the others.
    days_later(&harness, 1).await;
    assert_eq!(asked(&harness, "another", 1).await, [None]);
    for part in ["mops", "css"] {
        unit(&mut harness, part).stop().await.expect("stopped");
    }
    let outcomes = ask(&harness, "another", &["caseworker"], 2, mandate()).await;
    assert_eq!([0, 1].map(|at| outcomes[at].outcome), [OutcomeKind::Unavailable, OutcomeKind::Denied]);
    assert_eq!(outcomes[1].reason.as_deref(), Some(QUOTA));
    unit(&mut harness, "pup").stop().await.expect("stopped");
    let log = read_log(&harness, "pup");
    let of_limits = log.iter().filter(|entry| entry["event"] == "query.outcome" && entry["detail"].is_string());
    let noted: Vec<[&str; 3]> = of_limits
        .map(|entry| ["decision", "reason", "detail"].map(|key| entry[key].as_str().expect("a text")))
        .collect();
    let detail = "quota: the institution's own limit of the role";
    let line = |decision, reason| [decision, reason, detail];
    let deny = [line("deny", QUOTA), line("deny", QUOTA), line("deny", HOURS)];
    assert_eq!(noted, [[line("mixed", QUOTA)].as_slice(), &deny, &[line("deny", QUOTA)]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_at_its_holder_was_judged_when_it_was_put() {
    let mut harness = Harness::filled().await;
    limit(&mut harness, "mops", 1, true).await;
    let pending = eviction(&harness).await;
    assert_eq!(pending.outcomes[0].outcome, OutcomeKind::Pending);
    assert_eq!(eviction(&harness).await.outcomes[0].reason.as_deref(), Some(QUOTA));
    let path = format!("/v1/approvals/{}/grant", waiting(&harness).await.id);
    let body = json!({ "fields": ["hou.eviction"] });
    let _granted: ApprovalView = harness.post("zlm", "supervisor", &path, &body).await.expect("granted");
    harness.clock.advance(60 * 60);
    assert_eq!(eviction(&harness).await.outcomes[0].reason.as_deref(), Some(HOURS));
    assert_eq!(settled(&harness, &pending.id).await.outcome, OutcomeKind::Answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_gives_no_question_back() {
    let mut harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    limit(&mut harness, "pup", 1, false).await;
    assert_eq!(asked(&harness, "caseworker", 1).await, [None]);
    let Part::Process(process) = unit(&mut harness, "pup") else { panic!("processes are killed") };
    process.kill().await.expect("killed");
    unit(&mut harness, "pup").restart().await.expect("started");
    assert_eq!(asked(&harness, "caseworker", 1).await, refused(QUOTA));
}
