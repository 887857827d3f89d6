//! A node whose whole data directory came back from a backup (design §9): what it forgot opens nothing. The log's part is in
//! `witnesses.rs`, a key holder's share in `key_ceremonies.rs`, the registry in `registry_life.rs`.

use crate::key_birth::{restart, stop};
use crate::witnesses::{copy, cosign};
use node::{ImportMode, NodeStatus, OutcomeKind, continue_after_restore};
use protocol::consent::StatusList;
use protocol::jws;
use protocol::manifest::KeyUse;
use serde_json::{Value, json};
use std::time::Duration;
use tests::{Harness, Member, Resident, member, pesel_of, write_extracts};
use transport::CallError;

/// The status list that mops gives to others.
async fn list_of_mops(harness: &Harness) -> Result<StatusList, CallError> {
    let zlm = Member::of(harness, "zlm");
    let answer = zlm.call("mops", http::Method::GET, "/v1/status", "").await?;
    let token = std::str::from_utf8(answer.body()).expect("text").to_owned();
    Ok(jws::verify(&token, |kid| zlm.manifest.key(kid, KeyUse::Message, zlm.now())).expect("a signed list"))
}

fn withdrawn(list: &StatusList) -> Vec<u32> {
    let bits = list.status_list.expand().expect("a list");
    (0..8).filter(|position| bits.is_set(*position)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_starts_closed_spent_and_with_every_withdrawal() {
    let mut harness = Harness::filled().await;
    let resident = || json!({ "pesel": pesel_of("mops+pup") });
    let consents = [
        harness.consent("mops", "mops", resident()).await.expect("a consent"),
        harness.consent("mops", "mops", resident()).await.expect("a consent"),
    ];
    let ask = async |harness: &Harness, id: &protocol::ConsentId| {
        let outcome = harness.ask("mops", "pup", "q02", resident(), json!({ "kind": "consent", "id": id })).await;
        (outcome.outcome, outcome.reason)
    };
    let status = async |harness: &Harness| -> NodeStatus {
        harness.federation.admin(&member("mops")).get("/status").await.expect("a status")
    };
    stop(&mut harness, "mops").await;
    let (data, backup) = (harness.home().join("mops/data"), harness.extracts().join("mops"));
    copy(&data, &backup);
    restart(&mut harness, "mops").await;

    // After the backup: one consent is withdrawn, another given and withdrawn, and shares were evaluated with.
    harness.withdraw("mops", &consents[0]).await.expect("withdrawn");
    let forgotten = harness.consent("mops", "mops", resident()).await.expect("a consent");
    harness.withdraw("mops", &forgotten).await.expect("withdrawn");
    assert_eq!(ask(&harness, &consents[1].id).await, (OutcomeKind::Answered, None));
    let before = list_of_mops(&harness).await.expect("a list");
    assert_eq!(withdrawn(&before).len(), 2);
    loop {
        harness.clock.advance(1);
        cosign(&harness, "mops").await;
        let covered = status(&harness).await;
        if covered.cosigned.entries == covered.log_entries {
            break;
        }
    }
    stop(&mut harness, "mops").await;
    std::fs::remove_dir_all(&data).expect("lost");
    copy(&backup, &data);

    restart(&mut harness, "mops").await;
    let closed = async {
        while status(&harness).await.state != "log_unavailable" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("it starts closed");
    stop(&mut harness, "mops").await;
    let config = node::Config::load(&harness.federation.founded.node_config(&member("mops"))).expect("a configuration");
    let token = harness.federation.token(&member("mops"), "iod", &["dpo"]).expect("a token");
    let nobody = || Err(std::io::Error::other("not asked"));
    continue_after_restore(config, harness.clock.clone(), &token, nobody).await.expect("a new log");

    // As long as one that may know more is away, nobody gets the list, and no consent is recorded.
    stop(&mut harness, "pup").await;
    restart(&mut harness, "mops").await;
    let refused = list_of_mops(&harness).await.expect_err("not whole yet");
    assert!(matches!(&refused, CallError::Problem(problem) if problem.code == "status_incomplete"), "{refused}");
    restart(&mut harness, "pup").await;
    let whole = async {
        loop {
            let _news: Result<Value, _> =
                harness.federation.admin(&member("mops")).run("/refresh", &json!({}), &|_| {}).await;
            match list_of_mops(&harness).await {
                Ok(list) => return list,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let after = tokio::time::timeout(Duration::from_mins(1), whole).await.expect("it becomes whole");
    assert_eq!(withdrawn(&after)[..2], withdrawn(&before), "nothing that was withdrawn is given again");
    assert!(after.seq > before.seq, "followers take it");
    // pup remembers the withdrawal in any case; the other consent serves.
    assert_eq!(ask(&harness, &consents[0].id).await, (OutcomeKind::Denied, Some("consent_withdrawn".to_owned())));
    assert_eq!(ask(&harness, &consents[1].id).await, (OutcomeKind::Answered, None));
    // A new consent takes no place that was taken.
    let fresh = harness.consent("mops", "mops", resident()).await.expect("a consent");
    assert_eq!(ask(&harness, &fresh.id).await, (OutcomeKind::Answered, None));

    // Whoever it evaluates for has used up today's quota: what was used since the backup is forgotten.
    write_extracts(&harness.extracts(), &[Resident { pesel: "80011600165", units: "css", sealed: false }]);
    harness.import("css", &harness.extracts().join("css.csv"), ImportMode::Update).await.expect("an import");
    assert_eq!(harness.enrol("css").await.expect_err("spent").code, "quota_exceeded");
    stop(&mut harness, "mops").await;
    assert_eq!(harness.enrol("css").await.expect("the others evaluate").pseudonymised, 1);
    // What is in use verifies; the old log stays for auditors.
    std::fs::rename(data.join("log"), harness.extracts().join("old")).expect("moved");
    std::fs::rename(data.join("log.2"), data.join("log")).expect("moved");
}
