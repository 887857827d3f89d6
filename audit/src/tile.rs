//! C2SP `tlog-tiles`: the tree and the entries as files that any web server can give out and any verifier reads.
//!
//! **What it keeps**, under `tile/` of the log's directory and under the same names over HTTP:
//!
//! | path | what |
//! |---|---|
//! | `tile/L/N` | tile `N` of level `L`: 256 hashes, each over a full tile of level `L - 1`; level 0 holds leaf hashes |
//! | `tile/entries/N` | the 256 entries under tile `0/N`: each 2 bytes of length (always 32) and the entry hash |
//! | `….p/W` | the same, its first `W` of 256: the right edge of the newest checkpoints |
//!
//! `N` is written in groups of three digits, all but the last behind an `x`: 1234067 is `x001/x234/067`.
//!
//! **How an update is atomic.** A tile's name says what is in it, so it is never changed, only written again with the
//! same bytes. All tiles of a checkpoint, and their names, are made durable before the checkpoint takes the place of
//! the one before; then the partial tiles that no kept checkpoint needs are removed.
//!
//! **What a crash leaves.** Tiles no checkpoint needs yet, whole or not: they are written again. Partial tiles nobody
//! needs any more: they are removed at open. What the tiles hold follows from the records, which are the log; a tile
//! that is missing or differs is named by [`crate::verify_dir`] and written anew, with a warning, at open.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    disk::{Disk, sync_names},
    fault::Fault,
    tree::{Frontier, Hash, leaf_hash},
};

/// Hashes or entries of a full tile.
pub(crate) const WIDTH: u64 = 256;

/// The directory of the tiles in a log's.
pub(crate) const DIRECTORY: &str = "tile";

/// What a tile is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The entries themselves.
    Entries,
    /// Hashes over `256^level` leaves each.
    Hashes(u8),
}

/// The name of a tile: `Display` writes its path, `FromStr` reads it and takes no other spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tile {
    pub(crate) level: Level,
    pub(crate) number: u64,
    /// 1 to 256; below that the tile is partial.
    pub(crate) width: u64,
}

impl Tile {
    /// The bytes one hash or entry takes.
    fn unit(self) -> u64 {
        if self.level == Level::Entries { 34 } else { 32 }
    }

    /// Its length in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.unit() * self.width
    }

    /// The size from which on a tree has it.
    pub(crate) fn end(self) -> u64 {
        let level = if let Level::Hashes(level) = self.level { level } else { 0 };
        let hashes = self.number.saturating_mul(WIDTH).saturating_add(self.width);
        (0..level).fold(hashes, |hashes, _| hashes.saturating_mul(WIDTH))
    }

    fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// The directory of its partial forms.
    fn parts(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.p", self.full()))
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => write!(f, "{DIRECTORY}/entries/")?,
            Level::Hashes(level) => write!(f, "{DIRECTORY}/{level}/")?,
        }
        let digits = format!("{:03}", self.number);
        let digits = format!("{}{digits}", "0".repeat((3 - digits.len() % 3) % 3));
        let groups = digits.len() / 3;
        for (place, group) in (1..).zip(digits.as_bytes().chunks(3)) {
            let group = std::str::from_utf8(group).map_err(|_| fmt::Error)?;
            write!(f, "{}{group}{}", if place < groups { "x" } else { "" }, if place < groups { "/" } else { "" })?;
        }
        if self.width < WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Not the path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoTile;

impl FromStr for Tile {
    type Err = NoTile;

    fn from_str(path: &str) -> Result<Self, NoTile> {
        let (level, rest) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(NoTile)?;
        let level = match level {
            "entries" => Level::Entries,
            number => Level::Hashes(number.parse().ok().filter(|level| *level < 64).ok_or(NoTile)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..WIDTH).contains(w)).ok_or(NoTile)?),
            None => (rest, WIDTH),
        };
        let digits: String = number.chars().filter(|c| !matches!(c, 'x' | '/')).collect();
        let tile = Self { level, number: digits.parse().map_err(|_| NoTile)?, width };
        // One spelling each: this refuses every other one, `..` among them.
        if tile.to_string() == path { Ok(tile) } else { Err(NoTile) }
    }
}

/// Makes tiles and the tree out of entries, in order: keeps at most 255 hashes a level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiler {
    tree: Frontier,
    entries: Vec<Hash>,
    levels: Vec<Vec<Hash>>,
}

