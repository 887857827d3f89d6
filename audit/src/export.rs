//! What an auditor is given: entries in clear, and everything that proves them, in one directory that needs no node and
//! no key to be read.
//!
//! | file | what |
//! |---|---|
//! | `vkey`, `checkpoint`, `cosigned`, `witnesses`, `tile/…` | as in the log's own directory, the tiles of the whole tree of `checkpoint`, right edge included |
//! | `entries.jsonl` | the entries asked for, in order, one a line: `{"index":7,"payload":{…},"salt":"…"}`, the salt 32 bytes in base64 |
//! | `catalogue` | what the log's program said of each event besides its entries — number, name, activity, retention, visibility, a line each —, a signed note of the log's key |
//! | `export` | what was given, a signed note of the log's key |
//!
//! ```text
//! ogniwo audit export 1
//! lodz.example/mops                        origin
//! 1234                                     entries of the tree
//! kjZ2…=                                   its root
//! 1795262400                               when, seconds since 1970
//! 12                                       lines of entries.jsonl
//! 9f86d0…                                  SHA-256 of entries.jsonl, hexadecimal
//!
//! — lodz.example/mops x08g…=
//! ```
//!
//! `export` is written last. An entry is proved by its place in `tile/entries`, these by the tiles, these by the root.
//! Payloads that are erased, or were not asked for, are not there; their entry hashes are.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    catalogue::{self, SCHEMA},
    disk::sync_names,
    entry::canonical_json,
    fault::Fault,
    log::Log,
    note::{Checkpoint, Vkey},
    proof,
    search::Filter,
    store::{CHECKPOINT, COSIGNED, VKEY, Vouched, WITNESSES, read_checkpoint, read_text, read_vkey, read_vouched},
    tile::{self, Level, Tile, Tiler, WIDTH},
    tree::{Frontier, Hash, sha256},
    verify::Against,
};

const TITLE: &str = "ogniwo audit export 1";
const NOTE: &str = "export";
const CATALOGUE: &str = "catalogue";
const ENTRIES: &str = "entries.jsonl";
/// Entries taken from the log at a time.
const PAGE: usize = 256;
/// The longest line: a payload may be escaped.
const MAX_LINE: u64 = 1 << 20;

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The log's public key; its name is the origin.
    pub vkey: Vkey,
    /// Entries of the tree.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Entry hashes read: those behind the newest checkpoint of [`Against::known`] whose tree the tiles have, where none is
    /// given in clear that stands before it; else all.
    pub read: u64,
    /// Entries given in clear.
    pub entries: u64,
    /// When it was made, in seconds since 1970, by the log's clock.
    pub exported_at: i64,
    /// The size of the cosigned checkpoint, 0 without one.
    pub cosigned: u64,
    /// Who cosigned it, and when, in seconds since 1970: by the keys in [`Against::witnesses`], else by the export's own.
    pub witnesses: Vec<(Vkey, u64)>,
}

impl Exported {
    fn note(&self, digest: &[u8]) -> String {
        let Self { vkey, size, root, entries, exported_at, .. } = self;
        let (root, digest) = (BASE64.encode(root), HEXLOWER.encode(digest));
        format!("{TITLE}\n{}\n{size}\n{root}\n{exported_at}\n{entries}\n{digest}\n", vkey.name())
    }
}

