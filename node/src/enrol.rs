//! Enrolment: clients get their derived names, and the registry an entry of each. Incremental and resumable: every
//! batch is durable here before it is published, and marked published only when the registry has acknowledged it.

use crate::bulk::{Progress, Report};
use crate::events::{Event, Happened};
use crate::flags;
use crate::locate::{RegistryError, seal_entry, write_entries};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::pseudonymise::{PseudonymError, outputs};
use crate::records::{FileRecord, Names, Published, names_key};
use crate::store::{StoreError, Table};
use protocol::encoding::sha256;
use protocol::evaluation::EvaluationPurpose;
use protocol::{Epoch, FileId, Index, MemberId, Reason, SubjectId, Timestamp};
use pseudonym::{Input, Kind, Output, SealKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use zeroize::Zeroizing;

const BATCH: usize = 1000;
/// An entry lives this long and is renewed when less than [`RENEW_SECONDS`] of it are left.
const ENTRY_SECONDS: i64 = 365 * 24 * 60 * 60;
const RENEW_SECONDS: i64 = 60 * 24 * 60 * 60;

/// What an enrolment did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolSummary {
    /// Clients on file.
    pub clients: u64,
    /// Clients that got their names now.
    pub pseudonymised: u64,
    /// Entries published or renewed now.
    pub published: u64,
    /// Entries removed now.
    pub removed: u64,
}

/// Why an enrolment stopped. What was done stays; running it again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// No pseudonyms.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    /// No registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Store or log.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// An identifier on file cannot be framed; the record is damaged.
    #[error("a record on file has no valid identifier: import its source again")]
    Record,
}

impl EnrolError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            EnrolError::Closed(reason) => reason.code(),
            EnrolError::Pseudonym(error) => error.code(),
            EnrolError::Registry(error) => error.code(),
            EnrolError::Node(error) => error.code(),
            EnrolError::Record => "record_damaged",
        }
    }
}

impl From<StoreError> for EnrolError {
    fn from(error: StoreError) -> Self {
        EnrolError::Node(error.into())
    }
}

/// Brings the registry up to date with the files held.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(node: &Arc<Node>, report: Report<'_>) -> Result<EnrolSummary, EnrolError> {
    let _one_at_a_time = node.bulk.lock().await;
    let held = node.manifest().map_err(EnrolError::Closed)?;
    let run = Run::new(node, &held)?;
    let total = node.store.read()?.count(Table::FILES)?;
    let removed = run.remove_all_leaving().await?;
    let mut summary = EnrolSummary { clients: total, removed, ..EnrolSummary::default() };
    let (mut after, mut done) = (Vec::new(), 0);
    loop {
        let files = run.page(&after)?;
        let Some(last) = files.last() else { break };
        after = last.as_bytes().to_vec();
        done += files.len() as u64;
        summary.pseudonymised += run.pseudonymise(&files).await?;
        summary.published += run.publish(&files).await?;
        report(Progress { done, total });
    }
    let EnrolSummary { clients, pseudonymised, published, removed } = summary;
    let mut event = Event::new(Happened::EnrolFinished, node.clock.now()).counting([
        ("clients", clients),
        ("pseudonymised", pseudonymised),
        ("published", published),
        ("removed", removed),
    ]);
    event.epoch = Some(run.epoch);
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(summary)
}

/// Removes at the registry what is queued for removal, without enrolling anybody.
///
/// # Errors
/// [`EnrolError`]; what is queued stays so.
pub(crate) async fn remove_leaving(node: &Arc<Node>) -> Result<u64, EnrolError> {
    let _one_at_a_time = node.bulk.lock().await;
    let held = node.manifest().map_err(EnrolError::Closed)?;
    Run::new(node, &held)?.remove_all_leaving().await
}

fn publication(audience: &BTreeSet<MemberId>, now: Timestamp) -> Published {
    let names: Vec<&[u8]> = audience.iter().flat_map(|m| [m.as_str().as_bytes(), b"\n".as_slice()]).collect();
    Published { expires: now + ENTRY_SECONDS, audience: sha256(&names) }
}

/// The input of a PESEL under `epoch`.
pub(crate) fn pesel_input(node: &Node, epoch: Epoch, pesel: &str) -> Option<Input> {
    pseudonym::frame(node.config.realm.as_str(), Kind::Pesel, epoch.0, pesel).ok()
}

/// The name by which others mean the resident to `member`.
pub(crate) fn subject(output: &Output, member: &MemberId) -> Option<SubjectId> {
    output.subject(member.as_str()).ok().map(SubjectId)
}

/// One enrolment under way.
struct Run<'a> {
    node: &'a Arc<Node>,
    held: &'a Held,
    epoch: Epoch,
    audience: BTreeSet<MemberId>,
    published: Published,
    /// Clients done at a time: no more than may be evaluated at once.
    batch: usize,
}

