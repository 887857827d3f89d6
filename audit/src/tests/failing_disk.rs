//! A disk that is full, that fails to sync, or that has lost what it acknowledged.

use std::{
    fs::{self, File},
    io,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use super::{CANARY, assert_holds, config, open, payload, verify};
use crate::{
    AppendError, Log,
    disk::{Disk, System},
    segment,
};

/// What the disk does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fails {
    Nothing,
    /// Writes the first half, then the disk is full.
    Write,
    /// Writes everything, then cannot sync.
    Sync,
    /// Waits before it syncs, for at most five seconds.
    Slow,
}

/// The system's disk, counting and failing on demand.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<(Mutex<(Fails, u64)>, Condvar)>);

impl Default for Faulty {
    fn default() -> Self {
        Self(Arc::new((Mutex::new((Fails::Nothing, 0)), Condvar::new())))
    }
}

impl Faulty {
    pub(crate) fn set(&self, fails: Fails) {
        self.0.0.lock().unwrap().0 = fails;
        self.0.1.notify_all();
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.0.lock().unwrap().1
    }

    fn fails(&self) -> Fails {
        self.0.0.lock().unwrap().0
    }
}

impl Disk for Faulty {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.fails() == Fails::Write {
            System.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(28));
        }
        System.write(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let (lock, changed) = &*self.0;
        let (limit, slow) = (Duration::from_secs(5), |state: &mut (Fails, u64)| state.0 == Fails::Slow);
        let (mut state, _) = changed.wait_timeout_while(lock.lock().unwrap(), limit, slow).unwrap();
        state.1 += 1;
        let fails = state.0;
        drop(state);
        if fails == Fails::Sync { Err(io::Error::from_raw_os_error(5)) } else { System.sync(file) }
    }
}

async fn three_entries_on(disk: &Faulty, dir: &std::path::Path) -> Log {
    let log = Log::open_on(Arc::new(disk.clone()), config(dir)).unwrap();
    for number in 0..3 {
        assert_eq!(log.append(&payload(number)).await.unwrap().index(), number);
    }
    log
}

async fn refuses_everyone_then_recovers(fails: Fails, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = three_entries_on(&disk, dir.path()).await;
    disk.set(fails);
    for _ in 0..2 {
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move { log.append(&payload(99)).await })
            })
            .collect();
        for waiter in waiting {
            let Err(AppendError::Unwritable { reason }) = waiter.await.unwrap() else {
                panic!("{fails:?} gave a receipt")
            };
            assert!(reason.contains(expected) && !reason.contains(CANARY), "{reason}");
        }
    }
    assert!(matches!(log.checkpoint().await, Err(AppendError::Unwritable { .. })));
    assert!(matches!(log.health(), Err(AppendError::Unwritable { .. })));
    assert_eq!(log.size(), 3);
    disk.set(Fails::Nothing);
    // Within a second by itself, at once when asked: what is there is published before anything is taken.
    assert!(log.checkpoint().await.is_ok());
    assert_eq!(log.append(&payload(3)).await.unwrap().index(), 3);
    assert_eq!(log.health(), Ok(()));
    assert_holds(&log, 4);
    drop(log);
    assert_holds(&open(dir.path()), 4);
}

#[tokio::test]
async fn a_full_disk_refuses_everyone_then_recovers() {
    refuses_everyone_then_recovers(Fails::Write, "No space left").await;
}

#[tokio::test]
async fn a_failed_sync_refuses_everyone_then_recovers() {
    refuses_everyone_then_recovers(Fails::Sync, "Input/output error").await;
}

#[tokio::test]
async fn a_crash_of_a_failing_log_keeps_what_was_acknowledged() {
    for fails in [Fails::Write, Fails::Sync] {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = Faulty::default();
        let log = three_entries_on(&disk, dir.path()).await;
        disk.set(fails);
        assert!(log.append(&payload(99)).await.is_err());
        let left = super::image(dir.path(), copy.path());
        disk.set(Fails::Nothing);
        let reopened = open(&left);
        let read: Vec<_> = reopened.iter(0).map(|entry| entry.unwrap().payload.unwrap()).take(3).collect();
        assert_eq!(read, [payload(0), payload(1), payload(2)]);
    }
}

#[tokio::test]
async fn a_log_nobody_appends_to_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = three_entries_on(&disk, dir.path()).await;
    disk.set(Fails::Write);
    assert!(log.append(&payload(99)).await.is_err());
    disk.set(Fails::Nothing);
    let start = Instant::now();
    while log.health().is_err() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_holds(&log, 3);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_turns_the_log_unhealthy_and_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = three_entries_on(&disk, dir.path()).await;
    disk.set(Fails::Write);
    assert!(matches!(log.checkpoint().await, Err(AppendError::Unwritable { .. })));
    assert!(log.health().is_err());
    assert_eq!(verify(dir.path()).unwrap().signed, 0);
    disk.set(Fails::Nothing);
    assert_eq!(log.checkpoint().await.unwrap().size(), 3);
    assert_eq!(log.health(), Ok(()));
}

#[tokio::test]
async fn no_receipt_comes_before_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = three_entries_on(&disk, dir.path()).await;
    disk.set(Fails::Slow);
    let payload = payload(3);
    let mut append = std::pin::pin!(log.append(&payload));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut append).await.is_err());
    assert_eq!(log.size(), 3);
    disk.set(Fails::Nothing);
    assert_eq!(append.await.unwrap().index(), 3);
    assert_eq!(log.size(), 4);
}

#[tokio::test]
async fn a_disk_that_lost_what_it_acknowledged_is_not_written_to_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let log = three_entries_on(&disk, dir.path()).await;
    disk.set(Fails::Sync);
    assert!(log.append(&payload(99)).await.is_err());
    let path = segment::path(dir.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    disk.set(Fails::Nothing);
    for _ in 0..2 {
        let Err(AppendError::Unwritable { reason }) = log.append(&payload(99)).await else { panic!("a receipt") };
        assert!(reason.contains("record 0 at byte 0 is damaged"), "{reason}");
    }
    assert!(log.health().is_err());
}
