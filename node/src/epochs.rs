//! From one pseudonym key to the next. While the manifest lists a key that is not in use yet, clients get their names
//! under it in the background; on its first day it is in use everywhere; on the day the manifest sets, the old names are
//! destroyed, here and at the registry, and the log says so.
//!
//! Records, consents and the log hang on file ids, which no key changes. What others wrote about a resident under an old
//! key is found through `links` (epoch, subject → file), which stay when the names go.

use crate::bulk::{Progress, patiently};
use crate::enrol::{self, Changed, EnrolError, enrol};
use crate::events::{Event, Happened};
use crate::locate::{RegistryError, write_entries};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::pseudonymise::PseudonymError;
use crate::records::Names;
use crate::store::{Read, Store, StoreError, Table, Write};
use protocol::consent::Grant;
use protocol::registry::MAX_BATCH;
use protocol::{Epoch, FileId, Index, Reason, SubjectId, Timestamp};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Key in `state` of the epochs under which everybody on file was enrolled once.
const ENROLLED: &[u8] = b"enrolled-epochs";
/// Key in `state` of the audience and the index for which everybody was published last.
const PUBLISHED: &[u8] = b"published-for";
const PAUSE: Duration = Duration::from_secs(10);
/// Holders or registry are away, or a quota is used up: the least pause before trying again.
const TROUBLE: Duration = Duration::from_mins(1);

/// Remembers for which audience and index everybody is published, and, if there is one, the epoch under which everybody on
/// file has names now.
pub(crate) fn note_published(node: &Node, epoch: Option<Epoch>, published: [u8; 32]) -> Result<(), StoreError> {
    node.store.write(|write| {
        write.put(Table::STATE, PUBLISHED, &published)?;
        let mut enrolled: BTreeSet<Epoch> = write.get(Table::STATE, ENROLLED)?.unwrap_or_default();
        enrolled.extend(epoch);
        write.put(Table::STATE, ENROLLED, &enrolled)
    })
}

/// Remembers that nobody is enrolled any more: nothing is to be done by ourselves.
pub(crate) fn note_left(write: &Write<'_>) -> Result<(), StoreError> {
    write.remove(Table::STATE, ENROLLED).map(drop)
}

/// The epochs under which everybody on file was enrolled once.
pub(crate) fn enrolled(read: &Read<'_>) -> Result<BTreeSet<Epoch>, StoreError> {
    Ok(read.get(Table::STATE, ENROLLED)?.unwrap_or_default())
}

/// What a node does about epochs by itself; how long until it looks again.
pub(crate) async fn follow(node: &Arc<Node>) -> Duration {
    let (Ok(held), Ok(now)) = (node.manifest(), node.now()) else { return PAUSE };
    if let Err(error) = close_those_over(node, &held, now).await {
        tracing::warn!(%error, "an epoch that is over is not closed yet");
        return TROUBLE;
    }
    match coming(node, &held, now) {
        Ok(None) => publish_again(node, &held, now).await,
        Ok(Some(epoch)) => match re_enrol(node, epoch).await {
            Ok(()) => PAUSE,
            Err(EnrolError::Pseudonym(PseudonymError::Quota { retry_after_seconds })) => {
                TROUBLE.max(Duration::from_secs(retry_after_seconds))
            }
            Err(error) => {
                tracing::warn!(%error, epoch = epoch.0, "re-enrolment stopped; it goes on");
                TROUBLE
            }
        },
        Err(error) => {
            tracing::error!(%error, "epochs cannot be followed");
            TROUBLE
        }
    }
}

/// Publishes again once who may see our entries has changed, or the registry's index came from a backup.
async fn publish_again(node: &Arc<Node>, held: &Held, now: Timestamp) -> Duration {
    let due = || -> Result<bool, StoreError> {
        let read = node.store.read()?;
        let published: Option<[u8; 32]> = read.get(Table::STATE, PUBLISHED)?;
        // Whom others followed publishes nothing any more.
        let ours = !enrolled(&read)?.is_empty() && !held.manifest.is_succeeded(&node.config.member, now);
        Ok(ours && published != Some(enrol::published_for(node, held, now)?))
    };
    let done = match due() {
        Ok(false) => return PAUSE,
        Ok(true) => enrol::renew(node).await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => PAUSE,
        Err(error) => {
            tracing::warn!(%error, "who may see our entries has changed, and they are not published again yet");
            TROUBLE
        }
    }
}

/// An epoch to enrol under by ourselves: a successor of one under which an operator enrolled.
fn coming(node: &Node, held: &Held, now: Timestamp) -> Result<Option<Epoch>, StoreError> {
    let enrolled = enrolled(&node.store.read()?)?;
    let newer = |epoch: &Epoch| enrolled.last().is_some_and(|last| epoch > last);
    Ok(held.manifest.epochs.iter().filter(|e| !e.is_over(now)).map(|e| e.epoch).find(newer))
}

