//! What is kept, found, erased and given away.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::{CANARY, ORIGIN, PAYLOAD_KEY, config, files, open, verify};
use crate::{Against, Checkpoint, Config, Exported, Fault, Filter, Log, Vkey, export, segment, verify_export};

/// Two segments and a half, so that some of it has an index and some not.
const ENTRIES: u64 = 2 * segment::ENTRIES + 700;

fn event(number: u64) -> Value {
    json!({
        "event": if number.is_multiple_of(5) { "query.denied" } else { "query.answered" },
        "time": 1000 + number, "file": format!("file{}", number % 3000), "user": format!("user{}", number % 7),
        "on_behalf_of": format!("principal{}", number % 900), "terminal": format!("terminal{}", number % 9),
        "asker": if number.is_multiple_of(2) { "pup" } else { "mops" }, "holder": "zlm",
        "purpose": format!("P{}", number % 3), "basis": format!("consent:C{} by mops", number % 100), "consent": format!("C{}", number % 100),
        "case": format!("case{}", number % 50), "decision": if number.is_multiple_of(5) { "deny" } else { "permit" },
        "outcomes": [{ "holder": format!("h{}", number % 11), "request": format!("R{number}"), "outcome": came(number) }], "canary": CANARY,
    })
}

/// What one of several holders did, whatever is said of all.
fn came(number: u64) -> &'static str {
    if number.is_multiple_of(13) { "denied" } else { "pending" }
}

fn filled(dir: &Path) -> Log {
    let log = open(dir);
    std::thread::scope(|scope| {
        // In order, but for the few that wait at once.
        for first in 0..64 {
            let log = &log;
            scope.spawn(move || {
                (first..ENTRIES).step_by(64).for_each(|n| drop(log.append_blocking(&event(n)).unwrap()));
            });
        }
    });
    log
}

fn search(log: &Log, filter: &Filter) -> Vec<(u64, Value)> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(at) = next {
        let page = log.search(filter, at, 7).unwrap();
        assert!(page.entries.len() <= 7);
        all.extend(page.entries.into_iter().map(|entry| (entry.index, entry.payload.unwrap())));
        next = page.next;
    }
    all
}

/// Without index, search or filter.
fn sift(log: &Log, matches: impl Fn(&Value) -> bool) -> Vec<(u64, Value)> {
    let entries = log.iter(0).map(|entry| entry.unwrap());
    entries.filter_map(|entry| Some((entry.index, entry.payload?))).filter(|(_, payload)| matches(payload)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "short for what a filter holds")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn search_finds_what_a_walk_finds_with_the_index_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let check = |filter: Filter, matches: &dyn Fn(&Value) -> bool| {
        let (found, expected) = (search(&log, &filter), sift(&log, matches));
        assert!(!expected.is_empty() && found == expected, "{} found, {} expected", found.len(), expected.len());
    };
    let all = || {
        let none = Filter::default;
        check(Filter { file: some("file77"), ..none() }, &|p| p["file"] == "file77");
        check(Filter { user: some("user3"), decision: some("deny"), ..none() }, &|p| {
            p["user"] == "user3" && (p["decision"] == "deny" || p["outcomes"][0]["outcome"] == "denied")
        });
        check(Filter { user: some("principal33"), ..none() }, &|p| p["on_behalf_of"] == "principal33");
        check(Filter { terminal: some("terminal4"), user: some("user3"), ..none() }, &|p| {
            p["terminal"] == "terminal4" && p["user"] == "user3"
        });
        check(Filter { decision: some("permit"), ..none() }, &|p| p["decision"] == "permit");
        check(Filter { peer: some("pup"), case: some("case8"), ..none() }, &|p| {
            p["asker"] == "pup" && p["case"] == "case8"
        });
        check(Filter { peer: some("h9"), purpose: some("P1"), ..none() }, &|p| {
            p["outcomes"][0]["holder"] == "h9" && p["purpose"] == "P1"
        });
        check(Filter { basis: some("C42"), ..none() }, &|p| p["consent"] == "C42");
        check(Filter { basis: some("consent"), event: some("query.denied"), ..none() }, &|p| {
            p["event"] == "query.denied"
        });
        check(Filter { request: some("R8000"), ..none() }, &|p| p["outcomes"][0]["request"] == "R8000");
        check(Filter { from: Some(5000), until: Some(5100), ..none() }, &|p| {
            (5000..5100).contains(&p["time"].as_i64().unwrap())
        });
        assert!(search(&log, &Filter { file: some("nobody"), ..none() }).is_empty());
    };
    all();
    assert_eq!(search(&log, &Filter { file: some("file77"), ..Filter::default() }).len(), 3);
    let index = dir.path().join("index");
    assert_eq!(files(&index).len(), 2);
    // Damaged: found by `verify`, and of no consequence for what is found.
    let path = index.join("0000000001");
    let honest = fs::read(&path).unwrap();
    for position in (0..honest.len()).step_by(997) {
        let mut bytes = honest.clone();
        bytes[position] ^= 4;
        fs::write(&path, bytes).unwrap();
        for key in [None, Some(&PAYLOAD_KEY)].into_iter().take(if position == 0 { 2 } else { 0 }) {
            let fault = crate::verify_dir(dir.path(), None, key, |_| ()).unwrap_err();
            assert!(matches!(&fault, Fault::Index { path: named } if *named == path), "{fault:?}");
        }
        assert!(matches!(crate::index::check(dir.path(), 1, None), Err(Fault::Index { .. })), "byte {position}");
    }
    all();
    // Of fewer columns: built again.
    fs::write(&path, &honest[..honest.len() / 2]).unwrap();
    all();
    assert_eq!(fs::read(&path).unwrap().len(), honest.len());
    // Another segment's, whole in itself, is not taken for this one's.
    fs::copy(index.join("0000000000"), &path).unwrap();
    assert!(matches!(verify(dir.path()), Err(Fault::Index { .. })));
    all();
    fs::remove_dir_all(&index).unwrap();
    all();
    assert_eq!(files(&index).len(), 2);
    assert!(verify(dir.path()).is_ok());
}

