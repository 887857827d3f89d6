//! The embedded engine: one `redb` file.
//!
//! **Keeps** two tables. `rows`: key 32 bytes → row 576 bytes. `requests`: `until` (8 bytes, big endian, sign bit
//! flipped so that order is time's) ‖ id 32 bytes → nothing; old ones are a prefix of the table.
//!
//! **An update** goes to one writer thread. It takes whatever batches wait, applies them in one transaction and commits
//! with `Durability::Immediate` (`fdatasync`) before it answers any of them: many small writers share one commit. A
//! batch is never split over two transactions.
//!
//! **A crash** leaves the last commit: `redb` writes copy-on-write and switches a checksummed root. Batches that were
//! not acknowledged may be there whole or missing whole. After an unclean end the first open walks the file.
//!
//! **An I/O error** (a full disk) fails everybody in that commit, and the file is opened again, because `redb` refuses
//! a handle that has failed once. When the disk has room again the next call works.

use crate::store::{Answer, Batch, IndexStore, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written};
use protocol::Timestamp;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table,
    TableDefinition,
};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

const ROWS: TableDefinition<'_, &[u8; 32], &[u8; ROW_BYTES]> = TableDefinition::new("rows");
const REQUESTS: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("requests");

/// Batches that share a commit at most, so that the first of them does not wait long.
const GROUP: usize = 32;
/// Batches that may wait; more wait in their callers.
const QUEUE: usize = 64;

/// The index in one file of this machine. Dropping it finishes what waits and closes the file.
pub struct Embedded {
    file: Arc<IndexFile>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens `path`, or makes it. Blocks; `cache_bytes` bounds the memory for pages.
    ///
    /// # Errors
    /// The file cannot be used, or another process has it open.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let path = path.to_owned();
        Self::open_by(Box::new(move || Database::builder().set_cache_size(cache_bytes).create(&path)))
    }

    fn open_by(open: Open) -> Result<Self, StoreError> {
        let file = Arc::new(IndexFile { handle: RwLock::new(Some(with_tables(&open).map_err(unusable)?)), open });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writing = file.clone();
        let writer = std::thread::Builder::new()
            .name("index-writer".to_owned())
            .spawn(move || run(&writing, queue))
            .map_err(|e| StoreError(e.to_string()))?;
        Ok(Embedded { file, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn submit(&self, change: Change) -> Result<Written, StoreError> {
        let stopped = || StoreError("its writer has stopped".to_owned());
        let (answer, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(Job { change, answer }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = self.file.clone();
        let task = tokio::task::spawn_blocking(move || file.with(read));
        task.await.unwrap_or_else(|e| Err(StoreError(e.to_string())))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has already refused everybody.
            let _ = writer.join();
        }
    }
}

impl IndexStore for Embedded {
    fn get(&self, keys: Vec<RowKey>) -> Answer<'_, Vec<Option<Row>>> {
        Box::pin(self.read(move |db| {
            let table = db.begin_read()?.open_table(ROWS)?;
            let mut found: Vec<Option<Row>> = keys.iter().map(|_| None).collect();
            // In key order neighbours share pages.
            let mut wanted: Vec<_> = keys.iter().zip(&mut found).collect();
            wanted.sort_unstable_by_key(|(key, _)| **key);
            for (key, place) in wanted {
                *place = table.get(&key.0)?.map(|row| Row(Box::new(*row.value())));
            }
            Ok(found)
        }))
    }

    fn write(&self, mut batch: Batch) -> Answer<'_, Written> {
        batch.put.sort_unstable_by_key(|(key, _)| *key);
        Box::pin(self.submit(Change::Write(batch)))
    }

    fn page(&self, after: Option<RowKey>, limit: usize) -> Answer<'_, Vec<(RowKey, Row)>> {
        Box::pin(self.read(move |db| {
            let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key.0));
            let rows = db.begin_read()?.open_table(ROWS)?;
            let page = rows.range::<&[u8; 32]>((from, Bound::Unbounded))?.take(limit);
            page.map(|row| {
                row.map(|(key, row)| (RowKey(*key.value()), Row(Box::new(*row.value())))).map_err(Into::into)
            })
            .collect()
        }))
    }

    fn sweep(&self, rows: Vec<(RowKey, Row)>, now: Timestamp) -> Answer<'_, usize> {
        Box::pin(async move {
            match self.submit(Change::Sweep(rows, now)).await? {
                Written::Stored { deleted } => Ok(deleted),
                Written::Replayed => Ok(0),
            }
        })
    }

    fn count(&self) -> Answer<'_, u64> {
        Box::pin(self.read(|db| Ok(db.begin_read()?.open_table(ROWS)?.len()?)))
    }
}

