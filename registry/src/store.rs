//! What an index engine keeps: rows of one size under keys that mean nothing to it.
//!
//! An engine is blind. It sees 32-byte keys (an HMAC), 576-byte rows (sealed) and 32-byte request ids (an HMAC), and
//! no index, member, epoch or date of an entry. Two requirements bind every engine, and `conformance` tests
//! them: what `write` acknowledged is on the disk, and a batch happens whole or not at all.

use protocol::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Length of every row: nonce 12, sealed content 548, tag 16 (see [`crate::Blind`]).
pub const ROW_BYTES: usize = 576;

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

/// Changes that happen together: rows put, then rows deleted, unless the request was seen before.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The request they come from.
    pub request: RequestId,
    /// New rows; a row already at the key is replaced.
    pub put: Vec<(RowKey, Row)>,
    /// Keys to clear; one that is not there is no error.
    pub delete: Vec<RowKey>,
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

    /// At most `limit` rows in the order of their keys, from the first one after `after`.
    fn page(&self, after: Option<RowKey>, limit: usize) -> Answer<'_, Vec<(RowKey, Row)>>;

    /// Removes those of `rows` that still stand exactly so, and the request ids kept until before `now`. Returns the
    /// number of rows removed.
    fn sweep(&self, rows: Vec<(RowKey, Row)>, now: Timestamp) -> Answer<'_, usize>;

    /// The number of rows; also the sign that the engine can be reached.
    fn count(&self) -> Answer<'_, u64>;
}
