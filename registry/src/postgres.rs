//! The PostgreSQL engine: one database, any number of registry processes over it.
//!
//! **Keeps** what the embedded engine keeps, in the tables of `migrations/`. Keys are HMACs, so that they spread evenly
//! over a distributed store that speaks the protocol; there is no sequence, no foreign key, and no row that every batch
//! changes: what a member is counted for is spread over many meters (`meters.rs`).
//!
//! **An update** is one transaction. Its keys are written in order, so that two batches cannot wait for each other; where
//! the server ends one of two all the same, it is done again. **A crash** of this program or of the server leaves the
//! batches that were acknowledged and perhaps one that was not. **A failover** keeps them if the commit waited for the
//! standby: see [`connect`].
//!
//! **A lost connection** fails the call it carried: whether a write was done the caller learns by sending its request
//! again. Reads are tried once more on another connection.

mod connect;
mod schema;
#[cfg(test)]
mod tests;

use crate::config::PostgresConfig;
use crate::store::{
    Answer, Batch, Count, IndexStore, Ledger, MeterId, NoteKey, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written,
};
use deadpool_postgres::{Client, Pool, Transaction};
use futures_util::pin_mut;
use protocol::Timestamp;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row as Record};

const GET: &str = "SELECT key, row FROM entries WHERE key = ANY($1)";
const PAGE_FIRST: &str = "SELECT key, row FROM entries ORDER BY key LIMIT $1";
const PAGE: &str = "SELECT key, row FROM entries WHERE key > $1 ORDER BY key LIMIT $2";
const NOTES: &str = "SELECT queue, at, id, row FROM notes \
     WHERE (queue, at, id) > ($1, $2, $3) AND (queue, at, id) <= ($4, $5, $6) ORDER BY queue, at, id LIMIT $7";
const REMEMBER: &str = "INSERT INTO requests (id, until) \
     SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING";
const PUT: &str = "INSERT INTO entries (key, row) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
     ON CONFLICT (key) DO UPDATE SET row = excluded.row";
const DELETE: &str = "DELETE FROM entries WHERE key = ANY($1)";
const NOTE: &str = "INSERT INTO notes (queue, at, id, row) \
     SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[]) ON CONFLICT DO NOTHING";
const UNNOTE: &str = "DELETE FROM notes WHERE queue = $1 AND at = $2 AND id = $3";
const COUNT_UP: &str = "INSERT INTO meters (id, count, until) VALUES ($1, $2, $3) \
     ON CONFLICT (id) DO UPDATE SET count = meters.count + excluded.count RETURNING count";
const SET_METER: &str = "INSERT INTO meters (id, count, until) VALUES ($1, $2, $3) \
     ON CONFLICT (id) DO UPDATE SET count = excluded.count";
const SWEEP: &str = "DELETE FROM entries USING unnest($1::bytea[], $2::bytea[]) AS lapsed (key, row) \
     WHERE entries.key = lapsed.key AND entries.row = lapsed.row";
const STAGING: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS staging (key bytea, row bytea) ON COMMIT DELETE ROWS";
const COPY: &str = "COPY staging (key, row) FROM STDIN BINARY";
const UNSTAGE: &str = "INSERT INTO entries (key, row) SELECT key, row FROM staging ORDER BY key \
     ON CONFLICT (key) DO UPDATE SET row = excluded.row";

const COUNT: &str = "SELECT count(*) FROM entries";
/// Rows up to $1, and what the server believes: nothing or less before it has looked.
const SIZE: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM entries LIMIT $1) AS few), \
     (SELECT reltuples::bigint FROM pg_class WHERE oid = 'entries'::regclass)";
/// Fewer rows are counted every time.
const FEW: i64 = 10_000;

/// The name of a session by which a registry serves. Who migrates has another.
const SERVING: &str = "ogniwo-registry";
const MIGRATING: &str = "ogniwo-migrate";
const SERVED: &str =
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 LIMIT 1";
/// A session lasts a moment longer than the registry that was stopped.
const ENDING: Duration = Duration::from_secs(5);

