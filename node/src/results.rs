//! Outcomes kept for the user who asked, at most a day, so that an application may fetch them again.

use crate::ask::QueryResult;
use crate::node::Node;
use crate::store::{StoreError, Table};
use crate::tokens::Caller;
use keyring::random;
use protocol::Timestamp;
use protocol::encoding::{b64, unb64};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Released values are kept no longer than this (domain §5.4).
const KEEP_SECONDS: i64 = 24 * 60 * 60;

/// Queries being put: who comes with the same id waits for the first.
#[derive(Default)]
pub(crate) struct InProgress(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// A turn to put a query; the next one comes when it is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] tokio::sync::OwnedMutexGuard<()>);

impl InProgress {
    /// Waits for the turn to put query `id`.
    pub(crate) async fn begin(&self, id: &str) -> Turn {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those nobody holds or waits for are over.
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(id.to_owned()).or_default().clone()
        };
        Turn(lock.lock_owned().await)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    until: Timestamp,
    user: [u8; 32],
    /// Digest of what was asked, so that a key used again for another question is noticed.
    asked: [u8; 32],
    result: QueryResult,
}

/// The id of a new query, or the one a caller's idempotency key stands for.
pub(crate) fn query_id(node: &Node, caller: &Caller, key: Option<&str>) -> std::io::Result<String> {
    let id = match key {
        None => random()?,
        Some(key) => {
            let mac = node.macs.staff.mac(&[b"idempotency\0", caller.staff.as_bytes(), &[0], key.as_bytes()]);
            let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = mac;
            id
        }
    };
    Ok(b64(&id))
}

/// Keeps a result for its asker.
pub(crate) fn keep(node: &Node, caller: &Caller, asked: [u8; 32], result: &QueryResult) -> Result<(), StoreError> {
    let Some(key) = unb64::<16>(&result.id) else { return Ok(()) };
    let kept = Kept { until: node.clock.now() + KEEP_SECONDS, user: user(node, caller), asked, result: result.clone() };
    node.store.write(|w| w.put(Table::RESULTS, &key, &kept))
}

/// A result kept for this caller, with the digest of what was asked.
pub(crate) fn find(node: &Node, caller: &Caller, id: &str) -> Result<Option<([u8; 32], QueryResult)>, StoreError> {
    let Some(key) = unb64::<16>(id) else { return Ok(None) };
    let kept: Option<Kept> = node.store.read()?.get(Table::RESULTS, &key)?;
    let now = node.clock.now();
    Ok(kept.filter(|kept| now <= kept.until && kept.user == user(node, caller)).map(|kept| (kept.asked, kept.result)))
}

/// Forgets what is past its time.
pub(crate) fn sweep(node: &Node) -> Result<(), StoreError> {
    let now = node.clock.now();
    let old: Vec<Vec<u8>> = {
        let read = node.store.read()?;
        let mut old = Vec::new();
        for key in read.keys_with(Table::RESULTS, &[])? {
            if read.get::<Kept>(Table::RESULTS, &key)?.is_some_and(|kept| kept.until < now) {
                old.push(key);
            }
        }
        old
    };
    if old.is_empty() {
        return Ok(());
    }
    node.store.write(|w| old.iter().try_for_each(|key| w.remove(Table::RESULTS, key).map(drop)))
}

fn user(node: &Node, caller: &Caller) -> [u8; 32] {
    node.macs.staff.mac(&[caller.staff.as_bytes()])
}
