//! Agreements from draft to end, and a policy library that takes another's place, by the commands the parties and the
//! officers use.

use crate::identities::days_later;
use crate::ran::ogniwo;
use cli::federation::Part;
use node::{ConsentReceipt, OutcomeKind, QueryResult};
use protocol::SignedManifest;
use serde_json::{Value, json};
use std::path::Path;
use tests::{Fault, Harness, Options, PURPOSE, member, pesel_of, read_log, refusals, until};

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn config(harness: &Harness, unit: &str) -> String {
    text(&harness.federation.founded.node_config(&member(unit)))
}

/// What mops is told of q02 by pup: nothing if it is answered, with the fields it gets.
async fn asked(harness: &Harness) -> (Option<String>, Vec<String>) {
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": pesel_of("mops+pup") }), basis).await;
    (outcome.reason, outcome.fields.keys().map(|field| field.as_str().to_owned()).collect())
}

/// The command dates a manifest by this machine's clock; the harness has its own.
fn as_of_now(harness: &Harness, path: &Path) {
    let draft: SignedManifest = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a draft");
    let mut manifest = draft.read().expect("a manifest");
    let life = manifest.expires - manifest.issued;
    manifest.issued = harness.clock.now();
    manifest.expires = manifest.issued + life;
    let draft = SignedManifest::draft(&manifest).expect("a draft");
    std::fs::write(path, serde_json::to_vec(&draft).expect("JSON")).expect("written");
}

/// Signs `manifest` by as many officers as are needed and brings it to the registry, by their commands.
async fn publish(harness: &mut Harness, manifest: &Path) {
    as_of_now(harness, manifest);
    for officer in ["mops", "pup"] {
        let key = text(&harness.home().join(format!("officers/{officer}.key")));
        ogniwo(&["registry", "manifest", "sign", &text(manifest), "--key", &key]).succeeded();
    }
    let signed: SignedManifest =
        serde_json::from_slice(&std::fs::read(manifest).expect("a file")).expect("a signed manifest");
    harness.federation.publish(&signed).await.expect("published");
    harness.federation.founded.manifest = signed;
}

/// The manifest held, in a file.
fn held(harness: &Harness, path: &Path) -> String {
    let json = serde_json::to_vec(&harness.federation.founded.manifest).expect("JSON");
    std::fs::write(path, json).expect("written");
    text(path)
}

/// Makes the library in `directory` the next version.
fn raise(directory: &Path) {
    let path = directory.join("bundle.toml");
    let old = std::fs::read_to_string(&path).expect("a table of contents");
    let raised = old.replacen("version = 3\n", "version = 4\n", 1);
    assert_ne!(old, raised);
    let change = "\n[[changes]]\nversion = 4\npermits_more = true\ntext = \"A newer text.\"\n";
    std::fs::write(path, raised + change).expect("written");
    ogniwo(&["policy", "bundle", &text(directory)]).succeeded();
}

