//! Checking a log directory without its owner: an auditor's machine, an export, or a log that is being written.

use std::path::Path;

use crate::{
    entry::Sealer,
    fault::Fault,
    index::{self, Rows},
    note::{Checkpoint, Vkey},
    proof,
    record::Record,
    segment,
    store::{CHECKPOINT, COSIGNED, Visit, Vouched, read_checkpoint, read_text, read_vkey, read_vouched, scan_from},
    tile::{self, Tile, Tiler},
    tree::Hash,
};

/// What a directory is held against besides itself: what it says of itself anybody could have made up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against<'a> {
    /// The key the log must be of; without it the directory's own is believed.
    pub log: Option<&'a Vkey>,
    /// The witnesses whose cosignatures count, one of whom at least must have given one if there are any; without them
    /// the keys in the directory's own `witnesses` are believed.
    pub witnesses: Option<&'a [Vkey]>,
    /// Checkpoints of this log that others kept: it must have grown from each, and what they sign is not read again.
    pub known: &'a [Checkpoint],
}

/// What a log directory holds, once verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log's public key; its name is the origin.
    pub vkey: Vkey,
    /// Whole entries.
    pub entries: u64,
    /// How many of them were read: those behind the newest checkpoint of [`Against::known`] whose tree the tiles have, all
    /// without one.
    pub read: u64,
    /// The root over all of them (RFC 6962 §2.1).
    pub root: Hash,
    /// How many of them the checkpoint signs. The rest, `entries - signed`, is not yet under a checkpoint: nobody
    /// vouches for it but this directory.
    pub signed: u64,
    /// Entries read whose payload opened and hashed to the entry; 0 when no payload key was given.
    pub payloads_opened: u64,
    /// Entries read whose payload is erased.
    pub payloads_erased: u64,
    /// The size of the newest checkpoint with cosignatures, 0 without one.
    pub cosigned: u64,
    /// Who cosigned it, and when, in seconds since 1970: by the keys in [`Against::witnesses`], else by the directory's
    /// own.
    pub witnesses: Vec<(Vkey, u64)>,
    /// Bytes behind the last whole record: an append in progress, or torn by a crash.
    pub torn_tail_bytes: u64,
}

/// Verifies the log in `dir`: its key file (which must be `pinned`, if given: without that the directory vouches for
/// itself), the signatures of its checkpoints, every cosignature, every record's place and check, the roots over the
/// signed entries, every tile that belongs to a checkpoint, and the search index; with `payload_key` (32 bytes) also
/// that every payload is the one its entry hash says, and that the index is of these payloads. `progress` is told the
/// entries done, now and then.
///
/// Needs no lock: of a log being written it sees what is on the disk. (While payloads are being erased it may name a
/// record of the segment that is just rewritten; the next run does not.) Reads once, front to back; memory does not
/// grow with the log. What it cannot see is a log rewritten by the holder of its signing key: hold the log against a
/// checkpoint somebody else kept, or against keys of witnesses one trusts, with [`verify_against`].
///
/// # Errors
/// The first [`Fault`] found.
pub fn verify_dir(
    dir: &Path,
    pinned: Option<&Vkey>,
    payload_key: Option<&[u8; 32]>,
    progress: impl FnMut(u64),
) -> Result<Report, Fault> {
    verify_against(dir, Against { log: pinned, ..Against::default() }, payload_key, progress)
}

