//! Ceremonies of key holders that operators hold: through restarts, to renew shares, to replace a holder, to change the
//! key; and what becomes of a holder restored from a backup.

use crate::key_birth::{assert_shared_is_the_truth, imported, restart, stop};
use node::{CeremonyState, CeremonyStatus, Invitation, NodeStatus, SessionRef};
use protocol::manifest::{Duty, KeyEpoch};
use protocol::{Epoch, MemberId};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tests::{Harness, UNITS, member, read_log};

fn members(names: &[&str]) -> Vec<MemberId> {
    names.iter().map(|name| member(name)).collect()
}

fn renewal(dealers: &[&str], holders: &[&str]) -> Invitation {
    Invitation {
        epoch: Epoch(1),
        threshold: None,
        holders: members(holders),
        dealers: members(dealers),
        not_before: None,
    }
}

/// Publishes what a ceremony brought, as the officers would.
async fn publish(harness: &mut Harness, epoch: KeyEpoch) {
    let signed = harness.federation.founded.with_epoch(harness.clock.now(), epoch).expect("a manifest");
    harness.federation.publish(&signed).await.expect("published");
}

fn share_of(harness: &Harness, unit: &str, generation: u32) -> PathBuf {
    harness.home().join(unit).join(format!("data/1-{generation}.share"))
}

async fn shares(harness: &Harness, unit: &str) -> BTreeMap<u32, bool> {
    let status: NodeStatus = harness.federation.admin(&member(unit)).get("/status").await.expect("a status");
    status.shares
}