async fn re_enrol(node: &Arc<Node>, epoch: Epoch) -> Result<(), EnrolError> {
    tracing::info!(epoch = epoch.0, "enrolling under a new pseudonym key");
    let progress = |progress: Progress| node.re_enrolling.store(Some(Arc::new((epoch, progress))));
    let outcome = enrol(node, &progress).await;
    node.re_enrolling.store(None);
    outcome.map(drop)
}

/// Destroys the names under every epoch whose time is over, or that the manifest lists no more.
async fn close_those_over(node: &Arc<Node>, held: &Held, now: Timestamp) -> Result<(), EnrolError> {
    for epoch in named_epochs(node)? {
        let listed = held.manifest.epoch(epoch);
        if listed.is_some_and(|listed| !listed.is_over(now)) {
            continue;
        }
        let (mut names, mut entries) = (0, 0);
        while let Some(page) = page_of::<Names>(node, Table::NAMES, epoch)? {
            let indexes: Vec<_> = page.iter().flat_map(|(_, names)| names.iter()).map(|name| name.index).collect();
            entries += take_back(node, held, epoch, &indexes).await?;
            names += page.len() as u64;
            remove(node, Table::NAMES, &page)?;
        }
        while let Some(page) = page_of::<Index>(node, Table::LEAVING, epoch)? {
            let indexes: Vec<_> = page.iter().map(|(_, index)| *index).collect();
            entries += take_back(node, held, epoch, &indexes).await?;
            remove(node, Table::LEAVING, &page)?;
        }
        while let Some(page) = page_of::<Changed>(node, Table::CHANGED, epoch)? {
            remove(node, Table::CHANGED, &page)?;
        }
        let mut event =
            Event::new(Happened::EpochClosed, &node.clock).counting([("names", names), ("entries", entries)]);
        event.epoch = Some(epoch);
        let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    }
    Ok(())
}

/// Removes at the registry what stands there under an epoch; how many entries there were.
async fn take_back(node: &Node, held: &Held, epoch: Epoch, indexes: &[Index]) -> Result<u64, RegistryError> {
    let mut entries = 0;
    for indexes in indexes.chunks(MAX_BATCH) {
        let write = || write_entries(node, held, epoch, BTreeSet::new(), Vec::new(), indexes.to_vec());
        match patiently(write).await {
            Ok(answer) => entries += answer.deleted as u64,
            // Of an epoch it knows no more nothing can be found; it lapses.
            Err(RegistryError::Refused(problem)) if problem.code == Reason::EpochUnknown.code() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}

/// The epochs under which there are names, or anything that is left of them.
fn named_epochs(node: &Node) -> Result<BTreeSet<Epoch>, StoreError> {
    let read = node.store.read()?;
    let mut out = BTreeSet::new();
    for table in [Table::NAMES, Table::LEAVING, Table::CHANGED] {
        let mut after = Vec::new();
        while let Some(key) = read.keys_after(table, &after, 1)?.pop() {
            let Some(epoch) = key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) else { break };
            out.insert(Epoch(epoch));
            // Past every key of this epoch.
            after = [epoch.to_be_bytes().as_slice(), &[0xff; 33]].concat();
        }
    }
    Ok(out)
}

/// Rows with their keys.
type Rows<T> = Vec<(Vec<u8>, T)>;

/// Rows of `table` under an epoch, if there are any.
fn page_of<T: DeserializeOwned>(node: &Node, table: Table, epoch: Epoch) -> Result<Option<Rows<T>>, StoreError> {
    let read = node.store.read()?;
    let keys = read.some_with(table, &epoch.0.to_be_bytes(), MAX_BATCH)?;
    let row = |key: Vec<u8>| Ok(read.get(table, &key)?.map(|value| (key, value)));
    let rows = keys.into_iter().filter_map(|key| row(key).transpose()).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(Some(rows).filter(|rows| !rows.is_empty()))
}

fn remove<T>(node: &Node, table: Table, rows: &[(Vec<u8>, T)]) -> Result<(), StoreError> {
    node.store.write(|write| rows.iter().try_for_each(|(key, _)| write.remove(table, key).map(drop)))
}

/// A grant written under another name than a request, by another key or of another identifier: if both mean the same file,
/// it is carried over to the request's.
pub(crate) fn carried(
    read: &Read<'_>,
    store: &Store,
    mut grant: Grant,
    (epoch, sub): (Epoch, &SubjectId),
    file: Option<FileId>,
) -> Result<Grant, StoreError> {
    let same = (grant.epoch, &grant.sub) == (epoch, sub);
    if !same && file.is_some() && read.file_of_subject(store, grant.epoch, &grant.sub)? == file {
        (grant.epoch, grant.sub) = (epoch, *sub);
    }
    Ok(grant)
}