/// A transaction that the server ended for another's sake is tried this often.
const ATTEMPTS: usize = 5;
/// Longer than the server's own limit on a statement: what takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// The index in a PostgreSQL database.
pub struct Postgres {
    pool: Pool,
    require_standby: bool,
}

impl Postgres {
    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    /// The database cannot be reached, promises too little, or is of a newer version of this program.
    pub async fn open(settings: &PostgresConfig) -> Result<Self, StoreError> {
        Self::open_as(settings, SERVING).await
    }

    /// Connects as [`Postgres::open`] does, but not to serve.
    pub(crate) async fn open_to_migrate(settings: &PostgresConfig) -> Result<Self, StoreError> {
        Self::open_as(settings, MIGRATING).await
    }

    async fn open_as(settings: &PostgresConfig, application: &str) -> Result<Self, StoreError> {
        let pool = connect::pool(settings, application)?;
        let store = Postgres { pool, require_standby: settings.require_standby };
        let mut client = store.client().await?;
        schema::migrate(&mut client).await?;
        for warning in connect::prepare(&client, store.require_standby).await? {
            tracing::warn!(code = "index_durability", "{warning}");
        }
        drop(client);
        Ok(store)
    }

    /// Connects and checks what the server promises, and makes nothing.
    ///
    /// # Errors
    /// The database cannot be reached, or promises too little.
    pub async fn reach(settings: &PostgresConfig) -> Result<(), StoreError> {
        let store = Postgres { pool: connect::pool(settings, MIGRATING)?, require_standby: settings.require_standby };
        store.client().await.map(drop)
    }

    async fn client(&self) -> Result<Client, StoreError> {
        use deadpool_postgres::{HookError, PoolError};
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => unusable(&error),
            PoolError::PostCreateHook(HookError::Message(text)) => StoreError(text.into_owned()),
            other => StoreError(other.to_string()),
        })
    }

    /// Reads; once more if the connection turned out to be gone.
    async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Record>, StoreError> {
        let attempt = async || {
            let client = self.client().await?;
            let answer = match client.prepare_cached(sql).await {
                Ok(statement) => client.query(&statement, values).await,
                Err(error) => Err(error),
            };
            Ok::<_, StoreError>(answer)
        };
        let answer = match attempt().await? {
            Err(error) if error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => attempt().await?,
            answer => answer,
        };
        answer.map_err(|error| unusable(&error))
    }

    async fn change(&self, change: Change<'_>) -> Result<Done, StoreError> {
        let mut attempt = 1;
        loop {
            let mut client = self.client().await?;
            match in_transaction(&mut client, &change).await {
                Err(error) if attempt < ATTEMPTS && contended(&error) => attempt += 1,
                outcome => return outcome.map_err(|error| unusable(&error)),
            }
        }
    }
}

