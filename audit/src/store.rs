//! The directory of one log.
//!
//! **What it keeps.** `vkey`: origin and public key, one line (C2SP `signed-note`). `checkpoint`: the newest signed
//! size and root (C2SP `tlog-checkpoint`); `cosigned`: the newest one with cosignatures, and `witnesses`: whose they
//! are, a key a line. `records/NNNNNNNNNN`: the entries, 4096 to a file, in the layout of `record.rs`; file *n* begins
//! with entry 4096·*n*. `tile/…` (`tile.rs`) and `index/…` (`index.rs`) follow from the records and need no other
//! source.
//!
//! **Keys.** A record is found by its index: file by division, place by walking the headers or by the index. Its
//! payload opens with the log's payload key, origin and entry hash. The directory itself is locked (`flock`) while a
//! process has the log open.
//!
//! **How an update is atomic.** A batch is written behind the last acknowledged byte of the last file with one write,
//! and acknowledged after one `fdatasync`; it never crosses files. The last file is kept longer than its records, with
//! zeros: then that `fdatasync` has no new length to commit, which costs many times as much as the data. A new file is
//! begun, and its name made durable, only when the one before it is full, acknowledged and cut to its records. All
//! small files are replaced by rename. A checkpoint signs acknowledged entries only. `vkey` is written last when a log
//! is made, so where it exists the rest does.
//!
//! **What a crash leaves.** Behind the acknowledged bytes of the last file any part of one batch, then zeros: what is
//! not zero is cut at open, unless a checkpoint signs it or a later batch stands behind it; then, as anywhere else, a
//! bad record is damage and the log does not open. (A bad record in the very last batch, not yet under a checkpoint,
//! cannot be told from a torn one.) Also a `*.tmp` without meaning, and an empty last file.
//!
//! **What a failed write leaves.** The same, in a running process: [`Store::repair`]. The page cache is not believed
//! then (a failed `fsync` marks pages clean that never reached the disk): the file is cut back, synced, dropped from
//! the cache and read again.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use crate::{
    disk::{Disk, replace, sync_names},
    entry::Draft,
    fault::Fault,
    note::{Checkpoint, NoteError, Signer, Vkey},
    record::{self, Record},
    segment::{self, Segment},
    tile::{self, Tile, Tiler},
    tree::{Frontier, Hash, leaf_hash},
};

pub(crate) const VKEY: &str = "vkey";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const COSIGNED: &str = "cosigned";
pub(crate) const WITNESSES: &str = "witnesses";

/// By how much the last file is made longer at a time, in bytes, and the piece it is written in.
const AHEAD: u64 = 1 << 20;
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A log's records, open for appending.
pub(crate) struct Store {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// The last segment, how many of its bytes are acknowledged, and how many it has.
    file: File,
    length: u64,
    allocated: u64,
    /// The acknowledged entries, and those of them before the last segment.
    tree: Frontier,
    before: Frontier,
    /// The entry hashes appended since they were last taken.
    fresh: Vec<Hash>,
    /// An append failed: [`Self::repair`] comes before the next.
    failed: bool,
}

/// The lock on a log's directory. It is let go by name: closing alone would leave it with a child process that another
/// thread is just starting, until that one runs its program.
pub(crate) struct Lock(File);

impl Lock {
    fn of(dir: &Path) -> Result<Self, Fault> {
        let file = File::open(dir).map_err(Fault::io(dir))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Fault::Locked { path: dir.to_owned() })?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it comes next in any case.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// A log's directory as it was opened.
pub(crate) struct Opened {
    pub(crate) lock: Lock,
    pub(crate) store: Store,
    /// Of every entry there is.
    pub(crate) tiler: Tiler,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) cosigned: Option<Checkpoint>,
}