impl Tiler {
    /// What it was after the first `size` entries, out of the tiles in `dir`. It is worth what its root is held against.
    pub(crate) fn at(dir: &Path, size: u64) -> Result<Self, Fault> {
        let mut tiler = Self::default();
        for tile in partial_tiles(size) {
            let damage = || Fault::Tile { path: dir.join(tile.to_string()), offset: 0 };
            let content = read(dir, tile)?.ok_or_else(damage)?;
            match tile.level {
                Level::Entries => {
                    tiler.entries = unbundle(&content).map_err(|_| damage())?;
                    let leaves = tiler.entries.iter().map(|entry| leaf_hash(entry));
                    if !tiler.levels.first().into_iter().flatten().copied().eq(leaves) {
                        return Err(damage());
                    }
                }
                Level::Hashes(level) => {
                    tiler.levels.resize(usize::from(level), Vec::new());
                    tiler.levels.push(content.as_chunks().0.to_vec());
                }
            }
        }
        tiler.tree = Frontier::stacked(&tiler.levels);
        Ok(tiler)
    }

    /// Takes the next entry hash and gives `full` every tile it completes, with its content.
    pub(crate) fn push<E>(
        &mut self,
        entry: &Hash,
        mut full: impl FnMut(Tile, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let leaf = leaf_hash(entry);
        let (levels, mut level) = (&mut self.levels, 0);
        add(levels, level, leaf);
        // What hashes a tile of 256 is a node of height 8, and so on up.
        self.tree.push_each(leaf, |height, node| {
            if height % 8 == 0 {
                level += 1;
                add(levels, level, *node);
            }
        });
        self.entries.push(*entry);
        if self.entries.len() as u64 == WIDTH {
            let number = self.tree.size() / WIDTH - 1;
            full(Tile { level: Level::Entries, number, width: WIDTH }, bundle(&self.entries))?;
            self.entries.clear();
        }
        let mut number = self.tree.size();
        for (level, hashes) in (0..).zip(&mut self.levels).take_while(|(_, hashes)| hashes.len() as u64 == WIDTH) {
            number /= WIDTH;
            full(Tile { level: Level::Hashes(level), number: number - 1, width: WIDTH }, hashes.concat())?;
            hashes.clear();
        }
        Ok(())
    }

    /// The tree of what was pushed.
    pub(crate) fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The partial tiles of the right edge, with their contents.
    pub(crate) fn partial(&self) -> Vec<(Tile, Vec<u8>)> {
        let content = |tile: Tile| match tile.level {
            Level::Entries => bundle(&self.entries),
            Level::Hashes(level) => {
                self.levels.get(usize::from(level)).map(|hashes| hashes.concat()).unwrap_or_default()
            }
        };
        partial_tiles(self.tree.size()).into_iter().map(|tile| (tile, content(tile))).collect()
    }
}

fn add(levels: &mut Vec<Vec<Hash>>, level: usize, hash: Hash) {
    match levels.get_mut(level) {
        Some(hashes) => hashes.push(hash),
        None => levels.push(vec![hash]),
    }
}

fn bundle(entries: &[Hash]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [0_u8, 32].into_iter().chain(*entry)).collect()
}

/// The entries of a bundle; of one that is out of form, where.
pub(crate) fn unbundle(content: &[u8]) -> Result<Vec<Hash>, u64> {
    let (entries, _) = content.as_chunks::<34>();
    let offset = entries.iter().take_while(|entry| entry.starts_with(&[0, 32])).count() as u64 * 34;
    if offset != content.len() as u64 {
        return Err(offset);
    }
    Ok(entries.iter().filter_map(|entry| entry.last_chunk().copied()).collect())
}

/// The partial tiles a tree of `size` leaves has.
pub(crate) fn partial_tiles(size: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let (mut level, mut hashes) = (0, size);
    while hashes > 0 {
        let (number, width) = (hashes / WIDTH, hashes % WIDTH);
        if width > 0 {
            tiles.push(Tile { level: Level::Hashes(level), number, width });
            if level == 0 {
                tiles.push(Tile { level: Level::Entries, number, width });
            }
        }
        (level, hashes) = (level + 1, number);
    }
    tiles
}

/// Writes tiles under `dir`: durable, names included, when this returns.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, tiles: &[(Tile, Vec<u8>)]) -> Result<(), Fault> {
    let (mut files, mut names) = (Vec::new(), BTreeSet::new());
    for (tile, content) in tiles {
        let path = dir.join(tile.to_string());
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(dir));
        names.extend(above.map(Path::to_owned));
        // Never emptied first: a checkpoint may stand on a tile that is written again.
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| open());
        let written = |file: File| {
            disk.write(&file, content, 0)?;
            file.set_len(content.len() as u64)?;
            Ok(file)
        };
        let file = file.and_then(written).map_err(Fault::io(&path))?;
        files.push((path, file));
    }
    // All written before the first sync: one commit of the filesystem's journal then serves them all.
    files.iter().try_for_each(|(path, file)| disk.sync(file).map_err(Fault::io(path)))?;
    names.iter().try_for_each(|names| sync_names(names).map_err(Fault::io(names)))
}

