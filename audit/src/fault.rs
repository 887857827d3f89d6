//! What can be wrong with a log directory, and why an entry was not recorded. Neither ever holds a payload.

use std::{io, path::PathBuf};

use crate::note::NoteError;

/// What is wrong with a log directory, and where.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file or directory cannot be read or written, is missing, or is not text where text is due.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process, or another [`crate::Log`] of this one, has the log open.
    #[error("{}: this log is already open", path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// `vkey` is not a key file, or the origin given cannot be one's name.
    #[error("vkey: {0}")]
    Key(NoteError),
    /// `vkey` is of another log or another key than the one given.
    #[error("vkey: this is {found}, not {wanted}")]
    Identity {
        /// What the directory says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A checkpoint is out of form, unsigned or wrongly signed, or one of its cosignatures is.
    #[error("{}: {source}", path.display())]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: NoteError,
    },
    /// The list of witnesses' keys is out of form.
    #[error("{}: {source}", path.display())]
    Witnesses {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: NoteError,
    },
    /// A tile is not what follows from the records.
    #[error("{}: differs from the records from byte {offset} on", path.display())]
    Tile {
        /// The tile's file.
        path: PathBuf,
        /// The first byte that differs.
        offset: u64,
    },
    /// A segment of the search index is damaged, or is not what follows from the records.
    #[error("{}: the index is damaged or not of these records", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
    },
    /// An export is damaged, or not what its log signed.
    #[error("{}: {problem}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A record is damaged, out of its place or missing.
    #[error("{}: record {index} at byte {offset} is damaged, missing or out of place", path.display())]
    Record {
        /// The segment file.
        path: PathBuf,
        /// The entry that should stand there.
        index: u64,
        /// Where in the file.
        offset: u64,
    },
    /// The log has fewer entries than it has signed for.
    #[error("records: {size} entries, but a checkpoint signs {signed}")]
    Shorter {
        /// Entries found.
        size: u64,
        /// Entries signed for.
        signed: u64,
    },
    /// The entries are not the ones that were signed.
    #[error("records: the first {signed} entries do not have the root that was signed")]
    Rewritten {
        /// Entries signed for.
        signed: u64,
    },
    /// A payload does not open under the payload key, or is not what its entry hash says.
    #[error("payload of record {index}: does not open under this key, or is not what the tree says")]
    Payload {
        /// The entry.
        index: u64,
    },
}

impl Fault {
    /// For `map_err`: an I/O error of `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { path: path.into(), source }
    }
}

/// Why an entry (or a checkpoint) was not recorded. After any of these nothing may be released on the entry's strength.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The payload has no exact canonical JSON (RFC 8785): not serialisable, or with an integer beyond ±(2⁵³ − 1).
    #[error("the entry has no exact canonical JSON form")]
    Payload,
    /// The payload's canonical JSON is longer than [`crate::MAX_PAYLOAD`].
    #[error("the entry is {bytes} bytes long, more than {}", crate::MAX_PAYLOAD)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The system gives no randomness for the salt.
    #[error("no randomness for the entry's salt")]
    Random,
    /// The disk is full or failing. Each further append tries again.
    #[error("the log cannot be written: {reason}")]
    Unwritable {
        /// Which file and why.
        reason: String,
    },
    /// The log's writer has stopped.
    #[error("the log's writer has stopped")]
    Closed,
}