impl Store {
    /// Opens the log in `dir`, or makes one there, cuts a torn tail, and writes tiles that are missing or wrong.
    pub(crate) fn open(dir: &Path, signer: &Signer, disk: Arc<dyn Disk>) -> Result<Opened, Fault> {
        fs::create_dir_all(segment::directory(dir)).map_err(Fault::io(dir))?;
        let lock = Lock::of(dir)?;
        if !dir.join(VKEY).exists() {
            found(dir, signer, &*disk)?;
        }
        let vkey = read_vkey(dir, Some(signer.vkey()))?;
        let checkpoint = read_checkpoint(dir, CHECKPOINT, &vkey)?;
        let cosigned = read_cosigned(dir, &vkey)?;

        let last = segment::count(dir)?.saturating_sub(1);
        let path = segment::path(dir, last);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Fault::io(&path))?;
        let records = segment::directory(dir);
        sync_names(&records).map_err(Fault::io(records))?;
        settle(&*disk, &file).map_err(Fault::io(&path))?;
        let signed: Vec<_> = [Some(&checkpoint), cosigned.as_ref()].into_iter().flatten().collect();
        let mut mending = Mending { dir, wrong: Vec::new() };
        let Scan { tiler, before, length, torn } = scan(dir, &signed, &mut mending)?;
        mending.mend(&*disk, checkpoint.size())?;
        let tree = tiler.tree().clone();
        if torn > 0 {
            tracing::warn!(file = %path.display(), bytes = torn, "cut a torn append that was never acknowledged");
            file.set_len(length).and_then(|()| disk.sync(&file)).map_err(Fault::io(&path))?;
        }
        let allocated = file.metadata().map_err(Fault::io(&path))?.len();
        let (dir, fresh) = (dir.to_owned(), Vec::new());
        let store = Self { dir, disk, file, length, allocated, tree, before, fresh, failed: false };
        Ok(Opened { lock, store, tiler, checkpoint, cosigned })
    }

    /// The acknowledged entries.
    pub(crate) fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// How many entries one append may hold, at least one.
    pub(crate) fn room(&self) -> u64 {
        segment::ENTRIES - self.tree.size() % segment::ENTRIES
    }

    /// Appends entries, at most [`Self::room`] of them: durable when this returns. After an error nothing of them is in
    /// the log.
    pub(crate) fn append(&mut self, batch: &[Draft]) -> Result<(), Fault> {
        self.repair()?;
        if self.tree.size() - self.before.size() == segment::ENTRIES {
            self.begin_segment()?;
        }
        let (mut tree, mut bytes) = (self.tree.clone(), Vec::new());
        for (place, Draft { entry, sealed, begun }) in (0..).zip(batch) {
            record::encode(&mut bytes, tree.size(), place, entry, sealed, begun.clone());
            tree.push(leaf_hash(entry));
        }
        self.failed = true;
        self.write(&bytes).map_err(Fault::io(self.path()))?;
        self.failed = false;
        self.length += bytes.len() as u64;
        self.tree = tree;
        self.fresh.extend(batch.iter().map(|draft| draft.entry));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.length + bytes.len() as u64;
        if end > self.allocated {
            while self.allocated < end + AHEAD {
                self.disk.write(&self.file, &ZEROS, self.allocated)?;
                self.allocated += ZEROS.len() as u64;
            }
        }
        self.disk.write(&self.file, bytes, self.length)?;
        self.disk.sync(&self.file)
    }

    /// Whether an append failed and nothing has succeeded since.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Puts the files back to what was acknowledged after a failed append, and reads it again from the disk.
    pub(crate) fn repair(&mut self) -> Result<(), Fault> {
        if !self.failed {
            return Ok(());
        }
        let path = self.path();
        let file = File::options().read(true).write(true).open(&path).map_err(Fault::io(&path))?;
        file.set_len(self.length).and_then(|()| settle(&*self.disk, &file)).map_err(Fault::io(&path))?;
        let mut records = Segment::open(&self.dir, self.number())?;
        let mut tree = self.before.clone();
        while let Some(record) = records.next()? {
            tree.push(leaf_hash(&record.entry));
        }
        if tree != self.tree || records.rest() > 0 {
            return Err(records.damage());
        }
        (self.file, self.allocated, self.failed) = (file, self.length, false);
        Ok(())
    }

    /// The entry hashes appended since this was last called.
    pub(crate) fn take_fresh(&mut self) -> Vec<Hash> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes up the last segment again after its file was replaced.
    pub(crate) fn reopen(&mut self) -> Result<(), Fault> {
        let path = self.path();
        let file = File::options().read(true).write(true).open(&path).map_err(Fault::io(&path))?;
        self.length = file.metadata().map_err(Fault::io(&path))?.len();
        (self.file, self.allocated) = (file, self.length);
        Ok(())
    }

    /// Cuts the last file to its records.
    pub(crate) fn close(&mut self) -> Result<(), Fault> {
        let cut = self.file.set_len(self.length).and_then(|()| self.disk.sync(&self.file));
        cut.map_err(Fault::io(self.path()))?;
        self.allocated = self.length;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), Fault> {
        self.close()?;
        let path = segment::path(&self.dir, self.number() + 1);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(Fault::io(path))?;
        let records = segment::directory(&self.dir);
        sync_names(&records).map_err(Fault::io(records))?;
        self.before = self.tree.clone();
        (self.file, self.length, self.allocated) = (file, 0, 0);
        Ok(())
    }

    /// The last segment.
    pub(crate) fn number(&self) -> u64 {
        self.before.size() / segment::ENTRIES
    }

    fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.number())
    }
}

/// Finds the tiles that are not as they should be.
struct Mending<'a> {
    dir: &'a Path,
    wrong: Vec<(Tile, Vec<u8>)>,
}

