//! A log open for appending: the handle that the rest of a node holds.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use ring::rand::SystemRandom;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    disk::{Disk, System},
    entry::{Draft, Sealer},
    fault::{AppendError, Fault},
    note::{Checkpoint, Signer, Vkey},
    store::Store,
    tree::Hash,
    writer::{QUEUE, Request, State, Writer},
};

/// What a log is opened with.
pub struct Config<'a> {
    /// Its directory; made when it is missing.
    pub dir: &'a Path,
    /// Its origin (C2SP `tlog-checkpoint`), such as `mops.lodz.pl/log`: without spaces and `+`. One for the log's
    /// whole life.
    pub origin: &'a str,
    /// The seed of the Ed25519 key that signs its checkpoints, 32 bytes (RFC 8032 §5.1.5).
    pub signing_key: &'a [u8; 32],
    /// The key that seals its payloads, 32 bytes (ChaCha20-Poly1305, RFC 8439).
    pub payload_key: &'a [u8; 32],
    /// The time in seconds: a checkpoint is signed at most once in each. Only change counts, so a clock may jump.
    pub now: Box<dyn Fn() -> i64 + Send>,
}

/// Proof that an entry is on the disk: made by the writer after `fdatasync` and by nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Receipt {
    origin: Arc<str>,
    index: u64,
    entry: Hash,
}

impl Receipt {
    pub(crate) fn new(sealer: &Sealer, index: u64, entry: Hash) -> Self {
        Self { origin: sealer.origin().clone(), index, entry }
    }

    /// The log's origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The entry's index, from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The entry hash, SHA-256(salt ‖ canonical JSON): what the tree's leaf is made of.
    #[must_use]
    pub fn entry_hash(&self) -> &Hash {
        &self.entry
    }
}

/// A log, open for appending and reading. Clones are handles of the same log; dropping the last one writes what waits,
/// signs a checkpoint and unlocks the directory, and blocks until that is done.
#[derive(Clone)]
pub struct Log {
    // Dropped before `shared`, whose drop waits for the writer, which waits for all of these to be gone.
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    vkey: Vkey,
    sealer: Arc<Sealer>,
    random: SystemRandom,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has already refused everybody.
            let _ = writer.join();
        }
    }
}

impl Log {
    /// Opens the log, or makes a new one; reads it through once, cuts a torn tail and signs a checkpoint over the rest.
    /// Blocks for the time it takes to hash the log.
    ///
    /// # Errors
    /// A [`Fault`] that names what is damaged: nothing acknowledged is ever cut to open a log.
    pub fn open(config: Config<'_>) -> Result<Self, Fault> {
        Self::open_on(Box::new(System), config)
    }

    pub(crate) fn open_on(disk: Box<dyn Disk>, config: Config<'_>) -> Result<Self, Fault> {
        let Config { dir, origin, signing_key, payload_key, now } = config;
        let signer = Signer::new(origin, signing_key).map_err(Fault::Key)?;
        let sealer = Arc::new(Sealer::new(origin, payload_key).map_err(Fault::io("payload key"))?);
        let vkey = signer.vkey().clone();
        let writer = Writer::new(Store::open(dir, &signer, disk)?, signer, sealer.clone(), now)?;
        let state = writer.state();
        let (requests, queue) = mpsc::channel(QUEUE);
        // A runtime of its own: writing blocks, and the tick needs a timer.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Fault::io(dir))?;
        let thread = thread::Builder::new().name("audit-log".to_owned());
        let writer = thread.spawn(move || runtime.block_on(writer.run(queue))).map_err(Fault::io(dir))?;
        let shared = Shared { dir: dir.to_owned(), vkey, sealer, random: SystemRandom::new(), writer: Some(writer) };
        Ok(Self { requests, state, shared: Arc::new(shared) })
    }

    /// Appends `payload` as canonical JSON (RFC 8785), at most [`crate::MAX_PAYLOAD`] bytes of it. When this returns
    /// `Ok` the entry is on the disk. Dropping the future may or may not append.
    ///
    /// # Errors
    /// An [`AppendError`]: the entry is not in the log. One that is not the disk's fault leaves the log healthy.
    pub async fn append(&self, payload: &impl Serialize) -> Result<Receipt, AppendError> {
        let draft = Draft::new(payload, &self.shared.random)?;
        self.ask(|answer| Request::Append(draft, answer)).await
    }

    /// [`Self::append`] for code outside an async runtime.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio::sync::mpsc::Sender::blocking_send` does.
    pub fn append_blocking(&self, payload: &impl Serialize) -> Result<Receipt, AppendError> {
        let (answer, receipt) = oneshot::channel();
        let request = Request::Append(Draft::new(payload, &self.shared.random)?, answer);
        self.requests.blocking_send(request).map_err(|_| AppendError::Closed)?;
        receipt.blocking_recv().map_err(|_| AppendError::Closed)?
    }

    /// Signs a checkpoint over everything acknowledged so far, and returns it once it is on the disk.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`] or [`AppendError::Closed`].
    pub async fn checkpoint(&self) -> Result<Checkpoint, AppendError> {
        self.ask(Request::Checkpoint).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, AppendError>>) -> Request,
    ) -> Result<T, AppendError> {
        let (answer, outcome) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| AppendError::Closed)?;
        outcome.await.map_err(|_| AppendError::Closed)?
    }

    /// The number of acknowledged entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state.borrow().size
    }

    /// The log's origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.shared.vkey.name()
    }

    /// The log's public key, for the manifest.
    #[must_use]
    pub fn vkey(&self) -> &Vkey {
        &self.shared.vkey
    }

    /// Whether the last write succeeded. A log that failed tries again with every append and every second by itself.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`] with the reason, or [`AppendError::Closed`].
    pub fn health(&self) -> Result<(), AppendError> {
        match self.state.borrow().fault.clone() {
            Some(reason) => Err(AppendError::Unwritable { reason }),
            None if self.requests.is_closed() => Err(AppendError::Closed),
            None => Ok(()),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.shared.sealer
    }
}
