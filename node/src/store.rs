//! What a node keeps: residents' records, their derived names, consents, grants, the outbox and its own state.
//!
//! One `redb` file. Every value is sealed under a key derived from the storage key, with the table's name and the
//! row's key as associated data, so that rows cannot be moved. Keys are random ids or MACs, never identifiers:
//!
//! | table | key | value |
//! |---|---|---|
//! | `files` | file id 16 | the resident's record |
//! | `sealed_fields` | file id 16 | fields nobody outside may learn of, under a key of their own |
//! | `links` | MAC(kind ‖ identifier) 32 | file id; kinds: `pesel`, `document`, `subject`, `unlinked` |
//! | `local_numbers` | MAC(number) 32 ‖ file id 16 | nothing: local numbers are not unique |
//! | `names` | epoch 4 ‖ file id 16 | for each identifier: index, seal key, subject, what is published |
//! | `changed` | epoch 4 ‖ file id 16 | that the identifiers are others than the names were made of |
//! | `leaving` | epoch 4 ‖ MAC(index) 32 | index of an entry to remove at the registry |
//! | `tickets` | file id 16 | last ticket and holders located, for when the registry is away |
//! | `consents` | consent id 16 | consents recorded here |
//! | `grants` | consent id 16 | consents others granted us to release under |
//! | `withdrawn` | consent id 16 | withdrawals heard of |
//! | `withdrawals` | consent id 16 | withdrawals taken here of consents recorded elsewhere, and who knows these |
//! | `statuses` | recorder | last status list of a recorder |
//! | `outbox` | sequence 8 | messages to deliver |
//! | `results` | query id 16 | outcomes kept for the caller, their values at most a day |
//! | `ceremonies` | session 16 | key ceremonies under way, and the results of those that are over |
//! | `shared` | epoch 4 ‖ file id 16 | other units that know a client, as of the last run and the one before |
//! | `notes` | file id 16 | flags and refusals that bear on answering |
//! | `approvals` | question 32 | peers' questions a person here decides, and what was decided |
//! | `waiting` | request digest 32 | own questions a person at the holder decides |
//! | `emergencies` | side 1 ‖ id 16 | emergency accesses, taken here or answered here, and their reviews |
//! | `findings` | finding id 16 | what the data-protection officer has to look at, with the review |
//! | `revoked` | digest of the terms 32 | agreements that a party's word ended |
//! | `newcomers` | file id 16 | until when a resident of whom there are no records yet is known to the registry |
//! | `met` | file id 16 ‖ member | who came to serve a client since a consent, until it follows |
//! | `staff` | MAC of the staff id 32 | whom a pseudonymous id of the log stands for |
//! | `state` | name | manifest held, highest CRL number, last import run and message, shared run under way, own status list |
//!
//! A write transaction is atomic and durable (`fdatasync`) before [`Store::write`] returns. A crash leaves the state
//! before or after it, never between; readers see one state throughout a read. All reads between two writes share one
//! read transaction with its tables open: a query reads six rows, and opening a table costs more than reading a row.

