//! The engine that the configuration names, opened, and the sign by which members notice that it was restored.

use crate::blind::{Blind, CONTENT_BYTES};
use crate::config::{Config, Engine};
use crate::embedded::Embedded;
use crate::postgres::Postgres;
use crate::server::OpenError;
use crate::store::{Batch, IndexStore, NoteKey, Row, StoreError};
use protocol::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

/// Opens it to serve from it, or only to migrate.
pub(crate) async fn open(config: &Config, engine: Engine, serve: bool) -> Result<Arc<dyn IndexStore>, OpenError> {
    let failed = |source| OpenError::Index { engine: name(config, engine), source };
    Ok(match (engine, &config.postgres) {
        (Engine::Embedded, _) => Arc::new(Embedded::open(&config.index(), config.cache_bytes).map_err(failed)?),
        (Engine::Postgres, Some(settings)) if serve => Arc::new(Postgres::open(settings).await.map_err(failed)?),
        (Engine::Postgres, Some(settings)) => Arc::new(Postgres::open_to_migrate(settings).await.map_err(failed)?),
        (Engine::Postgres, None) => return Err(failed(StoreError("index.postgres is not configured".to_owned()))),
    })
}

/// Whether `engine` can be reached, without making anything in it: a database that answers and promises enough, or a file,
/// or the directory for one.
pub(crate) async fn reach(config: &Config, engine: Engine) -> Result<(), OpenError> {
    let failed = |source| OpenError::Index { engine: name(config, engine), source };
    match (engine, &config.postgres) {
        (Engine::Postgres, Some(settings)) => Postgres::reach(settings).await.map_err(failed),
        (Engine::Embedded, _) if !config.index().exists() => {
            std::fs::read_dir(&config.data).map(drop).map_err(|e| failed(StoreError(e.to_string())))
        }
        _ => open(config, engine, false).await.map(drop),
    }
}

pub(crate) fn name(config: &Config, engine: Engine) -> String {
    match engine {
        Engine::Embedded => config.index().display().to_string(),
        Engine::Postgres => "the PostgreSQL database".to_owned(),
    }
}

/// 16 random bytes that the index was given at its birth, and is given anew after it was restored.
///
/// They are a note that the registry wrote to itself, under its secrets: an index that has rows and no such note was made
/// with others. The note's id tells when it was written. Several processes over one database go by the same note: of those
/// that say it was restored the first to start renews it, and whoever comes later finds one written since.
pub(crate) struct Generation {
    held: Mutex<[u8; 16]>,
}

impl Generation {
    /// Reads it; gives the index one where it has none, and a new one if it was restored at `restored` and none was written
    /// since.
    pub(crate) async fn open(
        config: &Config,
        store: &dyn IndexStore,
        blind: &Blind,
        (restored, now): (Option<Timestamp>, Timestamp),
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Index { engine: name(config, config.engine), source };
        let mut held = note(store, blind).await.map_err(failed)?;
        if held.is_none() {
            if !store.page(None, 1).await.map_err(failed)?.is_empty() {
                return Err(OpenError::WrongPepper);
            }
            // Of several that start at once the first gives it: a note stays as it is.
            let batch = Batch { note: vec![fresh(blind, Timestamp(0)).map_err(failed)?], ..Batch::default() };
            store.write(batch).await.map_err(failed)?;
            held = note(store, blind).await.map_err(failed)?;
        }
        let (before, old) = held.ok_or(OpenError::WrongPepper)?;
        let bytes = opened(blind, &before, old).ok_or(OpenError::WrongPepper)?;
        let generation = Generation { held: Mutex::new(bytes) };
        if restored.is_some_and(|restored| written(&before) < restored) {
            let batch = Batch {
                // Of several that found this one, one replaces it.
                request: Some(blind.renewal_id(&bytes)),
                note: vec![fresh(blind, now.max(Timestamp(written(&before).0.saturating_add(1)))).map_err(failed)?],
                unnote: vec![before],
                ..Batch::default()
            };
            store.write(batch).await.map_err(failed)?;
            generation.read(store, blind).await.map_err(failed)?;
        }
        Ok(generation)
    }

    /// As it stands in the index now: another process may have renewed it.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) async fn read(&self, store: &dyn IndexStore, blind: &Blind) -> Result<[u8; 16], StoreError> {
        let mut held = note(store, blind).await?.and_then(|(key, row)| opened(blind, &key, row));
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = held.take().unwrap_or(*known);
        *known = generation;
        Ok(generation)
    }

    /// As it was read last.
    pub(crate) fn last(&self) -> [u8; 16] {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not swept away: it is from the end of time.
fn place(blind: &Blind, written: Timestamp) -> NoteKey {
    let mut id = [0; 16];
    id.split_at_mut(8).0.copy_from_slice(&written.0.max(0).to_be_bytes());
    NoteKey { queue: blind.queue(None), at: Timestamp(i64::MAX), id }
}

fn written(key: &NoteKey) -> Timestamp {
    Timestamp(key.id.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes)))
}

fn fresh(blind: &Blind, written: Timestamp) -> Result<(NoteKey, Row), StoreError> {
    let key = place(blind, written);
    let sealed = keyring::random::<CONTENT_BYTES>().and_then(|content| blind.seal_note(&key, &content));
    Ok((key, sealed.map_err(|e| StoreError(e.to_string()))?))
}

async fn note(store: &dyn IndexStore, blind: &Blind) -> Result<Option<(NoteKey, Row)>, StoreError> {
    let key = place(blind, Timestamp(0));
    let (before, last) = (NoteKey { at: Timestamp(i64::MAX - 1), ..key }, NoteKey { id: [u8::MAX; 16], ..key });
    Ok(store.notes(before, last, 1).await?.pop())
}

fn opened(blind: &Blind, key: &NoteKey, mut row: Row) -> Option<[u8; 16]> {
    blind.open_note(key, &mut row)?.first_chunk().copied()
}
