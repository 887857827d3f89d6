//! A witness (C2SP `tlog-witness`): cosigns a log's checkpoint once it has seen that the log only grew.
//!
//! ```text
//! POST add-checkpoint
//!
//! old 20852014                     the size the witness cosigned last, 0 before the first
//! PlRNCrwHpqhGrupue0L7gxbj…=       consistency proof, a hash a line, at most 63
//!                                  an empty line
//! example.com/behind-the-sofa      the checkpoint, a signed note
//! 20852163
//! …
//! ```
//!
//! **What it keeps.** A file for each log, named by the hexadecimal SHA-256 of its origin: the newest checkpoint it
//! cosigned, with the log's signature and its own. It is replaced by rename and synced before the cosignature is given
//! away, and read when the log is first asked about: a damaged one refuses that log, because a witness that forgot
//! could be made to sign a fork.
//!
//! **What a crash leaves.** The old checkpoint or the new one; in the second case a cosignature that nobody got. The
//! log asks again with the size it knows and is told the other.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use data_encoding::{BASE64, HEXLOWER};

use crate::{
    commit::lock,
    disk::{Disk, System, replace},
    fault::Fault,
    note::{Checkpoint, NoteError, Signer, Vkey},
    store::read_text,
    tree::{Hash, sha256, verify_consistency},
};

/// The most lines of a consistency proof.
const MAX_PROOF: usize = 63;
/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// What a log asks of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint the witness cosigned last.
    pub old: u64,
    /// The consistency proof from there to the checkpoint, lowest first (RFC 6962 §2.1.2).
    pub proof: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// The body of the POST.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let proof: String = self.proof.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
        format!("old {}\n{proof}\n{}", self.old, self.checkpoint).into_bytes()
    }

    /// Reads a body. `None` when it is out of form.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let body = str::from_utf8(body).ok().filter(|body| body.len() <= MAX_REQUEST)?;
        let (front, checkpoint) = body.split_once("\n\n")?;
        let mut lines = front.split('\n');
        let digits = lines.next()?.strip_prefix("old ")?;
        let old: u64 = digits.parse().ok().filter(|old: &u64| old.to_string() == digits)?;
        let hash = |line: &str| BASE64.decode(line.as_bytes()).ok()?.try_into().ok();
        let proof: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
        (proof.len() <= MAX_PROOF).then(|| Self { old, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Out of form, or the old size is larger than the checkpoint's.
    #[error("not a request to add a checkpoint")]
    Malformed,
    /// No log of this origin is known.
    #[error("no such log")]
    UnknownOrigin,
    /// Not signed by the log.
    #[error("not signed by the log")]
    Signature,
    /// The old size is not the one cosigned last.
    #[error("another size was cosigned last")]
    Conflict {
        /// The size that was.
        known: u64,
    },
    /// Two checkpoints of one size with different roots, both signed by the log: proof that it is not one log.
    #[error("the log has signed two trees of one size")]
    Fork {
        /// The size.
        size: u64,
        /// The one cosigned, a signed note.
        known: String,
        /// The one offered, a signed note.
        offered: String,
    },
    /// The proof does not show that the tree only grew.
    #[error("the proof does not hold")]
    Proof,
    /// The witness's own state cannot be read or written.
    #[error("the witness cannot keep its state")]
    State(#[source] Fault),
}

impl Refusal {
    /// The HTTP status (C2SP `tlog-witness`): 400, 403, 404, 409, 422; 503 for the witness's own failure.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Signature => 403,
            Self::UnknownOrigin => 404,
            Self::Conflict { .. } | Self::Fork { .. } => 409,
            Self::Proof => 422,
            Self::State(_) => 503,
        }
    }

    /// The body: with status 409 the size cosigned last and a line end, media type `text/x.tlog.size`; else empty.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Conflict { known: size } | Self::Fork { size, .. } => format!("{size}\n"),
            _ => String::new(),
        }
    }

    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownOrigin => "unknown_origin",
            Self::Signature => "signature",
            Self::Conflict { .. } => "conflict",
            Self::Fork { .. } => "fork",
            Self::Proof => "proof",
            Self::State(_) => "state",
        }
    }
}