async fn restart(harness: &mut Harness, unit: &str) {
    let part: &mut Part = harness.federation.nodes.get_mut(&member(unit)).expect("a node");
    part.stop().await.expect("stopped");
    part.restart().await.expect("started");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreement_is_revoked_by_one_party_and_made_anew_by_both() {
    let mut harness = Harness::filled().await;
    let dir = harness.extracts();
    let file = |name: &str| dir.join(name);
    let (reason, all) = asked(&harness).await;
    assert!(reason.is_none() && all.len() > 1, "{all:?}");

    // pup ends it: nothing leaves from then on, whatever the manifest says; mops has heard, and does not ask.
    let over = text(&file("over.json"));
    let pup = config(&harness, "pup");
    let said = ogniwo(&["agreement", "revoke", "--config", &pup, "mops-pup@1", "--out", &over, "--json"]).succeeded();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["agreement"]["id"], &said["waiting"]), (&json!("mops-pup"), &json!(false)));
    assert_eq!(asked(&harness).await.0.as_deref(), Some("agreement_revoked"));
    restart(&mut harness, "pup").await;
    assert_eq!(asked(&harness).await.0.as_deref(), Some("agreement_revoked"));
    ogniwo(&["agreement", "revoke", "--config", &pup, "mops-pup@9"]).failed(10, "no such agreement");
    ogniwo(&["agreement", "revoke", "--config", &pup, "mops-css@1"]).failed(3, "not a party");

    // Both sign a narrower one. Terms that nobody knows, and a version that exists, are not signed.
    let terms = |change: &dyn Fn(&mut Value)| {
        let manifest = harness.federation.founded.manifest.read().expect("a manifest");
        let before = manifest.agreements.iter().find(|signed| signed.terms.id == "mops-pup").expect("agreed");
        let mut terms = serde_json::to_value(&before.terms).expect("JSON");
        terms["version"] = json!(2);
        terms["fields"] = json!(["pup.status"]);
        (terms["queries_per_day"], terms["queries_per_user_per_day"]) = (json!(5), json!(3));
        terms["hours"] = ["saturday", "sunday", "monday"]
            .map(|day| json!({ "day": day, "from_minute": 0, "to_minute": 14 * 60 }))
            .as_slice()
            .into();
        change(&mut terms);
        let path = file("terms.json");
        std::fs::write(&path, terms.to_string()).expect("written");
        let draft = text(&file("agreement.json"));
        ogniwo(&["agreement", "draft", &text(&path), "--out", &draft]).succeeded();
        draft
    };
    let sign = |unit: &str, draft: &str| ogniwo(&["agreement", "sign", "--config", &config(&harness, unit), draft]);
    sign("mops", &terms(&|terms| terms["fields"] = json!(["mops.contract.status"]))).failed(3, "`fields`");
    sign("mops", &terms(&|terms| terms["queries"] = json!(["q99"]))).failed(3, "`queries`");
    sign("mops", &terms(&|terms| terms["version"] = json!(1))).failed(12, "next version");
    let draft = terms(&|_| {});
    sign("css", &draft).failed(3, "not a party");
    sign("mops", &draft).succeeded();
    let next = text(&file("next.json"));
    let before = held(&harness, &file("held.json"));
    let take = |agreement: &str| {
        let flags = ["--agreement", agreement, "--revocation", &over, "--out", &next];
        ogniwo(&[["registry", "manifest", "next", &before].as_slice(), &flags].concat())
    };
    take(&draft).failed(7, "both parties");
    sign("pup", &draft).succeeded();
    let shown = ogniwo(&["agreement", "show", &draft]).succeeded();
    assert!(shown.contains("signed by mops and pup") && shown.contains("pup.status"), "{shown}");
    take(&draft).succeeded();
    publish(&mut harness, &file("next.json")).await;
    assert_eq!(asked(&harness).await, (None, vec!["pup.status".to_owned()]));
    let ended = limits_hold(&mut harness).await;

    assert_eq!(refusals(&mut harness, "pup").await, ended, "what is revoked is not asked");
    harness.federation.nodes.get_mut(&member("mops")).expect("mops").stop().await.expect("stopped");
    for (unit, details) in
        [("pup", ["revoked here", "assented to here"]), ("mops", ["revoked by pup", "assented to here"])]
    {
        let log = read_log(&harness, unit);
        let changes: Vec<&Value> = log.iter().filter(|entry| entry["event"] == "agreement.changed").collect();
        let said: Vec<&str> = changes.iter().filter_map(|entry| entry["detail"].as_str()).collect();
        assert_eq!(said, details, "{unit}");
    }
}

/// A party's word binds it at once, also while the other has not heard: the asker asks by the manifest it has, and the holder
/// refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_refuses_by_an_end_that_the_asker_has_not_heard_of() {
    let mut harness = Harness::with(Options { proxied: true, ..Options::default() }).await;
    harness.fill().await;
    assert_eq!(asked(&harness).await.0, None);
    harness.proxies["mops"].set(Fault::Cut);
    let (pup, over) = (config(&harness, "pup"), text(&harness.extracts().join("over.json")));
    let said = ogniwo(&["agreement", "revoke", "--config", &pup, "mops-pup@1", "--out", &over, "--json"]);
    let said: Value = serde_json::from_str(&said.succeeded()).expect("JSON");
    assert_eq!(said["waiting"], true, "mops cannot be told");
    let refused = asked(&harness).await;
    assert_eq!((refused.0.as_deref(), refused.1.len()), (Some("not_agreed"), 0), "by pup, in what a peer is told");

    // Once it has heard, it does not ask.
    harness.proxies["mops"].set(Fault::None);
    let heard = async || asked(&harness).await.0.as_deref() == Some("agreement_revoked");
    until("the word comes with the outbox", heard).await;
    let refusals = refusals(&mut harness, "pup").await;
    assert!(!refusals.is_empty() && refusals.iter().all(|reason| reason == "agreement_revoked"), "{refusals:?}");
}