use arc_swap::ArcSwapOption;
use keyring::{MacKey, Sealer, StorageKey};
use protocol::Index;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A table, by its name on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table(&'static str);

macro_rules! tables {
    ($($table:ident = $name:literal),+) => {
        impl Table {
            $(pub(crate) const $table: Table = Table($name);)+
            const ALL: &[Table] = &[$(Table::$table),+];
        }
    };
}
tables!(
    FILES = "files",
    SEALED_FIELDS = "sealed_fields",
    LINKS = "links",
    LOCAL_NUMBERS = "local_numbers",
    NAMES = "names",
    LEAVING = "leaving",
    TICKETS = "tickets",
    CONSENTS = "consents",
    GRANTS = "grants",
    WITHDRAWN = "withdrawn",
    STATUSES = "statuses",
    OUTBOX = "outbox",
    RESULTS = "results",
    STATE = "state",
    CEREMONIES = "ceremonies",
    SHARED = "shared",
    NOTES = "notes",
    APPROVALS = "approvals",
    WAITING = "waiting",
    EMERGENCIES = "emergencies",
    FINDINGS = "findings",
    REVOKED = "revoked",
    NEWCOMERS = "newcomers",
    STAFF = "staff",
    CHANGED = "changed",
    WITHDRAWALS = "withdrawals",
    MET = "met"
);

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

/// Memory for cached pages.
const CACHE_BYTES: usize = 16 << 20;

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the node's store is in use by another process: stop it, or let the running node do the work")]
    InUse,
    /// The database's word: I/O, disk full, damage.
    #[error("the node's store failed: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A value does not open: another storage key, or damage.
    #[error("a value of table `{0}` does not open: wrong storage key, or the store is damaged")]
    Sealed(&'static str),
    /// A value is not of the shape expected.
    #[error("a value of table `{0}` is not of the expected shape")]
    Shape(&'static str),
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness(#[from] std::io::Error),
}

macro_rules! from_redb {
    ($($error:ident),+) => { $(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                StoreError::Database(Box::new(error.into()))
            }
        }
    )+ };
}
from_redb!(TransactionError, TableError, StorageError, CommitError);

/// The node's database.
pub(crate) struct Store {
    // Dropped before the database it reads.
    snapshot: ArcSwapOption<Snapshot>,
    /// Held while a snapshot is taken and put in place, and while one is put away: none outlives a write.
    changing: Mutex<()>,
    database: Database,
    seal: Seal,
}

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Every table by its name, as of one moment.
struct Snapshot(HashMap<&'static str, Rows>);

impl Snapshot {
    fn take(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read()?;
        let open = |table: &Table| Ok((table.0, transaction.open_table(table.definition())?));
        Ok(Snapshot(Table::ALL.iter().map(open).collect::<Result<_, StoreError>>()?))
    }
}

/// Two sealers: fields that never leave have their own key, so that no query path can open them by mistake.
struct Seal {
    ordinary: Sealer,
    sealed_fields: Sealer,
    links: MacKey,
}

impl Store {
    /// Opens or creates the database at `path`.
    pub(crate) fn open(path: &Path, storage: &StorageKey) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| match e {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
            other => StoreError::Database(Box::new(other.into())),
        })?;
        let sealer = |label| storage.sealer(label).map_err(|_| StoreError::Sealed("keys"));
        let seal = Seal {
            ordinary: sealer("store")?,
            sealed_fields: sealer("store/sealed-fields")?,
            links: storage.mac("store/links"),
        };
        let creating = database.begin_write()?;
        for table in Table::ALL {
            creating.open_table(table.definition())?;
        }
        creating.commit()?;
        Ok(Store { snapshot: ArcSwapOption::empty(), changing: Mutex::new(()), database, seal })
    }

    /// One consistent view: all that was written before.
    pub(crate) fn read(&self) -> Result<Read<'_>, StoreError> {
        let snapshot = match self.snapshot.load_full() {
            Some(snapshot) => snapshot,
            None => self.renew()?,
        };
        Ok(Read { snapshot, seal: &self.seal })
    }

    fn renew(&self) -> Result<Arc<Snapshot>, StoreError> {
        let _alone = self.changing();
        let snapshot = Arc::new(Snapshot::take(&self.database)?);
        self.snapshot.store(Some(snapshot.clone()));
        Ok(snapshot)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` in one transaction, durable when this returns.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(StoreError::from)?;
        let write = Write { transaction, seal: &self.seal };
        let out = change(&write)?;
        write.transaction.commit().map_err(StoreError::from)?;
        // The next read takes a new one: nobody need read between two writes.
        let _alone = self.changing();
        self.snapshot.store(None);
        Ok(out)
    }

    /// Key of an identifier in `links` or `local_numbers`.
    pub(crate) fn link(&self, kind: &str, identifier: &[u8]) -> [u8; 32] {
        self.seal.link(kind, identifier)
    }
}

impl Seal {
    fn link(&self, kind: &str, identifier: &[u8]) -> [u8; 32] {
        self.links.mac(&[kind.as_bytes(), &[0], identifier])
    }

    fn of(&self, table: Table) -> &Sealer {
        if table == Table::SEALED_FIELDS { &self.sealed_fields } else { &self.ordinary }
    }

    fn close(&self, table: Table, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.of(table).seal(&aad(table, key), value)?)
    }

    fn open<T: DeserializeOwned>(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<T, StoreError> {
        let plain = self.of(table).open(&aad(table, key), sealed).map_err(|_| StoreError::Sealed(table.0))?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Shape(table.0))
    }
}

fn aad(table: Table, key: &[u8]) -> Vec<u8> {
    [table.0.as_bytes(), &[0], key].concat()
}

/// A consistent view of the store.
pub(crate) struct Read<'a> {
    snapshot: Arc<Snapshot>,
    seal: &'a Seal,
}

impl Read<'_> {
    fn rows(&self, table: Table) -> Result<&Rows, StoreError> {
        self.snapshot.0.get(table.0).ok_or(StoreError::Shape(table.0))
    }

    /// The value at `key`.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.rows(table)?.get(key)?;
        found.map(|value| self.seal.open(table, key, value.value())).transpose()
    }

    /// Up to `limit` keys of `table` after `after`, in order.
    pub(crate) fn keys_after(&self, table: Table, after: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let rows = self.rows(table)?;
        let range = rows.range::<&[u8]>((Excluded(after), Unbounded))?;
        range.take(limit).map(|row| Ok(row?.0.value().to_vec())).collect()
    }

    /// Up to `limit` keys of `table` that begin with `prefix` and go on, in order.
    pub(crate) fn some_with(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = self.keys_after(table, prefix, limit)?;
        keys.retain(|key| key.starts_with(prefix));
        Ok(keys)
    }

    /// Keys of `table` that begin with `prefix`.
    pub(crate) fn keys_with(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = self.rows(table)?;
        let mut out = Vec::new();
        for row in rows.range::<&[u8]>(prefix..)? {
            let key = row?.0.value().to_vec();
            if !key.starts_with(prefix) {
                break;
            }
            out.push(key);
        }
        Ok(out)
    }

    /// Every row of `table` with its key, in order; each is opened when its turn comes.
    pub(crate) fn each<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, T), StoreError>>, StoreError> {
        Ok(self.rows(table)?.iter()?.map(move |row| {
            let (key, value) = row?;
            Ok((key.value().to_vec(), self.seal.open(table, key.value(), value.value())?))
        }))
    }

    /// Rows in `table`.
    pub(crate) fn count(&self, table: Table) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata as _;
        Ok(self.rows(table)?.len()?)
    }
}

/// A transaction being written.
pub(crate) struct Write<'a> {
    transaction: redb::WriteTransaction,
    seal: &'a Seal,
}

impl Write<'_> {
    /// Opens a table for many rows, which costs more than one row does. Until this is dropped nothing else opens it.
    pub(crate) fn open(&self, table: Table) -> Result<Open<'_>, StoreError> {
        Ok(Open { rows: self.transaction.open_table(table.definition())?, table, seal: self.seal })
    }

    /// The value at `key` as this transaction sees it.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.open(table)?.get(key)
    }

    /// Puts `value` at `key`.
    pub(crate) fn put<T: Serialize>(&self, table: Table, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.put_all(table, [(key.to_vec(), value)])
    }

    /// Puts every value at its key.
    pub(crate) fn put_all<T: Serialize>(
        &self,
        table: Table,
        rows: impl IntoIterator<Item = (Vec<u8>, T)>,
    ) -> Result<(), StoreError> {
        let mut open = self.open(table)?;
        rows.into_iter().try_for_each(|(key, value)| open.put(&key, &value))
    }

    /// Whether anything is at `key`.
    pub(crate) fn has(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.open(table)?.has(key)
    }

    /// Removes what is at `key`; whether anything was.
    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.transaction.open_table(table.definition())?.remove(key)?.is_some())
    }

    /// The part of a key in `leaving` that stands for an index.
    pub(crate) fn leaving_link(&self, index: &Index) -> [u8; 32] {
        self.seal.link("leaving", &index.0)
    }

    /// The last key of `table`.
    pub(crate) fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.open(table)?.rows.last()?.map(|row| row.0.value().to_vec()))
    }
}

/// A table of a transaction, open.
pub(crate) struct Open<'a> {
    rows: redb::Table<'a, &'static [u8], &'static [u8]>,
    table: Table,
    seal: &'a Seal,
}

impl Open<'_> {
    /// The value at `key`.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.rows.get(key)?.map(|value| self.seal.open(self.table, key, value.value())).transpose()
    }

    /// Whether anything is at `key`.
    pub(crate) fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.rows.get(key)?.is_some())
    }

    /// Puts `value` at `key`.
    pub(crate) fn put<T: Serialize>(&mut self, key: &[u8], value: &T) -> Result<(), StoreError> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(value).map_err(|_| StoreError::Shape(self.table.0))?);
        self.rows.insert(key, self.seal.close(self.table, key, &plain)?.as_slice())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, key: u8) -> Result<Store, StoreError> {
        Store::open(&dir.join("node.redb"), &StorageKey::from_bytes([key; 32]))
    }

    #[test]
    fn values_survive_reopening_and_open_under_their_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1).unwrap();
        assert!(matches!(open(dir.path(), 1), Err(StoreError::InUse)));
        store.write(|w| w.put(Table::FILES, &[1; 16], &"wartość")).unwrap_or_else(|e: StoreError| panic!("{e}"));
        drop(store);
        let get = |store: &Store| store.read()?.get::<String>(Table::FILES, &[1; 16]);
        assert_eq!(get(&open(dir.path(), 1).unwrap()).unwrap().unwrap(), "wartość");
        assert!(matches!(get(&open(dir.path(), 2).unwrap()), Err(StoreError::Sealed("files"))));
        let disk = std::fs::read(dir.path().join("node.redb")).unwrap();
        assert!(!disk.windows(5).any(|w| w == "warto".as_bytes()));
    }

    #[test]
    fn a_failed_change_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1).unwrap();
        let failed: Result<(), StoreError> = store.write(|w| {
            w.put(Table::FILES, &[1; 16], &1)?;
            Err(StoreError::Shape("test"))
        });
        assert!(failed.is_err());
        assert_eq!(store.read().unwrap().count(Table::FILES).unwrap(), 0);
    }

    #[test]
    fn ranges_page_and_prefixes_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1).unwrap();
        store
            .write(|w| [[1, 1], [1, 2], [2, 0]].iter().try_for_each(|key| w.put(Table::STATE, key, &0)))
            .unwrap_or_else(|e: StoreError| panic!("{e}"));
        let read = store.read().unwrap();
        assert_eq!(read.keys_after(Table::STATE, &[1, 1], 1).unwrap(), [[1, 2]]);
        assert_eq!(read.keys_with(Table::STATE, &[1]).unwrap(), [[1, 1], [1, 2]]);
    }
}