enum Change<'a> {
    Write(&'a Batch),
    Charge(&'a [Count]),
    Load(&'a [(RowKey, Row)], &'a [(NoteKey, Row)], &'a Ledger),
    Sweep(&'a [(RowKey, Row)]),
    Forget(Timestamp, Timestamp),
}

enum Done {
    Written(Written),
    Totals(Vec<u64>),
}

async fn in_transaction(client: &mut Client, change: &Change<'_>) -> Result<Done, Error> {
    let transaction = client.transaction().await?;
    let done = match change {
        Change::Write(batch) => Done::Written(write(&transaction, batch).await?),
        Change::Charge(counts) => Done::Totals(count(&transaction, COUNT_UP, counts).await?),
        Change::Load(rows, notes, ledger) => {
            load(&transaction, rows).await?;
            note(&transaction, notes).await?;
            remember(&transaction, &ledger.requests).await?;
            Done::Totals(count(&transaction, SET_METER, &ledger.meters).await?)
        }
        Change::Sweep(rows) => Done::Written(sweep(&transaction, rows).await?),
        Change::Forget(now, notes_before) => Done::Written(forget(&transaction, *now, *notes_before).await?),
    };
    transaction.commit().await?;
    Ok(done)
}

async fn write(transaction: &Transaction<'_>, batch: &Batch) -> Result<Written, Error> {
    if let Some(request) = batch.request
        && remember(transaction, &[request]).await? == 0
    {
        return Ok(Written::Replayed);
    }
    if !batch.put.is_empty() {
        let (keys, rows) = columns(&batch.put);
        transaction.execute(&transaction.prepare_cached(PUT).await?, &[&keys, &rows]).await?;
    }
    let mut deleted = 0;
    if !batch.delete.is_empty() {
        let keys: Vec<&[u8]> = batch.delete.iter().map(|key| key.0.as_slice()).collect();
        let cleared = transaction.execute(&transaction.prepare_cached(DELETE).await?, &[&keys]).await?;
        deleted = usize::try_from(cleared).unwrap_or(usize::MAX);
    }
    for key in &batch.unnote {
        let statement = transaction.prepare_cached(UNNOTE).await?;
        transaction.execute(&statement, &[&key.queue.as_slice(), &key.at.0, &key.id.as_slice()]).await?;
    }
    note(transaction, &batch.note).await?;
    count(transaction, COUNT_UP, &batch.count).await?;
    Ok(Written::Stored { deleted })
}

/// Returns how many were new.
async fn remember(transaction: &Transaction<'_>, requests: &[RequestId]) -> Result<u64, Error> {
    if requests.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&[u8]> = requests.iter().map(|request| request.id.as_slice()).collect();
    let until: Vec<i64> = requests.iter().map(|request| request.until.0).collect();
    transaction.execute(&transaction.prepare_cached(REMEMBER).await?, &[&ids, &until]).await
}

async fn note(transaction: &Transaction<'_>, notes: &[(NoteKey, Row)]) -> Result<(), Error> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut notes: Vec<_> = notes.iter().collect();
    notes.sort_unstable_by_key(|(key, _)| *key);
    let queues: Vec<&[u8]> = notes.iter().map(|(key, _)| key.queue.as_slice()).collect();
    let at: Vec<i64> = notes.iter().map(|(key, _)| key.at.0).collect();
    let ids: Vec<&[u8]> = notes.iter().map(|(key, _)| key.id.as_slice()).collect();
    let rows: Vec<&[u8]> = notes.iter().map(|(_, row)| row.0.as_slice()).collect();
    let statement = transaction.prepare_cached(NOTE).await?;
    transaction.execute(&statement, &[&queues, &at, &ids, &rows]).await.map(drop)
}

/// Returns the totals, in order; in the order of their meters the rows are locked.
async fn count(transaction: &Transaction<'_>, sql: &str, counts: &[Count]) -> Result<Vec<u64>, Error> {
    let mut ordered: Vec<_> = counts.iter().enumerate().collect();
    ordered.sort_unstable_by_key(|(_, count)| count.meter);
    let mut totals = vec![0; counts.len()];
    for (place, count) in ordered {
        let add = i64::try_from(count.add).unwrap_or(i64::MAX);
        let statement = transaction.prepare_cached(sql).await?;
        let records = transaction.query(&statement, &[&count.meter.0.as_slice(), &add, &count.until.0]).await?;
        if let (Some(record), Some(total)) = (records.first(), totals.get_mut(place)) {
            *total = u64::try_from(record.try_get::<_, i64>(0)?).unwrap_or_default();
        }
    }
    Ok(totals)
}

async fn load(transaction: &Transaction<'_>, rows: &[(RowKey, Row)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    transaction.batch_execute(STAGING).await?;
    let writer = BinaryCopyInWriter::new(transaction.copy_in(COPY).await?, &[Type::BYTEA, Type::BYTEA]);
    pin_mut!(writer);
    for (key, row) in rows {
        writer.as_mut().write(&[&key.0.as_slice(), &row.0.as_slice()]).await?;
    }
    writer.finish().await?;
    transaction.execute(UNSTAGE, &[]).await.map(drop)
}

async fn sweep(transaction: &Transaction<'_>, rows: &[(RowKey, Row)]) -> Result<Written, Error> {
    let (keys, rows) = columns(rows);
    let deleted = transaction.execute(&transaction.prepare_cached(SWEEP).await?, &[&keys, &rows]).await?;
    Ok(Written::Stored { deleted: usize::try_from(deleted).unwrap_or(usize::MAX) })
}

async fn forget(transaction: &Transaction<'_>, now: Timestamp, notes_before: Timestamp) -> Result<Written, Error> {
    transaction.execute("DELETE FROM requests WHERE until < $1", &[&now.0]).await?;
    transaction.execute("DELETE FROM meters WHERE until < $1", &[&now.0]).await?;
    transaction.execute("DELETE FROM notes WHERE at < $1", &[&notes_before.0]).await?;
    Ok(Written::Stored { deleted: 0 })
}

/// Keys and rows, in the order of keys.
fn columns(rows: &[(RowKey, Row)]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows.into_iter().map(|(key, row)| (key.0.as_slice(), row.0.as_slice())).unzip()
}

impl IndexStore for Postgres {
    fn get(&self, keys: Vec<RowKey>) -> Answer<'_, Vec<Option<Row>>> {
        answer(async move {
            let wanted: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
            let records = self.query(GET, &[&wanted]).await?;
            let mut held = HashMap::with_capacity(records.len());
            for record in &records {
                held.insert(bytes::<32>(record, 0)?, record);
            }
            keys.iter().map(|key| held.get(&key.0).map(|record| row(record, 1)).transpose()).collect()
        })
    }

    fn write(&self, batch: Batch) -> Answer<'_, Written> {
        answer(async move {
            match self.change(Change::Write(&batch)).await? {
                Done::Written(written) => Ok(written),
                Done::Totals(_) => Err(mixed_up()),
            }
        })
    }

    fn charge(&self, counts: Vec<Count>) -> Answer<'_, Vec<u64>> {
        answer(async move {
            match self.change(Change::Charge(&counts)).await? {
                Done::Totals(totals) => Ok(totals),
                Done::Written(_) => Err(mixed_up()),
            }
        })
    }

    fn page(&self, after: Option<RowKey>, limit: usize) -> Answer<'_, Vec<(RowKey, Row)>> {
        answer(async move {
            let limit = limit_of(limit);
            let records = match &after {
                Some(after) => self.query(PAGE, &[&after.0.as_slice(), &limit]).await?,
                None => self.query(PAGE_FIRST, &[&limit]).await?,
            };
            records.iter().map(|record| Ok((RowKey(bytes(record, 0)?), row(record, 1)?))).collect()
        })
    }

    fn notes(&self, after: NoteKey, through: NoteKey, limit: usize) -> Answer<'_, Vec<(NoteKey, Row)>> {
        answer(async move {
            let (from, to) =
                ((after.queue.as_slice(), after.id.as_slice()), (through.queue.as_slice(), through.id.as_slice()));
            let limit = limit_of(limit);
            let values: [&(dyn ToSql + Sync); 7] = [&from.0, &after.at.0, &from.1, &to.0, &through.at.0, &to.1, &limit];
            let records = self.query(NOTES, &values).await?;
            let key = |record: &Record| {
                let at = record.try_get(1).map_err(|e| unusable(&e))?;
                Ok(NoteKey { queue: bytes(record, 0)?, at: Timestamp(at), id: bytes(record, 2)? })
            };
            records.iter().map(|record| Ok((key(record)?, row(record, 3)?))).collect()
        })
    }

    fn ledger(&self) -> Answer<'_, Ledger> {
        answer(async move {
            let mut ledger = Ledger::default();
            for record in self.query("SELECT id, until FROM requests", &[]).await? {
                let until = record.try_get(1).map_err(|e| unusable(&e))?;
                ledger.requests.push(RequestId { id: bytes(&record, 0)?, until: Timestamp(until) });
            }
            for record in self.query("SELECT id, count, until FROM meters", &[]).await? {
                let (count, until): (i64, i64) =
                    (record.try_get(1).map_err(|e| unusable(&e))?, record.try_get(2).map_err(|e| unusable(&e))?);
                ledger.meters.push(Count {
                    meter: MeterId(bytes(&record, 0)?),
                    add: u64::try_from(count).unwrap_or_default(),
                    until: Timestamp(until),
                });
            }
            Ok(ledger)
        })
    }

    fn load(&self, rows: Vec<(RowKey, Row)>, notes: Vec<(NoteKey, Row)>, ledger: Ledger) -> Answer<'_, ()> {
        answer(async move { self.change(Change::Load(&rows, &notes, &ledger)).await.map(drop) })
    }

    fn forget(&self, now: Timestamp, notes_before: Timestamp) -> Answer<'_, ()> {
        answer(async move { self.change(Change::Forget(now, notes_before)).await.map(drop) })
    }

    fn sweep(&self, rows: Vec<(RowKey, Row)>) -> Answer<'_, usize> {
        answer(async move {
            match self.change(Change::Sweep(&rows)).await? {
                Done::Written(Written::Stored { deleted }) => Ok(deleted),
                Done::Written(Written::Replayed) | Done::Totals(_) => Err(mixed_up()),
            }
        })
    }

    fn count(&self) -> Answer<'_, u64> {
        // Without a deadline, here and at the server: millions of cold rows take minutes.
        Box::pin(async move {
            let mut client = self.client().await?;
            let counting = async {
                let transaction = client.transaction().await?;
                transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
                transaction.query_one(COUNT, &[]).await?.try_get::<_, i64>(0)
            };
            counting.await.map(|count| u64::try_from(count).unwrap_or_default()).map_err(|e| unusable(&e))
        })
    }

    fn size(&self) -> Answer<'_, u64> {
        Box::pin(async move {
            let size = answer(async move {
                let records = self.query(SIZE, &[&FEW]).await?;
                let Some(record) = records.first() else { return Ok(None) };
                let few: i64 = record.try_get(0).map_err(|e| unusable(&e))?;
                let estimate: Option<i64> = record.try_get(1).map_err(|e| unusable(&e))?;
                Ok(if few < FEW { Some(few) } else { estimate.filter(|estimate| *estimate > 0).map(|e| e.max(few)) })
            });
            match size.await? {
                Some(size) => Ok(u64::try_from(size).unwrap_or_default()),
                None => self.count().await,
            }
        })
    }

    fn is_served(&self) -> Answer<'_, bool> {
        answer(async move {
            let until = Instant::now() + ENDING;
            loop {
                let none = self.query(SERVED, &[&SERVING]).await?.is_empty();
                if none || Instant::now() > until {
                    return Ok(!none);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }

    fn ready(&self) -> Answer<'_, Vec<String>> {
        answer(async move { connect::prepare(&*self.client().await?, self.require_standby).await })
    }
}

fn answer<'a, T>(work: impl Future<Output = Result<T, StoreError>> + Send + 'a) -> Answer<'a, T> {
    Box::pin(async move {
        let late = |_| Err(StoreError("the database did not answer in time".to_owned()));
        tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(late)
    })
}

fn bytes<const N: usize>(record: &Record, column: usize) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = record.try_get(column).map_err(|e| unusable(&e))?;
    bytes.try_into().map_err(|_| StoreError(format!("a column of {} bytes instead of {N}", bytes.len())))
}

fn row(record: &Record, column: usize) -> Result<Row, StoreError> {
    bytes::<ROW_BYTES>(record, column).map(|row| Row(Box::new(row)))
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Whether the server ended this transaction for the sake of another.
fn contended(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// The server's reason without its details, which could name a key.
fn unusable(error: &Error) -> StoreError {
    StoreError(match error.as_db_error() {
        Some(reason) => format!("{}: {}", reason.code().code(), reason.message()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    })
}

fn mixed_up() -> StoreError {
    StoreError("a change was answered as another".to_owned())
}