type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The open file, or none after a failure that has not healed yet.
struct IndexFile {
    open: Open,
    handle: RwLock<Option<Database>>,
}

impl IndexFile {
    fn with<T>(&self, f: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let outcome = match &*self.handle.read().unwrap_or_else(PoisonError::into_inner) {
            Some(db) => f(db),
            None => Err(redb::Error::DatabaseClosed),
        };
        outcome.map_err(|error| {
            self.reopen();
            unusable(error)
        })
    }

    /// Two handles of one file cannot be open at once, so the failed one goes first.
    fn reopen(&self) {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        drop(handle.take());
        *handle = with_tables(&self.open).ok();
    }
}

fn with_tables(open: &Open) -> Result<Database, redb::Error> {
    let db = open()?;
    let transaction = db.begin_write()?;
    transaction.open_table(ROWS)?;
    transaction.open_table(REQUESTS)?;
    transaction.commit()?;
    Ok(db)
}

fn unusable(error: impl Into<redb::Error>) -> StoreError {
    StoreError(error.into().to_string())
}

enum Change {
    Write(Batch),
    Sweep(Vec<(RowKey, Row)>, Timestamp),
}

struct Job {
    change: Change,
    answer: oneshot::Sender<Result<Written, StoreError>>,
}

fn run(file: &IndexFile, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(job) = queue.try_recv()
        {
            group.push(job);
        }
        let outcome = file.with(|db| commit(db, &group));
        let written = match outcome {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); group.len()],
        };
        for (job, written) in group.into_iter().zip(written) {
            // A caller that hung up does not want to know.
            let _ = job.answer.send(written);
        }
    }
}

/// One transaction for the whole group; its default durability is `Immediate`.
fn commit(db: &Database, group: &[Job]) -> Result<Vec<Written>, redb::Error> {
    let transaction = db.begin_write()?;
    let mut rows = transaction.open_table(ROWS)?;
    let mut requests = transaction.open_table(REQUESTS)?;
    let mut written = Vec::with_capacity(group.len());
    for job in group {
        written.push(match &job.change {
            Change::Write(batch) => write(&mut rows, &mut requests, batch)?,
            Change::Sweep(lapsed, now) => sweep(&mut rows, &mut requests, lapsed, *now)?,
        });
    }
    drop((rows, requests));
    transaction.commit()?;
    Ok(written)
}

type Rows<'t> = Table<'t, &'static [u8; 32], &'static [u8; ROW_BYTES]>;
type Requests<'t> = Table<'t, &'static [u8; 40], ()>;

fn write(rows: &mut Rows<'_>, requests: &mut Requests<'_>, batch: &Batch) -> Result<Written, redb::Error> {
    if requests.insert(&request_key(&batch.request), ())?.is_some() {
        return Ok(Written::Replayed);
    }
    for (key, row) in &batch.put {
        rows.insert(&key.0, &*row.0)?;
    }
    let mut deleted = 0;
    for key in &batch.delete {
        deleted += usize::from(rows.remove(&key.0)?.is_some());
    }
    Ok(Written::Stored { deleted })
}

fn sweep(
    rows: &mut Rows<'_>,
    requests: &mut Requests<'_>,
    lapsed: &[(RowKey, Row)],
    now: Timestamp,
) -> Result<Written, redb::Error> {
    let mut deleted = 0;
    for (key, row) in lapsed {
        if rows.get(&key.0)?.is_some_and(|held| held.value() == &*row.0) {
            rows.remove(&key.0)?;
            deleted += 1;
        }
    }
    let end = request_key(&RequestId { id: [0; 32], until: now });
    requests.retain_in::<&[u8; 40], _>(..&end, |_, ()| false)?;
    Ok(Written::Stored { deleted })
}

fn request_key(request: &RequestId) -> [u8; 40] {
    let mut key = [0; 40];
    let (until, id) = key.split_at_mut(8);
    until.copy_from_slice(&(request.until.0 ^ i64::MIN).to_be_bytes());
    id.copy_from_slice(&request.id);
    key
}

#[cfg(test)]
mod tests;
