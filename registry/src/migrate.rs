//! From one engine to the other, while no registry runs over either.
//!
//! Rows go in the order of their keys, page by page; how far it has come stands in `migration.json`, from before the first
//! row is copied, so that a run that was ended at any moment goes on where it stopped. Then every row is read back and
//! compared, and both sides counted, and so are notes, meters and ids of requests: only what was seen to be there is called
//! migrated. The source is never changed; once a registry serves from it again, what was copied is worth nothing, and the
//! progress is forgotten. From the target none serves before all of it is there.
//!
//! A target that a registry was opened over has one note, the generation of its index: it gives way to the source's, by
//! which members know that nothing is missing.

use crate::config::{Config, Engine};
use crate::engine;
use crate::server::OpenError;
use crate::store::{Batch, IndexStore, Ledger, NoteKey, RowKey, StoreError};
use keyring::write_atomically;
use protocol::Timestamp;
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
    /// The target has rows, notes or meters, not those of the source, and no migration was begun.
    #[error("the target has {0} rows, notes and meters already: empty it first")]
    NotEmpty(u64),
    /// A registry runs over one of the engines.
    #[error("a registry serves from {0}: stop it first")]
    Served(String),
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
    /// Nor is what there is besides rows.
    #[error("{0} in the target are not as they are in the source")]
    OtherRest(&'static str),
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

/// Copies everything from the engine `from` to the engine `to`, which must be empty, or have all of it, unless it was begun
/// before. With `dry_run` the source is opened and counted and the target reached, and nothing is written.
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
    let source = engine::open(config, from, false).await?;
    unserved(config, from, &*source).await?;
    let of = source.count().await?;
    let begun = begun(config, word(from))?;
    let resumed = begun.is_some();
    let mut state = begun.unwrap_or(State { from: word(from).to_owned(), after: None, rows: 0 });
    let resumed_at = state.rows;
    let mut done = Migrated { rows: of, resumed_at, notes: 0, meters: 0, verified: false };
    if dry_run {
        engine::reach(config, to).await?;
        return counted(&*source, done).await;
    }
    let target = engine::open(config, to, false).await?;
    unserved(config, to, &*target).await?;
    if !resumed {
        if let Err(full) = is_empty(&*target).await {
            // An earlier run may have been ended after its last step: what is there whole is migrated.
            verify(&*source, &*target, of, &progress).await.map_err(|_| full)?;
            unserved(config, from, &*source).await?;
            return counted(&*source, Migrated { resumed_at: of, verified: true, ..done }).await;
        }
        keep(config, &state)?;
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
    drop_generation(&*target).await?;
    let copy = async |page| target.load(Vec::new(), page, Ledger::default()).await;
    done.notes = notes(&*source, copy).await?;
    let ledger = source.ledger().await?;
    done.meters = length(ledger.meters.len());
    target.load(Vec::new(), Vec::new(), ledger).await?;
    verify(&*source, &*target, of, &progress).await?;
    // One that was started meanwhile may have acknowledged what was not read any more.
    unserved(config, from, &*source).await?;
    done.verified = true;
    forget(config).map_err(|source| MigrateError::Progress { path: config.migration(), source })?;
    Ok(done)
}

async fn unserved(config: &Config, engine: Engine, store: &dyn IndexStore) -> Result<(), MigrateError> {
    if store.is_served().await? { Err(MigrateError::Served(engine::name(config, engine))) } else { Ok(()) }
}

/// Whether the configured engine is the target of a migration that has not ended.
pub(crate) fn is_half_done(config: &Config) -> Result<bool, OpenError> {
    let path = config.migration();
    match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Read { path, source }),
        Ok(text) => Ok(!serde_json::from_slice::<State>(&text).is_ok_and(|state| state.from == word(config.engine))),
    }
}

/// Forgets how far a migration has come.
pub(crate) fn forget(config: &Config) -> std::io::Result<()> {
    match std::fs::remove_file(config.migration()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn word(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "embedded",
        Engine::Postgres => "postgres",
    }
}

/// With what the source has besides rows.
async fn counted(source: &dyn IndexStore, done: Migrated) -> Result<Migrated, MigrateError> {
    let notes = notes(source, async |_| Ok(())).await?;
    Ok(Migrated { notes, meters: length(source.ledger().await?.meters.len()), ..done })
}

/// Fails if the target has more than a generation.
async fn is_empty(target: &dyn IndexStore) -> Result<(), MigrateError> {
    let notes = target.notes(NoteKey::FIRST, NoteKey::LAST, PAGE).await?;
    let notes = length(notes.iter().filter(|(key, _)| !is_generation(key)).count());
    let meters = length(target.ledger().await?.meters.len());
    match target.count().await?.saturating_add(notes).saturating_add(meters) {
        0 => Ok(()),
        found => Err(MigrateError::NotEmpty(found)),
    }
}

async fn drop_generation(target: &dyn IndexStore) -> Result<(), StoreError> {
    let unnote = async |page: Vec<(NoteKey, crate::Row)>| {
        let unnote: Vec<_> = page.into_iter().map(|(key, _)| key).filter(is_generation).collect();
        if unnote.is_empty() {
            return Ok(());
        }
        target.write(Batch { unnote, ..Batch::default() }).await.map(drop)
    };
    notes(target, unnote).await.map(drop)
}

/// Of all notes these alone are from the end of time.
fn is_generation(key: &NoteKey) -> bool {
    key.at == Timestamp(i64::MAX)
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
    if wrong > 0 || rows != counted {
        return Err(MigrateError::Unverified { rows, wrong, target: counted });
    }
    verify_rest(source, target).await
}

async fn verify_rest(source: &dyn IndexStore, target: &dyn IndexStore) -> Result<(), MigrateError> {
    let mut after = NoteKey::FIRST;
    loop {
        let page = source.notes(after, NoteKey::LAST, PAGE).await?;
        if target.notes(after, NoteKey::LAST, PAGE).await? != page {
            return Err(MigrateError::OtherRest("notes"));
        }
        let Some((last, _)) = page.last() else { break };
        after = *last;
    }
    let (mut ours, mut theirs) = (source.ledger().await?, target.ledger().await?);
    for ledger in [&mut ours, &mut theirs] {
        ledger.meters.sort_unstable_by_key(|count| count.meter);
        ledger.requests.sort_unstable_by_key(|request| (request.until, request.id));
    }
    if ours.meters != theirs.meters {
        return Err(MigrateError::OtherRest("meters"));
    }
    if ours.requests == theirs.requests { Ok(()) } else { Err(MigrateError::OtherRest("ids of requests")) }
}

/// How far an earlier run has come; `None` before the first.
fn begun(config: &Config, from: &str) -> Result<Option<State>, MigrateError> {
    let path = config.migration();
    let state: State = match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MigrateError::Progress { path, source }),
        Ok(text) => {
            let parsed = serde_json::from_slice(&text);
            parsed.map_err(|e| MigrateError::Progress { path: path.clone(), source: e.into() })?
        }
    };
    if state.from == from { Ok(Some(state)) } else { Err(MigrateError::OtherMigration(path)) }
}

fn keep(config: &Config, state: &State) -> Result<(), MigrateError> {
    let path = config.migration();
    let text = serde_json::to_vec(state).map_err(std::io::Error::from);
    text.and_then(|text| write_atomically(&path, &text)).map_err(|source| MigrateError::Progress { path, source })
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
