//! The shares of pseudonym keys this node holds: one sealed file for each epoch and generation of shares.
//!
//! A share serves only while it is the one the manifest lists for us: a node restored from an old backup has an earlier
//! generation, notices, and refuses. When new shares are listed the old ones go on serving members whose manifest is a
//! little older, and are then destroyed; so are all shares of an epoch on the day the manifest sets. Each destruction is
//! an entry of the log. Deleting a file does not wipe a disk, and backups keep what they have: what makes t−1 old shares
//! worthless is that no t of one generation are left.

use crate::events::{Event, Happened};
use crate::manifests::Held;
use crate::node::{Node, NodeError, file};
use keyring::Sealer;
use protocol::{Epoch, Timestamp};
use pseudonym::KeyShare;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A share, by epoch and generation.
type Place = (Epoch, u32);

/// The shares held.
pub(crate) struct Shares {
    directory: PathBuf,
    held: RwLock<BTreeMap<Place, Arc<KeyShare>>>,
    /// Those found stale, so that each is recorded once a start.
    noted: Mutex<BTreeSet<Epoch>>,
}

/// What is damaged, by which its failure is known.
pub(crate) const WHAT: &str = "the key share";
const SUFFIX: &str = ".share";
/// How long after a manifest with new shares was drawn up the old ones go on serving.
const OVERLAP_SECONDS: i64 = 15 * 60;

/// Why no share answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoShare {
    /// None of that epoch and generation is held here.
    Unknown,
    /// What is held here is not what the manifest lists.
    Stale,
}

impl Shares {
    /// Opens every share in `directory`.
    pub(crate) fn load(directory: &Path, sealer: &Sealer) -> Result<Self, NodeError> {
        let mut held = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(file("cannot list", directory))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(SUFFIX));
            let Some((epoch, generation)) = name.and_then(|n| n.split_once('-')) else { continue };
            let (Ok(epoch), Ok(generation)) = (epoch.parse(), generation.parse()) else { continue };
            let share = read(&path, (Epoch(epoch), generation), sealer)?;
            held.insert((Epoch(epoch), generation), Arc::new(share));
        }
        Ok(Shares { directory: directory.to_owned(), held: RwLock::new(held), noted: Mutex::default() })
    }

    /// Keeps a new share, durably, before it can be used. The same again is kept already; `false` if another is.
    pub(crate) fn keep(
        &self,
        epoch: Epoch,
        generation: u32,
        share: KeyShare,
        sealer: &Sealer,
    ) -> Result<bool, NodeError> {
        if let Some(kept) = self.get(epoch, generation) {
            return Ok(kept.public_share() == share.public_share());
        }
        let path = self.path((epoch, generation));
        let sealed = sealer.seal(&label(epoch, generation), share.to_bytes().as_slice())?;
        keyring::write_atomically(&path, &sealed).map_err(file("cannot create", &path))?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.insert((epoch, generation), Arc::new(share));
        Ok(true)
    }

    /// The share of `epoch` in `generation`.
    pub(crate) fn get(&self, epoch: Epoch, generation: u32) -> Option<Arc<KeyShare>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(&(epoch, generation)).cloned()
    }

    /// Whether any share of `epoch` is held.
    pub(crate) fn has(&self, epoch: Epoch) -> bool {
        self.all().iter().any(|(e, _)| *e == epoch)
    }

    fn all(&self) -> Vec<Place> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Destroys a share; whether there was one.
    pub(crate) fn destroy(&self, epoch: Epoch, generation: u32) -> Result<bool, NodeError> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if !held.contains_key(&(epoch, generation)) {
            return Ok(false);
        }
        let path = self.path((epoch, generation));
        std::fs::remove_file(&path).map_err(file("cannot remove", &path))?;
        held.remove(&(epoch, generation));
        Ok(true)
    }

    fn path(&self, (epoch, generation): Place) -> PathBuf {
        self.directory.join(format!("{}-{generation}{SUFFIX}", epoch.0))
    }
}

