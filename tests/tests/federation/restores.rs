//! A database that came back from a backup, and an index moved into one (design §9): nothing is forgotten. The log is in
//! `witnesses.rs`, the embedded registry in `registry_life.rs`.

use crate::key_birth::assert_shared_is_the_truth;
use node::{ImportMode, OutcomeKind};
use protocol::registry::INDEX_HEADER;
use registry::Cluster;
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::{Harness, Member, Resident, UNITS, member, program, until, write_extracts};

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
            // The one before was done when it was killed: then the database is full, and its contents are looked at next.
            let done_before = kills > 0 && status.code() == Some(12);
            assert!(status.success() || done_before, "after {kills} kills it does not go on: {status}");
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
