//! What goes on between a node and the registry besides enrolling and locating: manifests that were missed, an index that
//! came from a backup, what the registry noticed, newcomers, quotas that are waited for, leaving.

use crate::identities::days_later;
use crate::key_birth::{restart, stop};
use crate::kills::crowd;
use crate::local_api::{departure, description, request};
use crate::ran::ogniwo;
use crate::witnesses::copy;
use cli::federation::put_manifest;
use node::{Finding, FindingKind, FlagList, ImportMode, NewcomerView, Notice, OutcomeKind, UnenrolSummary};
use protocol::manifest::{OfficerKey, Officers};
use protocol::registry::PutEntry;
use protocol::{Index, SignedManifest, SigningKey};
use serde_json::{Value, json};
use std::time::Duration;
use tests::{Harness, Member, Options, Resident, UNITS, log_of, member, pesel_of, status, until, write_extracts};

const HOUR: i64 = 60 * 60;
/// After this what the registry noticed can be read.
pub(crate) const SETTLED: i64 = 121;

pub(crate) async fn refresh(harness: &Harness, unit: &str) {
    let _changed: Value =
        harness.federation.admin(&member(unit)).run("/refresh", &json!({}), &|_| {}).await.expect("news");
}

pub(crate) async fn import(harness: &Harness, unit: &str, residents: &[Resident]) {
    write_extracts(&harness.extracts(), residents);
    let extract = harness.extracts().join(format!("{unit}.csv"));
    harness.import(unit, &extract, ImportMode::Update).await.expect("an import");
}

fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

/// What the data-protection officer of a unit has to look at.
async fn findings(harness: &Harness, unit: &'static str) -> Vec<Finding> {
    let answer = request(harness, unit, "GET", "/v1/audit/findings").of("iod", &["dpo"]).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<node::FindingPage>(&answer.text).expect("findings").findings
}

fn kinds(findings: &[Finding]) -> Vec<(FindingKind, Option<&str>)> {
    findings.iter().map(|f| (f.kind, f.peer.as_ref().map(protocol::MemberId::as_str))).collect()
}

/// Everything that changed officers so far, and who they are now.
struct Officials {
    keys: Vec<SigningKey>,
    held: SignedManifest,
}