/// [`verify_dir`], also against what others keep and know. The tree of the newest checkpoint that others kept is taken from
/// the tiles, which have no other tree under that root; read are the records behind it.
///
/// # Errors
/// The first [`Fault`] found: [`Fault::Shorter`] and [`Fault::Rewritten`] also when a known checkpoint is not of this log
/// as it is now.
pub fn verify_against(
    dir: &Path,
    against: Against<'_>,
    payload_key: Option<&[u8; 32]>,
    mut progress: impl FnMut(u64),
) -> Result<Report, Fault> {
    let vkey = read_vkey(dir, against.log)?;
    let sealer = payload_key.map(|key| Sealer::new(vkey.name(), key)).transpose().map_err(Fault::io("payload key"))?;
    // Before the records: what it signs was on the disk when it was written, so it cannot be ahead of them.
    let Vouched { cosigned, witnesses } = read_vouched(dir, &vkey, against.witnesses)?;
    let checkpoint = read_checkpoint(dir, CHECKPOINT, &vkey)?;
    let signed: Vec<_> = [Some(&checkpoint), cosigned.as_ref()].into_iter().flatten().chain(against.known).collect();
    let newest = cosigned.as_ref().map(|cosigned| (cosigned, COSIGNED));
    let edges = newest.into_iter().chain([(&checkpoint, CHECKPOINT)]).collect();
    let mut visitor =
        Visitor { dir, sealer, edges, rows: Rows::default(), opened: 0, erased: 0, progress: &mut progress };
    let begin = proof::begin(dir, against.known, &signed, checkpoint.size());
    let before = begin.tree().size();
    let scanned = scan_from(dir, begin, &signed, &mut visitor)?;
    let (opened, erased, tree) = (visitor.opened, visitor.erased, scanned.tiler.tree());
    progress(tree.size());
    Ok(Report {
        entries: tree.size(),
        read: tree.size() - before,
        root: tree.root(),
        signed: checkpoint.size(),
        payloads_opened: opened,
        payloads_erased: erased,
        cosigned: cosigned.as_ref().map_or(0, Checkpoint::size),
        witnesses,
        torn_tail_bytes: scanned.torn,
        vkey,
    })
}

/// How many entries the checkpoint of the log or export in `dir` signs, unverified: what there is to verify.
///
/// # Errors
/// [`Fault::Io`], [`Fault::Key`] or [`Fault::Checkpoint`].
pub fn signed_size(dir: &Path) -> Result<u64, Fault> {
    Ok(read_checkpoint(dir, CHECKPOINT, &read_vkey(dir, None)?)?.size())
}

/// What follows from the records, held against what the directory keeps of it.
struct Visitor<'a> {
    dir: &'a Path,
    sealer: Option<Sealer>,
    /// The checkpoints and their files.
    edges: Vec<(&'a Checkpoint, &'static str)>,
    rows: Rows,
    opened: u64,
    erased: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Visit for Visitor<'_> {
    fn record(&mut self, record: &Record<'_>, place: u64, tiler: &Tiler) -> Result<(), Fault> {
        if record.index.is_multiple_of(segment::ENTRIES) {
            (self.progress)(record.index);
        }
        self.erased += u64::from(record.sealed.is_empty());
        if let Some(sealer) = &self.sealer {
            let payload = sealer.open(record.index, &record.entry, record.sealed)?;
            self.opened += u64::from(payload.is_some());
            self.rows.push(place, payload.as_ref());
        }
        let size = record.index + 1;
        if size.is_multiple_of(segment::ENTRIES) {
            let rows = std::mem::take(&mut self.rows);
            // Of a segment that was not read from its beginning there are not all rows.
            let with_key = self.sealer.as_ref().filter(|_| rows.whole()).map(|sealer| (&rows, sealer));
            index::check(self.dir, record.index / segment::ENTRIES, with_key)?;
        }
        let mut edges = self.edges.iter().filter(|(edge, _)| edge.size() == size);
        edges.try_for_each(|(edge, file)| self.edge(edge, file, tiler))
    }

    fn tile(&mut self, tile: Tile, content: Vec<u8>) -> Result<(), Fault> {
        let signed = self.edges.iter().any(|(checkpoint, _)| checkpoint.size() >= tile.end());
        if signed { tile::check(self.dir, tile, &content) } else { Ok(()) }
    }
}

impl Visitor<'_> {
    /// The partial tiles of a checkpoint; of a log being written they go when the next takes its place.
    fn edge(&self, checkpoint: &Checkpoint, file: &str, tiler: &Tiler) -> Result<(), Fault> {
        let tiles = tiler.partial();
        let checked = tiles.iter().try_for_each(|(tile, content)| tile::check(self.dir, *tile, content));
        let current = read_text(&self.dir.join(file))? == checkpoint.note();
        if current { checked } else { Ok(()) }
    }
}
