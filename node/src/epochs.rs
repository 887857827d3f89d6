//! From one pseudonym key to the next. While the manifest lists a key that is not in use yet, clients get their names
//! under it in the background; on its first day it is in use everywhere; on the day the manifest sets, the old names are
//! destroyed, here and at the registry, and the log says so.
//!
//! Records, consents and the log hang on file ids, which no key changes. What others wrote about a resident under an old
//! key is found through `links` (epoch, subject → file), which stay when the names go.

use crate::bulk::Progress;
use crate::enrol::{self, EnrolError, enrol};
use crate::events::{Event, Happened};
use crate::locate::{RegistryError, write_entries};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::pseudonymise::PseudonymError;
use crate::records::Names;
use crate::store::{Read, Store, StoreError, Table, Write};
use protocol::consent::Grant;
use protocol::registry::MAX_BATCH;
use protocol::{Epoch, FileId, Index, SubjectId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
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
        loop {
            let page = page_of(node, epoch)?;
            if page.is_empty() {
                break;
            }
            let indexes: Vec<Index> = page.values().flatten().flat_map(Names::iter).map(|name| name.index).collect();
            for indexes in indexes.chunks(MAX_BATCH) {
                // An epoch that the registry knows no more has no entries that could be found; they lapse.
                match write_entries(node, held, epoch, BTreeSet::new(), Vec::new(), indexes.to_vec()).await {
                    Ok(answer) => entries += answer.deleted as u64,
                    Err(RegistryError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            names += page.len() as u64;
            remove(node, Table::NAMES, page.keys())?;
        }
        for table in [Table::LEAVING, Table::CHANGED] {
            while let Some(keys) = some_of(node, table, epoch)? {
                remove(node, table, &keys)?;
            }
        }
        let mut event =
            Event::new(Happened::EpochClosed, &node.clock).counting([("names", names), ("entries", entries)]);
        event.epoch = Some(epoch);
        let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    }
    Ok(())
}

/// The epochs under which there are names.
fn named_epochs(node: &Node) -> Result<Vec<Epoch>, StoreError> {
    let read = node.store.read()?;
    let (mut out, mut after) = (Vec::new(), Vec::new());
    while let Some(key) = read.keys_after(Table::NAMES, &after, 1)?.pop() {
        let Some(epoch) = key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) else { break };
        out.push(Epoch(epoch));
        // Past every file of this epoch.
        after = [epoch.to_be_bytes().as_slice(), &[0xff; 17]].concat();
    }
    Ok(out)
}

fn page_of(node: &Node, epoch: Epoch) -> Result<BTreeMap<Vec<u8>, Option<Names>>, StoreError> {
    let read = node.store.read()?;
    let keys = read.some_with(Table::NAMES, &epoch.0.to_be_bytes(), MAX_BATCH)?;
    keys.into_iter().map(|key| read.get(Table::NAMES, &key).map(|names| (key, names))).collect()
}

/// Keys of `table` under an epoch, if there are any.
fn some_of(node: &Node, table: Table, epoch: Epoch) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
    let keys = node.store.read()?.some_with(table, &epoch.0.to_be_bytes(), MAX_BATCH)?;
    Ok(Some(keys).filter(|keys| !keys.is_empty()))
}

fn remove<'a>(node: &Node, table: Table, keys: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<(), StoreError> {
    node.store.write(|write| keys.into_iter().try_for_each(|key| write.remove(table, key).map(drop)))
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