impl Visit for Mending<'_> {
    fn tile(&mut self, tile: Tile, content: Vec<u8>) -> Result<(), Fault> {
        if tile::check(self.dir, tile, &content).is_err() {
            self.wrong.push((tile, content));
        }
        Ok(())
    }
}

impl Mending<'_> {
    /// Writes them; one that a checkpoint needed was damaged or taken away.
    fn mend(&self, disk: &dyn Disk, signed: u64) -> Result<(), Fault> {
        for (tile, _) in self.wrong.iter().filter(|(tile, _)| tile.end() <= signed) {
            tracing::warn!(tile = %self.dir.join(tile.to_string()).display(), "a tile was missing or damaged: written anew");
        }
        tile::write(disk, self.dir, &self.wrong)
    }
}

/// Makes a log: an empty checkpoint, then the key file that says the log is there. Refuses where one has lost its key
/// file.
fn found(dir: &Path, signer: &Signer, disk: &dyn Disk) -> Result<(), Fault> {
    let missing = || Fault::io(dir.join(VKEY))(ErrorKind::NotFound.into());
    if segment::count(dir)? > 0 {
        return Err(missing());
    }
    match read_checkpoint(dir, CHECKPOINT, signer.vkey()) {
        Ok(checkpoint) if checkpoint.size() == 0 => {}
        Err(Fault::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let empty = Checkpoint::sign(signer, 0, Frontier::default().root());
            let written = replace(disk, dir, CHECKPOINT, empty.note().as_bytes());
            written.map_err(Fault::io(dir.join(CHECKPOINT)))?;
        }
        _ => return Err(missing()),
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(Fault::io(parent))?;
    }
    let line = format!("{}\n", signer.vkey());
    replace(disk, dir, VKEY, line.as_bytes()).map_err(Fault::io(dir.join(VKEY)))
}

/// Reads the key file, which must be `wanted` if that is given.
pub(crate) fn read_vkey(dir: &Path, wanted: Option<&Vkey>) -> Result<Vkey, Fault> {
    let text = read_text(&dir.join(VKEY))?;
    let vkey = Vkey::parse(text.strip_suffix('\n').unwrap_or_default()).map_err(Fault::Key)?;
    match wanted.filter(|wanted| **wanted != vkey) {
        Some(wanted) => Err(Fault::Identity { found: vkey.to_string(), wanted: wanted.to_string() }),
        None => Ok(vkey),
    }
}

/// Reads and verifies the checkpoint `name`.
pub(crate) fn read_checkpoint(dir: &Path, name: &str, vkey: &Vkey) -> Result<Checkpoint, Fault> {
    let fault = |source| Fault::Checkpoint { path: dir.join(name), source };
    Checkpoint::open(&read_text(&dir.join(name))?, vkey).map_err(fault)
}

/// The newest checkpoint with cosignatures; each of them must be valid under a key of the directory's own `witnesses`.
pub(crate) fn read_cosigned(dir: &Path, vkey: &Vkey) -> Result<Option<Checkpoint>, Fault> {
    if !dir.join(COSIGNED).exists() {
        return Ok(None);
    }
    let (checkpoint, witnesses) = (read_checkpoint(dir, COSIGNED, vkey)?, read_witnesses(dir)?);
    let valid = witnesses.iter().filter(|witness| checkpoint.cosigned_by(witness).is_ok()).count();
    if valid != checkpoint.others(vkey) || valid == 0 {
        return Err(Fault::Checkpoint { path: dir.join(COSIGNED), source: NoteError::Cosignature });
    }
    Ok(Some(checkpoint))
}

/// The newest checkpoint with cosignatures, and who gave them, when.
#[derive(Default)]
pub(crate) struct Vouched {
    pub(crate) cosigned: Option<Checkpoint>,
    pub(crate) witnesses: Vec<(Vkey, u64)>,
}

/// The newest checkpoint with cosignatures, by the keys that are `trusted`; without any by those the directory came with.
pub(crate) fn read_vouched(dir: &Path, vkey: &Vkey, trusted: Option<&[Vkey]>) -> Result<Vouched, Fault> {
    let Some(cosigned) = read_cosigned(dir, vkey)? else { return Ok(Vouched::default()) };
    let keys = trusted.map_or_else(|| read_witnesses(dir), |keys| Ok(keys.to_vec()))?;
    let by = |witness: Vkey| cosigned.cosigned_by(&witness).ok().map(|time| (witness, time));
    let witnesses: Vec<_> = keys.into_iter().filter_map(by).collect();
    if witnesses.is_empty() {
        return Err(Fault::Checkpoint { path: dir.join(COSIGNED), source: NoteError::Strangers });
    }
    Ok(Vouched { cosigned: Some(cosigned), witnesses })
}