/// Exports the entries that `filter` looks for into the directory `into`, which is made and must not be there. `now` is
/// in seconds since 1970. The caller records the export in the log first. Blocks.
///
/// # Errors
/// A [`Fault`]; then `into` is to be thrown away: without `export` it does not verify.
pub fn export(log: &Log, into: &Path, filter: &Filter, now: i64) -> Result<Exported, Fault> {
    fs::create_dir(into).map_err(Fault::io(into))?;
    let checkpoint = log.checkpoint_blocking().map_err(|error| Fault::io(log.dir())(io::Error::other(error)))?;
    let written = |name: &str, text: &str| fs::write(into.join(name), text).map_err(Fault::io(into.join(name)));
    written(VKEY, &format!("{}\n", log.vkey()))?;
    written(CHECKPOINT, checkpoint.note())?;
    for name in [COSIGNED, WITNESSES] {
        if log.dir().join(name).exists() {
            written(name, &read_text(&log.dir().join(name))?)?;
        }
    }
    proof::copy_tiles(log.dir(), into, checkpoint.size())?;
    let (entries, digest) = write_entries(log, &into.join(ENTRIES), filter, checkpoint.size())?;
    let Vouched { cosigned, witnesses } = read_vouched(into, log.vkey(), None)?;
    let exported = Exported {
        vkey: log.vkey().clone(),
        size: checkpoint.size(),
        root: checkpoint.root(),
        read: checkpoint.size(),
        entries,
        exported_at: now,
        cosigned: cosigned.as_ref().map_or(0, Checkpoint::size),
        witnesses,
    };
    let catalogue = format!("ogniwo audit catalogue {SCHEMA}\n{}\n{}", log.vkey().name(), catalogue::table());
    written(CATALOGUE, &log.sign(&catalogue))?;
    written(NOTE, &log.sign(&exported.note(&digest)))?;
    sync_names(into).map_err(Fault::io(into))?;
    Ok(exported)
}

/// Writes the entries below `size`; how many, and the file's SHA-256.
fn write_entries(log: &Log, path: &Path, filter: &Filter, size: u64) -> Result<(u64, Vec<u8>), Fault> {
    let mut file = BufWriter::new(File::create(path).map_err(Fault::io(path))?);
    let (mut context, mut entries, mut next) = (Context::new(&SHA256), 0, Some(0));
    while let Some(at) = next.filter(|at| *at < size) {
        let (found, more) = log.find(filter, at, PAGE)?;
        for found in found.into_iter().filter(|found| found.index < size) {
            let salt = BASE64.encode(found.opened.salt());
            let front = format!("{{\"index\":{},\"payload\":", found.index);
            let line = [front.as_bytes(), found.opened.json(), format!(",\"salt\":\"{salt}\"}}\n").as_bytes()].concat();
            context.update(&line);
            file.write_all(&line).map_err(Fault::io(path))?;
            entries += 1;
        }
        next = more;
    }
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .map_err(Fault::io(path))?;
    Ok((entries, context.finish().as_ref().to_vec()))
}

/// Verifies an export: its key, all signatures and cosignatures, every tile, the root of the tree, what it is held
/// `against`, and that every entry in clear is the one in its place. `each` is given index and payload of every entry so verified; what it does
/// with them counts only once this has returned. `progress` is told the entries of the tree done. Reads once; memory
/// does not grow with the log.
///
/// # Errors
/// The first [`Fault`] found.
pub fn verify_export(
    dir: &Path,
    against: Against<'_>,
    mut each: impl FnMut(u64, Value),
    mut progress: impl FnMut(u64),
) -> Result<Exported, Fault> {
    let vkey = read_vkey(dir, against.log)?;
    let checkpoint = read_checkpoint(dir, CHECKPOINT, &vkey)?;
    let Vouched { cosigned, witnesses } = read_vouched(dir, &vkey, against.witnesses)?;
    let signed: Vec<_> = [Some(&checkpoint), cosigned.as_ref()].into_iter().flatten().chain(against.known).collect();
    let size = checkpoint.size();
    if let Some(larger) = signed.iter().find(|larger| larger.size() > size) {
        return Err(Fault::Shorter { size, signed: larger.size() });
    }
    let mut lines = Lines::open(dir)?;
    let mut tiler = proof::begin(dir, against.known, &signed, size);
    if lines.next.as_ref().is_some_and(|line| line.index < tiler.tree().size()) {
        tiler = Tiler::default();
    }
    let begun = tiler.tree().size();
    let hold = |tree: &Frontier| {
        let mut here = signed.iter().filter(|checkpoint| checkpoint.size() == tree.size());
        let rewritten = here.any(|checkpoint| checkpoint.root() != tree.root());
        if rewritten { Err(Fault::Rewritten { signed: tree.size() }) } else { Ok(()) }
    };
    hold(tiler.tree())?;
    for number in begun / WIDTH..size.div_ceil(WIDTH) {
        let bundle = Tile { level: Level::Entries, number, width: WIDTH.min(size - number * WIDTH) };
        let read = usize::try_from(begun.saturating_sub(number * WIDTH)).unwrap_or(usize::MAX);
        for entry in entries_of(dir, bundle)?.into_iter().skip(read) {
            let index = tiler.tree().size();
            if let Some(payload) = lines.at(index, &entry)? {
                each(index, payload);
            }
            tiler.push(&entry, |name, content| tile::check(dir, name, &content))?;
            hold(tiler.tree())?;
        }
        progress(tiler.tree().size());
    }
    tiler.partial().iter().try_for_each(|(name, content)| tile::check(dir, *name, content))?;
    let cosigned = cosigned.as_ref().map_or(0, Checkpoint::size);
    let (root, read) = (tiler.tree().root(), size - begun);
    lines.finish(Exported { vkey, size, root, read, entries: 0, exported_at: 0, cosigned, witnesses }, dir)
}