/// Removes the partial tiles at the right edge of a tree of `size` leaves that none of `kept` sizes has.
pub(crate) fn prune(dir: &Path, size: u64, kept: &[u64]) {
    let kept: BTreeSet<_> = kept.iter().flat_map(|size| partial_tiles(*size)).collect();
    for tile in partial_tiles(size) {
        let parts = tile.parts(dir);
        for width in widths(&parts).unwrap_or_default() {
            if !kept.contains(&Tile { width, ..tile }) {
                // Left behind it is in nobody's way.
                let _ = fs::remove_file(parts.join(width.to_string()));
            }
        }
        let _ = fs::remove_dir(parts);
    }
}

fn widths(parts: &Path) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(parts)?.flatten();
    Ok(names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect())
}

/// A tile's content; a partial one is also cut from a wider one. `None` when there is none, or it has not its length.
pub(crate) fn read(dir: &Path, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
    let wider = widths(&tile.parts(dir)).unwrap_or_default();
    let wider = wider.into_iter().filter(|width| *width > tile.width && *width < WIDTH);
    let forms = [tile, tile.full()].into_iter().chain(wider.map(|width| Tile { width, ..tile }));
    for form in forms {
        let path = dir.join(form.to_string());
        match fs::read(&path) {
            Ok(mut content) if content.len() as u64 == form.bytes() => {
                content.truncate(usize::try_from(tile.bytes()).unwrap_or_default());
                return Ok(Some(content));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Fault::io(path)(error)),
        }
    }
    Ok(None)
}

/// Holds the tile under `dir` against `content`.
pub(crate) fn check(dir: &Path, tile: Tile, content: &[u8]) -> Result<(), Fault> {
    let path = dir.join(tile.to_string());
    let found = fs::read(&path).map_err(Fault::io(&path))?;
    if found == content {
        return Ok(());
    }
    let offset = found.iter().zip(content).take_while(|(found, wanted)| found == wanted).count();
    Err(Fault::Tile { path, offset: offset as u64 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::failing_disk::{Fails, Faulty};

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |level, number, width| Tile { level, number, width }.to_string();
        assert_eq!(tile(Level::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile(Level::Entries, 0, 112), "tile/entries/000.p/112");
        assert_eq!(tile(Level::Hashes(63), 1000, 256), "tile/63/x001/000");
        for wrong in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/64/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/../0",
            "tile/0/x001/x234/067/",
            "tile/a/000",
            "/tile/0/000",
            "tile/0/x001",
            "tile/0/+00",
            "tile/8/0/000",
        ] {
            assert_eq!(wrong.parse::<Tile>(), Err(NoTile), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_path_reads_back(level in 0_u8..64, entries: bool, number: u64, width in 1_u64..=256) {
            let tile = Tile { level: if entries { Level::Entries } else { Level::Hashes(level) }, number, width };
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn any_text_is_parsed_without_panic(path in "(tile/)?[0-9a-z/.xp]{0,20}") {
            if let Ok(tile) = path.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }

    #[test]
    fn a_tile_written_again_is_never_without_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let tile = Tile { level: Level::Hashes(0), number: 0, width: 3 };
        let (disk, tiles) = (Faulty::default(), [(tile, vec![7; 96])]);
        write(&disk, dir.path(), &tiles).unwrap();
        disk.set(Fails::Write);
        assert!(write(&disk, dir.path(), &tiles).is_err());
        check(dir.path(), tile, &tiles[0].1).unwrap();
        // What was there before and is longer goes.
        fs::write(dir.path().join(tile.to_string()), [9; 100]).unwrap();
        disk.set(Fails::Nothing);
        write(&disk, dir.path(), &tiles).unwrap();
        check(dir.path(), tile, &tiles[0].1).unwrap();
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_of_the_specification() {
        let (mut tiler, mut full) = (Tiler::default(), Vec::new());
        for index in 0..70_000_u32 {
            let mut entry = [0; 32];
            entry[..4].copy_from_slice(&index.to_be_bytes());
            tiler
                .push(&entry, |tile, content| {
                    assert_eq!(content.len() as u64, tile.bytes());
                    full.push(tile);
                    Ok::<_, Fault>(())
                })
                .unwrap();
        }
        let count = |level| full.iter().filter(|tile| tile.level == level).count();
        assert_eq!((count(Level::Hashes(0)), count(Level::Hashes(1)), count(Level::Entries)), (273, 1, 273));
        let partial: Vec<_> = tiler.partial().iter().map(|(tile, _)| tile.to_string()).collect();
        assert_eq!(partial, ["tile/0/273.p/112", "tile/entries/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert!(tiler.partial().iter().all(|(tile, content)| content.len() as u64 == tile.bytes()));
    }
}
