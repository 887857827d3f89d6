//! A log open for appending: the handle that the rest of a node holds.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use ring::rand::SystemRandom;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{
    commit::{Commit, lock, reason},
    disk::{Disk, System},
    entry::{Draft, Sealer},
    fault::{AppendError, Fault},
    index,
    note::{Checkpoint, Signer, Vkey},
    proof,
    publish::Publisher,
    segment,
    store::{Lock, Opened, Store},
    tree::Hash,
};

/// How often the log looks whether a checkpoint is due or a failed disk is back.
const TICK: Duration = Duration::from_secs(1);

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
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

/// What the log's two threads work on: one appends for those who must not block, one publishes.
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) sealer: Sealer,
    pub(crate) random: SystemRandom,
    pub(crate) commit: Commit,
    pub(crate) publisher: Mutex<Publisher>,
    /// Held while a full segment is indexed or rewritten.
    pub(crate) rewriting: Mutex<()>,
    vkey: Vkey,
    tasks: Mutex<Tasks>,
    called: Condvar,
    /// Locked as long as the log is open.
    _lock: Lock,
}

/// What the publishing thread is to do.
#[derive(Default)]
struct Tasks {
    checkpoints: Vec<oneshot::Sender<Result<Checkpoint, AppendError>>>,
    stop: bool,
}

impl Log {
    /// Opens the log, or makes a new one; reads it through once, cuts a torn tail and signs a checkpoint over the rest.
    /// Blocks for the time it takes to hash the log.
    ///
    /// # Errors
    /// A [`Fault`] that names what is damaged: nothing acknowledged is ever cut to open a log. [`Fault::Shorter`] when
    /// the directory's own cosigned checkpoint signs more than there is; see [`crate::succeed`].
    pub fn open(config: Config<'_>) -> Result<Self, Fault> {
        Self::open_on(Arc::new(System), config)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, config: Config<'_>) -> Result<Self, Fault> {
        let Config { dir, origin, signing_key, payload_key, now } = config;
        let signer = Signer::new(origin, signing_key).map_err(Fault::Key)?;
        let sealer = Sealer::new(origin, payload_key).map_err(Fault::io("payload key"))?;
        let vkey = signer.vkey().clone();
        let Opened { lock, store, tiler, checkpoint, cosigned } = Store::open(dir, &signer, disk.clone())?;
        let (size, signed) = (store.tree().size(), checkpoint.size());
        let publisher = Publisher::new(dir, disk.clone(), signer, tiler, (checkpoint, cosigned), now);
        let core = Arc::new(Core {
            dir: dir.to_owned(),
            disk,
            sealer,
            random: SystemRandom::new(),
            commit: Commit::new(store),
            publisher: Mutex::new(publisher),
            rewriting: Mutex::default(),
            vkey,
            tasks: Mutex::default(),
            called: Condvar::new(),
            _lock: lock,
        });
        core.first_checkpoint(size, signed)?;
        let mut threads = Vec::new();
        let (appending, publishing) = (core.clone(), core.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Fault::io(dir))
        };
        threads.push(spawn("audit-append", Box::new(move || appending.commit.run()))?);
        threads.push(spawn("audit-publish", Box::new(move || publishing.run()))?);
        Ok(Self { shared: Arc::new(Shared { core, threads }) })
    }

    /// Appends `payload` as canonical JSON (RFC 8785), at most [`crate::MAX_PAYLOAD`] bytes of it. When this returns
    /// `Ok` the entry is on the disk. Dropping the future may or may not append.
    ///
    /// # Errors
    /// An [`AppendError`]: the entry is not in the log. One that is not the disk's fault leaves the log healthy.
    pub async fn append(&self, payload: &impl Serialize) -> Result<Receipt, AppendError> {
        let core = self.core();
        let (answer, outcome) = oneshot::channel();
        if core.commit.enqueue(Draft::new(payload, &core.sealer, &core.random)?, answer)? {
            core.commit.call();
        }
        self.receipt(outcome.await)
    }

    /// [`Self::append`] for code outside an async runtime.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio::sync::oneshot::Receiver::blocking_recv` does.
    pub fn append_blocking(&self, payload: &impl Serialize) -> Result<Receipt, AppendError> {
        let core = self.core();
        let (answer, outcome) = oneshot::channel();
        if core.commit.enqueue(Draft::new(payload, &core.sealer, &core.random)?, answer)? {
            core.commit.lead();
        }
        self.receipt(outcome.blocking_recv())
    }

    fn receipt(
        &self,
        outcome: Result<Result<(u64, Hash), AppendError>, oneshot::error::RecvError>,
    ) -> Result<Receipt, AppendError> {
        let (index, entry) = outcome.map_err(|_| AppendError::Closed)??;
        Ok(Receipt { origin: self.core().sealer.origin().clone(), index, entry })
    }

    /// Signs a checkpoint over everything acknowledged so far, and returns it once it and its tiles are on the disk.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`] or [`AppendError::Closed`].
    pub async fn checkpoint(&self) -> Result<Checkpoint, AppendError> {
        let (answer, outcome) = oneshot::channel();
        lock(&self.core().tasks).checkpoints.push(answer);
        self.core().called.notify_one();
        outcome.await.map_err(|_| AppendError::Closed)?
    }

    /// [`Self::checkpoint`] for code that may block.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`].
    pub fn checkpoint_blocking(&self) -> Result<Checkpoint, AppendError> {
        self.core().publish()
    }

    /// The newest checkpoint signed: what a witness is asked to cosign.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Checkpoint {
        lock(&self.core().publisher).checkpoint().clone()
    }

    /// What others are to see: the newest cosigned checkpoint or, before the first, the newest signed.
    #[must_use]
    pub fn published_checkpoint(&self) -> Checkpoint {
        lock(&self.core().publisher).published().clone()
    }

    /// Keeps `checkpoint` with its cosignatures, in place of a smaller one: it is what [`Self::resource`] gives out
    /// from now on, what the directory is held against, and what is exported. Blocks.
    ///
    /// # Errors
    /// [`Fault::Checkpoint`] unless it is this log's with at least one cosignature and all of them are `witnesses`';
    /// [`Fault::Io`].
    pub fn keep_cosigned(&self, checkpoint: &Checkpoint, witnesses: &[Vkey]) -> Result<(), Fault> {
        let core = self.core();
        let refuse = |source| Fault::Checkpoint { path: core.dir.join(crate::store::COSIGNED), source };
        let opened = Checkpoint::open(checkpoint.note(), &core.vkey).map_err(refuse)?;
        let signers: Vec<_> = witnesses.iter().filter(|witness| opened.cosigned_by(witness).is_ok()).cloned().collect();
        if signers.is_empty() || signers.len() != opened.others(&core.vkey) {
            return Err(refuse(crate::NoteError::Cosignature));
        }
        self.hold_against(&opened)?;
        lock(&core.publisher).keep_cosigned(&opened, &signers)
    }

    /// Holds the log against a checkpoint of its own that somebody else kept: a peer's or an auditor's. Call it with
    /// the largest one that can be had after every start. Blocks.
    ///
    /// # Errors
    /// [`Fault::Shorter`] or [`Fault::Rewritten`]: the log was rolled back or rewritten. Then nothing is appended any
    /// more, now or after a restart; see [`crate::succeed`]. [`Fault::Checkpoint`] when `known` is not this log's.
    pub fn hold_against(&self, known: &Checkpoint) -> Result<(), Fault> {
        let core = self.core();
        let foreign = |source| Fault::Checkpoint { path: core.dir.clone(), source };
        let known = Checkpoint::open(known.note(), &core.vkey).map_err(foreign)?;
        let (size, signed) = (self.size(), known.size());
        let outcome = if size < signed {
            Err(Fault::Shorter { size, signed })
        } else {
            if lock(&core.publisher).checkpoint().size() < signed {
                core.publish().map_err(|error| Fault::io(&core.dir)(std::io::Error::other(error)))?;
            }
            let same = proof::root(&core.dir, signed)? == known.root();
            if same { Ok(()) } else { Err(Fault::Rewritten { signed }) }
        };
        if let Err(fault) = &outcome {
            core.commit.refute(fault);
            // In place of the newest checkpoint: from now on the directory itself says that it is not the log.
            let text = known.note().as_bytes();
            crate::disk::replace(&*core.disk, &core.dir, crate::store::CHECKPOINT, text)
                .map_err(Fault::io(&core.dir))?;
        }
        outcome
    }

    /// The number of acknowledged entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.core().commit.size()
    }

    /// The log's origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.core().vkey.name()
    }

    /// The log's public key, for the manifest.
    #[must_use]
    pub fn vkey(&self) -> &Vkey {
        &self.core().vkey
    }

    /// Whether the last write succeeded. A log that failed tries again with every append and every second by itself.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`] with the reason, or [`AppendError::Closed`].
    pub fn health(&self) -> Result<(), AppendError> {
        self.core().commit.fault().map_or(Ok(()), Err)
    }

    /// A signed note of the log's key over `text`.
    pub(crate) fn sign(&self, text: &str) -> String {
        lock(&self.core().publisher).sign(text)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.core().dir
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.core().sealer
    }
}