impl Officials {
    /// The next manifest, in which the first officer's key is another, brought to the registry.
    async fn replace_one(&mut self, harness: &Harness, seed: u8) {
        let mut next = self.held.read().expect("a manifest");
        (next.version, next.issued) = (next.version + 1, harness.clock.now());
        let old: Vec<SigningKey> = self.keys.drain(..).collect();
        self.keys = old.iter().skip(1).map(|key| SigningKey::from_seed(key.seed()).expect("a key")).collect();
        self.keys.push(SigningKey::from_seed(&[seed; 32]).expect("a key"));
        let named = ["mops", "pup", "css"].iter().zip(&self.keys);
        let keys = named.map(|(unit, key)| OfficerKey { member: member(unit), key: key.public() }).collect();
        next.officers = Officers { threshold: 2, keys };
        let mut signed = SignedManifest::draft(&next).expect("a manifest");
        for key in &old[1..] {
            signed.sign(key);
        }
        let founded = &harness.federation.founded;
        let tls = harness.home().join("registry/tls");
        put_manifest(&tls, &founded.plan.realm, &harness.federation.registry_url(), &signed, &harness.clock)
            .await
            .expect("published");
        self.held = signed;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_accepts_every_manifest_it_missed() {
    let mut harness = Harness::new().await;
    let founded = &harness.federation.founded;
    let officer =
        |unit: &str| cli::found::open_officer(&founded.dir.join(format!("officers/{unit}.key"))).expect("a key");
    let mut officials = Officials { keys: ["css", "mops", "pup"].map(officer).into(), held: founded.manifest.clone() };
    let began = status(&harness, "zlm").await.manifest_version.expect("a version");
    stop(&mut harness, "zlm").await;
    for seed in [101, 102, 103] {
        harness.clock.advance(1);
        officials.replace_one(&harness, seed).await;
    }
    // Nobody who signed the last one signed the one zlm holds.
    let jump = officials.held.accept_after(&harness.federation.founded.manifest);
    assert!(jump.is_err(), "{jump:?}");
    restart(&mut harness, "zlm").await;
    let last = began + 3;
    until("walking", async || status(&harness, "zlm").await.manifest_version == Some(last)).await;

    // One that joins anew walks from the very one it pins.
    stop(&mut harness, "zlm").await;
    std::fs::remove_file(harness.home().join("zlm/data/node.redb")).expect("a new beginning");
    restart(&mut harness, "zlm").await;
    until("joining", async || status(&harness, "zlm").await.manifest_version == Some(last)).await;
    // And not from another.
    stop(&mut harness, "zlm").await;
    std::fs::remove_file(harness.home().join("zlm/data/node.redb")).expect("a new beginning");
    let config = harness.federation.founded.node_config(&member("zlm"));
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let pin = text.lines().find(|line| line.starts_with("manifest_fingerprint")).expect("a pin");
    let other = format!("manifest_fingerprint = \"{}\"", protocol::encoding::b64(&[7; 32]));
    std::fs::write(&config, text.replace(pin, &other)).expect("a configuration");
    restart(&mut harness, "zlm").await;
    let admin = harness.federation.admin(&member("zlm"));
    let refused = admin.run::<Value>("/refresh", &json!({}), &|_| {}).await.expect_err("another one is pinned");
    assert_eq!(refused.code, "manifest_refused");
    stop(&mut harness, "zlm").await;
    let accepted: Vec<u64> = log_of(&config)
        .iter()
        .filter(|logged| logged.event() == "manifest.accepted")
        .map(|logged| logged.payload["counts"]["version"].as_u64().expect("a version"))
        .collect();
    let all: Vec<u64> = (1..=last).collect();
    assert_eq!(accepted[accepted.len() - all.len()..], all, "each in its turn");
    assert_eq!(accepted[accepted.len() - all.len() - 3..][..3], [began + 1, began + 2, last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_bring_a_restored_registry_up_to_date() {
    let mut harness = Harness::filled().await;
    let (data, backup) = (harness.home().join("registry/data"), harness.extracts().join("registry"));
    harness.federation.registry.stop().await.expect("stopped");
    copy(&data, &backup);
    harness.federation.registry.restart().await.expect("started");
    // Life goes on: somebody new, who leaves no trace in the backup, and a manifest.
    let resident = [Resident { pesel: "80011600165", units: "mops+pup", sealed: false }];
    for unit in ["mops", "pup"] {
        import(&harness, unit, &resident).await;
        assert_eq!(harness.enrol(unit).await.expect("enrolled").published, 1);
    }
    let met = |shared: &node::SharedSummary| shared.with[&member("pup")];
    let before = harness.federation.shared(&member("mops"), false).await.expect("shared");
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |_| ()).expect("a manifest");
    harness.federation.publish(&next).await.expect("published");
    let version = next.read().expect("a manifest").version;

    harness.federation.registry.stop().await.expect("stopped");
    std::fs::remove_dir_all(&data).expect("lost");
    copy(&backup, &data);
    let config = registry::Config::load(&harness.federation.founded.registry_config()).expect("a configuration");
    registry::restored(&config, harness.clock.now()).expect("said so");
    harness.clock.advance(1);
    harness.federation.registry.restart().await.expect("started");
    // Nobody does anything: the nodes bring the manifest, confirm it, and publish everybody again.
    until("publishing again", async || {
        harness.federation.shared(&member("mops"), false).await.is_ok_and(|now| met(&now) == met(&before))
    })
    .await;
    let url = harness.federation.registry_url();
    let served = Member::of(&harness, "zlm").call_at(&url, "registry", http::Method::GET, "/v1/manifest", "").await;
    let served: SignedManifest = serde_json::from_slice(served.expect("a manifest").body()).expect("a manifest");
    assert_eq!(served.read().expect("a manifest").version, version);
    // Once is enough: who is published again is published as ever.
    until("an end", async || {
        let enrolled = harness.enrol("mops").await.expect("enrolled");
        (enrolled.pseudonymised, enrolled.published) == (0, 0)
    })
    .await;
    let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": "80011600165" }), mandate()).await;
    assert_eq!(outcome.outcome, OutcomeKind::Answered, "{outcome:?}");
}

/// Ends first enrolments, during which the registry tells nobody of meetings.
pub(crate) async fn end_first_enrolments(harness: &mut Harness) {
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            unit.quotas.first_enrolment = None;
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_noticed_reaches_the_officers() {
    let mut harness = Harness::filled().await;
    end_first_enrolments(&mut harness).await;
    // mops alone knows this resident, as client M/0; now pup says it does.
    import(&harness, "pup", &[Resident { pesel: pesel_of("mops"), units: "pup", sealed: false }]).await;
    harness.enrol("pup").await.expect("enrolled");
    harness.clock.advance(SETTLED);
    refresh(&harness, "mops").await;
    let found = findings(&harness, "mops").await;
    assert_eq!(kinds(&found), [(FindingKind::Notice(Notice::Met), Some("pup"))]);
    assert!(found[0].local_numbers.contains("M/0") && found[0].file.is_some(), "{found:?}");
    refresh(&harness, "pup").await;
    assert_eq!(kinds(&findings(&harness, "pup").await), [], "its own doing is no news to it");

    // It removes the entry and puts it again: as one who only looks. Then one that nobody signed.
    let pup = Member::of(&harness, "pup");
    let output = pup.output(pesel_of("mops")).await;
    let index = Index(output.index());
    let audience = || [member("mops")].into();
    pup.put_entries(audience(), vec![], vec![index], |_| ()).await.expect("removed");
    harness.clock.advance(HOUR * 2);
    let put = |sealed: Vec<u8>| PutEntry {
        index,
        sealed: protocol::encoding::Bytes(sealed),
        expires: pup.now() + HOUR,
        provisional: None,
    };
    let entry = pseudonym::Entry {
        epoch: pup.epoch_number().0,
        index: index.0,
        member: "pup".to_owned(),
        issued: pup.now().0,
        expires: (pup.now() + HOUR).0,
        purpose: "record-management".to_owned(),
        case_mac: [0; 32],
    };
    let signed = entry.encode(pup.manifest.realm.as_str(), |message| pup.keys.entry.sign(message)).expect("an entry");
    let sealed = output.seal_key().seal(&signed, &mut rand_core::UnwrapErr(getrandom::SysRng));
    pup.put_entries(audience(), vec![put(sealed.to_vec())], vec![], |_| ()).await.expect("put again");
    let css = Member::of(&harness, "css");
    harness.clock.advance(1);
    let forged = PutEntry { sealed: protocol::encoding::Bytes(vec![7; 284]), ..put(vec![]) };
    css.put_entries(audience(), vec![forged], vec![], |_| ()).await.expect("put");
    harness.clock.advance(SETTLED);
    refresh(&harness, "mops").await;
    refresh(&harness, "mops").await;
    let found = findings(&harness, "mops").await;
    let mut seen = kinds(&found);
    seen.sort();
    let expected = [
        (FindingKind::Notice(Notice::Met), Some("pup")),
        (FindingKind::Notice(Notice::MetAgain), Some("pup")),
        (FindingKind::Notice(Notice::Unverified), None),
    ];
    assert_eq!(seen, expected, "each once, however often the queue is read");

    // The officers planted a number nobody has, and css comes upon it: everybody's officer but its own hears.
    let nobody = css.output("44051401359").await;
    let place = |name: &str| harness.home().join(name).to_str().expect("UTF-8").to_owned();
    let (numbers, planted, document) = (place("numbers.txt"), place("planted.json"), place("honeypots.json"));
    let config = harness.federation.founded.node_config(&member("mops"));
    let describe = ["node", "honeypots", &numbers, "--config", config.to_str().expect("UTF-8"), "--out", &planted];
    for (wrong, code, said) in
        [(pesel_of("mops"), 10, "line 2: a client"), ("44051401358", 3, "line 2"), ("", 3, "line 2")]
    {
        std::fs::write(&numbers, format!("44051401359\n{wrong}\n")).expect("written");
        ogniwo(&describe).failed(code, said);
    }
    std::fs::write(&numbers, "44051401359\n").expect("written");
    ogniwo(&describe).succeeded();
    std::fs::remove_file(&numbers).expect("removed");
    ogniwo(&["registry", "honeypots", "draft", &planted, "--out", &document]).succeeded();
    for unit in ["mops", "pup"] {
        let key = place(&format!("officers/{unit}.key"));
        ogniwo(&["registry", "honeypots", "sign", &document, "--key", &key]).succeeded();
    }
    // By this federation's clock, which the program would not go by.
    let signed = std::fs::read(&document).expect("a document");
    css.call("registry", http::Method::PUT, "/v1/honeypots", signed).await.expect("planted");
    assert!(css.locate(&nobody).await.expect("located").entries.is_empty());
    harness.clock.advance(SETTLED);
    for (unit, told) in [("mops", true), ("pup", true), ("css", false)] {
        let alarms = async || {
            refresh(&harness, unit).await;
            let mut found = findings(&harness, unit).await;
            found.retain(|finding| finding.kind == FindingKind::Notice(Notice::Honeypot));
            found
        };
        // The registry writes it down beside its answer.
        if told {
            until("the officer is told", async || !alarms().await.is_empty()).await;
        }
        let alarms = alarms().await;
        assert_eq!(alarms.len(), usize::from(told), "{unit}");
        assert!(alarms.iter().all(|alarm| alarm.peer == Some(member("css")) && alarm.file.is_none()));
    }
    stop(&mut harness, "mops").await;
    let log = log_of(&harness.federation.founded.node_config(&member("mops")));
    let noticed: Vec<_> = log.iter().filter(|logged| logged.event() == "review.noticed").collect();
    let details: Vec<_> = noticed.iter().map(|logged| logged.payload["detail"].as_str().expect("a kind")).collect();
    assert_eq!(details, ["met", "met_again", "unverified", "honeypot"]);
    assert_eq!(noticed[0].payload["asker"], "pup");
}

async fn newcomer(harness: &Harness, pesel: &str) -> Result<NewcomerView, cli::exit::Failure> {
    let body = json!({ "resident": { "pesel": pesel }, "reason": "application", "text": "wniosek", "case_ref": "M/1" });
    harness.post("mops", "caseworker", "/v1/newcomers", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_is_known_for_two_weeks_or_until_there_are_records() {
    let mut harness = Harness::filled().await;
    end_first_enrolments(&mut harness).await;
    let (comes, stays_away) = (pesel_of("pup"), pesel_of("pup+zlm"));
    let ask = async |harness: &Harness, pesel: &str| {
        let result =
            harness.try_ask("mops", "pup", "q02", json!({ "pesel": pesel }), mandate()).await.expect("outcomes");
        (result.outcomes[0].outcome, result.outcomes[0].reason.clone())
    };
    let not_served = || (OutcomeKind::Denied, Some("not_served".to_owned()));
    assert_eq!(ask(&harness, comes).await, not_served());
    let clients = status(&harness, "mops").await.clients;
    let expires = newcomer(&harness, comes).await.expect("registered").expires;
    assert!(expires <= harness.clock.now().0 + 14 * 24 * HOUR && expires > harness.clock.now().0 + 13 * 24 * HOUR);
    newcomer(&harness, stays_away).await.expect("registered");
    assert_eq!(ask(&harness, comes).await, (OutcomeKind::Answered, None));
    assert_eq!(ask(&harness, stays_away).await, (OutcomeKind::Answered, None));
    assert_eq!(newcomer(&harness, comes).await.expect_err("it is known").code, "resident_on_file");
    assert_eq!(newcomer(&harness, pesel_of("mops")).await.expect_err("a client").code, "resident_on_file");
    // An enrolment has nothing to publish of who has no records, and a unit that asks about one finds nobody.
    assert_eq!(harness.enrol("mops").await.expect("enrolled").published, 0);
    let back = harness.ask("pup", "mops", "q01", json!({ "pesel": comes }), mandate()).await;
    assert!(back.outcome != OutcomeKind::Answered || back.present == Some(false), "{back:?}");

    // Records come: an ordinary entry takes its place.
    import(&harness, "mops", &[Resident { pesel: comes, units: "mops", sealed: false }]).await;
    let enrolled = harness.enrol("mops").await.expect("enrolled");
    assert_eq!((enrolled.published, enrolled.pseudonymised), (1, 0));
    days_later(&harness, 14).await;
    assert_eq!(ask(&harness, comes).await, (OutcomeKind::Answered, None));
    assert_eq!(ask(&harness, stays_away).await, not_served(), "it lapsed");
    harness.clock.advance(SETTLED);
    refresh(&harness, "mops").await;
    let found = findings(&harness, "mops").await;
    let lapsed: Vec<_> =
        found.iter().filter(|finding| finding.kind == FindingKind::Notice(Notice::NeverConverted)).collect();
    assert_eq!(lapsed.len(), 1, "{found:?}");
    assert!(lapsed[0].file.is_some() && lapsed[0].peer.is_none());
    // It is on file until the news were read, and is not renewed by anything.
    assert_eq!(newcomer(&harness, stays_away).await.expect_err("not again").code, "resident_on_file");
    days_later(&harness, 1).await;
    until("forgetting", async || status(&harness, "mops").await.clients == clients + 1).await;
    assert_eq!(newcomer(&harness, stays_away).await.expect_err("not again").code, "provisional_renewed");
    assert_eq!(status(&harness, "mops").await.clients, clients + 1, "nothing is left of a refused one");
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_are_few_and_have_a_reason() {
    let harness = Harness::filled().await;
    let strangers = ["pup", "css", "pup+css", "zlm", "pup+zlm", "css+zlm"].map(pesel_of);
    let refused = async |role: &str, body: Value| {
        let failed = harness.post::<NewcomerView>("mops", role, "/v1/newcomers", &body).await;
        failed.expect_err("refused").code
    };
    let body = |resident: Value, text: &str| json!({ "resident": resident, "reason": "referral", "text": text });
    let known = || json!({ "pesel": strangers[0] });
    assert_eq!(refused("dpo", body(known(), "x")).await, "role_not_allowed");
    assert_eq!(refused("caseworker", body(known(), " ")).await, "value_invalid");
    assert_eq!(refused("caseworker", body(json!({ "local_number": "M/0" }), "x")).await, "value_invalid");
    assert_eq!(refused("caseworker", body(json!({ "pesel": "80010200022" }), "x")).await, "pesel_checksum");
    for stranger in &strangers[..5] {
        newcomer(&harness, stranger).await.expect("registered");
    }
    let clients = status(&harness, "mops").await.clients;
    assert_eq!(newcomer(&harness, strangers[5]).await.expect_err("five a day").code, "provisional_quota");
    let answer = request(&harness, "mops", "POST", "/v1/newcomers")
        .json(&body(json!({ "pesel": strangers[5] }), "x"))
        .send()
        .await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(departure(&description(&harness).await, ("post", "/v1/newcomers"), &answer), None);
    assert!(answer.text.contains("retry_after") && !answer.text.contains(strangers[5]), "{answer:?}");
    // What the registry will take tomorrow is not thrown away, and is nobody's client today.
    assert_eq!(status(&harness, "mops").await.clients, clients + 1);
    let failed = harness.ask("mops", "css", "q01", json!({ "pesel": strangers[5] }), mandate()).await;
    assert_eq!(failed.reason.as_deref(), Some("not_served"));
    days_later(&harness, 1).await;
    let answer = request(&harness, "mops", "POST", "/v1/newcomers")
        .json(&body(json!({ "pesel": strangers[5] }), "x"))
        .send()
        .await;
    assert_eq!(answer.status, 200, "the same call finishes it: {answer:?}");
    assert_eq!(departure(&description(&harness).await, ("post", "/v1/newcomers"), &answer), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_and_counting_wait_as_long_as_they_are_told() {
    let mut harness = Harness::with(Options { first_enrolment: 0, ..Options::default() }).await;
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            unit.quotas.evaluations_burst = 60;
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    // The registry lets every member have ten indexes a second, and save a hundred.
    let config = harness.federation.founded.registry_config();
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("{text}\n[limits]\nindexes_per_second = 10\n")).expect("a configuration");
    harness.federation.registry.stop().await.expect("stopped");
    harness.federation.registry.restart().await.expect("started");
    write_extracts(&harness.extracts(), &crowd(0..63, |_| "zlm"));
    harness.import("zlm", &harness.extracts().join("zlm.csv"), ImportMode::Update).await.expect("an import");
    // This clock stands, and nothing is saved up by it.
    let waits = async |what: &str, path: &'static str| -> Value {
        let admin = harness.federation.admin(&member("zlm"));
        let work = tokio::spawn(async move { admin.run::<Value>(path, &json!({}), &|_| {}).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!work.is_finished(), "{what}: it should be told to wait");
        // Again and again, should it not have come as far as being told.
        while !work.is_finished() {
            harness.clock.advance(60);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        work.await.expect("an end").expect("and does it then")
    };
    let enrolled = waits("the 61st evaluation in a minute", "/enrol").await;
    assert_eq!((&enrolled["pseudonymised"], &enrolled["published"]), (&json!(63), &json!(63)));
    // A hundred saved up again, however many publishing left; counting once leaves too few to count again.
    harness.clock.advance(60);
    assert_eq!(harness.federation.shared(&member("zlm"), false).await.expect("shared").enrolled, 63);
    let shared = waits("the 101st index", "/shared").await;
    assert_eq!(shared["enrolled"], json!(63));
    // What would take a day is said, not waited for.
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            (unit.quotas.evaluations_per_day, unit.quotas.evaluations_burst) = (3, 1_000);
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    write_extracts(&harness.extracts(), &crowd(100..110, |_| "css"));
    harness.import("css", &harness.extracts().join("css.csv"), ImportMode::Update).await.expect("an import");
    assert_eq!(harness.enrol("css").await.expect_err("tomorrow").code, "quota_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unenrolled_is_unknown_to_others_and_who_leaves_takes_everybody() {
    let mut harness = Harness::filled().await;
    let resident = || json!({ "pesel": pesel_of("mops+pup") });
    let ask = async |harness: &Harness| {
        let outcome = harness.ask("mops", "pup", "q02", resident(), mandate()).await;
        (outcome.outcome, outcome.reason)
    };
    assert_eq!(ask(&harness).await.0, OutcomeKind::Answered);
    let shared = async |harness: &Harness, unit: &str| {
        harness.federation.shared(&member(unit), false).await.expect("shared").with.get(&member("pup")).copied()
    };
    let before = shared(&harness, "mops").await.expect("some");
    let flags = async |change: &str| {
        let body = json!({ "resident": resident(), change: ["unenrolled"], "reason": "sprawa zamknięta" });
        harness.post::<FlagList>("pup", "steward", "/v1/flags", &body).await.expect("flags")
    };
    flags("set").await;
    until("taking back", async || shared(&harness, "mops").await == Some(before - 1)).await;
    assert_ne!(ask(&harness).await.0, OutcomeKind::Answered);
    let own = harness.ask("pup", "mops", "q01", resident(), mandate()).await;
    assert_eq!(own.reason.as_deref(), Some("not_served"), "nor may pup ask");
    // Neither an import nor an enrolment brings it back; the steward does.
    harness.import("pup", &harness.extracts().join("pup.csv"), ImportMode::Update).await.expect("an import");
    let enrolled = harness.enrol("pup").await.expect("enrolled");
    assert_eq!((enrolled.pseudonymised, enrolled.published), (0, 0));
    flags("clear").await;
    let enrolled = harness.enrol("pup").await.expect("enrolled");
    assert_eq!((enrolled.pseudonymised, enrolled.published), (1, 1));
    assert_eq!(shared(&harness, "mops").await, Some(before));
    assert_eq!(ask(&harness).await.0, OutcomeKind::Answered);

    // pup leaves. Without the registry it is not done, but nobody can be asked about any more.
    let clients = status(&harness, "pup").await.clients;
    harness.federation.registry.stop().await.expect("stopped");
    let leave = async |harness: &Harness| {
        harness.federation.admin(&member("pup")).run::<UnenrolSummary>("/unenrol", &json!({}), &|_| {}).await
    };
    assert_eq!(leave(&harness).await.expect_err("not removed").code, "registry_unavailable");
    assert_ne!(ask(&harness).await.0, OutcomeKind::Answered);
    harness.federation.registry.restart().await.expect("started");
    let left = leave(&harness).await.expect("left");
    assert_eq!((left.unenrolled, left.removed), (0, clients));
    assert_eq!(shared(&harness, "mops").await, None);
    let status = status(&harness, "pup").await;
    assert_eq!((status.clients, status.enrolled.len()), (clients, 0), "the records stay");
    // It does not come back by itself, though the others' agreements change.
    harness.clock.advance(1);
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        manifest.agreements.retain(|agreement| agreement.terms.valid_to.0 < 0 || manifest.version > 0);
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    for (unit, _) in UNITS {
        refresh(&harness, unit).await;
    }
    assert_eq!(shared(&harness, "mops").await, None);
    assert_eq!(harness.enrol("pup").await.expect("it may join again").published, clients);
    assert_eq!(shared(&harness, "mops").await, Some(before));
}
