//! The promises of the whole crate, tested through its public API where that reaches, and by a disk that fails where
//! it does not.

mod concurrent;
mod crash;
pub(crate) mod failing_disk;
mod keeping;
mod since;
mod tamper;
mod witnessed;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{Config, Entry, Fault, Log, Report, record::Record, segment, verify_dir};

pub(crate) const ORIGIN: &str = "mops.example.pl/log";
pub(crate) const SIGNING_KEY: [u8; 32] = [5; 32];
pub(crate) const PAYLOAD_KEY: [u8; 32] = [6; 32];
/// What every payload holds and no error, file or `Debug` may show.
pub(crate) const CANARY: &str = "44051401359";

/// A clock that stands still: after `open`, checkpoints are signed on demand and at close only.
pub(crate) fn config(dir: &Path) -> Config<'_> {
    Config { dir, origin: ORIGIN, signing_key: &SIGNING_KEY, payload_key: &PAYLOAD_KEY, now: Box::new(|| 1) }
}

pub(crate) fn payload(number: u64) -> Value {
    json!({ "event": "query.answered", "number": number, "canary": CANARY })
}

pub(crate) fn open(dir: &Path) -> Log {
    Log::open(config(dir)).unwrap()
}

/// A closed log of `entries`.
pub(crate) fn closed(dir: &Path, entries: u64) {
    let log = open(dir);
    for number in 0..entries {
        assert_eq!(log.append_blocking(&payload(number)).unwrap().index(), number);
    }
}

pub(crate) fn verify(dir: &Path) -> Result<Report, Fault> {
    let report = verify_dir(dir, None, Some(&PAYLOAD_KEY), |_| ());
    if let Err(fault) = &report {
        assert!(!format!("{fault} {fault:?}").contains(CANARY));
    }
    report
}

/// Asserts that the log holds exactly `payload(0)`, `payload(1)` … up to `entries`, and verifies.
pub(crate) fn assert_holds(log: &Log, entries: u64) {
    let read: Vec<Entry> = log.iter(0).collect::<Result<_, _>>().unwrap();
    let expected: Vec<_> = (0..entries).map(|number| (number, Some(payload(number)))).collect();
    assert_eq!(read.into_iter().map(|entry| (entry.index, entry.payload)).collect::<Vec<_>>(), expected);
    let report = verify(log.dir()).unwrap();
    assert_eq!((report.entries, report.payloads_opened, report.torn_tail_bytes), (entries, entries, 0));
}

/// The bytes of each record of segment 0.
pub(crate) fn records(dir: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(segment::path(dir, 0)).unwrap();
    let (mut records, mut rest) = (Vec::new(), &bytes[..]);
    while rest.iter().any(|byte| *byte != 0) {
        let length = (1..=rest.len()).find(|&length| Record::parse(&rest[..length]).is_some()).unwrap();
        records.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    records
}

/// What a crash now would leave, as a copy.
pub(crate) fn image(dir: &Path, copy: &Path) -> PathBuf {
    fs::create_dir_all(copy).unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let (file, to) = (file.as_ref().unwrap(), copy.join(file.as_ref().unwrap().file_name()));
        if file.file_type().unwrap().is_dir() {
            image(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
    copy.to_owned()
}

/// All files under `dir`.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
