//! The embedded engine: one `redb` file.
//!
//! **Keeps** four tables. `rows`: key 32 bytes → row. `notes`: queue 32 bytes ‖ time ‖ id 16 bytes → row. `requests`: time
//! ‖ id 32 bytes → nothing. `meters`: id 32 bytes → count ‖ until. A time is 8 bytes, big endian, sign bit flipped, so that
//! the order of keys is that of time: old requests are a prefix of their table.
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

use crate::store::{
    Answer, Batch, Count, IndexStore, Ledger, MeterId, NoteKey, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written,
};
use protocol::Timestamp;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table,
    TableDefinition, WriteTransaction,
};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const ROWS: TableDefinition<'_, &[u8; 32], &[u8; ROW_BYTES]> = TableDefinition::new("rows");
const NOTES: TableDefinition<'_, &[u8; 56], &[u8; ROW_BYTES]> = TableDefinition::new("notes");
const REQUESTS: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("requests");
const METERS: TableDefinition<'_, &[u8; 32], (u64, i64)> = TableDefinition::new("meters");

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
        let made = Database::builder().set_cache_size(cache_bytes).create(path).map_err(unusable)?;
        let path = path.to_owned();
        // A file that is gone later is not made anew: an empty index would say of everybody that nobody knows them.
        Self::over(made, Box::new(move || Database::builder().set_cache_size(cache_bytes).open(&path)))
    }

    /// Serves from `database`, and from what `reopen` opens after a failure.
    fn over(database: Database, reopen: Reopen) -> Result<Self, StoreError> {
        let handle = RwLock::new(Some(with_tables(database).map_err(unusable)?));
        let file = Arc::new(IndexFile { reopen, handle });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writing = file.clone();
        let writer = std::thread::Builder::new()
            .name("index-writer".to_owned())
            .spawn(move || run(&writing, queue))
            .map_err(|e| StoreError(e.to_string()))?;
        Ok(Embedded { file, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn submit(&self, change: Change) -> Result<Done, StoreError> {
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
        // A read whose caller hung up goes on to its end.
        while Arc::strong_count(&self.file) > 1 {
            std::thread::sleep(Duration::from_millis(1));
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
        Box::pin(async move {
            match self.submit(Change::Write(batch)).await? {
                Done::Written(written) => Ok(written),
                Done::Totals(_) => Err(mixed_up()),
            }
        })
    }

    fn charge(&self, counts: Vec<Count>) -> Answer<'_, Vec<u64>> {
        Box::pin(async move {
            match self.submit(Change::Charge(counts)).await? {
                Done::Totals(totals) => Ok(totals),
                Done::Written(_) => Err(mixed_up()),
            }
        })
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

    fn notes(&self, after: NoteKey, through: NoteKey, limit: usize) -> Answer<'_, Vec<(NoteKey, Row)>> {
        Box::pin(self.read(move |db| {
            let (after, through) = (note_bytes(&after), note_bytes(&through));
            if after > through {
                return Ok(Vec::new());
            }
            let notes = db.begin_read()?.open_table(NOTES)?;
            let page = notes.range::<&[u8; 56]>((Bound::Excluded(&after), Bound::Included(&through)))?.take(limit);
            page.map(|note| {
                note.map(|(key, row)| (note_key(key.value()), Row(Box::new(*row.value())))).map_err(Into::into)
            })
            .collect()
        }))
    }

    fn ledger(&self) -> Answer<'_, Ledger> {
        Box::pin(self.read(|db| {
            let transaction = db.begin_read()?;
            let (requests, meters) = (transaction.open_table(REQUESTS)?, transaction.open_table(METERS)?);
            let mut ledger = Ledger::default();
            for request in requests.iter()? {
                ledger.requests.push(request_id(request?.0.value()));
            }
            for meter in meters.iter()? {
                let (id, value) = meter?;
                let (add, until) = value.value();
                ledger.meters.push(Count { meter: MeterId(*id.value()), add, until: Timestamp(until) });
            }
            Ok(ledger)
        }))
    }

    fn load(&self, rows: Vec<(RowKey, Row)>, notes: Vec<(NoteKey, Row)>, ledger: Ledger) -> Answer<'_, ()> {
        Box::pin(async move { self.submit(Change::Load(rows, notes, ledger)).await.map(drop) })
    }

    fn forget(&self, now: Timestamp, notes_before: Timestamp) -> Answer<'_, ()> {
        Box::pin(async move { self.submit(Change::Forget(now, notes_before)).await.map(drop) })
    }

    fn sweep(&self, rows: Vec<(RowKey, Row)>) -> Answer<'_, usize> {
        Box::pin(async move {
            match self.submit(Change::Sweep(rows)).await? {
                Done::Written(Written::Stored { deleted }) => Ok(deleted),
                Done::Written(Written::Replayed) | Done::Totals(_) => Err(mixed_up()),
            }
        })
    }

    fn count(&self) -> Answer<'_, u64> {
        Box::pin(self.read(|db| Ok(db.begin_read()?.open_table(ROWS)?.len()?)))
    }

    fn size(&self) -> Answer<'_, u64> {
        self.count()
    }

    /// Its file is of one process alone.
    fn is_served(&self) -> Answer<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    fn ready(&self) -> Answer<'_, Vec<String>> {
        Box::pin(self.read(|db| Ok(db.begin_read().map(|_| Vec::new())?)))
    }
}