/// Waits until `done` says so: nodes tend their shares by themselves, every ten seconds.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..300 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} does not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_birth_outlives_restarts_of_everybody() {
    let mut harness = Harness::new().await;
    stop(&mut harness, "css").await;
    let invitation = Invitation {
        epoch: Epoch(2),
        threshold: Some(2),
        holders: members(&["mops", "pup", "css"]),
        dealers: Vec::new(),
        not_before: None,
    };
    let admin = |harness: &Harness, unit: &str| harness.federation.admin(&member(unit));
    let invited: CeremonyStatus =
        admin(&harness, "mops").run("/keyholder/invite", &invitation, &|_| {}).await.expect("an invitation");
    let at = SessionRef { session: invited.ceremony.session.clone() };
    assert!(invited.waiting_for.contains(&member("css")) && invited.undelivered.contains(&member("css")));

    // Everybody goes down once while the packages of one are missing, again and again while the rest goes on.
    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
        restart(&mut harness, unit).await;
    }
    restart(&mut harness, "css").await;
    let mut joined = [false; 2];
    for round in 0..60 {
        for (unit, joined) in ["pup", "css"].into_iter().zip(&mut joined) {
            if !*joined {
                *joined = admin(&harness, unit).run::<CeremonyStatus>("/keyholder/join", &at, &|_| {}).await.is_ok();
            }
        }
        let mut done = 0;
        for unit in ["mops", "pup", "css"] {
            let all: Vec<CeremonyStatus> = admin(&harness, unit).get("/keyholder").await.expect("a status");
            let here = all.iter().find(|status| status.ceremony.session == at.session);
            assert!(here.is_none_or(|here| here.failed.is_none()), "{unit}: {:?}", here.map(|h| &h.failed));
            done += usize::from(here.is_some_and(|here| here.state == CeremonyState::Done));
        }
        if done == 3 {
            break;
        }
        if round < 12 {
            let unit = ["css", "mops", "pup"][round % 3];
            stop(&mut harness, unit).await;
            restart(&mut harness, unit).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut results = Vec::new();
    for unit in ["mops", "pup", "css"] {
        results.push(admin(&harness, unit).run::<KeyEpoch>("/keyholder/wait", &at, &|_| {}).await.expect("a key"));
    }
    assert!(results.iter().all(|result| *result == results[0]), "all have one result");
    publish(&mut harness, results.remove(0)).await;
    for unit in ["mops", "pup", "css"] {
        assert_eq!(shares(&harness, unit).await, BTreeMap::from([(1, true), (2, true)]), "{unit}");
        stop(&mut harness, unit).await;
        let transcripts: Vec<String> = tokio::task::block_in_place(|| read_log(&harness, unit))
            .iter()
            .filter(|entry| entry["event"] == "key.compared" && entry["epoch"] == 2)
            .map(|entry| entry["detail"].as_str().unwrap_or_default().to_owned())
            .collect();
        let expected = protocol::encoding::b64(
            &harness.federation.founded.manifest.read().expect("a manifest").epochs[1].transcript.0,
        );
        assert!(!transcripts.is_empty() && transcripts.iter().all(|t| *t == expected), "{unit}: {transcripts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_shares_give_the_old_names_and_the_old_shares_go() {
    let mut harness = imported().await;
    for unit in ["mops", "pup"] {
        harness.enrol(unit).await.expect("an enrolment");
    }
    let old = std::fs::read(share_of(&harness, "css", 1)).expect("a share");
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    let renewed = renewed.expect("new shares");
    assert_eq!((renewed.epoch, renewed.generation), (Epoch(1), 2));
    // Until the manifest lists them, the old ones serve.
    harness.enrol("css").await.expect("an enrolment under the old shares");
    publish(&mut harness, renewed).await;
    harness.enrol("zlm").await.expect("an enrolment under the new shares");
    assert_shared_is_the_truth(&harness).await;

    for unit in ["mops", "pup", "css"] {
        assert!(share_of(&harness, unit, 1).exists() && share_of(&harness, unit, 2).exists(), "{unit} has both");
    }
    harness.clock.advance(20 * 60);
    for unit in ["mops", "pup", "css"] {
        eventually("the old share's end", || !share_of(&harness, unit, 1).exists()).await;
    }

    // A backup of css comes back: it notices, refuses, and the other two do.
    stop(&mut harness, "css").await;
    std::fs::remove_file(share_of(&harness, "css", 2)).expect("removed");
    std::fs::write(share_of(&harness, "css", 1), old).expect("restored");
    restart(&mut harness, "css").await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, false)]));
    for (unit, _) in UNITS {
        harness.enrol(unit).await.expect("two holders are enough");
    }
    let failure = harness.federation.hold_ceremony(&renewal(&["css", "pup"], &["mops", "pup", "css"])).await;
    let failure = failure.expect_err("it cannot deal");
    assert!(failure.message.contains("not of the key's current generation"), "{}", failure.message);

    // New shares heal it.
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    publish(&mut harness, renewed.expect("new shares")).await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, true)]));
    stop(&mut harness, "mops").await;
    let ask = harness.ask("zlm", "pup", "q02", json!({ "pesel": "80010300035" }), json!({ "kind": "none" })).await;
    assert_ne!(ask.reason.as_deref(), Some("key_holders_unavailable"), "css answers again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_replaced_and_one_added() {
    let mut harness = imported().await;
    harness.enrol("mops").await.expect("an enrolment");
    let failure = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "zlm"])).await;
    assert!(failure.expect_err("not its duty").message.contains("not a key holder"));
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        for unit in &mut manifest.members {
            if unit.id == member("zlm") {
                unit.roles.insert(Duty::KeyHolder);
            }
        }
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");

    // css leaves though it is away, zlm comes.
    stop(&mut harness, "css").await;
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "zlm"])).await;
    let renewed = renewed.expect("new shares");
    let holders: Vec<(u16, &str)> = renewed.holders.iter().map(|h| (h.id, h.member.as_str())).collect();
    assert_eq!(holders, [(1, "mops"), (2, "pup"), (4, "zlm")], "a number is not used again");
    restart(&mut harness, "css").await;
    publish(&mut harness, renewed).await;
    assert_eq!((shares(&harness, "zlm").await, shares(&harness, "css").await.len()), (BTreeMap::from([(1, true)]), 0));

    // The newcomer and one old holder give the old names.
    stop(&mut harness, "mops").await;
    for unit in ["pup", "css", "zlm"] {
        harness.enrol(unit).await.expect("two are enough");
    }
    restart(&mut harness, "mops").await;
    assert_shared_is_the_truth(&harness).await;

    let added = harness.federation.hold_ceremony(&renewal(&["pup", "zlm"], &["mops", "pup", "css", "zlm"])).await;
    publish(&mut harness, added.expect("a fourth share")).await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, true)]));
}
