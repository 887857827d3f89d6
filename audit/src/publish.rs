//! What a log makes public of itself: tiles and a signed checkpoint over all that is acknowledged, and the checkpoint
//! its witnesses cosigned.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    commit::lock,
    disk::{Disk, replace},
    fault::Fault,
    note::{Checkpoint, Signer, Vkey},
    store::{CHECKPOINT, COSIGNED, Store, WITNESSES, read_witnesses},
    tile::{self, Tile, Tiler},
    tree::Hash,
};

pub(crate) struct Publisher {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    signer: Signer,
    tiler: Tiler,
    /// Entries behind those in `tiler`.
    backlog: Vec<Hash>,
    checkpoint: Checkpoint,
    cosigned: Option<Checkpoint>,
    now: Box<dyn Fn() -> i64 + Send>,
    /// The second in which the checkpoint was signed.
    signed_at: i64,
}

impl Publisher {
    /// Takes over what [`Store::open`] found; `tiler` holds every entry there is.
    pub(crate) fn new(
        dir: &Path,
        disk: Arc<dyn Disk>,
        signer: Signer,
        tiler: Tiler,
        (checkpoint, cosigned): (Checkpoint, Option<Checkpoint>),
        now: Box<dyn Fn() -> i64 + Send>,
    ) -> Self {
        let (dir, signed_at) = (dir.to_owned(), now());
        Self { dir, disk, signer, tiler, backlog: Vec::new(), checkpoint, cosigned, now, signed_at }
    }

    /// Signs everything acknowledged, once its tiles are on the disk, and returns the checkpoint once it is there too.
    /// With nothing new that is the one before.
    pub(crate) fn publish(&mut self, store: &Mutex<Store>) -> Result<Checkpoint, Fault> {
        let now = (self.now)();
        let tree = {
            let mut store = lock(store);
            store.repair()?;
            self.backlog.append(&mut store.take_fresh());
            store.tree().clone()
        };
        if tree.size() == self.checkpoint.size() && self.has_tiles() {
            return Ok(self.checkpoint.clone());
        }
        let (mut tiler, mut tiles) = (self.tiler.clone(), Vec::new());
        for entry in &self.backlog {
            tiler.push(entry, |name, content| {
                tiles.push((name, content));
                Ok::<_, Fault>(())
            })?;
        }
        tiles.extend(tiler.partial());
        tile::write(&*self.disk, &self.dir, &tiles)?;
        let checkpoint = Checkpoint::sign(&self.signer, tree.size(), tree.root());
        self.replace(CHECKPOINT, checkpoint.note())?;
        let before = std::mem::replace(&mut self.checkpoint, checkpoint);
        self.backlog.clear();
        (self.tiler, self.signed_at) = (tiler, now);
        self.prune(&[before.size(), self.checkpoint.size()]);
        Ok(self.checkpoint.clone())
    }

    /// Whether a new second has come and found something unsigned.
    pub(crate) fn due(&self, size: u64) -> bool {
        (self.now)() != self.signed_at && size != self.checkpoint.size()
    }

    /// Whether the tiles of the checkpoint's right edge are there.
    fn has_tiles(&self) -> bool {
        self.tiler.partial().iter().all(|(name, content)| tile::check(&self.dir, *name, content).is_ok())
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What others are to see: the newest cosigned checkpoint, or, before the first, the newest signed.
    pub(crate) fn published(&self) -> &Checkpoint {
        self.cosigned.as_ref().unwrap_or(&self.checkpoint)
    }

    /// Keeps `checkpoint` as the cosigned one, unless a larger one is kept already.
    pub(crate) fn keep_cosigned(&mut self, checkpoint: &Checkpoint, witnesses: &[Vkey]) -> Result<(), Fault> {
        let before = self.cosigned.as_ref().map_or(0, Checkpoint::size);
        if checkpoint.size() < before {
            return Ok(());
        }
        // A newer one may have come while others cosigned this one, and taken the place of its right edge.
        let content = |tile: Tile| {
            let missing = || Fault::Tile { path: self.dir.join(tile.to_string()), offset: 0 };
            Ok((tile, tile::read(&self.dir, tile)?.ok_or_else(missing)?))
        };
        let edge: Vec<_> =
            tile::partial_tiles(checkpoint.size()).into_iter().map(content).collect::<Result<_, Fault>>()?;
        tile::write(&*self.disk, &self.dir, &edge)?;
        // A key that is there is kept: should the second file not be written, the first one's are needed.
        let mut keys = read_witnesses(&self.dir)?;
        keys.extend(witnesses.iter().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>());
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        self.replace(WITNESSES, &lines)?;
        self.replace(COSIGNED, checkpoint.note())?;
        self.cosigned = Some(checkpoint.clone());
        self.prune(&[before]);
        Ok(())
    }

    /// A signed note of the log's key over `text`.
    pub(crate) fn sign(&self, text: &str) -> String {
        self.signer.sign(text)
    }

    /// Removes the partial tiles of trees of these `sizes` that no kept checkpoint needs.
    pub(crate) fn prune(&self, sizes: &[u64]) {
        let kept = [self.checkpoint.size(), self.published().size()];
        for size in sizes {
            tile::prune(&self.dir, *size, &kept);
        }
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Fault> {
        replace(&*self.disk, &self.dir, name, text.as_bytes()).map_err(Fault::io(self.dir.join(name)))
    }
}
