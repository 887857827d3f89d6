//! What an index engine keeps: rows of one size under keys that mean nothing to it.
//!
//! An engine is blind. It sees keys and ids (HMACs), sealed rows of [`ROW_BYTES`], and no index, member, epoch or date of
//! an entry. It keeps four things: **rows**, the entries themselves; **notes**, rows in a queue, in the order of time;
//! **meters**, counters that only grow; and the **ids of requests** that were written. Two requirements bind every engine,
//! and `conformance` tests them: what a method acknowledged is on the disk, and a batch happens whole or not at all.

use protocol::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Length of every row: nonce 12, sealed content 557, tag 16 (see [`crate::Blind`]).
pub const ROW_BYTES: usize = 585;

/// Where a row stands, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(pub [u8; 32]);

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey(…)")
    }
}

/// A sealed row, [`ROW_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(pub Box<[u8; ROW_BYTES]>);

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row(…)")
    }
}

/// Where a note stands. Notes are ordered by queue, then time, then id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoteKey {
    /// Whose queue: an HMAC of the member, 32 bytes.
    pub queue: [u8; 32],
    /// From when on it may be read.
    pub at: Timestamp,
    /// Tells notes of one moment apart; the same news has the same id. 16 bytes.
    pub id: [u8; 16],
}

/// A counter's name: an HMAC, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterId(pub [u8; 32]);

/// Something counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// On which meter.
    pub meter: MeterId,
    /// How much.
    pub add: u64,
    /// Until when the meter is kept. The same meter always comes with the same date.
    pub until: Timestamp,
}

/// Changes that happen together, unless the request was seen before. No key stands twice in one list.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The request they come from; without one they are always done.
    pub request: Option<RequestId>,
    /// New rows; a row already at the key is replaced.
    pub put: Vec<(RowKey, Row)>,
    /// Keys to clear; one that is not there is no error.
    pub delete: Vec<RowKey>,
    /// New notes; one already at the key stays as it is.
    pub note: Vec<(NoteKey, Row)>,
    /// Notes to clear; one that is not there is no error.
    pub unnote: Vec<NoteKey>,
    /// What to count.
    pub count: Vec<Count>,
}

/// A request that may change the index once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// An HMAC of the request's writer and `jti`, 32 bytes.
    pub id: [u8; 32],
    /// When the request is too old to be believed anyway, so that its id need not be kept longer. Part of the identity:
    /// the same `id` always comes with the same `until`.
    pub until: Timestamp,
}

/// What [`IndexStore::write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it, durably.
    Stored {
        /// Rows cleared that were there.
        deleted: usize,
    },
    /// Nothing: the request was written before.
    Replayed,
}

/// Everything an engine keeps besides rows and notes: little, so that it is handed over at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Requests written and not yet forgotten.
    pub requests: Vec<RequestId>,
    /// Every meter with its count.
    pub meters: Vec<Count>,
}

/// The engine cannot read or write. Holds the system's reason, never a row or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index cannot be used: {0}")]
pub struct StoreError(pub String);

/// What an engine answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An index engine. All methods may be called from many tasks at once, and on several processes' handles where the
/// engine permits those.
pub trait IndexStore: Send + Sync {
    /// The rows at `keys`, in their order; a key may come twice.
    fn get(&self, keys: Vec<RowKey>) -> Answer<'_, Vec<Option<Row>>>;

    /// Does `batch` whole or not at all; returns once it is durable.
    fn write(&self, batch: Batch) -> Answer<'_, Written>;

    /// Counts and returns the new totals, in order; returns once they are durable. No meter stands twice in `counts`.
    fn charge(&self, counts: Vec<Count>) -> Answer<'_, Vec<u64>>;

    /// At most `limit` rows in the order of their keys, from the first one after `after`.
    fn page(&self, after: Option<RowKey>, limit: usize) -> Answer<'_, Vec<(RowKey, Row)>>;

    /// At most `limit` notes in order, from the first one after `after` to `through`, which belongs to them.
    fn notes(&self, after: NoteKey, through: NoteKey, limit: usize) -> Answer<'_, Vec<(NoteKey, Row)>>;

    /// Request ids and meters.
    fn ledger(&self) -> Answer<'_, Ledger>;

    /// Takes over rows, notes and a ledger of another engine, in any number of parts; the same part twice changes
    /// nothing. Rows and meters replace those there.
    fn load(&self, rows: Vec<(RowKey, Row)>, notes: Vec<(NoteKey, Row)>, ledger: Ledger) -> Answer<'_, ()>;

    /// Removes those of `rows` that still stand exactly so. Returns their number.
    fn sweep(&self, rows: Vec<(RowKey, Row)>) -> Answer<'_, usize>;

    /// Removes the request ids and meters kept until before `now`, and the notes from before `notes_before`. May read all
    /// of them.
    fn forget(&self, now: Timestamp, notes_before: Timestamp) -> Answer<'_, ()>;

    /// The number of rows. May read all of them, for as long as that takes.
    fn count(&self) -> Answer<'_, u64>;

    /// About how many rows there are, at once; exactly while they are few.
    fn size(&self) -> Answer<'_, u64>;

    /// Whether a registry serves from it meanwhile, in this process or another; asked by whoever does not.
    fn is_served(&self) -> Answer<'_, bool>;

    /// Whether the engine can be used now, and what of its setting up is less safe than it could be: one sentence each.
    fn ready(&self) -> Answer<'_, Vec<String>>;
}

impl NoteKey {
    /// The first place of all.
    pub const FIRST: NoteKey = NoteKey { queue: [0; 32], at: Timestamp(i64::MIN), id: [0; 16] };
    /// The last place of all.
    pub const LAST: NoteKey = NoteKey { queue: [u8::MAX; 32], at: Timestamp(i64::MAX), id: [u8::MAX; 16] };
}
