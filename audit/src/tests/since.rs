//! Verifying since a checkpoint that somebody kept: what stands before it is not read, and it is no way round anything.

use std::{fs, path::Path};

use super::{ORIGIN, PAYLOAD_KEY, SIGNING_KEY, closed, open, payload, records, verify};
use crate::{
    Against, Checkpoint, Fault, Filter, Log, Report, export, note::Signer, segment, verify_against, verify_export,
};

/// A segment and a bit, over no boundary of tiles.
const KEPT: u64 = segment::ENTRIES + 300;
const ENTRIES: u64 = KEPT + 40;

/// A closed log of `ENTRIES`, with the checkpoints that somebody kept of 100 entries and of `KEPT`.
fn log(dir: &Path) -> [Checkpoint; 2] {
    closed(dir, 100);
    let kept = [100, KEPT].map(|size| grow(&open(dir), size));
    grow(&open(dir), ENTRIES);
    kept
}

fn grow(log: &Log, size: u64) -> Checkpoint {
    (log.size()..size).for_each(|number| drop(log.append_blocking(&payload(number)).unwrap()));
    log.checkpoint_blocking().unwrap()
}

fn since(dir: &Path, known: &[Checkpoint]) -> Result<Report, Fault> {
    verify_against(dir, Against { known, ..Against::default() }, Some(&PAYLOAD_KEY), |_| ())
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// One of the log's own key, over another tree.
fn forged(size: u64) -> Checkpoint {
    Checkpoint::sign(&Signer::new(ORIGIN, &SIGNING_KEY).unwrap(), size, [1; 32])
}

#[test]
fn what_stands_before_is_not_read_and_what_comes_after_is() {
    let dir = tempfile::tempdir().unwrap();
    let [early, kept] = log(dir.path());
    let whole = verify(dir.path()).unwrap();
    assert_eq!((whole.entries, whole.read), (ENTRIES, ENTRIES));
    for known in [&[kept.clone()][..], &[early.clone(), kept.clone()], &[kept.clone(), early.clone()]] {
        let report = since(dir.path(), known).unwrap();
        assert_eq!((report.read, report.payloads_opened), (ENTRIES - KEPT, ENTRIES - KEPT));
        assert_eq!((report.entries, report.root, report.signed), (ENTRIES, whole.root, ENTRIES));
    }
    let from_early = since(dir.path(), std::slice::from_ref(&early)).unwrap();
    assert_eq!((from_early.read, from_early.root), (ENTRIES - 100, whole.root));
    // The newest of all leaves nothing to read.
    let newest = open(dir.path()).newest_checkpoint();
    assert_eq!(since(dir.path(), &[newest]).unwrap().read, 0);

    // Damage before it is another day's business, damage behind it is not.
    let first = segment::path(dir.path(), 0);
    let at = records(dir.path())[..10].iter().map(Vec::len).sum::<usize>() + 60;
    flip(&first, at);
    assert!(matches!(verify(dir.path()), Err(Fault::Record { index: 10, .. })));
    assert_eq!(since(dir.path(), std::slice::from_ref(&kept)).unwrap().read, ENTRIES - KEPT);
    flip(&first, at);
    let last = segment::path(dir.path(), 1);
    let end = fs::read(&last).unwrap().len();
    flip(&last, end - 1);
    let damaged = since(dir.path(), std::slice::from_ref(&kept));
    assert!(matches!(damaged, Err(Fault::Record { index, .. }) if index == ENTRIES - 1), "{damaged:?}");
}

#[test]
fn a_checkpoint_of_another_tree_fails_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let [early, kept] = log(dir.path());
    let rewritten = |known: &[Checkpoint], at: u64| {
        let report = since(dir.path(), known);
        assert!(matches!(report, Err(Fault::Rewritten { signed }) if signed == at), "{report:?}");
    };
    rewritten(&[forged(KEPT)], KEPT);
    rewritten(&[forged(100)], 100);
    rewritten(&[forged(100), kept.clone()], 100);
    rewritten(&[early, forged(KEPT)], KEPT);
    let longer = since(dir.path(), &[kept.clone(), forged(ENTRIES + 1)]);
    assert!(matches!(longer, Err(Fault::Shorter { size: ENTRIES, signed }) if signed == ENTRIES + 1), "{longer:?}");
    // A tile that is not the tree's is named: nothing rests on it.
    for tile in ["tile/1/000.p/17", "tile/0/017.p/84", "tile/entries/017.p/84"] {
        flip(&dir.path().join(tile), 3);
        let fault = since(dir.path(), std::slice::from_ref(&kept)).unwrap_err();
        assert!(matches!(&fault, Fault::Tile { path, .. } if path.ends_with(tile)), "{tile}: {fault:?}");
        flip(&dir.path().join(tile), 3);
    }
    assert!(since(dir.path(), std::slice::from_ref(&kept)).is_ok());
}

#[test]
fn an_export_is_read_from_there_unless_it_gives_what_stands_before() {
    let dir = tempfile::tempdir().unwrap();
    let [_, kept] = log(dir.path());
    let log = open(dir.path());
    let made = |name: &str, filter: &Filter| {
        let into = dir.path().join(name);
        export(&log, &into, filter, 7).unwrap();
        into
    };
    let (whole, none) =
        (made("whole", &Filter::default()), made("none", &Filter { event: Some("none".into()), ..Filter::default() }));
    let read = |into: &Path, known: &[Checkpoint]| {
        let against = Against { known, ..Against::default() };
        verify_export(into, against, |_, _| (), |_| ()).map(|exported| (exported.read, exported.entries))
    };
    assert_eq!(read(&whole, std::slice::from_ref(&kept)).unwrap(), (ENTRIES, ENTRIES));
    assert_eq!(read(&none, std::slice::from_ref(&kept)).unwrap(), (ENTRIES - KEPT, 0));
    for into in [&whole, &none] {
        assert!(matches!(read(into, &[forged(KEPT)]), Err(Fault::Rewritten { signed: KEPT })));
    }
    flip(&none.join("tile/entries/003"), 9);
    assert!(matches!(read(&none, &[]), Err(Fault::Tile { .. })));
    assert_eq!(read(&none, &[kept]).unwrap().0, ENTRIES - KEPT);
}
