//! Everybody taken back from the registry: what an institution does that leaves the federation. One resident is unenrolled
//! by a flag (`flags.rs`).

use crate::bulk::{Progress, Report};
use crate::enrol::{EnrolError, remove_leaving};
use crate::epochs;
use crate::events::{Event, Happened};
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table};
use protocol::{Epoch, FileId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

const BATCH: usize = 1_000;

/// What leaving did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnenrolSummary {
    /// Clients whose names were forgotten now; their records stay.
    pub unenrolled: u64,
    /// Entries removed at the registry now.
    pub removed: u64,
}

/// Forgets everybody's names, so that nobody can be asked about from then on, and removes all entries at the registry.
/// Cut off, or without the registry, it is done by running it again; an enrolment undoes it.
///
/// # Errors
/// [`EnrolError`]; what is to be removed stays queued.
pub(crate) async fn everybody(node: &Arc<Node>, report: Report<'_>) -> Result<UnenrolSummary, EnrolError> {
    let unenrolled = forget(node, report).await?;
    let removed = remove_leaving(node).await?;
    let event = Event::new(Happened::UnenrolFinished, &node.clock);
    let event = event.counting([("clients", unenrolled), ("removed", removed)]);
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(UnenrolSummary { unenrolled, removed })
}

async fn forget(node: &Arc<Node>, report: Report<'_>) -> Result<u64, StoreError> {
    let _one_at_a_time = node.bulk.lock().await;
    node.store.write(epochs::note_left)?;
    let total = node.store.read()?.count(Table::FILES)?;
    let mut done = 0;
    loop {
        // Whatever epoch a name is of: also one that the manifest lists no more.
        let keys = node.store.read()?.keys_after(Table::NAMES, &[], BATCH)?;
        let named = |key: &Vec<u8>| Some((Epoch(u32::from_be_bytes(*key.first_chunk()?)), FileId(*key.last_chunk()?)));
        let named: Vec<_> = keys.iter().filter_map(named).collect();
        if named.is_empty() {
            return Ok(done);
        }
        node.store.write(|write| {
            named.iter().try_for_each(|(epoch, file)| write.forget_names(&node.store, *file, &[*epoch]))
        })?;
        done += named.iter().map(|(_, file)| file.as_bytes()).collect::<BTreeSet<_>>().len() as u64;
        report(Progress { done: done.min(total), total });
    }
}
