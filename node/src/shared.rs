//! Shared clients: this unit's own indexes through the registry's locate, page by page; what each page found is kept, so
//! that a run cut off goes on, and the next one can tell what changed.

use crate::bulk::{Progress, Report, patiently};
use crate::consents;
use crate::events::{Event, Happened};
use crate::locate::{ENROLMENT, RegistryError, locate, open_entries};
use crate::node::{Node, NodeError};
use crate::pseudonymise::PseudonymError;
use crate::records::Names;
use crate::store::{StoreError, Table};
use protocol::registry::MAX_BATCH;
use protocol::{Epoch, FileId, Index, MemberId, Reason, Timestamp};
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
    /// What changed since the run before, if asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SharedChange>,
}

/// A client who is shared with others than at the run before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedChange {
    /// This unit's numbers of the client; none if the client has gone.
    pub local_numbers: BTreeSet<String>,
    /// Units that know the client now and did not.
    pub new: BTreeSet<MemberId>,
    /// Units that knew the client and do not now.
    pub gone: BTreeSet<MemberId>,
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

/// What to tell beside the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharedOptions {
    /// Name the shared clients.
    pub list: bool,
    /// Name those that are shared with others than at the run before.
    pub diff: bool,
}

/// A run under way, durable with every page: who is cut off goes on.
#[derive(Default, Serialize, Deserialize)]
struct Run {
    number: u64,
    epoch: Option<Epoch>,
    began: Option<Timestamp>,
    /// The last client asked about; nothing when the run is over.
    after: Option<Vec<u8>>,
    summary: SharedSummary,
}

/// What the last two runs found of a client.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    run: u64,
    units: BTreeSet<MemberId>,
    before: BTreeSet<MemberId>,
}

/// Key in `state` of the run under way.
const RUN: &[u8] = b"shared-run";
/// A run that was cut off longer ago begins anew: its first pages are old.
const RESUME_SECONDS: i64 = 6 * 60 * 60;

/// Asks the registry about every enrolled client.
///
/// # Errors
/// [`SharedError`]: without the registry there is no answer, not an old one. Run again, it goes on where it stopped.
pub async fn shared(
    node: &Arc<Node>,
    options: SharedOptions,
    report: Report<'_>,
) -> Result<SharedSummary, SharedError> {
    let _one_at_a_time = node.sharing.lock().await;
    let held = node.manifest().map_err(SharedError::Closed)?;
    let now = node.now().map_err(SharedError::Closed)?;
    let epoch = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
    let purpose = ENROLMENT.parse().map_err(|_| RegistryError::Malformed)?;
    let total = node.store.read()?.count(Table::FILES)?;
    let mut run = Run::resume(node, epoch, now)?;
    let consenting = consents::consenting(&node.store.read()?)?;
    loop {
        let page = run.page(node, epoch)?;
        let Some((last, _)) = page.last() else { break };
        run.after = Some(last.clone());
        let published = |(at, (_, names)): (usize, &(Vec<u8>, Names))| {
            let published = names.iter().filter(|name| name.published.is_some());
            published.map(|name| (name.index, at)).collect::<Vec<(Index, usize)>>()
        };
        let mut asked: Vec<(Index, usize)> = page.iter().enumerate().flat_map(published).collect();
        // Names of one client do not stand side by side.
        asked.sort_unstable_by_key(|(index, _)| index.0);
        let mut known: BTreeMap<&Vec<u8>, BTreeSet<MemberId>> = BTreeMap::new();
        for asked in asked.chunks(MAX_BATCH) {
            let ask = || {
                let indexes = asked.iter().map(|(index, _)| *index).collect();
                locate(node, &held, epoch, &purpose, false, indexes)
            };
            for ((index, at), located) in asked.iter().zip(patiently(ask).await?) {
                let Some((key, names)) = page.get(*at) else { continue };
                let Some(name) = names.iter().find(|name| &name.index == index) else { continue };
                let seal = SealKey::from_bytes(&name.seal);
                let units = open_entries(&held, epoch, index, &seal, &located.entries, now);
                known.entry(key).or_default().extend(units);
            }
        }
        run.summary.enrolled += known.len() as u64;
        for units in known.values() {
            run.summary.count(units);
        }
        run.keep(node, known, &consenting, now)?;
        report(Progress { done: run.summary.enrolled, total });
    }
    let summary = run.finish(node, epoch, options)?;
    let shared = summary.exactly.values().sum();
    let event = Event::new(Happened::SharedFinished, &node.clock)
        .counting([("enrolled", summary.enrolled), ("shared", shared)]);
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(summary)
}

