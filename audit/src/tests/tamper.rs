//! What `verify_dir` and `Log::open` must notice in a log somebody else has had their hands on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CANARY, ORIGIN, PAYLOAD_KEY, SIGNING_KEY, assert_holds, closed, config, open, payload, records, verify};
use crate::{
    Against, Checkpoint, Config, Fault, Log, NoteError, Vkey,
    note::Signer,
    record::{self, Record},
    segment, verify_against, verify_dir,
};

const ENTRIES: u64 = 12;

fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), ENTRIES);
    assert_eq!(verify(dir.path()).unwrap().signed, ENTRIES);
    dir
}

/// Both the verifier, with and without keys, and the owner refuse, for the same reason.
fn assert_refused(dir: &Path, expected: impl Fn(&Fault) -> bool) {
    let refused = |result: Result<(), Fault>| match result {
        Err(fault) => assert!(expected(&fault), "{fault:?}"),
        Ok(()) => panic!("not noticed"),
    };
    refused(verify_dir(dir, None, None, |_| ()).map(drop));
    refused(verify(dir).map(drop));
    refused(Log::open(config(dir)).map(drop));
}

fn write_records(dir: &Path, records: &[Vec<u8>]) {
    fs::write(segment::path(dir, 0), records.concat()).unwrap();
}

/// The record as it would have been written at `index`.
fn renumbered(record: &[u8], index: u64) -> Vec<u8> {
    let (old, mut bytes) = (Record::parse(record).unwrap(), Vec::new());
    record::encode(&mut bytes, index, 0, &old.entry, old.sealed, record::begin(old.sealed));
    bytes
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let dir = log();
    let files: [PathBuf; 3] = [dir.path().join("vkey"), dir.path().join("checkpoint"), segment::path(dir.path(), 0)];
    let lengths: Vec<usize> = records(dir.path()).iter().map(Vec::len).collect();
    for file in &files {
        let whole = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for (position, mask) in (0..whole.len()).map(|position| (position, 1 << (position % 8))) {
            let mut bytes = whole.clone();
            bytes[position] ^= mask;
            fs::write(file, bytes).unwrap();
            let fault = verify_dir(dir.path(), None, None, |_| ()).unwrap_err();
            assert!(fault.to_string().contains(name), "{name} byte {position}: {fault}");
            if let Fault::Record { index, .. } = fault {
                let before: usize = lengths[..usize::try_from(index).unwrap()].iter().sum();
                assert!((before..before + lengths[usize::try_from(index).unwrap()]).contains(&position), "{fault}");
            }
            if position % 13 == 0 {
                assert!(Log::open(config(dir.path())).is_err(), "{name} byte {position}");
            }
        }
        fs::write(file, whole).unwrap();
    }
    assert_holds(&open(dir.path()), ENTRIES);
}

#[test]
fn a_removed_record_is_found() {
    let dir = log();
    let mut records = records(dir.path());
    records.remove(4);
    write_records(dir.path(), &records);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Record { index: 4, .. }));
    let closed_up: Vec<_> = (0..).zip(&records).map(|(index, record)| renumbered(record, index)).collect();
    write_records(dir.path(), &closed_up);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Shorter { size: 11, signed: 12 }));
}

#[test]
fn reordered_records_are_found() {
    let dir = log();
    let mut records = records(dir.path());
    records.swap(4, 7);
    write_records(dir.path(), &records);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Record { index: 4, .. }));
    (records[4], records[7]) = (renumbered(&records[4], 4), renumbered(&records[7], 7));
    write_records(dir.path(), &records);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Rewritten { signed: 12 }));
}

#[test]
fn an_altered_record_is_found() {
    let (dir, other) = (log(), log());
    let (mut records, others) = (records(dir.path()), records(other.path()));
    records[5] = renumbered(&others[5], 5);
    write_records(dir.path(), &records);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Rewritten { signed: 12 }));
}

#[test]
fn an_inserted_record_is_found() {
    let (dir, other) = (log(), log());
    let (mut records, others) = (records(dir.path()), records(other.path()));
    records.insert(5, others[5].clone());
    let inserted: Vec<_> = (0..).zip(&records).map(|(index, record)| renumbered(record, index)).collect();
    write_records(dir.path(), &inserted);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Rewritten { signed: 12 }));
}

#[test]
fn truncation_below_the_checkpoint_is_found() {
    let dir = log();
    let records = records(dir.path());
    write_records(dir.path(), &records[..11]);
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Shorter { size: 11, signed: 12 }));
    let whole = records.concat();
    fs::write(segment::path(dir.path(), 0), &whole[..whole.len() - 1]).unwrap();
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Record { index: 11, .. }));
    fs::remove_file(segment::path(dir.path(), 0)).unwrap();
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Shorter { size: 0, signed: 12 }));
}