/// The keys in `witnesses`; none when there is no such file.
pub(crate) fn read_witnesses(dir: &Path) -> Result<Vec<Vkey>, Fault> {
    let path = dir.join(WITNESSES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_text(&path)?;
    let keys = text.split_inclusive('\n').map(|line| Vkey::parse(line.strip_suffix('\n').unwrap_or_default()));
    keys.collect::<Result<_, _>>().map_err(|source| Fault::Witnesses { path, source })
}

/// A small text file; of a larger one the first 64 KiB.
pub(crate) fn read_text(path: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
    read.map(|_| text).map_err(Fault::io(path))
}

/// Makes what the page cache holds of `file` the same as what the disk holds.
fn settle(disk: &dyn Disk, file: &File) -> io::Result<()> {
    disk.sync(file)?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

/// What is to be done with what [`scan`] reads.
pub(crate) trait Visit {
    /// A record, its place in its file, and the tree with it.
    fn record(&mut self, _: &Record<'_>, _place: u64, _: &Tiler) -> Result<(), Fault> {
        Ok(())
    }

    /// A full tile that follows from the records, before the record that completes it.
    fn tile(&mut self, _: Tile, _content: Vec<u8>) -> Result<(), Fault> {
        Ok(())
    }
}

/// Nothing is.
pub(crate) struct Unvisited;

impl Visit for Unvisited {}

/// What the segments hold.
#[derive(Default)]
pub(crate) struct Scan {
    /// All entries, and the tree of those before the last segment.
    pub(crate) tiler: Tiler,
    before: Frontier,
    /// Bytes of whole records in the last segment, and bytes behind them.
    length: u64,
    pub(crate) torn: u64,
}

/// Reads all segments, as far as they reach now, shows `visitor` every record and tile, and holds the tree against
/// `checkpoints`.
pub(crate) fn scan(dir: &Path, checkpoints: &[&Checkpoint], visitor: &mut impl Visit) -> Result<Scan, Fault> {
    scan_from(dir, Tiler::default(), checkpoints, visitor)
}

/// [`scan`] of the records behind those that `tiler` has.
pub(crate) fn scan_from(
    dir: &Path,
    tiler: Tiler,
    checkpoints: &[&Checkpoint],
    visitor: &mut impl Visit,
) -> Result<Scan, Fault> {
    let signed = checkpoints.iter().map(|checkpoint| checkpoint.size()).max().unwrap_or_default();
    let rewritten = |tree: &Frontier| {
        let mut here = checkpoints.iter().filter(|checkpoint| checkpoint.size() == tree.size());
        here.any(|checkpoint| checkpoint.root() != tree.root())
    };
    let (start, segments) = (tiler.tree().size(), segment::count(dir)?);
    let mut scan = Scan { tiler, ..Scan::default() };
    let mut honest = if rewritten(scan.tiler.tree()) { Err(Fault::Rewritten { signed: start }) } else { Ok(()) };
    if start > segments * segment::ENTRIES {
        return Err(Fault::Shorter { size: segments * segment::ENTRIES, signed });
    }
    for number in start / segment::ENTRIES..segments {
        scan.before = scan.tiler.tree().clone();
        let (mut records, mut again) = (Segment::open(dir, number)?, None);
        records.skip_to(start)?;
        let later = loop {
            let place = records.offset();
            let Some(record) = records.next()? else {
                // In a log being written a later batch may stand there by now; then so does what was due here.
                let later = number + 1 == segments && records.acknowledged()?;
                if !later || again == Some(place) {
                    break later;
                }
                again = Some(place);
                records.rewind()?;
                continue;
            };
            let shown = honest.is_ok();
            scan.tiler.push(&record.entry, |tile, content| if shown { visitor.tile(tile, content) } else { Ok(()) })?;
            let tree = scan.tiler.tree();
            if shown && rewritten(tree) {
                honest = Err(Fault::Rewritten { signed: tree.size() });
            }
            if honest.is_ok() {
                visitor.record(&record, place, &scan.tiler)?;
            }
        };
        let last = number + 1 == segments;
        (scan.length, scan.torn) = (records.offset(), if last { records.torn()? } else { records.rest() });
        let cut_short = !last && !records.full();
        let acknowledged = later || scan.torn > 0 && (!last || records.index() < signed);
        if cut_short || acknowledged {
            return Err(records.damage());
        }
    }
    match scan.tiler.tree().size() {
        size if size < signed => Err(Fault::Shorter { size, signed }),
        _ => honest.map(|()| scan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_let_go_though_a_child_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::of(dir.path()).unwrap();
        // What a process has that was started meanwhile.
        let _inherited = lock.0.try_clone().unwrap();
        assert!(matches!(Lock::of(dir.path()), Err(Fault::Locked { .. })));
        drop(lock);
        Lock::of(dir.path()).unwrap();
    }
}