#[test]
fn an_erased_resident_is_gone_from_the_disk_and_the_tree_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let of = |file: &str| Filter { file: some(file), ..Filter::default() };
    let resident = |index| log.read(index).unwrap().unwrap().payload.unwrap()["file"].as_str().unwrap().to_owned();
    let (one, other) = (resident(5), resident(ENTRIES - 1));
    let entries = |file: &str| search(&log, &of(file)).into_iter().map(|(index, _)| index).collect::<BTreeSet<u64>>();
    let (doomed, tail) = (entries(&one), entries(&other));
    assert!(doomed.len() > 1 && doomed.contains(&5) && tail.contains(&(ENTRIES - 1)) && doomed.is_disjoint(&tail));
    let sealed: Vec<Vec<u8>> = doomed.iter().map(|index| sealed_payload(dir.path(), *index)).collect();
    let root = log.checkpoint_blocking().unwrap().root();

    let cause = log.append_blocking(&json!({ "event": "log.payloads_erased", "time": 9 })).unwrap();
    let with_cause = doomed.iter().copied().chain([cause.index(), u64::MAX]).collect();
    assert_eq!(log.erase(&cause, &with_cause).unwrap(), doomed.len() as u64);
    assert_eq!(log.erase(&cause, &doomed).unwrap(), 0, "again is no harm");
    assert_eq!(log.erase(&cause, &tail).unwrap(), tail.len() as u64);
    for index in doomed.iter().chain(&tail) {
        assert_eq!(log.read(*index).unwrap().unwrap().payload, None);
    }
    assert!(log.read(cause.index()).unwrap().unwrap().payload.is_some(), "the cause stands");
    assert!(entries(&one).is_empty() && entries(&other).is_empty());
    let everything: Vec<u8> = files(dir.path()).iter().flat_map(|path| fs::read(path).unwrap()).collect();
    for sealed in sealed {
        assert!(!everything.windows(48).any(|window| window == &sealed[12..60]), "still on the disk");
    }
    drop(log.append_blocking(&event(1)).unwrap());
    let erased = (doomed.len() + tail.len()) as u64;
    let report = verify(dir.path()).unwrap();
    assert_eq!(
        (report.entries, report.payloads_erased, report.payloads_opened),
        (ENTRIES + 2, erased, ENTRIES + 2 - erased)
    );
    assert_eq!(crate::proof::root(dir.path(), ENTRIES).unwrap(), root);
    drop(log);
    let log = open(dir.path());
    assert_eq!(verify(dir.path()).unwrap().payloads_erased, erased);
    let other = tempfile::tempdir().unwrap();
    let foreign = Log::open(Config { origin: "zlm.example.pl/log", ..config(other.path()) }).unwrap();
    let foreign = foreign.append_blocking(&json!({})).unwrap();
    assert!(matches!(log.erase(&foreign, &doomed), Err(Fault::Identity { .. })));
}

fn sealed_payload(dir: &Path, index: u64) -> Vec<u8> {
    let mut records = crate::segment::Segment::open(dir, index / segment::ENTRIES).unwrap();
    records.skip_to(index).unwrap();
    records.next().unwrap().unwrap().sealed.to_vec()
}