#[test]
fn a_forged_missing_or_foreign_checkpoint_is_found() {
    let dir = log();
    let path = dir.path().join("checkpoint");
    let honest = fs::read_to_string(&path).unwrap();
    let thief = Signer::new(ORIGIN, &[66; 32]).unwrap();
    let refuse = |note: &str, expected: NoteError| {
        fs::write(&path, note).unwrap();
        assert_refused(dir.path(), |fault| matches!(fault, Fault::Checkpoint { source, .. } if *source == expected));
    };
    refuse(Checkpoint::sign(&thief, 3, [1; 32]).note(), NoteError::Signature);
    refuse(&honest.replace("\n12\n", "\n11\n"), NoteError::Signature);
    refuse(honest.split_once("\n\n").unwrap().0, NoteError::Form);
    let own = Signer::new(ORIGIN, &SIGNING_KEY).unwrap();
    fs::write(&path, Checkpoint::sign(&own, 12, [1; 32]).note()).unwrap();
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Rewritten { signed: 12 }));
    fs::remove_file(&path).unwrap();
    assert_refused(dir.path(), |fault| matches!(fault, Fault::Io { path: named, .. } if *named == path));
}

#[test]
fn a_replayed_old_checkpoint_is_found() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path(), 5);
    let old = fs::read(dir.path().join("checkpoint")).unwrap();
    let log = open(dir.path());
    (5..ENTRIES).for_each(|number| drop(log.append_blocking(&payload(number)).unwrap()));
    let newest = log.checkpoint_blocking().unwrap();
    drop(log);
    fs::write(dir.path().join("checkpoint"), &old).unwrap();
    let fault = verify(dir.path()).unwrap_err();
    assert!(matches!(&fault, Fault::Io { path, .. } if path.ends_with("tile/0/000.p/5")), "{fault:?}");
    // Also with the tiles of its time: whoever kept the newer checkpoint knows.
    let elsewhere = tempfile::tempdir().unwrap();
    closed(elsewhere.path(), 5);
    let shorter =
        verify_against(elsewhere.path(), Against { known: &[newest], ..Against::default() }, None, |_| ()).unwrap_err();
    assert!(matches!(shorter, Fault::Shorter { size: 5, signed: 12 }), "{shorter:?}");
}

#[test]
fn a_log_resigned_under_another_key_is_not_the_pinned_one() {
    let (dir, forged) = (log(), tempfile::tempdir().unwrap());
    let pinned = open(dir.path()).vkey().clone();
    let thief = Config { signing_key: &[66; 32], ..config(forged.path()) };
    drop(Log::open(thief).unwrap());
    assert!(verify_dir(forged.path(), None, None, |_| ()).is_ok());
    let fault = verify_dir(forged.path(), Some(&pinned), None, |_| ()).unwrap_err();
    assert!(matches!(&fault, Fault::Identity { wanted, .. } if Vkey::parse(wanted) == Ok(pinned.clone())), "{fault:?}");
    assert!(matches!(Log::open(config(forged.path())), Err(Fault::Identity { .. })));
    assert!(verify_dir(dir.path(), Some(&pinned), None, |_| ()).is_ok());
    let elsewhere = Config { origin: "pup.example.pl/log", ..config(dir.path()) };
    assert!(matches!(Log::open(elsewhere), Err(Fault::Identity { .. })));
    assert!(matches!(Log::open(Config { origin: "a b", ..config(dir.path()) }), Err(Fault::Key(NoteError::Name))));
}

#[test]
fn a_log_that_lost_its_key_file_is_not_made_anew() {
    let dir = log();
    fs::remove_file(dir.path().join("vkey")).unwrap();
    let missing = |fault: &Fault| matches!(fault, Fault::Io { path, .. } if path.ends_with("vkey"));
    assert_refused(dir.path(), missing);
    let checkpoint = fs::read(dir.path().join("checkpoint")).unwrap();
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert_refused(dir.path(), missing);
    fs::write(dir.path().join("checkpoint"), checkpoint).unwrap();
    fs::remove_file(segment::path(dir.path(), 0)).unwrap();
    assert_refused(dir.path(), missing);
}

#[test]
fn payloads_are_held_against_the_tree() {
    let dir = log();
    assert!(matches!(verify_dir(dir.path(), None, Some(&[7; 32]), |_| ()), Err(Fault::Payload { index: 0 })));
    let wrong_key = Log::open(Config { payload_key: &[7; 32], ..config(dir.path()) }).unwrap();
    assert!(matches!(wrong_key.read(3), Err(Fault::Payload { index: 3 })));
    assert_eq!(wrong_key.iter(3).count(), 1);
}

#[test]
fn an_erased_payload_leaves_the_tree_whole() {
    let dir = log();
    let mut records = records(dir.path());
    let (entry, mut erased) = (Record::parse(&records[4]).unwrap().entry, Vec::new());
    record::encode(&mut erased, 4, 0, &entry, b"", record::begin(b""));
    records[4] = erased;
    write_records(dir.path(), &records);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.payloads_opened, report.payloads_erased), (12, 11, 1));
    let log = open(dir.path());
    assert_eq!(log.read(4).unwrap().unwrap().payload, None);
    assert_eq!(log.read(5).unwrap().unwrap().payload, Some(payload(5)));
}

#[test]
fn the_directory_and_debug_show_no_payload() {
    let dir = log();
    let contains = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    assert!(!contains(&fs::read(segment::path(dir.path(), 0)).unwrap()));
    let log = open(dir.path());
    let entry = log.read(0).unwrap().unwrap();
    assert!(entry.payload.as_ref().is_some_and(|payload| payload.to_string().contains(CANARY)));
    assert!(!format!("{entry:?}").contains(CANARY));
    assert!(!format!("{:?}", verify_dir(dir.path(), None, Some(&PAYLOAD_KEY), |_| ())).contains(CANARY));
}
