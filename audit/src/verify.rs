//! Checking a log directory without its owner: an auditor's machine, an export, or a log that is being written.

use std::path::Path;

use crate::{
    entry::Sealer,
    fault::Fault,
    note::Vkey,
    segment,
    store::{read_checkpoint, read_vkey, scan},
    tree::{Frontier, Hash},
};

/// What a log directory holds, once verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log's public key; its name is the origin.
    pub vkey: Vkey,
    /// Whole entries.
    pub entries: u64,
    /// The root over all of them (RFC 6962 §2.1).
    pub root: Hash,
    /// How many of them the checkpoint signs. The rest, `entries - signed`, is not yet under a checkpoint: nobody
    /// vouches for it but this directory.
    pub signed: u64,
    /// Entries whose payload opened and hashed to the entry; 0 when no payload key was given.
    pub payloads_opened: u64,
    /// Entries whose payload is erased.
    pub payloads_erased: u64,
    /// Bytes behind the last whole record: an append in progress, or torn by a crash.
    pub torn_tail_bytes: u64,
}

/// Verifies the log in `dir`: its key file (which must be `pinned`, if given: without that the directory vouches for
/// itself), the checkpoint's signature, every record's place and check, and the root over the signed entries; with
/// `payload_key` (32 bytes) also that every payload is the one its entry hash says. `progress` is told the entries
/// done, now and then.
///
/// Needs no lock: of a log being written it sees what is on the disk. Reads once, front to back; memory does not grow
/// with the log. What it cannot see is a log rewritten by the holder of its signing key: compare the report's root
/// with a checkpoint somebody else kept.
///
/// # Errors
/// The first [`Fault`] found.
pub fn verify_dir(
    dir: &Path,
    pinned: Option<&Vkey>,
    payload_key: Option<&[u8; 32]>,
    mut progress: impl FnMut(u64),
) -> Result<Report, Fault> {
    let vkey = read_vkey(dir, pinned)?;
    let sealer = payload_key.map(|key| Sealer::new(vkey.name(), key)).transpose().map_err(Fault::io("payload key"))?;
    // Before the records: what it signs was on the disk when it was written, so it cannot be ahead of them.
    let checkpoint = read_checkpoint(dir, &vkey)?;
    let (mut payloads_opened, mut payloads_erased) = (0, 0);
    let scanned = scan(dir, &checkpoint, |record| {
        if record.sealed.is_empty() {
            payloads_erased += 1;
        } else if let Some(sealer) = &sealer {
            sealer.open(record.index, &record.entry, record.sealed)?;
            payloads_opened += 1;
        }
        if record.index.is_multiple_of(segment::ENTRIES) {
            progress(record.index);
        }
        Ok(())
    })?;
    let tree: &Frontier = &scanned.tree;
    progress(tree.size());
    Ok(Report {
        vkey,
        entries: tree.size(),
        root: tree.root(),
        signed: checkpoint.size(),
        payloads_opened,
        payloads_erased,
        torn_tail_bytes: scanned.torn,
    })
}
