//! The pseudonym key: born once, held in shares, used by any two of three holders, and a wrong share is named.

use crate::privacy::{files, holds, share, share_file, storage};
use audit::Log;
use cli::exit::Failure;
use keyring::KeyRing;
use node::{CeremonyStatus, OutcomeKind};
use protocol::Epoch;
use protocol::dkg::Ceremony;
use protocol::manifest::KeyUse;
use pseudonym::KeyShare;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::{Harness, RESIDENTS, UNITS, member, write_extracts};

const HOLDERS: [&str; 3] = ["mops", "pup", "css"];

pub(crate) async fn stop(harness: &mut Harness, unit: &str) {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("it stops");
}

pub(crate) async fn restart(harness: &mut Harness, unit: &str) {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node").restart().await.expect("it starts");
}

/// A federation with everybody's residents imported, nobody enrolled.
pub(crate) async fn imported() -> Harness {
    let harness = Harness::new().await;
    let dir = harness.extracts();
    write_extracts(&dir, RESIDENTS);
    for (unit, _) in UNITS {
        let path = dir.join(format!("{unit}.csv"));
        harness.import(unit, &path, node::ImportMode::Update).await.expect("an import");
    }
    harness
}

pub(crate) async fn assert_shared_is_the_truth(harness: &Harness) {
    for (unit, _) in UNITS {
        let summary = harness.federation.shared(&member(unit), false).await.expect("shared");
        for (other, _) in UNITS.iter().filter(|(other, _)| *other != unit) {
            let truth = RESIDENTS.iter().filter(|r| r.at(unit) && r.at(other)).count() as u64;
            assert_eq!(summary.with[&member(other)], truth, "{unit} and {other}");
        }
    }
}

fn shared_resident() -> Value {
    json!({ "pesel": "80010300035" })
}

fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_holders_give_the_same_names() {
    let mut harness = imported().await;
    // Each unit's names come from another pair of holders; the last ones from the pair that holders choose by themselves.
    for (unit, away) in [("zlm", Some("mops")), ("pup", Some("css")), ("css", Some("pup")), ("mops", None)] {
        if let Some(away) = away {
            stop(&mut harness, away).await;
        }
        let enrolled = harness.enrol(unit).await.expect("two holders are enough");
        assert_eq!(enrolled.pseudonymised, RESIDENTS.iter().filter(|r| r.at(unit)).count() as u64);
        if let Some(away) = away {
            restart(&mut harness, away).await;
        }
    }
    assert_shared_is_the_truth(&harness).await;

    stop(&mut harness, "css").await;
    let outcome = harness.ask("mops", "pup", "q02", shared_resident(), mandate()).await;
    assert_eq!((outcome.outcome, outcome.reason), (OutcomeKind::Answered, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_holder_alone_gives_no_names() {
    let mut harness = Harness::filled().await;
    write_extracts(&harness.extracts(), &[tests::Resident { pesel: "80010100017", units: "zlm", sealed: false }]);
    let path = harness.extracts().join("zlm.csv");
    harness.import("zlm", &path, node::ImportMode::Update).await.expect("an import needs nobody");
    for away in ["pup", "css"] {
        stop(&mut harness, away).await;
    }
    let failure = harness.enrol("zlm").await.expect_err("one holder is not enough");
    assert_eq!(failure.code, "key_holders_unavailable");
    let outcome = harness.ask("mops", "pup", "q02", shared_resident(), mandate()).await;
    let told = (outcome.outcome, outcome.reason.as_deref());
    assert_eq!(told, (OutcomeKind::Unavailable, Some("key_holders_unavailable")));

    for back in ["pup", "css"] {
        restart(&mut harness, back).await;
    }
    assert_eq!(harness.enrol("zlm").await.expect("an enrolment").pseudonymised, 1);
    let outcome = harness.ask("mops", "pup", "q02", shared_resident(), mandate()).await;
    assert_eq!((outcome.outcome, outcome.reason), (OutcomeKind::Answered, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_that_does_not_fit_is_refused() {
    let harness = Harness::new().await;
    let begin = async |unit: &str, change: &(dyn Fn(&mut Ceremony) + Sync)| -> Result<CeremonyStatus, Failure> {
        let mut ceremony = Ceremony {
            session: cli::found::session().expect("random"),
            epoch: Epoch(2),
            generation: 1,
            threshold: 2,
            holders: (1..).zip(HOLDERS.map(member)).collect(),
            dealers: BTreeMap::new(),
            not_before: harness.clock.now(),
        };
        change(&mut ceremony);
        harness.federation.admin(&member(unit)).run("/keyholder/begin", &ceremony, &|_| {}).await
    };
    let outsider = |ceremony: &mut Ceremony| ceremony.holders = (1..).zip(["mops", "pup", "zlm"].map(member)).collect();
    let others = |ceremony: &mut Ceremony| ceremony.holders = (1..).zip(["pup", "css"].map(member)).collect();
    for (unit, change, why) in [
        ("mops", &(|c: &mut Ceremony| c.epoch = Epoch(1)) as &(dyn Fn(&mut Ceremony) + Sync), "exists already"),
        ("mops", &outsider, "not a key holder"),
        ("zlm", &outsider, "not a key holder"),
        ("mops", &others, "not one of its holders"),
        ("mops", &|c| c.session.0.truncate(15), "16 bytes"),
        ("mops", &|c| c.threshold = 1, "threshold"),
        ("mops", &|c| c.threshold = 4, "threshold"),
        ("mops", &|c| c.generation = 2, "no such key"),
        ("mops", &|c| c.dealers = (1..).zip(["mops", "pup"].map(member)).collect(), "no such key"),
    ] {
        let failure = begin(unit, change).await.expect_err(why);
        assert_eq!(failure.code, "ceremony_aborted", "{unit}: {why}");
        assert!(failure.message.contains(why), "{unit}: {why}: {}", failure.message);
    }
    let kept = files(harness.home()).into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "share"));
    assert_eq!(kept.count(), 3, "only the shares of epoch 1");

    // The fitting one succeeds, once.
    let born = harness.federation.give_birth(Epoch(2), 2).await.expect("a key");
    assert_eq!(born.holders.len(), 3);
    let again = begin("pup", &|_| {}).await.expect_err("it exists");
    assert!(again.message.contains("exists already"), "{}", again.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_lie_sealed() {
    let harness = Harness::new().await;
    let everything = files(harness.home());
    for holder in HOLDERS {
        let sealed = std::fs::read(share_file(&harness, holder)).expect("a share");
        let scalar = share(&harness, holder).to_bytes()[4..].to_vec();
        for other in UNITS.iter().map(|(unit, _)| *unit).chain(["registry"]).filter(|other| *other != holder) {
            let sealer = storage(&harness, other).sealer("shares").expect("a sealer");
            assert!(sealer.open(b"share/1/1", &sealed).is_err(), "{other} opens the share of {holder}");
        }
        // Nor for another place: a share of another epoch or generation cannot be put there.
        let own = storage(&harness, holder).sealer("shares").expect("a sealer");
        for place in ["share/2/1", "share/1/2"] {
            assert!(own.open(place.as_bytes(), &sealed).is_err());
        }
        let hex: String = scalar.iter().map(|byte| format!("{byte:02x}")).collect();
        for (path, bytes) in &everything {
            for form in [scalar.as_slice(), hex.as_bytes(), protocol::encoding::b64(&scalar).as_bytes()] {
                assert!(!holds(bytes, form), "the share of {holder} in {}", path.display());
            }
        }
    }
    assert!(everything.iter().any(|(path, _)| path.ends_with("1-1.share")));
}

/// The events `happened` of a stopped unit's log.
fn events(harness: &Harness, unit: &str, happened: &str) -> Vec<Value> {
    let data = harness.home().join(unit).join("data");
    let storage = storage(harness, unit);
    let ring = KeyRing::open(&data.join("keys.sealed"), &storage).expect("its keys");
    let realm = &harness.federation.founded.plan.realm;
    let log = Log::open(audit::Config {
        dir: &data.join("log"),
        origin: &format!("{realm}/{unit}"),
        signing_key: ring.key(KeyUse::Log).seed(),
        payload_key: &storage.derive("log"),
        now: Box::new(|| tests::NOON.0),
    });
    let log = log.expect("its log");
    let payloads = log.iter(0).filter_map(|entry| entry.expect("an entry").payload);
    payloads.filter(|payload| payload["event"] == happened).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_share_notices_itself_and_is_done_without() {
    let mut harness = imported().await;
    harness.enrol("pup").await.expect("an enrolment");
    // Everybody but the holders themselves asks the first one first.
    stop(&mut harness, "mops").await;
    let mut bytes = share(&harness, "mops").to_bytes();
    bytes[4] ^= 1;
    let wrong = KeyShare::from_bytes(&bytes).expect("another share");
    let sealer = storage(&harness, "mops").sealer("shares").expect("a sealer");
    let sealed = sealer.seal(b"share/1/1", wrong.to_bytes().as_slice()).expect("sealed");
    std::fs::write(share_file(&harness, "mops"), sealed).expect("put in its place");
    restart(&mut harness, "mops").await;

    // Who asks it, and it itself, get right names from the other two.
    for unit in ["zlm", "css", "mops"] {
        harness.enrol(unit).await.expect("the other two are enough");
    }
    assert_shared_is_the_truth(&harness).await;
    let outcome = harness.ask("mops", "pup", "q02", shared_resident(), mandate()).await;
    assert_eq!((outcome.outcome, outcome.reason), (OutcomeKind::Answered, None));
    let status: node::NodeStatus = harness.federation.admin(&member("mops")).get("/status").await.expect("a status");
    assert_eq!(status.shares, BTreeMap::from([(1, false)]), "its operator is told");

    for (unit, evaluated, stale) in [("mops", false, 1), ("css", true, 0)] {
        stop(&mut harness, unit).await;
        let (evaluations, noticed) = tokio::task::block_in_place(|| {
            (events(&harness, unit, "key.evaluated"), events(&harness, unit, "key.share_stale").len())
        });
        let since_then = evaluations.iter().any(|event| event["asker"] == "zlm");
        assert_eq!((since_then, noticed), (evaluated, stale), "{unit}");
    }
}
