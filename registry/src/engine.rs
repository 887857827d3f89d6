//! The engine that the configuration names, opened, and the sign by which members notice that it was restored.

use crate::blind::{Blind, CONTENT_BYTES};
use crate::config::{Config, Engine};
use crate::embedded::Embedded;
use crate::postgres::Postgres;
use crate::server::OpenError;
use crate::store::{Batch, IndexStore, NoteKey, StoreError};
use protocol::Timestamp;
use std::sync::Arc;

pub(crate) async fn open(config: &Config, engine: Engine) -> Result<Arc<dyn IndexStore>, OpenError> {
    let failed = |source| OpenError::Index { engine: name(config, engine), source };
    Ok(match (engine, &config.postgres) {
        (Engine::Embedded, _) => Arc::new(Embedded::open(&config.index(), config.cache_bytes).map_err(failed)?),
        (Engine::Postgres, Some(settings)) => Arc::new(Postgres::open(settings).await.map_err(failed)?),
        (Engine::Postgres, None) => return Err(failed(StoreError("index.postgres is not configured".to_owned()))),
    })
}

pub(crate) fn name(config: &Config, engine: Engine) -> String {
    match engine {
        Engine::Embedded => config.index().display().to_string(),
        Engine::Postgres => "the PostgreSQL database".to_owned(),
    }
}

/// 16 random bytes that the index was given at its birth, and is given anew after it was restored. They are a note that the
/// registry wrote to itself, under its secrets: an index that has rows and no such note was made with others.
pub(crate) async fn generation(
    config: &Config,
    store: &dyn IndexStore,
    blind: &Blind,
    renew: bool,
) -> Result<[u8; 16], OpenError> {
    let failed = |source| OpenError::Index { engine: name(config, config.engine), source };
    let key = NoteKey { queue: blind.queue(None), at: Timestamp(i64::MAX), id: [0; 16] };
    let before = NoteKey { at: Timestamp(i64::MAX - 1), ..key };
    let mut held = store.notes(before, key, 1).await.map_err(failed)?;
    if held.is_empty() && !store.page(None, 1).await.map_err(failed)?.is_empty() {
        return Err(OpenError::WrongPepper);
    }
    if held.is_empty() || renew {
        let unnote = held.iter().map(|(key, _)| *key).collect();
        let fresh = keyring::random::<CONTENT_BYTES>().and_then(|content| blind.seal_note(&key, &content));
        let fresh = fresh.map_err(|e| failed(StoreError(e.to_string())))?;
        let batch = Batch { note: vec![(key, fresh)], unnote, ..Batch::default() };
        store.write(batch).await.map_err(failed)?;
        // Another process may have been first: what stands there counts.
        held = store.notes(before, key, 1).await.map_err(failed)?;
    }
    let opened = held.first_mut().and_then(|(key, row)| blind.open_note(key, row)?.first_chunk::<16>().copied());
    opened.ok_or(OpenError::WrongPepper)
}
