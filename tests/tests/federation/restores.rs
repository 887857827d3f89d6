//! Whole data directories and a database that came back from a backup: what was forgotten opens nothing. More of
//! the log is in `witnesses.rs`, of the embedded registry in `registry_life.rs`.

use crate::identities::days_later;
use crate::key_birth::{assert_shared_is_the_truth, restart, stop};
use crate::key_ceremonies::{eventually, publish, renewal, share_of, shares};
use crate::witnesses::{copy, cosign};
use node::{ImportMode, OutcomeKind, continue_after_restore};
use protocol::consent::StatusList;
use protocol::jws;
use protocol::manifest::KeyUse;
use protocol::registry::INDEX_HEADER;
use registry::Cluster;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::{Harness, Member, Resident, UNITS, member, pesel_of, program, status, until, write_extracts};
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

/// A unit's data directory, and where its backup lies.
fn places(harness: &Harness, unit: &str) -> (PathBuf, PathBuf) {
    (harness.home().join(unit).join("data"), harness.extracts().join(format!("{unit}-backup")))
}

async fn back_up(harness: &mut Harness, unit: &str) {
    stop(harness, unit).await;
    let (data, backup) = places(harness, unit);
    copy(&data, &backup);
    restart(harness, unit).await;
}

/// Everything of a unit is lost but its backup. It starts closed, since others cosigned more of its log; its officer
/// confirms the gap. It is stopped then.
async fn bring_back(harness: &mut Harness, unit: &str) {
    until("a checkpoint over everything", async || {
        harness.clock.advance(1);
        cosign(harness, unit).await;
        let covered = status(harness, unit).await;
        covered.cosigned.entries == covered.log_entries
    })
    .await;
    stop(harness, unit).await;
    let (data, backup) = places(harness, unit);
    std::fs::remove_dir_all(&data).expect("lost");
    copy(&backup, &data);
    restart(harness, unit).await;
    until("it closes", async || status(harness, unit).await.state == "log_unavailable").await;
    stop(harness, unit).await;
    let config = node::Config::load(&harness.federation.founded.node_config(&member(unit))).expect("a configuration");
    let token = harness.federation.token(&member(unit), "iod", &["dpo"]).expect("a token");
    let nobody = || Err(std::io::Error::other("not asked"));
    continue_after_restore(config, harness.clock.clone(), &token, nobody).await.expect("a new log");
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
    back_up(&mut harness, "mops").await;

    // After the backup: one consent is withdrawn, another given and withdrawn, and shares were evaluated with.
    harness.withdraw("mops", &consents[0]).await.expect("withdrawn");
    let forgotten = harness.consent("mops", "mops", resident()).await.expect("a consent");
    harness.withdraw("mops", &forgotten).await.expect("withdrawn");
    assert_eq!(ask(&harness, &consents[1].id).await, (OutcomeKind::Answered, None));
    let before = list_of_mops(&harness).await.expect("a list");
    assert_eq!(withdrawn(&before).len(), 2);
    bring_back(&mut harness, "mops").await;

    // As long as one that may know more is away, nobody gets the list, and no consent is recorded.
    stop(&mut harness, "pup").await;
    restart(&mut harness, "mops").await;
    let refused = list_of_mops(&harness).await.expect_err("not whole yet");
    assert!(matches!(&refused, CallError::Problem(problem) if problem.code == "status_incomplete"), "{refused}");
    restart(&mut harness, "pup").await;
    until("its list becomes whole", async || {
        let _news: Result<Value, _> =
            harness.federation.admin(&member("mops")).run("/refresh", &json!({}), &|_| {}).await;
        list_of_mops(&harness).await.is_ok()
    })
    .await;
    let after = list_of_mops(&harness).await.expect("whole");
    assert_eq!(withdrawn(&after)[..2], withdrawn(&before), "nothing that was withdrawn is given again");
    assert!(after.seq > before.seq, "followers take it");
    // pup remembers the withdrawal in any case; the other consent serves.
    assert_eq!(ask(&harness, &consents[0].id).await, (OutcomeKind::Denied, Some("consent_withdrawn".to_owned())));
    assert_eq!(ask(&harness, &consents[1].id).await, (OutcomeKind::Answered, None));
    // A new consent takes no place that was taken.
    let fresh = harness.consent("mops", "mops", resident()).await.expect("a consent");
    assert_eq!(ask(&harness, &fresh.id).await, (OutcomeKind::Answered, None));

    // Whoever it evaluates for has used up today's quota: what was used since the backup is forgotten. With the other two
    // holders nobody notices; with one of them there are not enough.
    write_extracts(&harness.extracts(), &[Resident { pesel: "80011600165", units: "css", sealed: false }]);
    harness.import("css", &harness.extracts().join("css.csv"), ImportMode::Update).await.expect("an import");
    stop(&mut harness, "pup").await;
    assert_eq!(harness.enrol("css").await.expect_err("spent").code, "quota_exceeded");
    restart(&mut harness, "pup").await;
    assert_eq!(harness.enrol("css").await.expect("the others evaluate").pseudonymised, 1);
    stop(&mut harness, "mops").await;
    put_in_use(&harness, "mops");
}

