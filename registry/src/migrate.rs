//! From one engine to the other, while no registry runs over either.
//!
//! Rows go in the order of their keys, page by page; how far it has come stands in `migration.json`, so that a run that was
//! ended goes on where it stopped. Then every row is read back and compared, and both sides counted: only what was seen to
//! be there is called migrated. The source is never changed.

use crate::config::{Config, Engine};
use crate::engine;
use crate::server::OpenError;
use crate::store::{IndexStore, Ledger, NoteKey, RowKey, StoreError};
use keyring::write_atomically;
use protocol::encoding::{b64, unb64};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Rows read, written and compared at once.
const PAGE: usize = 2000;

/// Why a migration stopped. What was copied stays; running it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Both engines are the same.
    #[error("the index is to go from an engine to the same engine")]
    Same,
    /// There is nothing to migrate.
    #[error("there is no embedded index at {}", .0.display())]
    NoSource(PathBuf),
    /// A migration between other engines was begun here.
    #[error("{} belongs to a migration in the other direction: remove it to begin anew", .0.display())]
    OtherMigration(PathBuf),
    /// The target has rows, and no migration was begun.
    #[error("the target has {0} rows already: empty it first")]
    NotEmpty(u64),
    /// An engine does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The progress cannot be kept.
    #[error("{} cannot be used", path.display())]
    Progress {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was read back is not what was written.
    #[error("of {rows} rows {wrong} are not in the target as they are in the source; its count is {target}")]
    Unverified {
        /// Rows of the source.
        rows: u64,
        /// Rows that are missing or differ.
        wrong: u64,
        /// Rows of the target.
        target: u64,
    },
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// `false` while rows are copied, `true` while they are compared.
    pub verifying: bool,
    /// Rows done.
    pub rows: u64,
    /// Rows there are.
    pub of: u64,
}

/// What was migrated, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Rows of the source.
    pub rows: u64,
    /// Rows that an earlier run had copied.
    pub resumed_at: u64,
    /// Notes of review queues.
    pub notes: u64,
    /// Meters.
    pub meters: u64,
    /// Whether every row was read back and both counts are equal.
    pub verified: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    from: String,
    /// The last key copied, base64url.
    after: Option<String>,
    rows: u64,
}

/// Copies everything from the engine `from` to the engine `to`, which must be empty unless it was begun before. With
/// `dry_run` both are opened and the source is counted, and nothing is written.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(
    config: &Config,
    (from, to): (Engine, Engine),
    dry_run: bool,
    progress: impl Fn(Progress),
) -> Result<Migrated, MigrateError> {
    if from == to {
        return Err(MigrateError::Same);
    }
    // Opening an embedded index makes one where there is none.
    if from == Engine::Embedded && !config.index().exists() {
        return Err(MigrateError::NoSource(config.index()));
    }
    let source = engine::open(config, from).await?;
    let of = source.count().await?;
    let mut state = begun(config, from)?;
    let resumed_at = state.rows;
    let mut done = Migrated { rows: of, resumed_at, notes: 0, meters: 0, verified: false };
    if dry_run {
        done.notes = notes(&*source, async |_| Ok(())).await?;
        done.meters = length(source.ledger().await?.meters.len());
        return Ok(done);
    }
    let target = engine::open(config, to).await?;
    if state.after.is_none() {
        match target.count().await? {
            0 => {}
            rows => return Err(MigrateError::NotEmpty(rows)),
        }
    }
    let mut after = state.after.as_deref().and_then(unb64).map(RowKey);
    loop {
        let page = source.page(after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        (after, state.rows) = (Some(*last), state.rows + length(page.len()));
        target.load(page, Vec::new(), Ledger::default()).await?;
        state.after = after.map(|key| b64(&key.0));
        keep(config, &state)?;
        progress(Progress { verifying: false, rows: state.rows, of });
    }
    let copy = async |page| target.load(Vec::new(), page, Ledger::default()).await;
    done.notes = notes(&*source, copy).await?;
    let ledger = source.ledger().await?;
    done.meters = length(ledger.meters.len());
    target.load(Vec::new(), Vec::new(), ledger).await?;
    verify(&*source, &*target, of, &progress).await?;
    done.verified = true;
    let path = config.migration();
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(MigrateError::Progress { path, source }),
        _ => Ok(done),
    }
}

/// Hands on every note; returns how many there were.
async fn notes(
    source: &dyn IndexStore,
    each: impl AsyncFn(Vec<(NoteKey, crate::Row)>) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let (mut after, mut count) = (NoteKey::FIRST, 0);
    loop {
        let page = source.notes(after, NoteKey::LAST, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(count) };
        after = *last;
        count += length(page.len());
        each(page).await?;
    }
}

async fn verify(
    source: &dyn IndexStore,
    target: &dyn IndexStore,
    of: u64,
    progress: &impl Fn(Progress),
) -> Result<(), MigrateError> {
    let (mut after, mut rows, mut wrong) = (None, 0, 0);
    loop {
        let page = source.page(after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let copies = target.get(page.iter().map(|(key, _)| *key).collect()).await?;
        rows += length(page.len());
        wrong += length(page.iter().zip(&copies).filter(|((_, row), copy)| copy.as_ref() != Some(row)).count());
        progress(Progress { verifying: true, rows, of });
    }
    let counted = target.count().await?;
    if wrong == 0 && rows == counted { Ok(()) } else { Err(MigrateError::Unverified { rows, wrong, target: counted }) }
}

fn begun(config: &Config, from: Engine) -> Result<State, MigrateError> {
    let path = config.migration();
    let name = format!("{from:?}").to_lowercase();
    let state: State = match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(State { from: name, after: None, rows: 0 }),
        Err(source) => return Err(MigrateError::Progress { path, source }),
        Ok(text) => {
            let parsed = serde_json::from_slice(&text);
            parsed.map_err(|e| MigrateError::Progress { path: path.clone(), source: e.into() })?
        }
    };
    if state.from == name { Ok(state) } else { Err(MigrateError::OtherMigration(path)) }
}

fn keep(config: &Config, state: &State) -> Result<(), MigrateError> {
    let path = config.migration();
    let text = serde_json::to_vec(state).map_err(std::io::Error::from);
    text.and_then(|text| write_atomically(&path, &text)).map_err(|source| MigrateError::Progress { path, source })
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