fn read(path: &Path, (epoch, generation): Place, sealer: &Sealer) -> Result<KeyShare, NodeError> {
    let sealed = std::fs::read(path).map_err(file("cannot read", path))?;
    let opened = sealer.open(&label(epoch, generation), &sealed).ok();
    let share = opened.and_then(|bytes| KeyShare::from_bytes(bytes.as_slice().try_into().ok()?).ok());
    share.ok_or_else(|| damaged(path))
}

fn label(epoch: Epoch, generation: u32) -> Vec<u8> {
    format!("share/{}/{generation}", epoch.0).into_bytes()
}

fn damaged(path: &Path) -> NodeError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "does not open: damaged, or another storage key");
    NodeError::File { what: WHAT, path: path.to_owned(), source }
}

impl Node {
    /// The share to answer with for `epoch` in `generation`, by the manifest's word.
    pub(crate) fn share(
        &self,
        held: &Held,
        epoch: Epoch,
        generation: u32,
        now: Timestamp,
    ) -> Result<Arc<KeyShare>, NoShare> {
        let (listed, _) = held.key(epoch).filter(|(listed, _)| !listed.is_over(now)).ok_or(NoShare::Unknown)?;
        if self.is_stale(held, epoch) {
            return Err(NoShare::Stale);
        }
        let share = self.shares.get(epoch, generation).filter(|_| generation <= listed.generation);
        share.ok_or(NoShare::Unknown)
    }

    /// Whether the manifest lists a share of ours that we do not have.
    fn is_stale(&self, held: &Held, epoch: Epoch) -> bool {
        let Some((listed, key)) = held.key(epoch) else { return false };
        let ours = listed.holders.iter().any(|holder| holder.member == self.config.member);
        ours && !self.shares.get(epoch, listed.generation).is_some_and(|share| key.lists(&share))
    }

    /// The epochs of which we should hold a share, and whether we hold the one listed.
    pub(crate) fn shares_held(&self, held: &Held, now: Timestamp) -> BTreeMap<Epoch, bool> {
        let alive = held.manifest.epochs.iter().filter(|epoch| !epoch.is_over(now));
        let ours = alive.filter(|epoch| epoch.holders.iter().any(|holder| holder.member == self.config.member));
        ours.map(|epoch| (epoch.epoch, !self.is_stale(held, epoch.epoch))).collect()
    }

    /// Records shares that are not the manifest's, and destroys those whose time is over.
    pub(crate) async fn tend_shares(&self) -> Result<(), NodeError> {
        let (Ok(held), Ok(now)) = (self.manifest(), self.now()) else { return Ok(()) };
        for (epoch, current) in self.shares_held(&held, now) {
            if !current && self.shares.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(epoch) {
                tracing::error!(epoch = epoch.0, "our key share is not the one the manifest lists: was it restored?");
                self.note_share(Happened::KeyShareStale, epoch, 0).await?;
            }
        }
        for (epoch, generation) in self.shares.all() {
            let over = match held.manifest.epoch(epoch) {
                Some(listed) => {
                    let superseded = generation < listed.generation
                        && now - held.manifest.issued > OVERLAP_SECONDS
                        && !self.is_stale(&held, epoch);
                    superseded || listed.is_over(now)
                }
                // One that is not listed yet comes after those that are.
                None => held.manifest.epochs.iter().any(|listed| listed.epoch > epoch),
            };
            if over && self.shares.destroy(epoch, generation)? {
                self.note_share(Happened::KeyShareDestroyed, epoch, generation).await?;
            }
        }
        Ok(())
    }

    async fn note_share(&self, happened: Happened, epoch: Epoch, generation: u32) -> Result<(), NodeError> {
        let mut event = Event::new(happened, &self.clock).counting([("generation", u64::from(generation))]);
        event.epoch = Some(epoch);
        let _recorded = self.log.append(&event).await?;
        Ok(())
    }
}