/// Five questions a day, three of one user, until 14 o'clock: whatever restarts and gets lost. The reasons pup noted.
async fn limits_hold(harness: &mut Harness) -> Vec<&'static str> {
    let told = async |harness: &Harness, user: &str| {
        let body = json!({
            "resident": { "pesel": pesel_of("mops+pup") }, "asks": [{ "query": "q02", "holder": "pup" }],
            "purpose": PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": "1", "reason": "test",
        });
        let mops = member("mops");
        let token = harness.federation.token(&mops, user, &["caseworker"]).expect("a token");
        let api = harness.federation.local(&mops).expect("an API");
        let result: QueryResult =
            api.call(http::Method::POST, "/v1/queries", &token, Some(&body)).await.expect("a result");
        result.outcomes[0].reason.clone()
    };
    let spent = Some("quota_exceeded".to_owned());
    // Meters that were lost count as spent until the next day.
    let pup = member("pup");
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    std::fs::remove_dir_all(harness.federation.founded.node_data(&pup).join("guard")).expect("removed");
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    assert_eq!(told(harness, "caseworker").await, spent);
    days_later(harness, 1).await;
    for _ in 0..3 {
        assert_eq!(told(harness, "caseworker").await, None);
    }
    assert_eq!(told(harness, "caseworker").await, spent, "of this user");
    restart(harness, "pup").await;
    assert_eq!(told(harness, "caseworker").await, spent, "of this user still");
    assert_eq!(told(harness, "another").await, spent, "of the agreement: refused questions count");
    restart(harness, "pup").await;
    assert_eq!(told(harness, "a-third").await, spent);
    days_later(harness, 1).await;
    assert_eq!(told(harness, "another").await, None);
    harness.clock.advance(2 * 60 * 60);
    assert_eq!(told(harness, "another").await.as_deref(), Some("outside_hours"));
    restart(harness, "pup").await;
    assert_eq!(told(harness, "another").await.as_deref(), Some("outside_hours"));
    let (user, agreement) = ("user_quota_exceeded", "quota_exceeded");
    vec![agreement, user, user, agreement, agreement, "outside_hours", "outside_hours"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_longer_in_force_carries_no_consent() {
    let mut harness = Harness::filled().await;
    let resident = || json!({ "pesel": pesel_of("mops+pup+css+zlm") });
    let on = async |harness: &Harness, consent: &ConsentReceipt| {
        let basis = json!({ "kind": "consent", "id": consent.id });
        harness.ask("mops", "pup", "q02", resident(), basis).await
    };
    let old = harness.consent("css", "mops", resident()).await.expect("a consent");
    assert_eq!(on(&harness, &old).await.outcome, OutcomeKind::Answered);

    // The officers' next library ends the text the resident read and has a newer one.
    let library = harness.extracts().join("library");
    std::fs::create_dir_all(&library).expect("a directory");
    let builtin = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/library"));
    for entry in std::fs::read_dir(&builtin).expect("the library").flatten() {
        std::fs::copy(entry.path(), library.join(entry.file_name())).expect("copied");
    }
    let path = library.join("consents.toml");
    let texts = std::fs::read_to_string(&path).expect("texts");
    let begin = texts.rfind("[[instead-of-certificate]]").expect("the template");
    let end = texts[begin + 2..].find("\n[[").map_or(texts.len(), |end| begin + 2 + end);
    let newer = texts[begin..end].replacen("version = \"1.1\"", "version = \"1.2\"", 1);
    let day = harness.clock.now() + 24 * 60 * 60;
    let day = jiff::Timestamp::from_second(day.0).expect("a time");
    let ended = texts[begin..end].replacen("version = \"1.1\"", &format!("version = \"1.1\"\nvalid_to = {day}"), 1);
    std::fs::write(&path, [&texts[..begin], &ended, "\n", &newer, &texts[end..]].concat()).expect("written");
    // Its examples are of the newest text.
    let cited = |version: &str| format!("id = \"instead-of-certificate\", version = \"{version}\"");
    let path = library.join("examples.toml");
    let examples = std::fs::read_to_string(&path).expect("examples");
    std::fs::write(&path, examples.replace(&cited("1.1"), &cited("1.2"))).expect("written");
    ogniwo(&["policy", "bundle", &text(&library)]).succeeded();
    let (before, next) = (held(&harness, &harness.extracts().join("held.json")), harness.extracts().join("next.json"));
    let release = |officer: &str| {
        let key = text(&harness.home().join(format!("officers/{officer}.key")));
        ogniwo(&["policy", "release", &text(&library), "--manifest", &before, "--key", &key])
    };
    assert_ne!(release("mops").code, Some(0), "another content under the same version");
    raise(&library);
    let against = ["policy", "check", "--library", &text(&library), "--against", &builtin];
    ogniwo(&against).succeeded();
    release("mops").succeeded();
    let unreleased = ["registry", "manifest", "next", &before, "--library", &text(&library), "--out", &text(&next)];
    assert_ne!(ogniwo(&unreleased).code, Some(0), "one officer of two");
    release("pup").succeeded();
    ogniwo(&["registry", "manifest", "next", &before, "--library", &text(&library), "--out", &text(&next)]).succeeded();
    for (unit, _) in tests::UNITS {
        let path = config(&harness, unit);
        let words = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, format!("library = {:?}\n{words}", text(&library))).expect("written");
        restart(&mut harness, unit).await;
    }
    assert_ne!(on(&harness, &old).await.outcome, OutcomeKind::Answered, "another library than the manifest's");
    publish(&mut harness, &next).await;

    assert_eq!(on(&harness, &old).await.outcome, OutcomeKind::Answered, "until its day");
    days_later(&harness, 2).await;
    let refused = on(&harness, &old).await;
    assert_eq!(refused.reason.as_deref(), Some("consent_missing"));
    let message = refused.message.expect("words");
    assert!(!message.pl.is_empty() && !message.en.is_empty());
    let new = harness.consent("css", "mops", resident()).await.expect("a consent");
    assert_eq!(new.template, "instead-of-certificate@1.2");
    assert_eq!(on(&harness, &new).await.outcome, OutcomeKind::Answered);
    assert_eq!(refusals(&mut harness, "pup").await, ["node_closed", "consent_template_expired"]);
}
