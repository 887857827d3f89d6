//! The database's tables, by numbered migrations that lie in the program.
//!
//! Each runs in one transaction with the row that says it ran. Of several registries that start at once one inserts that
//! row and migrates; the others wait for it at the primary key, with no lock beyond that. A database that a newer program
//! has migrated is refused.

use super::unusable;
use crate::store::StoreError;
use deadpool_postgres::Client;
use tokio_postgres::error::SqlState;

const MIGRATIONS: [(i64, &str); 1] = [(1, include_str!("../../migrations/0001_index.sql"))];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (version bigint PRIMARY KEY)";
const CLAIM: &str = "INSERT INTO migrations (version) VALUES ($1) ON CONFLICT DO NOTHING";
const NEWEST: &str = "SELECT max(version) FROM migrations";
/// Two that create the table at once: one of them fails, and finds it the next time.
const ATTEMPTS: usize = 5;

/// Brings the schema up to this program's version.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let mut attempt = 1;
    while let Err(error) = client.batch_execute(TABLE).await {
        // What two who create it at once may be told.
        let at_once = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_TABLE];
        if attempt == ATTEMPTS || !error.code().is_some_and(|code| at_once.contains(code)) {
            return Err(unusable(&error));
        }
        attempt += 1;
    }
    for (version, sql) in MIGRATIONS {
        let transaction = client.transaction().await.map_err(|e| unusable(&e))?;
        if transaction.execute(CLAIM, &[&version]).await.map_err(|e| unusable(&e))? == 1 {
            transaction.batch_execute(sql).await.map_err(|e| unusable(&e))?;
            transaction.commit().await.map_err(|e| unusable(&e))?;
            tracing::info!(version, "the index's tables were migrated");
        }
    }
    let newest = client.query_one(NEWEST, &[]).await.map_err(|e| unusable(&e))?;
    let newest: Option<i64> = newest.try_get(0).map_err(|e| unusable(&e))?;
    let known = MIGRATIONS.last().map(|(version, _)| *version);
    if newest > known {
        return Err(StoreError("its tables are of a newer version of this program".to_owned()));
    }
    Ok(())
}
