//! Roots and proofs out of a directory's tiles, and the files others fetch.

use std::{fs, ops::Range, path::Path};

use crate::{
    fault::Fault,
    log::Log,
    note::Checkpoint,
    tile::{self, Level, Tile, Tiler, WIDTH},
    tree::{self, Hash},
};

/// A file of the log as others fetch it (C2SP `tlog-tiles`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The whole body.
    pub content: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// Whether it never changes, and may be cached for good.
    pub immutable: bool,
}

impl Log {
    /// What a GET of `path`, relative to the log's URL prefix and without a leading slash, gives: `checkpoint`,
    /// `tile/L/N[.p/W]` or `tile/entries/N[.p/W]`. `None` is a 404. Blocks for a file of at most 8.5 KiB.
    ///
    /// # Errors
    /// [`Fault::Io`].
    pub fn resource(&self, path: &str) -> Result<Option<Resource>, Fault> {
        if path == "checkpoint" {
            let content = self.published_checkpoint().note().as_bytes().to_vec();
            return Ok(Some(Resource { content, media_type: "text/plain; charset=utf-8", immutable: false }));
        }
        let Ok(tile) = path.parse::<Tile>() else { return Ok(None) };
        // What no checkpoint signs yet may be written again.
        if tile.end() > self.newest_checkpoint().size() {
            return Ok(None);
        }
        let resource = |content| Resource { content, media_type: "application/octet-stream", immutable: true };
        Ok(tile::read(self.dir(), tile)?.map(resource))
    }

    /// The proof that entry `index` is in the tree of `size` entries (RFC 6962 §2.1.1), lowest first;
    /// [`tree::verify_inclusion`] checks it. `None` when there is no such entry, or `size` is more than the newest
    /// checkpoint signs. Blocks.
    ///
    /// # Errors
    /// [`Fault::Io`], or [`Fault::Tile`] when a tile is missing.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Hash>>, Fault> {
        self.prove(size, tree::inclusion_path(index, size))
    }

    /// The proof that the tree of `old` entries is the beginning of that of `new` (RFC 6962 §2.1.2), lowest first;
    /// [`tree::verify_consistency`] checks it. `None` when `old` is more than `new`, or `new` more than the newest
    /// checkpoint signs. Blocks.
    ///
    /// # Errors
    /// As [`Self::prove_inclusion`].
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, Fault> {
        self.prove(new, tree::consistency_path(old, new))
    }

    fn prove(&self, size: u64, path: Option<Vec<Range<u64>>>) -> Result<Option<Vec<Hash>>, Fault> {
        let Some(path) = path.filter(|_| size <= self.newest_checkpoint().size()) else { return Ok(None) };
        path.into_iter().map(|range| range_root(self.dir(), range)).collect::<Result<_, _>>().map(Some)
    }
}

/// The root of the tree of `size` entries, out of the tiles in `dir`.
pub(crate) fn root(dir: &Path, size: u64) -> Result<Hash, Fault> {
    if size == 0 { Ok(tree::sha256(b"")) } else { range_root(dir, 0..size) }
}

/// Whether the tiles in `dir` show that the tree of `old` is the beginning of that of `new` (RFC 6962 §2.1.2).
fn grown(dir: &Path, old: &Checkpoint, new: &Checkpoint) -> bool {
    let Some(path) = tree::consistency_path(old.size(), new.size()) else { return false };
    let proof: Option<Vec<Hash>> = path.into_iter().map(|range| range_root(dir, range).ok()).collect();
    proof.is_some_and(|proof| tree::verify_consistency(old.size(), &old.root(), new.size(), &new.root(), &proof))
}

/// Where checking the log in `dir` may begin: behind the newest of the checkpoints `known`, which others kept, if the tiles
/// have its very tree, and it grew from those of `signed` that are older. Else at the beginning: what is wrong is found on
/// the way.
pub(crate) fn begin(dir: &Path, known: &[Checkpoint], signed: &[&Checkpoint], size: u64) -> Tiler {
    let newest = known.iter().filter(|known| known.size() <= size).max_by_key(|known| known.size());
    let Some(newest) = newest else { return Tiler::default() };
    let older = signed.iter().filter(|older| older.size() <= newest.size());
    let tiler = Tiler::at(dir, newest.size()).ok().filter(|tiler| tiler.tree().root() == newest.root());
    tiler.filter(|_| older.into_iter().all(|older| grown(dir, older, newest))).unwrap_or_default()
}

/// The root over a range of leaves that RFC 6962 has a subtree for.
fn range_root(dir: &Path, Range { start, end }: Range<u64>) -> Result<Hash, Fault> {
    let leaves = end - start;
    if !leaves.is_power_of_two() {
        let middle = tree::middle(start, end);
        return Ok(tree::node_hash(&range_root(dir, start..middle)?, &range_root(dir, middle..end)?));
    }
    let height = leaves.ilog2();
    let (level, count) = (height / 8, 1 << (height % 8));
    let first = start >> (8 * level);
    let tile = Tile {
        level: Level::Hashes(u8::try_from(level).unwrap_or_default()),
        number: first / WIDTH,
        width: first % WIDTH + count,
    };
    let missing = || Fault::Tile { path: dir.join(tile.to_string()), offset: 0 };
    let content = tile::read(dir, tile)?.ok_or_else(missing)?;
    let (hashes, _) = content.as_chunks::<32>();
    let skipped = usize::try_from(first % WIDTH).unwrap_or_default();
    Ok(tree::root(hashes.get(skipped..).ok_or_else(missing)?))
}

/// Copies the tiles of a tree of `size` entries from `dir` into `into`, right edge included.
pub(crate) fn copy_tiles(dir: &Path, into: &Path, size: u64) -> Result<(), Fault> {
    let copy = |tile: Tile| {
        let (from, to) = (dir.join(tile.to_string()), into.join(tile.to_string()));
        let content = tile::read(dir, tile)?.ok_or(Fault::Tile { path: from, offset: 0 })?;
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&to, content)).map_err(Fault::io(&to))
    };
    let (mut level, mut hashes) = (0, size);
    while hashes > 0 {
        for number in 0..hashes / WIDTH {
            copy(Tile { level: Level::Hashes(level), number, width: WIDTH })?;
            if level == 0 {
                copy(Tile { level: Level::Entries, number, width: WIDTH })?;
            }
        }
        (level, hashes) = (level + 1, hashes / WIDTH);
    }
    tile::partial_tiles(size).into_iter().try_for_each(copy)
}