/// What is in use verifies at the end; the old log stays for auditors.
fn put_in_use(harness: &Harness, unit: &str) {
    let data = harness.home().join(unit).join("data");
    std::fs::rename(data.join("log"), harness.extracts().join(format!("{unit}-old"))).expect("moved");
    std::fs::rename(data.join("log.2"), data.join("log")).expect("moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_key_holder_neither_serves_its_old_share_nor_forgets_what_was_spent() {
    let mut harness = Harness::filled().await;
    back_up(&mut harness, "css").await;
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    publish(&mut harness, renewed.expect("new shares")).await;
    harness.clock.advance(20 * 60);
    eventually("the old share's end", || !share_of(&harness, "css", 1).exists()).await;
    bring_back(&mut harness, "css").await;
    restart(&mut harness, "css").await;
    assert!(share_of(&harness, "css", 1).exists(), "the backup brought the old share");
    // The backup's manifest is old too.
    until("it knows that it is old", async || shares(&harness, "css").await == BTreeMap::from([(1, false)])).await;

    // Two are enough; with one of them away its old share makes up for nobody.
    let somebody_new = async |harness: &Harness, pesel: &'static str| {
        write_extracts(&harness.extracts(), &[Resident { pesel, units: "zlm", sealed: false }]);
        let extract = harness.extracts().join("zlm.csv");
        harness.import("zlm", &extract, ImportMode::Update).await.expect("an import");
    };
    somebody_new(&harness, "80011600165").await;
    stop(&mut harness, "pup").await;
    assert_eq!(harness.enrol("zlm").await.expect_err("one share").code, "key_holders_unavailable");
    restart(&mut harness, "pup").await;
    assert_eq!(harness.enrol("zlm").await.expect("two holders").pseudonymised, 1);

    // A new share heals it; what members used up today it does not know, and gives nothing until tomorrow.
    let renewed = harness.federation.hold_ceremony(&renewal(&["mops", "pup"], &["mops", "pup", "css"])).await;
    publish(&mut harness, renewed.expect("new shares")).await;
    assert_eq!(shares(&harness, "css").await, BTreeMap::from([(1, true)]));
    somebody_new(&harness, "80010100017").await;
    stop(&mut harness, "pup").await;
    assert_eq!(harness.enrol("zlm").await.expect_err("spent").code, "quota_exceeded");
    restart(&mut harness, "pup").await;
    days_later(&harness, 1).await;
    stop(&mut harness, "pup").await;
    assert_eq!(harness.enrol("zlm").await.expect("the next day").pseudonymised, 1);
    restart(&mut harness, "pup").await;
    stop(&mut harness, "css").await;
    put_in_use(&harness, "css");
}

/// Gives the registry's configuration a database, with the index in `engine`.
pub(crate) fn with_database(harness: &Harness, cluster: &Cluster, engine: &str) {
    let config = harness.federation.founded.registry_config();
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let url = cluster.settings("postgres").url;
    let index = format!("[index]\nengine = \"{engine}\"\n\n[index.postgres]\nurl = \"{url}\"\n\n[index.embedded]");
    let text = match text.split_once("[index]\n") {
        Some((before, after)) => {
            let rest = after.split_once("[index.embedded]").expect("a section").1;
            format!("{before}{index}{rest}")
        }
        None => text.replace("[index.embedded]", &index),
    };
    std::fs::write(&config, text).expect("a configuration");
}