type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The open file, or none after a failure that has not healed yet.
struct IndexFile {
    reopen: Reopen,
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
        *handle = (self.reopen)().map_err(redb::Error::from).and_then(with_tables).ok();
    }
}

fn with_tables(db: Database) -> Result<Database, redb::Error> {
    let transaction = db.begin_write()?;
    drop(Tables::open(&transaction)?);
    transaction.commit()?;
    Ok(db)
}

fn unusable(error: impl Into<redb::Error>) -> StoreError {
    StoreError(error.into().to_string())
}

fn mixed_up() -> StoreError {
    StoreError("its writer answered another question".to_owned())
}

enum Change {
    Write(Batch),
    Charge(Vec<Count>),
    Load(Vec<(RowKey, Row)>, Vec<(NoteKey, Row)>, Ledger),
    Sweep(Vec<(RowKey, Row)>),
    Forget(Timestamp, Timestamp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Written(Written),
    Totals(Vec<u64>),
}

struct Job {
    change: Change,
    answer: oneshot::Sender<Result<Done, StoreError>>,
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
        let done = match outcome {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); group.len()],
        };
        for (job, done) in group.into_iter().zip(done) {
            // A caller that hung up does not want to know.
            let _ = job.answer.send(done);
        }
    }
}

/// One transaction for the whole group; its default durability is `Immediate`.
fn commit(db: &Database, group: &[Job]) -> Result<Vec<Done>, redb::Error> {
    let transaction = db.begin_write()?;
    let mut tables = Tables::open(&transaction)?;
    let mut done = Vec::with_capacity(group.len());
    for job in group {
        done.push(match &job.change {
            Change::Write(batch) => Done::Written(tables.write(batch)?),
            Change::Charge(counts) => Done::Totals(tables.charge(counts)?),
            Change::Load(rows, notes, ledger) => Done::Written(tables.load(rows, notes, ledger)?),
            Change::Sweep(lapsed) => Done::Written(tables.sweep(lapsed)?),
            Change::Forget(now, notes_before) => Done::Written(tables.forget(*now, *notes_before)?),
        });
    }
    drop(tables);
    transaction.commit()?;
    Ok(done)
}

