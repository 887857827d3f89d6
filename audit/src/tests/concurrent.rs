//! Many writers, a reader and a verifier at once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::{ORIGIN, PAYLOAD_KEY, assert_holds, config, failing_disk::Faulty, open, payload, verify};
use crate::{Config, Fault, Log, segment, verify_dir};

/// 64 tasks × 70 entries: past the end of the first segment.
const TASKS: u64 = 64;
const EACH: u64 = 70;

async fn append_from_many_tasks(log: &Log) -> BTreeSet<u64> {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut indices = Vec::new();
                for number in 0..EACH {
                    let receipt = log.append(&json!({ "task": task, "number": number })).await.unwrap();
                    let entry = log.read(receipt.index()).unwrap().unwrap();
                    assert_eq!((&entry.hash, receipt.origin()), (receipt.entry_hash(), ORIGIN));
                    assert_eq!(entry.payload, Some(json!({ "task": task, "number": number })));
                    indices.push(receipt.index());
                }
                assert!(indices.is_sorted());
                indices
            })
        })
        .collect();
    let mut indices = BTreeSet::new();
    for task in tasks {
        indices.extend(task.await.unwrap());
    }
    indices
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_distinct_and_contiguous_and_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = Log::open_on(Arc::new(disk.clone()), config(dir.path())).unwrap();
    let before = disk.syncs();
    let indices = append_from_many_tasks(&log).await;
    assert_eq!(indices, (0..TASKS * EACH).collect());
    let syncs = disk.syncs() - before;
    assert!(syncs < TASKS * EACH / 2, "{syncs} syncs for {} entries", TASKS * EACH);

    let root = log.checkpoint().await.unwrap().root();
    tokio::task::spawn_blocking(|| drop(log)).await.unwrap();
    let mut told = Vec::new();
    let report = verify_dir(dir.path(), None, Some(&PAYLOAD_KEY), |done| told.push(done)).unwrap();
    assert_eq!((report.entries, report.signed, report.root), (TASKS * EACH, TASKS * EACH, root));
    assert_eq!(told, [0, segment::ENTRIES, TASKS * EACH]);

    let log = open(dir.path());
    assert_eq!(log.append_blocking_in_thread(), TASKS * EACH);
    let across: Vec<_> = log.iter(segment::ENTRIES - 2).take(4).map(|entry| entry.unwrap().index).collect();
    assert_eq!(across, (segment::ENTRIES - 2..segment::ENTRIES + 2).collect::<Vec<_>>());
    assert!(log.read(TASKS * EACH + 1).unwrap().is_none());
}

impl Log {
    /// `append_blocking` from within an async test.
    fn append_blocking_in_thread(&self) -> u64 {
        std::thread::scope(|scope| scope.spawn(|| self.append_blocking(&payload(0)).unwrap().index()).join().unwrap())
    }
}

#[test]
fn a_live_log_verifies_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let now = AtomicI64::new(0);
    let log = Log::open(Config { now: Box::new(move || now.fetch_add(1, Ordering::Relaxed)), ..config(dir.path()) });
    let (log, done) = (log.unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..3000).for_each(|number| drop(log.append_blocking(&payload(number)).unwrap()));
            done.store(true, Ordering::Release);
        });
        let (mut seen, mut rounds) = (0, 0);
        while !done.load(Ordering::Acquire) {
            let report = verify(dir.path()).unwrap();
            assert!(report.entries >= seen && report.entries >= report.signed);
            (seen, rounds) = (report.entries, rounds + 1);
        }
        assert!(rounds > 3, "{rounds} rounds");
    });
    assert_holds(&log, 3000);
}

#[test]
fn two_cannot_write_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    assert!(matches!(Log::open(config(dir.path())), Err(Fault::Locked { .. })));
    let clone = log.clone();
    drop(log);
    assert!(matches!(Log::open(config(dir.path())), Err(Fault::Locked { .. })));
    drop(clone);
    open(dir.path());
}

#[tokio::test]
async fn checkpoints_are_signed_on_demand_as_time_passes_and_at_close() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(100));
    let now = clock.clone();
    let log = Log::open(Config { now: Box::new(move || now.load(Ordering::Relaxed)), ..config(dir.path()) }).unwrap();
    let signed = || verify(dir.path()).unwrap().signed;
    let append = async || drop(log.append(&payload(0)).await.unwrap());
    append().await;
    assert_eq!(signed(), 0);
    assert_eq!(log.checkpoint().await.unwrap().size(), 1);
    assert_eq!(signed(), 1);
    append().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(signed(), 1, "no second checkpoint in one second");
    clock.store(99, Ordering::Relaxed);
    let idle = Instant::now();
    while signed() < 2 {
        assert!(
            idle.elapsed() < Duration::from_secs(10),
            "an idle log must sign what it has, whichever way the clock went"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    append().await;
    drop(log);
    assert_eq!(verify(dir.path()).unwrap().signed, 3);
}
