//! Shared clients: this unit's own indexes through the registry's locate, page by page.

use crate::bulk::{Progress, Report};
use crate::events::{Event, Happened};
use crate::locate::{ENROLMENT, RegistryError, locate, open_entries};
use crate::node::{Node, NodeError};
use crate::pseudonymise::PseudonymError;
use crate::records::{FileRecord, Names};
use crate::store::{StoreError, Table};
use protocol::registry::MAX_BATCH;
use protocol::{FileId, MemberId, Reason};
use pseudonym::SealKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the registry says of this unit's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSummary {
    /// Clients enrolled here.
    pub enrolled: u64,
    /// Clients by the set of other units that know them, ids sorted and joined by `+`; who is shared with nobody is
    /// not listed.
    pub exactly: BTreeMap<String, u64>,
    /// Clients shared with each other unit.
    pub with: BTreeMap<MemberId, u64>,
    /// Clients shared with each set of other units, whoever else knows them.
    pub at_least: BTreeMap<String, u64>,
    /// The clients, if asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<SharedClient>,
}

/// One shared client, in this unit's own terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedClient {
    /// This unit's numbers of the client.
    pub local_numbers: BTreeSet<String>,
    /// Other units that know the client.
    pub units: BTreeSet<MemberId>,
}

/// Why shared clients could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// No key epoch.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    /// No registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Store or log.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl SharedError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            SharedError::Closed(reason) => reason.code(),
            SharedError::Pseudonym(error) => error.code(),
            SharedError::Registry(error) => error.code(),
            SharedError::Node(error) => error.code(),
        }
    }
}

impl From<StoreError> for SharedError {
    fn from(error: StoreError) -> Self {
        SharedError::Node(error.into())
    }
}

/// Asks the registry about every enrolled client; `list` names them too.
///
/// # Errors
/// [`SharedError`]: without the registry there is no answer, not an old one.
pub async fn shared(node: &Arc<Node>, list: bool, report: Report<'_>) -> Result<SharedSummary, SharedError> {
    let held = node.manifest().map_err(SharedError::Closed)?;
    let now = node.now().map_err(SharedError::Closed)?;
    let epoch = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
    let purpose = ENROLMENT.parse().map_err(|_| RegistryError::Malformed)?;
    let total = node.store.read()?.count(Table::FILES)?;
    let mut summary = SharedSummary::default();
    let mut after = epoch.0.to_be_bytes().to_vec();
    loop {
        let keys = node.store.read()?.keys_after(Table::NAMES, &after, MAX_BATCH)?;
        let keys: Vec<_> = keys.into_iter().filter(|k| k.starts_with(&epoch.0.to_be_bytes())).collect();
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        let page: Vec<(FileId, Names)> = {
            let read = node.store.read()?;
            keys.iter()
                .filter_map(|key| {
                    let file = FileId(*key.last_chunk()?);
                    Some(read.names(epoch, file).transpose()?.map(|names| (file, names)))
                })
                .collect::<Result<_, StoreError>>()?
        };
        let indexes = page.iter().map(|(_, names)| names.index).collect();
        let found = locate(node, &held, epoch, &purpose, false, indexes).await?;
        for ((file, names), located) in page.iter().zip(&found) {
            let seal = SealKey::from_bytes(&names.seal);
            let units = open_entries(&held, epoch, &names.index, &seal, &located.entries, now);
            summary.enrolled += u64::from(names.published.is_some());
            summary.count(&units);
            if list && !units.is_empty() {
                summary.clients.push(SharedClient { local_numbers: local_numbers(node, *file)?, units });
            }
        }
        report(Progress { done: summary.enrolled, total });
    }
    let shared = summary.exactly.values().sum();
    let event = Event::new(Happened::SharedFinished, node.clock.now())
        .counting([("enrolled", summary.enrolled), ("shared", shared)]);
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(summary)
}

fn local_numbers(node: &Node, file: FileId) -> Result<BTreeSet<String>, StoreError> {
    let record = node.store.read()?.get::<FileRecord>(Table::FILES, file.as_bytes())?;
    Ok(record.map(|r| r.rows.into_iter().filter_map(|row| row.local_number).collect()).unwrap_or_default())
}

impl SharedSummary {
    fn count(&mut self, units: &BTreeSet<MemberId>) {
        if units.is_empty() {
            return;
        }
        for unit in units {
            *self.with.entry(unit.clone()).or_default() += 1;
        }
        *self.exactly.entry(joined(units)).or_default() += 1;
        for subset in subsets(units) {
            *self.at_least.entry(joined(subset)).or_default() += 1;
        }
    }
}

/// Ids in order, joined by `+`.
pub(crate) fn joined<'a>(units: impl IntoIterator<Item = &'a MemberId>) -> String {
    units.into_iter().map(MemberId::as_str).collect::<Vec<_>>().join("+")
}

/// Every non-empty subset; with more than eight units only the single ones, for there are too many.
fn subsets(units: &BTreeSet<MemberId>) -> Vec<BTreeSet<&MemberId>> {
    let all: Vec<&MemberId> = units.iter().collect();
    if all.len() > 8 {
        return all.into_iter().map(|unit| BTreeSet::from([unit])).collect();
    }
    (1u32..1 << all.len())
        .map(|mask| all.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, unit)| *unit).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_is_counted_once() {
        let units: BTreeSet<MemberId> = ["css", "mops", "zlm"].iter().map(|u| u.parse().unwrap()).collect();
        let mut summary = SharedSummary::default();
        summary.count(&units);
        summary.count(&BTreeSet::from(["css".parse().unwrap()]));
        summary.count(&BTreeSet::new());
        assert_eq!(summary.with[&"css".parse::<MemberId>().unwrap()], 2);
        assert_eq!(summary.exactly["css+mops+zlm"], 1);
        assert_eq!(summary.at_least["css"], 2);
        assert_eq!(summary.at_least["css+zlm"], 1);
        assert_eq!(summary.at_least.len(), 7);
    }
}
