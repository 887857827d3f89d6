//! How long what the log says stays readable. Past `log_retention_days` an entry loses salt and payload and keeps its
//! place in the tree, after an entry of its own that says how many.
//!
//! What stays: entries without personal data (keys, manifests, policies, the log itself, what was erased); those about a
//! resident whose processing is restricted (GDPR art. 18); consents and marks of a resident who is on file, which bear on
//! what may be answered.
//! Findings go with the entries they rest on.

use crate::bulk::blocking;
use crate::dpo::{Act, expire_findings};
use crate::events::Happened;
use crate::flags;
use crate::node::{Node, NodeError};
use crate::staff;
use crate::store::{Read, StoreError, Table};
use audit::{Entry, Filter, Retention};
use protocol::time::DAY_SECONDS;
use protocol::{FileId, Timestamp};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;

/// Key in `state` of the day of the last time.
const EXPIRED: &[u8] = b"log_expired";

impl Node {
    /// Once a day, erases the payloads of entries that are past their time.
    pub(crate) async fn expire_log_daily(self: &Arc<Self>) {
        let worker = self.clone();
        let work = async { blocking(move || expire(&worker)).await? };
        self.once(EXPIRED, self.clock.now().day(), "entries past their time are not all erased", work).await;
    }
}

/// Erases the payloads of entries that are past their time; how many. Blocks.
fn expire(node: &Node) -> Result<u64, NodeError> {
    // By a wrong clock nothing is old.
    let now = node.now().map_err(|_| NodeError::Clock)?;
    let before = now + -(i64::from(node.config.log_retention_days) * DAY_SECONDS);
    let read = node.store.read()?;
    let stays = |entry: &Entry| stays(&read, entry).unwrap_or(true);
    let due = due(node, before, stays)?;
    if due > 0 {
        let mut act = Act::new(Happened::PayloadsErased, &node.clock);
        act.retention = Some("log".to_owned());
        act.counts = [("entries", due)].into();
        let receipt = node.log.append_blocking(&act)?;
        node.log.expire(&receipt, before.0, stays)?;
    }
    expire_findings(node, before)?;
    staff::forget(node, before)?;
    Ok(due)
}

/// How many payloads are to go.
fn due(node: &Node, before: Timestamp, stays: impl Fn(&Entry) -> bool) -> Result<u64, NodeError> {
    let filter = Filter { until: Some(before.0), ..Filter::default() };
    let mut due = 0;
    node.log.search_each(&filter, |entry| due += u64::from(!stays(&entry)))?;
    Ok(due)
}

fn stays(read: &Read<'_>, entry: &Entry) -> Result<bool, StoreError> {
    let payload = entry.payload.as_ref().unwrap_or(&Value::Null);
    let name = payload.get("event").and_then(Value::as_str).unwrap_or_default();
    let class = Happened::find(name).map(Happened::retention);
    if class == Some(Retention::Kept) {
        return Ok(true);
    }
    let file = payload.get("file").and_then(|file| serde_json::from_value::<FileId>(file.clone()).ok());
    let Some(file) = file else { return Ok(false) };
    let lasts = || Ok::<_, StoreError>(read.get::<IgnoredAny>(Table::FILES, file.as_bytes())?.is_some());
    Ok(flags::of(read, file)?.flags().restricted || class == Some(Retention::OnFile) && lasts()?)
}