#[test]
fn retention_takes_what_is_old_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let cause = log.append_blocking(&json!({ "event": "retention.applied", "time": 90_000 })).unwrap();
    let keep = |entry: &crate::Entry| entry.payload.as_ref().is_some_and(|payload| payload["decision"] == "deny");
    let erased = log.expire(&cause, 6000, keep).unwrap();
    assert_eq!(erased, 5000 - 1000);
    let left = sift(&log, |payload| payload["time"].as_i64().unwrap() < 6000);
    assert!(left.len() == 1000 && left.iter().all(|(_, payload)| payload["decision"] == "deny"));
    assert_eq!(log.expire(&cause, 6000, keep).unwrap(), 0);
    assert_eq!(verify(dir.path()).unwrap().payloads_erased, erased);
}

fn verified(dir: &Path, pinned: Option<&Vkey>, known: &[Checkpoint]) -> Result<(Exported, Vec<Value>), Fault> {
    let mut seen = Vec::new();
    let against = Against { log: pinned, known, ..Against::default() };
    let exported = verify_export(dir, against, |_, payload| seen.push(payload), |_| ())?;
    Ok((exported, seen))
}

#[test]
fn an_export_verifies_anywhere_and_shows_what_was_asked_for() {
    let (dir, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = filled(dir.path());
    let (one, all) = (given.path().join("one"), given.path().join("all"));
    let filter = Filter { file: some("file77"), ..Filter::default() };
    let made = export(&log, &one, &filter, 77).unwrap();
    assert_eq!((made.entries, made.size, made.exported_at), (3, ENTRIES, 77));
    let (found, seen) = verified(&one, Some(log.vkey()), &[log.newest_checkpoint()]).unwrap();
    assert_eq!((found, seen.len()), (made, 3));
    assert!(seen.iter().all(|payload| filter.matches(payload.to_string().as_bytes())));
    export(&log, &all, &Filter::default(), 78).unwrap();
    assert_eq!(verified(&all, None, &[]).unwrap().1.len() as u64, ENTRIES);
    assert!(matches!(export(&log, &all, &filter, 79), Err(Fault::Io { .. })), "nothing is overwritten");
    let stranger = Vkey::new("zlm.example.pl/log", [1; 32]).unwrap();
    assert!(matches!(verified(&one, Some(&stranger), &[]), Err(Fault::Identity { .. })));
}

#[test]
fn an_export_that_was_touched_is_refused() {
    let (dir, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(dir.path());
    (0..300).for_each(|number| drop(log.append_blocking(&event(number)).unwrap()));
    let export_dir = given.path().join("export");
    export(&log, &export_dir, &Filter { until: Some(1010), ..Filter::default() }, 7).unwrap();
    for path in files(&export_dir) {
        let honest = fs::read(&path).unwrap();
        for position in (0..honest.len()).step_by(1 + honest.len() / 300) {
            let mut bytes = honest.clone();
            bytes[position] ^= 1 << (position % 7);
            fs::write(&path, bytes).unwrap();
            assert!(verified(&export_dir, None, &[]).is_err(), "{} byte {position}", path.display());
        }
        fs::remove_file(&path).unwrap();
        assert!(verified(&export_dir, None, &[]).is_err(), "without {}", path.display());
        fs::write(&path, honest).unwrap();
    }
    let lines = export_dir.join("entries.jsonl");
    let honest = fs::read_to_string(&lines).unwrap();
    let mut left: Vec<_> = honest.split_inclusive('\n').collect();
    let removed = left.remove(4);
    fs::write(&lines, left.concat()).unwrap();
    assert!(matches!(verified(&export_dir, None, &[]), Err(Fault::Export { .. })), "a line was left out");
    left.insert(5, removed);
    fs::write(&lines, left.concat()).unwrap();
    assert!(verified(&export_dir, None, &[]).is_err(), "lines were swapped");
    fs::write(&lines, &honest).unwrap();
    assert!(verified(&export_dir, None, &[]).is_ok());
    // Rewritten by the owner of the key: by itself faultless, against a kept checkpoint not.
    let (other, forged) = (tempfile::tempdir().unwrap(), given.path().join("forged"));
    let rewritten = open(other.path());
    (0..300).filter(|number| *number != 7).for_each(|number| drop(rewritten.append_blocking(&event(number)).unwrap()));
    drop(rewritten.append_blocking(&event(300)).unwrap());
    export(&rewritten, &forged, &Filter::default(), 8).unwrap();
    let kept = log.newest_checkpoint();
    assert!(verified(&forged, Some(log.vkey()), &[]).is_ok());
    assert!(matches!(verified(&forged, Some(log.vkey()), &[kept]), Err(Fault::Rewritten { signed: 300 })));
    assert_eq!(log.origin(), ORIGIN);
}
