//! The directory of one log.
//!
//! **What it keeps.** `vkey`: origin and public key, one line (C2SP `signed-note`). `checkpoint`: the newest signed
//! size and root (C2SP `tlog-checkpoint`). `records/NNNNNNNNNN`: the entries, 4096 to a file, in the layout of
//! `record.rs`; file *n* begins with entry 4096·*n*. Tiles (`tlog-tiles`) follow from the entry hashes in them and
//! need no other source.
//!
//! **Keys.** A record is found by its index: file by division, place by walking the headers. Its payload opens with
//! the log's payload key, origin and index. The directory itself is locked (`flock`) while a process has the log
//! open.
//!
//! **How an update is atomic.** A batch is written behind the last acknowledged byte of the last file with one write,
//! and acknowledged after one `fdatasync`; it never crosses files. A new file is begun, and its name made durable,
//! only when the one before it is full and acknowledged. `vkey` and `checkpoint` are replaced by rename. A checkpoint
//! signs acknowledged entries only. `vkey` is written last when a log is made, so where it exists the rest does.
//!
//! **What a crash leaves.** Behind the acknowledged bytes of the last file any part of one batch: it is cut at open,
//! unless the checkpoint signs it or a later batch stands behind it; then, as anywhere else, a bad record is damage
//! and the log does not open. (A bad record in the very last batch, not yet under a checkpoint, cannot be told from a
//! torn one.) Also a `*.tmp` without meaning, and an empty last file.
//!
//! **What a failed write leaves.** The same, in a running process: [`Store::repair`]. The page cache is not believed
//! then (a failed `fsync` marks pages clean that never reached the disk): the file is cut back, synced, dropped from
//! the cache and read again.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use crate::{
    disk::{Disk, replace},
    fault::Fault,
    note::{Checkpoint, Signer, Vkey},
    record::{self, Record},
    segment::{self, Segment},
    tree::{Frontier, Hash, leaf_hash},
};

const VKEY: &str = "vkey";
const CHECKPOINT: &str = "checkpoint";

/// A log's files, open for appending.
pub(crate) struct Store {
    dir: PathBuf,
    /// The directory: locked, and synced when a name in it changes.
    handle: File,
    disk: Box<dyn Disk>,
    /// The last segment, and how many of its bytes are acknowledged.
    file: File,
    length: u64,
    /// The acknowledged entries, and those of them before the last segment.
    tree: Frontier,
    before: Frontier,
}

impl Store {
    /// Opens the log in `dir`, or makes one there, cuts a torn tail, and returns its newest checkpoint.
    pub(crate) fn open(dir: &Path, signer: &Signer, mut disk: Box<dyn Disk>) -> Result<(Self, Checkpoint), Fault> {
        fs::create_dir_all(segment::directory(dir)).map_err(Fault::io(dir))?;
        let handle = File::open(dir).map_err(Fault::io(dir))?;
        flock(&handle, FlockOperation::NonBlockingLockExclusive).map_err(|_| Fault::Locked { path: dir.to_owned() })?;
        if !dir.join(VKEY).exists() {
            found(dir, &handle, signer, &mut *disk)?;
        }
        let vkey = read_vkey(dir, Some(signer.vkey()))?;
        let checkpoint = read_checkpoint(dir, &vkey)?;

        let last = segment::count(dir)?.saturating_sub(1);
        let path = segment::path(dir, last);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Fault::io(&path))?;
        sync_names(dir)?;
        settle(&mut *disk, &file).map_err(Fault::io(&path))?;
        let Scan { tree, before, length, torn } = scan(dir, &checkpoint, |_| Ok(()))?;
        if torn > 0 {
            tracing::warn!(file = %path.display(), bytes = torn, "cut a torn append that was never acknowledged");
            file.set_len(length).and_then(|()| disk.sync(&file)).map_err(Fault::io(&path))?;
        }
        Ok((Self { dir: dir.to_owned(), handle, disk, file, length, tree, before }, checkpoint))
    }

    /// The acknowledged entries.
    pub(crate) fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// How many entries one append may hold, at least one.
    pub(crate) fn room(&self) -> u64 {
        segment::ENTRIES - self.tree.size() % segment::ENTRIES
    }

    /// Appends entry hashes with their sealed payloads, at most [`Self::room`] of them: durable when this returns.
    /// After an error nothing of them is in the log, and [`Self::repair`] comes before the next append.
    pub(crate) fn append(&mut self, batch: &[(Hash, Vec<u8>)]) -> Result<(), Fault> {
        if self.tree.size() - self.before.size() == segment::ENTRIES {
            self.begin_segment()?;
        }
        let (mut tree, mut bytes) = (self.tree.clone(), Vec::new());
        for (place, (entry, sealed)) in (0..).zip(batch) {
            record::encode(&mut bytes, tree.size(), place, entry, sealed);
            tree.push(leaf_hash(entry));
        }
        let written = self.disk.write(&self.file, &bytes, self.length);
        written.and_then(|()| self.disk.sync(&self.file)).map_err(Fault::io(self.path()))?;
        self.length += bytes.len() as u64;
        self.tree = tree;
        Ok(())
    }

    /// Puts the files back to what was acknowledged after a failed append, and reads it again from the disk.
    pub(crate) fn repair(&mut self) -> Result<(), Fault> {
        let path = self.path();
        let file = File::options().read(true).write(true).open(&path).map_err(Fault::io(&path))?;
        file.set_len(self.length).and_then(|()| settle(&mut *self.disk, &file)).map_err(Fault::io(&path))?;
        let mut records = Segment::open(&self.dir, self.number())?;
        let mut tree = self.before.clone();
        while let Some(record) = records.next()? {
            tree.push(leaf_hash(&record.entry));
        }
        if tree != self.tree || records.rest() > 0 {
            return Err(records.damage());
        }
        self.file = file;
        Ok(())
    }

    /// Replaces the checkpoint.
    pub(crate) fn sign(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        replace(&mut *self.disk, &self.dir, &self.handle, CHECKPOINT, checkpoint.note().as_bytes())
            .map_err(Fault::io(self.dir.join(CHECKPOINT)))
    }

    fn begin_segment(&mut self) -> Result<(), Fault> {
        let path = segment::path(&self.dir, self.number() + 1);
        self.file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(Fault::io(path))?;
        sync_names(&self.dir)?;
        self.before = self.tree.clone();
        self.length = 0;
        Ok(())
    }

    fn number(&self) -> u64 {
        self.before.size() / segment::ENTRIES
    }

    fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.number())
    }
}