impl Run {
    fn resume(node: &Node, epoch: Epoch, now: Timestamp) -> Result<Self, StoreError> {
        let last: Run = node.store.read()?.get(Table::STATE, RUN)?.unwrap_or_default();
        let goes_on = last.after.is_some()
            && last.epoch == Some(epoch)
            && last.began.is_some_and(|began| now - began < RESUME_SECONDS);
        if goes_on {
            return Ok(last);
        }
        Ok(Run { number: last.number + 1, epoch: Some(epoch), began: Some(now), ..Run::default() })
    }

    fn page(&self, node: &Node, epoch: Epoch) -> Result<Vec<(Vec<u8>, Names)>, StoreError> {
        let read = node.store.read()?;
        let prefix = epoch.0.to_be_bytes();
        let after = self.after.as_deref().unwrap_or(&prefix);
        let keys = read.keys_after(Table::NAMES, after, MAX_BATCH)?;
        let own = keys.into_iter().filter(|key| key.starts_with(&prefix));
        own.filter_map(|key| read.get(Table::NAMES, &key).map(|names| Some((key, names?))).transpose()).collect()
    }

    /// Keeps what a page found, and how far the run is, in one transaction.
    fn keep(
        &self,
        node: &Node,
        found: BTreeMap<&Vec<u8>, BTreeSet<MemberId>>,
        consenting: &BTreeSet<FileId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        node.store.write(|write| {
            for (key, units) in found {
                let last: Known = write.get(Table::SHARED, key)?.unwrap_or_default();
                let file = key.last_chunk().map(|id| FileId(*id)).filter(|file| consenting.contains(file));
                for (file, unit) in units.difference(&last.units).filter_map(|unit| file.zip(Some(unit))) {
                    consents::met(write, file, unit, now)?;
                }
                let before = if last.run == self.number { last.before } else { last.units };
                write.put(Table::SHARED, key, &Known { run: self.number, units, before })?;
            }
            write.put(Table::STATE, RUN, self)
        })
    }

    /// Ends the run: names clients if wanted, and forgets what no client is there for any more.
    fn finish(mut self, node: &Node, epoch: Epoch, options: SharedOptions) -> Result<SharedSummary, StoreError> {
        let (read, mut gone) = (node.store.read()?, Vec::new());
        for row in read.each::<Known>(Table::SHARED)? {
            let (key, known) = row?;
            let Some(file) = key.last_chunk().map(|id| FileId(*id)) else { continue };
            let current = known.run == self.number && key.starts_with(&epoch.0.to_be_bytes());
            let (units, before) = if current { (known.units, known.before) } else { (BTreeSet::new(), known.units) };
            if !current {
                gone.push(key);
            }
            // The first run has nothing to differ from; nor has another key's.
            let differs = options.diff && units != before && self.number > 1;
            if differs {
                let (new, lost) = (&units - &before, &before - &units);
                self.summary.changes.push(SharedChange { local_numbers: read.local_numbers(file)?, new, gone: lost });
            }
            if options.list && current && !units.is_empty() {
                self.summary.clients.push(SharedClient { local_numbers: read.local_numbers(file)?, units });
            }
        }
        drop(read);
        let over = Run { number: self.number, ..Run::default() };
        node.store.write(|write| {
            gone.iter().try_for_each(|key| write.remove(Table::SHARED, key).map(drop))?;
            write.put(Table::STATE, RUN, &over)?;
            Ok(self.summary)
        })
    }
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
