//! Hours in minutes (`./check long`): imports, enrolments, questions and consents go on while a key holder, the registry and
//! the primary of its database are killed and started again in turn. Nothing acknowledged is lost, no answer is wrong, and
//! memory does not grow. `OGNIWO_TEST_SECONDS` sets how long.

use crate::kills::{crowd, federation, mapping, number, work_at_mops};
use crate::restores::with_database;
use cli::federation::Part;
use node::{ConsentState, EnrolSummary, ImportMode, OutcomeKind};
use registry::Cluster;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::{Harness, RESIDENTS, Resident, answers_agree, lock, log_of, member, write_extracts};

const SECONDS: u64 = 600;
/// Residents of each of the two sets that mops has alternately; they overlap by half.
const HALF: usize = 200;

/// Lets the registry keep its index in a PostgreSQL server of its own.
async fn over_postgres(harness: &mut Harness) -> Cluster {
    let cluster = tokio::task::block_in_place(|| Cluster::start(&[])).expect("a database");
    harness.federation.registry.stop().await.expect("stopped");
    with_database(harness, &cluster, "postgres");
    harness.federation.registry.restart().await.expect("started");
    cluster
}

/// Which processes are looked at; one that was started again has another number.
type Pids = Mutex<BTreeMap<&'static str, u32>>;

fn pid(part: &Part) -> u32 {
    match part {
        Part::Process(process) => process.pid().expect("it runs"),
        Part::Inside(_) => panic!("processes"),
    }
}

/// The extracts of the two sets at mops, and of everybody at pup, who knows every other resident.
fn extracts(harness: &Harness) -> [PathBuf; 3] {
    let write = |name: &str, residents: &[Resident]| {
        let dir = harness.extracts().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        write_extracts(&dir, residents);
        dir
    };
    // With the one whom `work_at_mops` asks about.
    let asked = RESIDENTS.iter().filter(|resident| resident.units == "mops+pup");
    let of = |from: usize, to: usize| -> Vec<Resident> {
        let crowd = crowd(from * HALF..to * HALF, |n| if n % 2 == 0 { "mops+pup" } else { "mops" });
        crowd.into_iter().chain(asked.clone().copied()).collect()
    };
    [
        write("one", &of(0, 2)).join("mops.csv"),
        write("two", &of(1, 3)).join("mops.csv"),
        write("all", &of(0, 3)).join("pup.csv"),
    ]
}

/// Kills and starts again, one after the other, until the time is over; how often.
async fn breaking(
    css: &mut Part,
    registry: &mut Part,
    cluster: &mut Cluster,
    length: Duration,
    (pids, stop): (&Pids, &AtomicBool),
) -> usize {
    let (begun, mut kills) = (Instant::now(), 0);
    let (up, down) = (Duration::from_secs(4), Duration::from_millis(1_500));
    while begun.elapsed() < length {
        tokio::time::sleep(up).await;
        match kills % 3 {
            2 => {
                tokio::task::block_in_place(|| cluster.kill()).expect("killed");
                tokio::time::sleep(down).await;
                tokio::task::block_in_place(|| cluster.restart()).expect("started");
            }
            n => {
                let (name, part) = if n == 0 { ("css", &mut *css) } else { ("registry", &mut *registry) };
                lock(pids).remove(name);
                let Part::Process(process) = &mut *part else { panic!("processes are killed") };
                process.kill().await.expect("killed");
                tokio::time::sleep(down).await;
                process.restart().await.unwrap_or_else(|failure| panic!("{name} does not start again: {failure}"));
                lock(pids).insert(name, pid(part));
            }
        }
        kills += 1;
    }
    // What was cut off last is done again before the end.
    tokio::time::sleep(up).await;
    stop.store(true, Ordering::SeqCst);
    kills
}

/// Does `work` until it succeeds: parts are down for seconds at most.
async fn at_last<T>(what: &str, mut work: impl AsyncFnMut() -> Result<T, cli::exit::Failure>) -> T {
    let mut last = None;
    for _ in 0..200 {
        match work().await {
            Ok(done) => return done,
            Err(failure) => last = Some(failure),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("{what}: {last:?}")
}

/// Mops has one set of residents, then the other; each time the registry must show exactly what was acknowledged.
async fn enrolling(harness: &Harness, extracts: &[PathBuf; 3], stop: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        let admin = harness.federation.admin(&member("mops"));
        let request = json!({
            "mapping": mapping("mops"), "extract": extracts[rounds % 2], "rejects": null, "mode": "full",
            "dry_run": false, "remove_many": true,
        });
        admin.run::<node::ImportSummary>("/import", &request, &|_| {}).await.expect("imports need nobody");
        at_last("enrolling", async || admin.run::<EnrolSummary>("/enrol", &json!({}), &|_| {}).await).await;
        let shared = at_last("counting", async || harness.federation.shared(&member("mops"), false).await).await;
        let half = HALF as u64;
        assert_eq!((shared.enrolled, shared.with[&member("pup")]), (2 * half + 1, half + 1), "round {rounds}");
        rounds += 1;
    }
    rounds
}

/// Asks about residents whom pup knows and whom it does not; how many answers came.
async fn asking(harness: &Harness, stop: &AtomicBool) -> usize {
    // In both sets.
    let residents = crowd(HALF..2 * HALF, |_| "");
    let (mut answers, mut n) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        n = (n + 1) % residents.len();
        let (pesel, known) = (residents[n].pesel, (HALF + n).is_multiple_of(2));
        let mandate = json!({ "kind": "mandate", "id": "ups-105" });
        let Ok(result) = harness.try_ask("mops", "pup", "q02", json!({ "pesel": pesel }), mandate).await else {
            continue;
        };
        for outcome in result.outcomes {
            if outcome.outcome == OutcomeKind::Answered {
                assert!(known, "pup does not know this one");
                let status = serde_json::to_value(&outcome.fields).expect("JSON")["pup.status"].clone();
                assert_eq!(status, json!(["bezrobotny"]));
                answers += 1;
            }
        }
    }
    answers
}