/// A witness of any number of logs.
pub struct Witness {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    signer: Signer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The logs' keys by origin.
    logs: BTreeMap<String, Vkey>,
    /// What was cosigned last, as far as it was looked up.
    newest: HashMap<String, Option<Checkpoint>>,
}

impl Witness {
    /// A witness called `name` (such as `mops.lodz.pl/witness`) with its state in `dir`, which is made when it is
    /// missing. `seed` is its Ed25519 key's, 32 bytes; another key than any log's.
    ///
    /// # Errors
    /// [`Fault::Key`] for a name that cannot be one, [`Fault::Io`].
    pub fn open(dir: &Path, name: &str, seed: &[u8; 32]) -> Result<Self, Fault> {
        Self::open_on(Arc::new(System), dir, name, seed)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, dir: &Path, name: &str, seed: &[u8; 32]) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(Fault::io(dir))?;
        let signer = Signer::witness(name, seed).map_err(Fault::Key)?;
        Ok(Self { dir: dir.to_owned(), disk, signer, state: Mutex::default() })
    }

    /// The witness's public key.
    #[must_use]
    pub fn vkey(&self) -> &Vkey {
        self.signer.vkey()
    }

    /// The logs to witness from now on, in place of those before: the origin is the key's name. What was cosigned for
    /// a log stays, even while it is not among them; a log with a new key stays the same log.
    pub fn trust(&self, logs: impl IntoIterator<Item = Vkey>) {
        lock(&self.state).logs = logs.into_iter().map(|key| (key.name().to_owned(), key)).collect();
    }

    /// Answers a request at `now` (seconds since 1970): the cosignature line, for status 200. When this returns `Ok` the
    /// checkpoint is on the disk. Blocks; one request at a time.
    ///
    /// # Errors
    /// A [`Refusal`], with its status.
    pub fn add_checkpoint(&self, request: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
        let AddCheckpoint { old, proof, checkpoint } = AddCheckpoint::parse(request).ok_or(Refusal::Malformed)?;
        let origin = checkpoint.split('\n').next().unwrap_or_default().to_owned();
        let mut state = lock(&self.state);
        let vkey = state.logs.get(&origin).ok_or(Refusal::UnknownOrigin)?.clone();
        let offered = Checkpoint::open(&checkpoint, &vkey).and_then(|offered| offered.alone(&vkey));
        let mut offered = offered.map_err(|error| match error {
            NoteError::Signature => Refusal::Signature,
            _ => Refusal::Malformed,
        })?;
        if old > offered.size() {
            return Err(Refusal::Malformed);
        }
        let known = match state.newest.get(&origin) {
            Some(known) => known.clone(),
            None => self.read(&origin).map_err(Refusal::State)?,
        };
        state.newest.insert(origin.clone(), known.clone());
        judge(old, &proof, known.as_ref(), &offered)?;
        let line = self.signer.cosign(&offered, now);
        let lines = offered.add_cosignature(&line, self.vkey());
        let kept = lines.map_err(Fault::Key).and_then(|_| {
            let name = file_name(&origin);
            let path = self.dir.join(&name);
            replace(&*self.disk, &self.dir, &name, offered.note().as_bytes()).map_err(Fault::io(path))
        });
        kept.map_err(Refusal::State)?;
        state.newest.insert(origin, Some(offered));
        Ok(line.into_bytes())
    }

    /// The newest checkpoint cosigned for `origin`: for a monitor, for a log restored from a backup, or for an auditor.
    /// It carries the log's signature and the witness's. Blocks.
    ///
    /// # Errors
    /// A [`Fault`] when the state cannot be read.
    pub fn newest(&self, origin: &str) -> Result<Option<String>, Fault> {
        let _alone = lock(&self.state);
        self.note(origin)
    }

    /// What was last cosigned of every log, by origin, held against this witness's own signature. Blocks.
    ///
    /// # Errors
    /// A [`Fault`] when the state of one cannot be read, or is damaged.
    pub fn all(&self) -> Result<BTreeMap<String, Checkpoint>, Fault> {
        let _alone = lock(&self.state);
        let known = |origin: String| Ok(self.read(&origin)?.map(|known| (origin, known)));
        witnessed(&self.dir)?.into_keys().filter_map(|origin| known(origin).transpose()).collect()
    }

    fn note(&self, origin: &str) -> Result<Option<String>, Fault> {
        match read_text(&self.dir.join(file_name(origin))) {
            Ok(note) => Ok(Some(note)),
            Err(Fault::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What was last cosigned for `origin`, held against this witness's own signature. Blocks.
    ///
    /// # Errors
    /// A [`Fault`] when the state cannot be read, or is damaged.
    pub fn known(&self, origin: &str) -> Result<Option<Checkpoint>, Fault> {
        let _alone = lock(&self.state);
        self.read(origin)
    }

    /// Only this witness's own signature counts: the log's key may be another now.
    fn read(&self, origin: &str) -> Result<Option<Checkpoint>, Fault> {
        let Some(note) = self.note(origin)? else { return Ok(None) };
        let damaged = |source| Fault::Checkpoint { path: self.dir.join(file_name(origin)), source };
        let known = Checkpoint::read(&note, origin).map_err(damaged)?;
        known.cosigned_by(self.vkey()).map_err(damaged)?;
        Ok(Some(known))
    }
}

/// What the witness with its state in `dir` cosigned last of each log, by origin. Checked is only that each is a
/// checkpoint of that log: whoever takes one checks the signatures, by keys this directory does not have. Needs no lock.
/// Blocks.
///
/// # Errors
/// [`Fault::Io`], and [`Fault::Checkpoint`] for one that is damaged.
pub fn witnessed(dir: &Path) -> Result<BTreeMap<String, Checkpoint>, Fault> {
    let mut all = BTreeMap::new();
    for file in fs::read_dir(dir).map_err(Fault::io(dir))? {
        let path = file.map_err(Fault::io(dir))?.path();
        // Not yet in the place of the one before.
        if path.extension().is_some() {
            continue;
        }
        let note = read_text(&path)?;
        let origin = note.split('\n').next().unwrap_or_default();
        let named = path.file_name().is_some_and(|name| name.to_str() == Some(&file_name(origin)));
        let known =
            Checkpoint::read(&note, origin).and_then(|k| if named { Ok(k) } else { Err(NoteError::Checkpoint) });
        let known = known.map_err(|source| Fault::Checkpoint { path: path.clone(), source })?;
        all.insert(origin.to_owned(), known);
    }
    Ok(all)
}

fn file_name(origin: &str) -> String {
    HEXLOWER.encode(&sha256(origin.as_bytes()))
}

/// Whether a log may go from `known` to `new`.
fn judge(old: u64, proof: &[Hash], known: Option<&Checkpoint>, new: &Checkpoint) -> Result<(), Refusal> {
    let (size, root) = known.map_or((0, sha256(b"")), |known| (known.size(), known.root()));
    let forked = |known: &&Checkpoint| known.size() == new.size() && known.root() != new.root();
    if let Some(known) = known.filter(forked) {
        return Err(Refusal::Fork { size: new.size(), known: known.note().to_owned(), offered: new.note().to_owned() });
    }
    if old != size {
        return Err(Refusal::Conflict { known: size });
    }
    let grown = verify_consistency(size, &root, new.size(), &new.root(), proof);
    // The proof from nothing is empty and shows nothing; of an empty tree the root is known.
    if grown && (new.size() > 0 || new.root() == sha256(b"")) { Ok(()) } else { Err(Refusal::Proof) }
}
