//! Institutions that follow others: renamed, split, merged. Their clients go with them, and nobody learns more by it.

use crate::local_api::request;
use cli::found::Unit;
use node::{FlagList, ImportMode, OutcomeKind};
use protocol::succession::Succession;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tests::{Harness, Resident, member, pesel_of, write_extracts};

/// Who is followed by whom beside itself, or wholly.
type Steps<'a> = &'a [(&'a str, &'a [&'a str])];

/// A further housing unit joins, and follows others.
async fn join(harness: &mut Harness, name: &str, steps: Steps<'_>) {
    let at = harness.clock.now();
    let unit = Unit {
        id: member(name),
        name: name.to_uppercase(),
        kind: "hou".parse().expect("a kind"),
        key_holder: false,
        officer: false,
        first_enrolment: 0,
        duty_desk: None,
    };
    let successions = steps.iter().map(|(from, to)| Succession {
        from: member(from),
        to: to.iter().map(|to| member(to)).collect(),
        at,
    });
    let joined = harness.federation.admit(unit, |manifest| {
        for unit in &mut manifest.members {
            unit.quotas.first_enrolment = None;
        }
        manifest.successions.extend(successions);
    });
    joined.await.expect("joined");
    harness.clock.advance(1);
}

/// Units leave once they are followed.
async fn leave(harness: &mut Harness, names: &[&str]) {
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        let left = |id: &protocol::MemberId| names.contains(&id.as_str());
        manifest.members.retain(|unit| !left(&unit.id));
        manifest.agreements.retain(|agreement| !left(&agreement.terms.asker) && !left(&agreement.terms.holder));
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
}

/// `unit` has these residents and no others, and enrols them; how many entries it put and removed.
async fn has(harness: &Harness, unit: &str, residents: &[&str]) -> (u64, u64) {
    let rows: Vec<Resident> = residents
        .iter()
        .map(|pesel| Resident { pesel: (*pesel).to_owned().leak(), units: "zlm", sealed: false })
        .collect();
    write_extracts(&harness.extracts(), &rows);
    let mapping = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/mappings/zlm.toml");
    let extract = harness.extracts().join("zlm.csv");
    harness.federation.import(&member(unit), mapping, extract, ImportMode::Full, &|_| {}).await.expect("an import");
    let enrolled = harness.enrol(unit).await.expect("enrolled");
    (enrolled.published, enrolled.removed)
}

/// Clients of mops by the unit that shares them, once every node has published for those who may see it now.
async fn shared(harness: &Harness, expected: &[(&str, u64)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(unit, count)| (member(unit), *count)).collect();
    let mut seen = BTreeMap::new();
    for _ in 0..300 {
        let shared = harness.federation.shared(&member("mops"), false).await.expect("shared");
        seen = shared.with.into_iter().filter(|(unit, _)| !["pup", "css"].contains(&unit.as_str())).collect();
        if seen == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(seen, expected);
}

/// What mops's officer has been told of meetings.
async fn met(harness: &Harness) -> Value {
    harness.clock.advance(121);
    let _news: Value =
        harness.federation.admin(&member("mops")).run("/refresh", &json!({}), &|_| {}).await.expect("news");
    let answer = request(harness, "mops", "GET", "/v1/audit/findings").of("iod", &["dpo"]).send().await;
    serde_json::from_str::<Value>(&answer.text).expect("findings")["findings"].take()
}

async fn knows(harness: &Harness, holder: &str, pesel: &str) -> Option<bool> {
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    let outcome = harness.ask("mops", holder, "q01", json!({ "pesel": pesel }), basis).await;
    (outcome.outcome == OutcomeKind::Answered).then_some(outcome.present).flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_follow_a_unit_that_is_renamed_split_and_merged() {
    let mut harness = Harness::filled().await;
    // Four of zlm's clients are mops's too.
    let of = |units: &[&str]| -> BTreeSet<&str> { units.iter().map(|units| pesel_of(units)).collect() };
    let common = of(&["mops+zlm", "mops+pup+zlm", "mops+css+zlm", "mops+pup+css+zlm"]);
    let all: Vec<&str> = common.iter().copied().chain(of(&["zlm", "pup+zlm", "css+zlm", "pup+css+zlm"])).collect();
    shared(&harness, &[("zlm", 4)]).await;

    // What is an hour old is no news when it is put again.
    harness.clock.advance(2 * 60 * 60);
    // Renamed. The consent a resident gave for zlm serves its heir.
    let consent = harness.consent("css", "zlm", json!({ "pesel": pesel_of("pup+css+zlm") })).await;
    let consented = consent.is_ok();
    join(&mut harness, "zbl", &[("zlm", &["zbl"])]).await;
    shared(&harness, &[("zlm", 4)]).await;
    assert_eq!(has(&harness, "zbl", &all).await, (8, 0));
    shared(&harness, &[("zbl", 4)]).await;
    let refused = harness.enrol("zlm").await.expect_err("it was followed");
    assert_eq!(refused.code, "registry_refused");
    leave(&mut harness, &["zlm"]).await;
    shared(&harness, &[("zbl", 4)]).await;
    assert_eq!(knows(&harness, "zbl", pesel_of("mops+zlm")).await, Some(true));
    assert_eq!(met(&harness).await, json!([]), "it is nobody new");

    // Split: zbl goes on with three of mops's clients, zn has two, one of them with zbl.
    join(&mut harness, "zn", &[("zbl", &["zbl", "zn"])]).await;
    let (first, others) = all.split_first().expect("clients");
    assert_eq!(has(&harness, "zn", &all[..2]).await, (2, 0));
    // zbl publishes again for zn within its next look at epochs, and would take along whoever leaves.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(has(&harness, "zbl", others).await.1, 1);
    shared(&harness, &[("zbl", 3), ("zn", 2)]).await;
    assert_eq!(knows(&harness, "zn", first).await, Some(true));
    assert_eq!(knows(&harness, "zbl", first).await, None);
    assert_eq!(met(&harness).await, json!([]));

    // Merged: both end in one, which stands there once.
    join(&mut harness, "zm", &[("zbl", &["zm"]), ("zn", &["zm"])]).await;
    assert_eq!(has(&harness, "zm", &all).await, (8, 0));
    shared(&harness, &[("zm", 4)]).await;
    leave(&mut harness, &["zbl", "zn"]).await;
    shared(&harness, &[("zm", 4)]).await;
    assert_eq!(knows(&harness, "zm", first).await, Some(true));
    assert_eq!(met(&harness).await, json!([]));
    // A resident that none of them had is news, as ever.
    let newcomer = [all.as_slice(), &[pesel_of("mops")]].concat();
    let (published, removed) = has(&harness, "zm", &newcomer).await;
    assert!(published > 0 && removed == 0, "whoever was published for the two that left may be published again");
    let told = met(&harness).await;
    assert_eq!((told[0]["kind"].as_str(), told[0]["peer"].as_str()), (Some("met"), Some("zm")), "{told}");
    let flags = json!({ "resident": { "pesel": pesel_of("mops") }, "set": ["minor"], "reason": "test" });
    harness.post::<FlagList>("zm", "steward", "/v1/flags", &flags).await.expect("a node like any other");
    assert!(consented, "{:?}", consent.map(drop));
}