struct Tables<'t> {
    rows: Table<'t, &'static [u8; 32], &'static [u8; ROW_BYTES]>,
    notes: Table<'t, &'static [u8; 56], &'static [u8; ROW_BYTES]>,
    requests: Table<'t, &'static [u8; 40], ()>,
    meters: Table<'t, &'static [u8; 32], (u64, i64)>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Tables {
            rows: transaction.open_table(ROWS)?,
            notes: transaction.open_table(NOTES)?,
            requests: transaction.open_table(REQUESTS)?,
            meters: transaction.open_table(METERS)?,
        })
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, redb::Error> {
        if let Some(request) = &batch.request
            && self.requests.insert(&request_bytes(request), ())?.is_some()
        {
            return Ok(Written::Replayed);
        }
        for (key, row) in &batch.put {
            self.rows.insert(&key.0, &*row.0)?;
        }
        let mut deleted = 0;
        for key in &batch.delete {
            deleted += usize::from(self.rows.remove(&key.0)?.is_some());
        }
        for key in &batch.unnote {
            self.notes.remove(&note_bytes(key))?;
        }
        self.note(&batch.note)?;
        self.charge(&batch.count)?;
        Ok(Written::Stored { deleted })
    }

    fn note(&mut self, notes: &[(NoteKey, Row)]) -> Result<(), redb::Error> {
        for (key, row) in notes {
            let key = note_bytes(key);
            if self.notes.get(&key)?.is_none() {
                self.notes.insert(&key, &*row.0)?;
            }
        }
        Ok(())
    }

    fn charge(&mut self, counts: &[Count]) -> Result<Vec<u64>, redb::Error> {
        let mut totals = Vec::with_capacity(counts.len());
        for count in counts {
            let before = self.meters.get(&count.meter.0)?.map_or(0, |value| value.value().0);
            let total = before.saturating_add(count.add);
            self.meters.insert(&count.meter.0, (total, count.until.0))?;
            totals.push(total);
        }
        Ok(totals)
    }

    fn load(
        &mut self,
        rows: &[(RowKey, Row)],
        notes: &[(NoteKey, Row)],
        ledger: &Ledger,
    ) -> Result<Written, redb::Error> {
        for (key, row) in rows {
            self.rows.insert(&key.0, &*row.0)?;
        }
        self.note(notes)?;
        for request in &ledger.requests {
            self.requests.insert(&request_bytes(request), ())?;
        }
        for meter in &ledger.meters {
            self.meters.insert(&meter.meter.0, (meter.add, meter.until.0))?;
        }
        Ok(Written::Stored { deleted: 0 })
    }

    fn sweep(&mut self, lapsed: &[(RowKey, Row)]) -> Result<Written, redb::Error> {
        let mut deleted = 0;
        for (key, row) in lapsed {
            if self.rows.get(&key.0)?.is_some_and(|held| held.value() == &*row.0) {
                self.rows.remove(&key.0)?;
                deleted += 1;
            }
        }
        Ok(Written::Stored { deleted })
    }

    fn forget(&mut self, now: Timestamp, notes_before: Timestamp) -> Result<Written, redb::Error> {
        let end = request_bytes(&RequestId { id: [0; 32], until: now });
        self.requests.retain_in::<&[u8; 40], _>(..&end, |_, ()| false)?;
        self.meters.retain(|_, (_, until)| until >= now.0)?;
        self.notes.retain(|key, _| note_key(key).at >= notes_before)?;
        Ok(Written::Stored { deleted: 0 })
    }
}

/// 8 bytes whose order is that of time.
fn time_bytes(time: Timestamp) -> [u8; 8] {
    (time.0 ^ i64::MIN).to_be_bytes()
}

fn time(bytes: [u8; 8]) -> Timestamp {
    Timestamp(i64::from_be_bytes(bytes) ^ i64::MIN)
}

fn request_bytes(request: &RequestId) -> [u8; 40] {
    let mut key = [0; 40];
    let (until, id) = key.split_at_mut(8);
    until.copy_from_slice(&time_bytes(request.until));
    id.copy_from_slice(&request.id);
    key
}

fn request_id(key: &[u8; 40]) -> RequestId {
    let (mut until, mut id) = ([0; 8], [0; 32]);
    let (time_part, id_part) = key.split_at(8);
    until.copy_from_slice(time_part);
    id.copy_from_slice(id_part);
    RequestId { id, until: time(until) }
}

fn note_bytes(note: &NoteKey) -> [u8; 56] {
    let mut key = [0; 56];
    let (queue, rest) = key.split_at_mut(32);
    let (at, id) = rest.split_at_mut(8);
    queue.copy_from_slice(&note.queue);
    at.copy_from_slice(&time_bytes(note.at));
    id.copy_from_slice(&note.id);
    key
}

fn note_key(key: &[u8; 56]) -> NoteKey {
    let (mut queue, mut at, mut id) = ([0; 32], [0; 8], [0; 16]);
    let (queue_part, rest) = key.split_at(32);
    let (at_part, id_part) = rest.split_at(8);
    queue.copy_from_slice(queue_part);
    at.copy_from_slice(at_part);
    id.copy_from_slice(id_part);
    NoteKey { queue, at: time(at), id }
}

#[cfg(test)]
mod tests;