impl Core {
    /// Signs what a crash left unsigned, and clears away the partial tiles it left.
    fn first_checkpoint(&self, size: u64, signed: u64) -> Result<(), Fault> {
        let mut publisher = lock(&self.publisher);
        publisher.publish(&self.commit.store)?;
        publisher.prune(&[size, signed]);
        Ok(())
    }

    pub(crate) fn publish(&self) -> Result<Checkpoint, AppendError> {
        self.commit.unrefuted()?;
        let outcome = lock(&self.publisher).publish(&self.commit.store);
        self.commit.published(outcome.as_ref().map(|_| ()));
        outcome.map_err(|fault| AppendError::Unwritable { reason: reason(&fault) })
    }

    /// The publishing thread.
    fn run(&self) {
        let mut indexed = 0;
        loop {
            let idle = |tasks: &mut Tasks| tasks.checkpoints.is_empty() && !tasks.stop;
            let waited = self.called.wait_timeout_while(lock(&self.tasks), TICK, idle);
            let (mut tasks, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (wanted, stop) = (std::mem::take(&mut tasks.checkpoints), tasks.stop);
            drop(tasks);
            self.commit.heal();
            let due = stop || self.commit.fault().is_some() || lock(&self.publisher).due(self.size());
            if !wanted.is_empty() || due {
                let outcome = self.publish();
                for answer in wanted {
                    let _ = answer.send(outcome.clone());
                }
            }
            if stop {
                return;
            }
            while indexed < self.size() / segment::ENTRIES && index::fill(self, indexed) {
                indexed += 1;
            }
        }
    }

    fn size(&self) -> u64 {
        self.commit.size()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut threads = self.threads.drain(..);
        self.core.commit.close();
        // A thread that panicked has already refused everybody.
        let _ = threads.next().map(JoinHandle::join);
        lock(&self.core.tasks).stop = true;
        self.core.called.notify_all();
        threads.for_each(|thread| drop(thread.join()));
        if let Err(fault) = lock(&self.core.commit.store).close() {
            tracing::warn!(reason = reason(&fault), "the last segment keeps its zeros");
        }
    }
}