impl<'a> Run<'a> {
    fn new(node: &'a Arc<Node>, held: &'a Held) -> Result<Self, EnrolError> {
        let now = node.now().map_err(EnrolError::Closed)?;
        let epoch = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
        let audience = held.manifest.audience(&node.config.member, now);
        let burst = held.manifest.member(&node.config.member).map_or(1, |me| me.quotas.evaluations_burst);
        let batch = usize::try_from(burst).unwrap_or(BATCH).clamp(1, BATCH);
        Ok(Run { node, held, epoch, published: publication(&audience, now), audience, batch })
    }

    async fn remove_all_leaving(&self) -> Result<u64, EnrolError> {
        let mut removed = 0;
        for leaving in &self.held.manifest.epochs {
            removed += self.remove_leaving(leaving.epoch).await?;
        }
        Ok(removed)
    }

    fn page(&self, after: &[u8]) -> Result<Vec<FileId>, StoreError> {
        let keys = self.node.store.read()?.keys_after(Table::FILES, after, self.batch)?;
        Ok(keys.iter().filter_map(|key| key.as_slice().try_into().ok().map(FileId)).collect())
    }

    /// Gives names to the clients among `files` that lack them.
    async fn pseudonymise(&self, files: &[FileId]) -> Result<u64, EnrolError> {
        let mut nameless = Vec::new();
        let mut inputs = Vec::new();
        {
            let read = self.node.store.read()?;
            for &file in files {
                if read.names(self.epoch, file)?.is_some() {
                    continue;
                }
                let Some(record) = read.get::<FileRecord>(Table::FILES, file.as_bytes())? else { continue };
                inputs.push(pesel_input(self.node, self.epoch, &record.pesel).ok_or(EnrolError::Record)?);
                nameless.push(file);
            }
        }
        if nameless.is_empty() {
            return Ok(0);
        }
        let outputs = outputs(self.node, self.held, inputs, EvaluationPurpose::Enrol).await?;
        self.node.store.write(|write| {
            for (file, output) in nameless.iter().zip(&outputs) {
                // Imported away meanwhile: then there is nobody to name.
                if write.get::<FileRecord>(Table::FILES, file.as_bytes())?.is_none() {
                    continue;
                }
                let subject = subject(output, &self.node.config.member).ok_or(StoreError::Shape("names"))?;
                let seal = output.seal_key().to_bytes();
                let names =
                    Names { index: Index(output.index()), seal: Zeroizing::new(*seal), subject, published: None };
                write.put(Table::NAMES, &names_key(self.epoch, *file), &names)?;
                write.put(Table::LINKS, &self.node.store.subject_link(self.epoch, &subject), file)?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(nameless.len() as u64)
    }

    /// Publishes or renews the entries among `files` that are not published as they should be.
    async fn publish(&self, files: &[FileId]) -> Result<u64, EnrolError> {
        let now = self.node.now().map_err(EnrolError::Closed)?;
        let mut due = Vec::new();
        {
            let read = self.node.store.read()?;
            for &file in files {
                let Some(names) = read.names(self.epoch, file)? else { continue };
                let current = names
                    .published
                    .is_some_and(|p| p.audience == self.published.audience && p.expires - now > RENEW_SECONDS);
                // An unlisted resident is published to nobody.
                if !current && !flags::of(&read, file)?.flags().unlisted {
                    due.push((file, names));
                }
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        let entry = |(_, names): &(FileId, Names)| {
            let seal = SealKey::from_bytes(&names.seal);
            seal_entry(self.node, self.epoch, names.index, &seal, (now, self.published.expires))
        };
        let put: Vec<_> = due.iter().filter_map(entry).collect();
        if put.len() < due.len() {
            return Err(EnrolError::Record);
        }
        write_entries(self.node, self.held, self.epoch, self.audience.clone(), put, Vec::new()).await?;
        let published = due.len() as u64;
        self.node.store.write(|write| {
            for (file, mut names) in due {
                names.published = Some(self.published);
                let key = names_key(self.epoch, file);
                // Removed meanwhile: its entry is queued for removal and must not be forgotten.
                if write.get::<Names>(Table::NAMES, &key)?.is_some() {
                    write.put(Table::NAMES, &key, &names)?;
                }
                if flags::unlisted(write, file)? {
                    flags::unpublish(write, file, &[self.epoch])?;
                }
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(published)
    }

    /// Removes entries of residents who are clients no more.
    async fn remove_leaving(&self, epoch: Epoch) -> Result<u64, EnrolError> {
        let mut removed = 0;
        loop {
            let prefix = epoch.0.to_be_bytes();
            let (keys, indexes) = {
                let read = self.node.store.read()?;
                let mut keys = read.keys_with(Table::LEAVING, &prefix)?;
                keys.truncate(BATCH);
                let indexes = keys
                    .iter()
                    .filter_map(|key| read.get::<Index>(Table::LEAVING, key).transpose())
                    .collect::<Result<Vec<_>, _>>()?;
                (keys, indexes)
            };
            if keys.is_empty() {
                return Ok(removed);
            }
            write_entries(self.node, self.held, epoch, self.audience.clone(), Vec::new(), indexes).await?;
            removed += keys.len() as u64;
            self.node
                .store
                .write(|write| keys.iter().try_for_each(|key| write.remove(Table::LEAVING, key).map(drop)))
                .map_err(|e: StoreError| EnrolError::from(e))?;
        }
    }
}