/// Moves the index of a stopped registry into the database by the program itself, which is killed again and again; how
/// often.
fn migrate_by_fits_and_starts(harness: &Harness) -> usize {
    let (mut kills, mut delay) = (0, Duration::from_millis(10));
    loop {
        let mut command = Command::new(program());
        command.args(["registry", "migrate", "--from", "embedded", "--to", "postgres", "--config"]);
        command.arg(harness.federation.founded.registry_config()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = command.stderr(Stdio::null()).spawn().expect("it runs");
        std::thread::sleep(delay);
        delay = delay.mul_f64(1.5);
        if let Some(status) = running.try_wait().expect("a process") {
            assert!(status.success(), "after {kills} kills it does not go on: {status}");
            return kills;
        }
        running.kill().expect("killed");
        running.wait().expect("ended");
        kills += 1;
    }
}

async fn index_generation(harness: &Harness) -> String {
    let url = harness.federation.registry_url();
    let answer = Member::of(harness, "zlm").call_at(&url, "registry", http::Method::GET, "/v1/manifest", "").await;
    answer.expect("a manifest").headers()[INDEX_HEADER].to_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_moves_into_a_database_and_a_restored_database_is_made_whole() {
    let mut harness = Harness::filled().await;
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&[])).expect("a database");
    let before = index_generation(&harness).await;
    harness.federation.registry.stop().await.expect("stopped");
    with_database(&harness, &cluster, "embedded");
    // Whoever serves from the source again makes what was copied worthless.
    let config = registry::Config::load(&harness.federation.founded.registry_config()).expect("a configuration");
    std::fs::write(config.migration(), json!({ "from": "embedded", "after": null, "rows": 0 }).to_string())
        .expect("written");
    harness.federation.registry.restart().await.expect("started");
    harness.federation.registry.stop().await.expect("stopped");
    assert!(!config.migration().exists());
    let kills = tokio::task::block_in_place(|| migrate_by_fits_and_starts(&harness));
    println!("the migration was killed {kills} times");
    with_database(&harness, &cluster, "postgres");
    harness.federation.registry.restart().await.expect("started");
    assert_eq!(index_generation(&harness).await, before, "nothing is missing");
    assert_shared_is_the_truth(&harness).await;

    // The database alone is backed up, and lost after life has gone on.
    let backup = cluster.data().with_file_name("backup");
    let copy = |from: PathBuf, to: PathBuf| {
        let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
        assert!(copied.success());
    };
    harness.federation.registry.stop().await.expect("stopped");
    cluster.kill().expect("stopped");
    copy(cluster.data(), backup.clone());
    tokio::task::block_in_place(|| cluster.restart()).expect("started");
    harness.federation.registry.restart().await.expect("started");
    write_extracts(&harness.extracts(), &[Resident { pesel: "80011600165", units: "mops+pup", sealed: false }]);
    for unit in ["mops", "pup"] {
        let extract = harness.extracts().join(format!("{unit}.csv"));
        harness.import(unit, &extract, ImportMode::Update).await.expect("an import");
        assert_eq!(harness.enrol(unit).await.expect("enrolled").published, 1);
    }
    let with_pup = async |harness: &Harness| -> Result<u64, cli::exit::Failure> {
        Ok(harness.federation.shared(&member("mops"), false).await?.with[&member("pup")])
    };
    let known = with_pup(&harness).await.expect("shared");

    harness.federation.registry.stop().await.expect("stopped");
    cluster.kill().expect("stopped");
    std::fs::remove_dir_all(cluster.data()).expect("lost");
    copy(backup, cluster.data());
    tokio::task::block_in_place(|| cluster.restart()).expect("started");
    harness.clock.advance(1);
    let config = registry::Config::load(&harness.federation.founded.registry_config()).expect("a configuration");
    registry::restored(&config, harness.clock.now()).expect("said so");
    harness.clock.advance(1);
    harness.federation.registry.restart().await.expect("started");
    assert_ne!(index_generation(&harness).await, before, "members see that entries may be missing");
    until("everybody publishes again", async || with_pup(&harness).await.ok() == Some(known)).await;
    for (unit, _) in UNITS {
        until("nothing is left to publish", async || {
            harness.enrol(unit).await.is_ok_and(|enrolled| enrolled.published == 0)
        })
        .await;
    }
    let outcome = harness
        .ask("mops", "pup", "q02", json!({ "pesel": "80011600165" }), json!({ "kind": "mandate", "id": "ups-105" }))
        .await;
    assert_eq!(outcome.outcome, OutcomeKind::Answered, "{outcome:?}");
    harness.finish().await;
}