/// The entry hashes in a bundle.
fn entries_of(dir: &Path, bundle: Tile) -> Result<Vec<Hash>, Fault> {
    let path = dir.join(bundle.to_string());
    let content = fs::read(&path).map_err(Fault::io(&path))?;
    let entries = tile::unbundle(&content).map_err(|offset| Fault::Tile { path: path.clone(), offset })?;
    let offset = content.len() as u64;
    if offset == bundle.bytes() { Ok(entries) } else { Err(Fault::Tile { path, offset }) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    payload: Value,
    salt: String,
}

/// `entries.jsonl`, read along with the tree.
struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    context: Context,
    next: Option<Line>,
    read: u64,
}

impl Lines {
    fn open(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(ENTRIES);
        let input = BufReader::new(File::open(&path).map_err(Fault::io(&path))?);
        let mut lines = Self { path, input, context: Context::new(&SHA256), next: None, read: 0 };
        lines.advance()?;
        Ok(lines)
    }

    fn damage(&self, problem: &'static str) -> Fault {
        Fault::Export { path: self.path.clone(), problem }
    }

    fn advance(&mut self) -> Result<(), Fault> {
        let mut line = Vec::new();
        self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(Fault::io(&self.path))?;
        self.context.update(&line);
        self.next = match line.as_slice() {
            [] => None,
            line => Some(serde_json::from_slice(line).map_err(|_| self.damage("a line is out of form"))?),
        };
        self.read += u64::from(self.next.is_some());
        Ok(())
    }

    /// The payload of entry `index`, whose hash is `entry`, if the export has it.
    fn at(&mut self, index: u64, entry: &Hash) -> Result<Option<Value>, Fault> {
        let Some(Line { payload, salt, .. }) = self.next.take_if(|line| line.index == index) else { return Ok(None) };
        let salt = BASE64.decode(salt.as_bytes()).ok().filter(|salt| salt.len() == crate::entry::SALT);
        let json = canonical_json(&payload).ok();
        let whole = salt.zip(json).is_some_and(|(salt, json)| sha256(&[salt, json].concat()) == *entry);
        if !whole {
            return Err(Fault::Payload { index });
        }
        self.advance()?;
        Ok(Some(payload))
    }

    /// Holds what was read against what the log signed of the export.
    fn finish(self, exported: Exported, dir: &Path) -> Result<Exported, Fault> {
        if self.next.is_some() {
            return Err(self.damage("a line is out of order, or of no entry"));
        }
        let path = dir.join(CATALOGUE);
        if exported.vkey.open(&read_text(&path)?).is_err() {
            return Err(Fault::Export { path, problem: "is not signed by the log" });
        }
        let path = dir.join(NOTE);
        let refuse = |problem| Fault::Export { path: path.clone(), problem };
        let note = read_text(&path)?;
        let text = exported.vkey.open(&note).map_err(|_| refuse("is not signed by the log"))?;
        let exported_at = text.split('\n').nth(4).and_then(|time| time.parse().ok());
        let exported_at = exported_at.ok_or_else(|| refuse("is no description of an export"))?;
        let exported = Exported { entries: self.read, exported_at, ..exported };
        if exported.note(self.context.finish().as_ref()) == text {
            Ok(exported)
        } else {
            Err(refuse("describes another tree or other entries"))
        }
    }
}