/// Makes a log: an empty checkpoint, then the key file that says the log is there. Refuses where one has lost its key
/// file.
fn found(dir: &Path, handle: &File, signer: &Signer, disk: &mut dyn Disk) -> Result<(), Fault> {
    let missing = || Fault::io(dir.join(VKEY))(ErrorKind::NotFound.into());
    if segment::count(dir)? > 0 {
        return Err(missing());
    }
    match read_checkpoint(dir, signer.vkey()) {
        Ok(checkpoint) if checkpoint.size() == 0 => {}
        Err(Fault::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let empty = Checkpoint::sign(signer, 0, Frontier::default().root());
            let written = replace(disk, dir, handle, CHECKPOINT, empty.note().as_bytes());
            written.map_err(Fault::io(dir.join(CHECKPOINT)))?;
        }
        _ => return Err(missing()),
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(Fault::io(parent))?;
    }
    let line = format!("{}\n", signer.vkey());
    replace(disk, dir, handle, VKEY, line.as_bytes()).map_err(Fault::io(dir.join(VKEY)))
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

/// Reads and verifies the checkpoint.
pub(crate) fn read_checkpoint(dir: &Path, vkey: &Vkey) -> Result<Checkpoint, Fault> {
    Checkpoint::open(&read_text(&dir.join(CHECKPOINT))?, vkey).map_err(Fault::Checkpoint)
}

/// A small text file; of a larger one the first 64 KiB.
fn read_text(path: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
    read.map(|_| text).map_err(Fault::io(path))
}

/// Makes the names of the segments durable.
fn sync_names(dir: &Path) -> Result<(), Fault> {
    let records = segment::directory(dir);
    File::open(&records).and_then(|records| records.sync_all()).map_err(Fault::io(records))
}

/// Makes what the page cache holds of `file` the same as what the disk holds.
fn settle(disk: &mut dyn Disk, file: &File) -> io::Result<()> {
    disk.sync(file)?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

/// What the segments hold.
#[derive(Default)]
pub(crate) struct Scan {
    /// All entries, and those before the last segment.
    pub(crate) tree: Frontier,
    before: Frontier,
    /// Bytes of whole records in the last segment, and bytes behind them.
    length: u64,
    pub(crate) torn: u64,
}

/// Reads all segments, as far as they reach now, gives every record to `visit`, and holds them against `checkpoint`.
pub(crate) fn scan(
    dir: &Path,
    checkpoint: &Checkpoint,
    mut visit: impl FnMut(&Record<'_>) -> Result<(), Fault>,
) -> Result<Scan, Fault> {
    let (mut scan, signed, segments) = (Scan::default(), checkpoint.size(), segment::count(dir)?);
    let rewritten = |tree: &Frontier| tree.size() == signed && tree.root() != checkpoint.root();
    let mut honest = !rewritten(&scan.tree);
    for number in 0..segments {
        scan.before = scan.tree.clone();
        let mut records = Segment::open(dir, number)?;
        while let Some(record) = records.next()? {
            visit(&record)?;
            scan.tree.push(leaf_hash(&record.entry));
            honest &= !rewritten(&scan.tree);
        }
        (scan.length, scan.torn) = (records.offset(), records.rest());
        let last = number + 1 == segments;
        let cut_short = !last && !records.full();
        let acknowledged = scan.torn > 0 && (!last || records.index() < signed || records.acknowledged()?);
        if cut_short || acknowledged {
            return Err(records.damage());
        }
    }
    match scan.tree.size() {
        size if size < signed => Err(Fault::Shorter { size, signed }),
        _ if !honest => Err(Fault::Rewritten { signed }),
        _ => Ok(scan),
    }
}
