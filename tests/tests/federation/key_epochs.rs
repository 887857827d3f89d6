//! From one pseudonym key to the next, and the meters of key holders.

use crate::key_birth::{assert_shared_is_the_truth, restart, stop};
use node::{ImportMode, Invitation, NodeStatus, OutcomeKind};
use protocol::Epoch;
use protocol::manifest::RaisedQuota;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::{Harness, Resident, UNITS, member, read_log, status, write_extracts};

const HOUR: i64 = 60 * 60;

/// Waits until every unit's status is as `done` says: nodes follow epochs by themselves, every ten seconds.
async fn everywhere(harness: &Harness, what: &str, done: impl Fn(&NodeStatus) -> bool) {
    for (unit, _) in UNITS {
        let mut tries = 0;
        while !done(&status(harness, unit).await) {
            tries += 1;
            assert!(tries < 400, "{unit}: {what} does not happen");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_takes_over_on_its_day_and_the_old_one_is_destroyed_on_its() {
    let mut harness = Harness::filled().await;
    let resident = || json!({ "pesel": "80010300035" });
    let consent = harness.consent("mops", "mops", resident()).await.expect("a consent");
    let basis = || json!({ "kind": "consent", "id": consent.id });
    let before = harness.ask("mops", "pup", "q02", resident(), basis()).await;

    let invitation = Invitation {
        epoch: Epoch(2),
        threshold: Some(2),
        holders: ["mops", "pup", "css"].map(member).to_vec(),
        dealers: Vec::new(),
        not_before: Some(harness.clock.now() + HOUR),
    };
    let born = harness.federation.hold_ceremony(&invitation).await.expect("a key");
    let signed = harness.federation.founded.with_epoch(harness.clock.now(), born).expect("a manifest");
    harness.federation.publish(&signed).await.expect("published");
    let both = BTreeSet::from([Epoch(1), Epoch(2)]);
    everywhere(&harness, "enrolment under the coming key", |status| status.enrolled == both).await;
    assert_eq!(status(&harness, "mops").await.epoch, Some(1), "the old key is in use until the day");
    assert_shared_is_the_truth(&harness).await;

    harness.clock.advance(HOUR + 1);
    assert_eq!(status(&harness, "mops").await.epoch, Some(2));
    assert_shared_is_the_truth(&harness).await;
    let after = harness.ask("mops", "pup", "q02", resident(), basis()).await;
    assert_eq!((after.outcome, &after.reason), (before.outcome, &before.reason), "a consent outlives the key");

    let end = harness.clock.now() + HOUR;
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for epoch in manifest.epochs.iter_mut().filter(|epoch| epoch.epoch == Epoch(1)) {
            epoch.destroy_at = Some(end);
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    assert_eq!(status(&harness, "mops").await.shares.len(), 2);
    harness.clock.advance(HOUR + 1);
    let home = harness.home().to_owned();
    let gone = |unit: &str| !home.join(unit).join("data/1-1.share").exists();
    everywhere(&harness, "the old share's end", |status| gone(&status.member)).await;
    let harness_shares = status(&harness, "css").await.shares;
    assert_eq!(harness_shares.into_iter().collect::<Vec<_>>(), [(2, true)]);
    assert_shared_is_the_truth(&harness).await;
    let last = harness.ask("mops", "pup", "q02", resident(), basis()).await;
    assert_eq!((last.outcome, &last.reason), (before.outcome, &before.reason));
    // Names go within the next look at epochs.
    tokio::time::sleep(Duration::from_secs(11)).await;
    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
        let log = tokio::task::block_in_place(|| read_log(&harness, unit));
        let of = |event: &str| log.iter().filter(|entry| entry["event"] == event && entry["epoch"] == 1).count();
        assert_eq!((of("key.share_destroyed"), of("epoch.closed")), (1, 1), "{unit}");
        let closed = log.iter().find(|entry| entry["event"] == "epoch.closed").expect("an entry");
        assert!(
            closed["counts"]["names"].as_u64() > Some(0) && closed["counts"]["entries"] == closed["counts"]["names"]
        );
    }
    assert_eq!(before.outcome, OutcomeKind::Answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_its_meters_takes_them_for_spent() {
    let mut harness = Harness::filled().await;
    stop(&mut harness, "pup").await;
    stop(&mut harness, "mops").await;
    std::fs::remove_dir_all(harness.home().join("pup/data/guard")).expect("lost");
    restart(&mut harness, "pup").await;
    write_extracts(&harness.extracts(), &[Resident { pesel: "80010100017", units: "zlm", sealed: false }]);
    let path = harness.extracts().join("zlm.csv");
    harness.import("zlm", &path, ImportMode::Update).await.expect("an import");
    assert_eq!(harness.enrol("zlm").await.expect_err("spent").code, "quota_exceeded");

    // What the officers grant from now on counts.
    harness.clock.advance(1);
    let until = harness.clock.now() + HOUR;
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            unit.quotas.first_enrolment = Some(RaisedQuota { evaluations: 10, until });
        }
    });
    restart(&mut harness, "mops").await;
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    stop(&mut harness, "mops").await;
    assert_eq!(harness.enrol("zlm").await.expect("an enrolment").pseudonymised, 1);
}