/// Resident memory of every part that runs, in bytes, now and then until the end.
async fn watching(pids: &Pids, stop: &AtomicBool) -> BTreeMap<&'static str, Vec<u64>> {
    let resident = |pid: u32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    let mut seen: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        let now = lock(pids).clone();
        for (name, pid) in now {
            seen.entry(name).or_default().extend(resident(pid));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    seen
}

/// The most of the last third is not more than that of the second, but for what chance makes of it.
fn assert_flat(name: &str, sizes: &[u64]) {
    let third = sizes.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    let (middle, last) = (most(&sizes[third..2 * third]), most(&sizes[2 * third..]));
    println!("{name}: {} MiB in the second third, {} MiB in the last", middle >> 20, last >> 20);
    assert!(last <= middle + middle / 5 + (8 << 20), "{name} grows: {middle} to {last} bytes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: ./check long"]
async fn long_everything_goes_on_while_parts_are_killed_in_turn() {
    let length = Duration::from_secs(number("OGNIWO_TEST_SECONDS").unwrap_or(SECONDS));
    let mut harness = federation().await;
    let mut cluster = over_postgres(&mut harness).await;
    harness.fill().await;
    let extracts = extracts(&harness);
    harness.import("pup", &extracts[2], ImportMode::Delta).await.expect("imported");
    harness.enrol("pup").await.expect("enrolled");
    harness.import("mops", &extracts[0], ImportMode::Full).await.expect("imported");
    harness.enrol("mops").await.expect("enrolled");

    // Taken out, so that they can be killed while the harness is at work; zlm stands in for the registry.
    let nodes = &mut harness.federation.nodes;
    let (mut css, zlm) = (nodes.remove(&member("css")).expect("css"), nodes.remove(&member("zlm")).expect("zlm"));
    let lasting = ["mops", "pup"].map(|unit| (unit, pid(&nodes[&member(unit)])));
    let mut registry = std::mem::replace(&mut harness.federation.registry, zlm);
    // All three holders and the registry.
    let killed = [("css", pid(&css)), ("registry", pid(&registry))];
    let pids: Pids = Mutex::new(lasting.into_iter().chain(killed).collect());
    let stop = AtomicBool::new(false);
    let (kills, rounds, answers, consents, sizes) = tokio::join!(
        breaking(&mut css, &mut registry, &mut cluster, length, (&pids, &stop)),
        enrolling(&harness, &extracts, &stop),
        asking(&harness, &stop),
        work_at_mops(&harness, |_| !stop.load(Ordering::SeqCst)),
        watching(&pids, &stop),
    );
    let zlm = std::mem::replace(&mut harness.federation.registry, registry);
    harness.federation.nodes.extend([(member("css"), css), (member("zlm"), zlm)]);
    println!(
        "{kills} kills; {rounds} rounds of imports and enrolments, {answers} answers, {} consents, {} withdrawals",
        consents.given.len(),
        consents.withdrawn.len()
    );
    assert!(kills > 2 && rounds > 1 && answers > 0, "nothing was tested");

    let token = harness.federation.token(&member("mops"), "front-desk", &["front-desk"]).expect("a token");
    let local = harness.federation.local(&member("mops")).expect("a local API");
    for (all, state) in [(&consents.given, ConsentState::Given), (&consents.withdrawn, ConsentState::Withdrawn)] {
        for consent in all {
            let id = serde_json::to_value(consent.id).expect("JSON");
            let path = format!("/v1/consents/{}", id.as_str().expect("text"));
            let kept: node::ConsentReceipt =
                local.call(http::Method::GET, &path, &token, None).await.expect("acknowledged, then lost");
            assert_eq!(kept.state, state);
        }
    }
    for (name, sizes) in &sizes {
        assert_flat(name, sizes);
    }
    for unit in ["mops", "pup"] {
        harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("stopped");
    }
    let log = |unit| log_of(&harness.federation.founded.node_config(&member(unit)));
    let agreed = answers_agree(&log("mops"), "pup", &log("pup"));
    assert!(agreed >= answers, "{answers} answers were acknowledged, {agreed} are in both logs");
    harness.finish().await;
}
