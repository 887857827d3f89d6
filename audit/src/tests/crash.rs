//! What a crash leaves: torn tails are cut, damage is not mistaken for one, and `kill -9` loses nothing acknowledged.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use super::{ORIGIN, SIGNING_KEY, assert_holds, config, image, open, payload, records, verify};
use crate::{
    Fault, Log, disk::System, entry::Draft, note::Signer, record, segment, store::Store, tree::leaf_hash, verify_dir,
};

/// A crash image of a log whose three entries were acknowledged one by one, and are not under a checkpoint.
fn crashed(copy: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..3).for_each(|number| drop(log.append_blocking(&payload(number)).unwrap()));
    image(dir.path(), copy);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let records = records(dir.path());
    let kept = records[0].len() + records[1].len();
    let mut whole = fs::read(segment::path(dir.path(), 0)).unwrap();
    assert!(whole.len() > 1 << 20, "a file in use is longer than its records");
    whole.truncate(kept + records[2].len());
    let garbage = |cut: usize, byte: u8| [&whole[..cut], &vec![byte; whole.len() - cut]].concat();
    for cut in kept..whole.len() {
        for left in [whole[..cut].to_vec(), garbage(cut, 0), garbage(cut, 0xa5)] {
            let copy = tempfile::tempdir().unwrap();
            let dir = image(dir.path(), copy.path());
            let torn = left[kept..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            fs::write(segment::path(&dir, 0), left).unwrap();
            if cut % 16 == 0 {
                let report = verify(&dir).unwrap();
                assert_eq!((report.entries, report.signed, report.torn_tail_bytes), (2, 0, torn), "cut at {cut}");
                let log = open(&dir);
                assert_eq!(verify(&dir).unwrap().signed, 2, "what is kept is signed at once");
                assert_eq!(log.append_blocking(&payload(2)).unwrap().index(), 2, "cut at {cut}");
                assert_holds(&log, 3);
            } else {
                let signer = Signer::new(ORIGIN, &SIGNING_KEY).unwrap();
                let store = Store::open(&dir, &signer, Arc::new(System)).unwrap().store;
                assert_eq!(store.tree().size(), 2, "cut at {cut}");
                let rest = fs::read(segment::path(&dir, 0)).unwrap();
                assert!(rest.starts_with(&whole[..kept]) && rest[kept..].iter().all(|byte| *byte == 0), "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_bad_record_before_a_later_batch_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let first = records(dir.path())[0].len();
    for byte in first..first + records(dir.path())[1].len() {
        let path = segment::path(dir.path(), 0);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x80;
        fs::write(&path, bytes).unwrap();
        let refused = |result: Result<(), Fault>| match result {
            Err(Fault::Record { index: 1, offset, path: named }) => {
                assert_eq!((offset, named), (first as u64, path.clone()));
            }
            other => panic!("byte {byte}: {other:?}"),
        };
        refused(verify(dir.path()).map(drop));
        refused(Log::open(config(dir.path())).map(drop));
        fs::write(&path, whole).unwrap();
    }
    assert_holds(&open(dir.path()), 3);
}

/// Opens the store itself, to decide what is one batch.
fn with_store<T>(dir: &Path, act: impl FnOnce(&mut Store) -> T) -> T {
    let signer = Signer::new(ORIGIN, &SIGNING_KEY).unwrap();
    act(&mut Store::open(dir, &signer, Arc::new(System)).unwrap().store)
}

fn batch(entries: u8) -> Vec<Draft> {
    let draft = |entry| Draft { entry: [entry; 32], sealed: vec![entry; 50], begun: record::begin(&[entry; 50]) };
    (0..entries).map(draft).collect()
}

/// A power cut may keep any blocks of an unacknowledged batch: whole records behind a bad one of the same batch say
/// nothing.
#[test]
fn a_batch_torn_in_the_middle_is_cut_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let expected = with_store(dir.path(), |store| {
        store.append(&batch(2)).unwrap();
        let mut expected = store.tree().clone();
        store.append(&batch(4)).unwrap();
        expected.push(leaf_hash(&[0; 32]));
        expected
    });
    let (path, record) = (segment::path(dir.path(), 0), 48 + 50 + 16);
    let mut bytes = fs::read(&path).unwrap();
    bytes[3 * record..4 * record].fill(0);
    fs::write(&path, &bytes).unwrap();
    with_store(dir.path(), |store| {
        assert_eq!(*store.tree(), expected);
        store.append(&batch(3)).unwrap();
    });
    with_store(dir.path(), |store| assert_eq!(store.tree().size(), 6));
}

#[test]
fn a_segment_of_other_length_before_another_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    with_store(dir.path(), |store| {
        for _ in 0..=segment::ENTRIES / 128 * 2 {
            store.append(&batch(128)).unwrap();
        }
        assert_eq!(store.tree().size(), 2 * segment::ENTRIES + 128);
    });
    with_store(dir.path(), |store| assert_eq!(store.room(), segment::ENTRIES - 128));
    let (path, record) = (segment::path(dir.path(), 0), 48 + 50 + 16);
    let file = fs::File::options().write(true).open(&path).unwrap();
    for (length, entries) in
        [(segment::ENTRIES * record + 1, segment::ENTRIES), ((segment::ENTRIES - 1) * record, segment::ENTRIES - 1)]
    {
        file.set_len(length).unwrap();
        let (fault, at) = (verify_dir(dir.path(), None, None, |_| ()).map(drop), (entries, entries * record));
        assert!(matches!(fault, Err(Fault::Record { index, offset, .. }) if (index, offset) == at), "{fault:?}");
    }
    fs::remove_file(&path).unwrap();
    let fault = verify_dir(dir.path(), None, None, |_| ()).map(drop);
    assert!(matches!(&fault, Err(Fault::Io { path: named, .. }) if *named == path), "{fault:?}");
}

#[test]
fn a_crash_while_a_segment_begins_or_a_log_is_made_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    with_store(dir.path(), |store| {
        (0..segment::ENTRIES / 128).for_each(|_| store.append(&batch(128)).unwrap());
        assert_eq!(segment::count(dir.path()).unwrap(), 1);
        store.close().unwrap();
    });
    fs::write(segment::path(dir.path(), 1), "half a rec").unwrap();
    fs::write(dir.path().join("checkpoint.tmp"), "half a che").unwrap();
    with_store(dir.path(), |store| {
        assert_eq!(store.tree().size(), segment::ENTRIES);
        store.append(&batch(1)).unwrap();
    });

    let made = tempfile::tempdir().unwrap();
    drop(open(made.path()));
    fs::remove_file(made.path().join("vkey")).unwrap();
    fs::remove_file(segment::path(made.path(), 0)).unwrap();
    assert_holds(&open(made.path()), 0);
}

/// Not a test by itself: the process that is killed. Says each index once it is acknowledged.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os("AUDIT_TEST_DIR") {
        let log = open(Path::new(&dir));
        for number in log.size().. {
            println!("acknowledged {}", log.append_blocking(&payload(number)).unwrap().index());
        }
    }
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child", "--nocapture"])
            .env("AUDIT_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: &str| line.split_once("acknowledged ")?.1.parse::<u64>().ok();
        let mut seen = lines.by_ref().filter_map(|line| number(&line));
        let last = seen.by_ref().take(17 * round).last().unwrap();
        child.kill().unwrap();
        acknowledged = seen.last().unwrap_or(last) + 1;
        child.wait().unwrap();
        let log = open(dir.path());
        assert!(log.size() >= acknowledged, "{} entries of {acknowledged}", log.size());
        assert_holds(&log, log.size());
    }
    assert!(acknowledged > 100);
}
