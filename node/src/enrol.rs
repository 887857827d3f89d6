//! Enrolment: clients get their derived names, and the registry an entry of each. Incremental and resumable: every
//! batch is durable here before it is published, and marked published only when the registry has acknowledged it.

use crate::bulk::{Progress, Report, blocking, patiently};
use crate::epochs;
use crate::events::{Event, Happened};
use crate::locate::{RegistryError, seal_entry, write_entries};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::pseudonymise::{PseudonymError, outputs};
use crate::records::{FileRecord, Name, Names, Published, names_key};
use crate::store::{StoreError, Table, Write};
use crate::{flags, newcomers};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use protocol::encoding::sha256;
use protocol::evaluation::EvaluationPurpose;
use protocol::registry::{MAX_BATCH, PutEntry};
use protocol::time::DAY_SECONDS;
use protocol::{Epoch, FileId, Index, MemberId, Reason, SubjectId, Timestamp};
use pseudonym::{Input, Kind, Output, SealKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Clients whose changes share a commit: of a large table hardly two of them stand on one page, so that each costs a page.
const BATCH: usize = 4000;
/// Identifiers evaluated at a time.
const EVALUATED: usize = 1000;
/// Batches under way at once.
const IN_FLIGHT: usize = 3;
/// An entry lives this long and is renewed when less than [`RENEW_SECONDS`] of it are left.
const ENTRY_SECONDS: i64 = 365 * DAY_SECONDS;
const RENEW_SECONDS: i64 = 60 * DAY_SECONDS;

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

/// Brings the registry up to date with the files held, under the epoch in use and those that come after it.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(node: &Arc<Node>, report: Report<'_>) -> Result<EnrolSummary, EnrolError> {
    publish_all(node, false, report).await
}

/// Publishes again, for those who may see it now and in the index the registry has now, what was published before.
/// Enrols nobody.
///
/// # Errors
/// [`EnrolError`].
pub(crate) async fn renew(node: &Arc<Node>) -> Result<(), EnrolError> {
    publish_all(node, true, &|_| {}).await.map(drop)
}

/// Goes through all files once; `again` only through those that were published.
async fn publish_all(node: &Arc<Node>, again: bool, report: Report<'_>) -> Result<EnrolSummary, EnrolError> {
    let _one_at_a_time = node.bulk.lock().await;
    let held = node.manifest().map_err(EnrolError::Closed)?;
    let now = node.now().map_err(EnrolError::Closed)?;
    let current = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
    let mut summary = EnrolSummary { clients: node.store.read()?.count(Table::FILES)?, ..EnrolSummary::default() };
    for epoch in held.manifest.epochs.iter().filter(|epoch| !epoch.is_over(now)).map(|epoch| epoch.epoch) {
        let run = Run::new(node, &held, (epoch, now), again)?;
        summary.removed += run.remove_leaving().await?;
        if epoch >= current {
            let (pseudonymised, published) = run.go_through(summary.clients, report).await?;
            summary.pseudonymised += pseudonymised;
            summary.published += published;
            epochs::note_published(node, (!again).then_some(epoch), run.aim.published.audience)?;
        }
    }
    let EnrolSummary { clients, pseudonymised, published, removed } = summary;
    let mut event = Event::new(Happened::EnrolFinished, &node.clock).counting([
        ("clients", clients),
        ("pseudonymised", pseudonymised),
        ("published", published),
        ("removed", removed),
    ]);
    event.epoch = Some(current);
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(summary)
}

/// What [`renew`] would publish for.
pub(crate) fn published_for(node: &Node, held: &Held, now: Timestamp) -> Result<[u8; 32], StoreError> {
    let audience = held.manifest.audience(&node.config.member, now);
    Ok(publication(&audience, node.index_generation()?, now).audience)
}

/// Removes at the registry what is queued for removal, without enrolling anybody.
///
/// # Errors
/// [`EnrolError`]; what is queued stays so.
pub(crate) async fn remove_leaving(node: &Arc<Node>) -> Result<u64, EnrolError> {
    let _one_at_a_time = node.bulk.lock().await;
    let held = node.manifest().map_err(EnrolError::Closed)?;
    let now = node.now().map_err(EnrolError::Closed)?;
    let mut removed = 0;
    for epoch in held.manifest.epochs.iter().filter(|epoch| !epoch.is_over(now)) {
        removed += Run::new(node, &held, (epoch.epoch, now), false)?.remove_leaving().await?;
    }
    Ok(removed)
}

/// What an entry published now for `audience` is, in the registry's index of that generation.
pub(crate) fn publication(audience: &BTreeSet<MemberId>, index: Option<[u8; 16]>, now: Timestamp) -> Published {
    let index = index.unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![&index];
    parts.extend(audience.iter().flat_map(|m| [m.as_str().as_bytes(), b"\n".as_slice()]));
    Published { expires: now + ENTRY_SECONDS, audience: sha256(&parts), provisional: false }
}

/// What a resident's pseudonym under `epoch` is made of.
pub(crate) fn input(node: &Node, epoch: Epoch, (kind, identifier): (Kind, &str)) -> Option<Input> {
    pseudonym::frame(node.config.realm.as_str(), kind, epoch.0, identifier).ok()
}

/// The name by which others mean the resident to `member`.
pub(crate) fn subject(output: &Output, member: &MemberId) -> Option<SubjectId> {
    output.subject(member.as_str()).ok().map(SubjectId)
}

/// A name of which nothing is published yet.
pub(crate) fn new_name(node: &Node, output: &Output) -> Result<Name, StoreError> {
    Ok(Name {
        index: Index(output.index()),
        seal: Zeroizing::new(*output.seal_key().to_bytes()),
        subject: subject(output, &node.config.member).ok_or(StoreError::Shape("names"))?,
        published: None,
    })
}

/// One enrolment under way, under one epoch.
struct Run<'a> {
    node: &'a Arc<Node>,
    held: &'a Arc<Held>,
    audience: BTreeSet<MemberId>,
    /// Identifiers evaluated at a time: no more than the quota lets through at once.
    evaluated: usize,
    aim: Aim,
}

/// How entries are to stand at the registry.
#[derive(Clone, Copy)]
struct Aim {
    epoch: Epoch,
    published: Published,
    now: Timestamp,
    /// Only who was published before.
    again: bool,
}

impl Aim {
    /// Whether the entry under a name is to be published, or published anew.
    fn wants(&self, name: &Name) -> bool {
        match name.published.filter(|published| !published.provisional) {
            Some(p) => p.audience != self.published.audience || p.expires - self.now <= RENEW_SECONDS,
            None => !self.again,
        }
    }
}

/// A client with names whose entry is due.
type Due = (FileId, Names);

/// A note that a client's identifiers changed: random, so that one made meanwhile is not taken for it.
pub(crate) type Changed = [u8; 8];

/// A client without names, or with those of other identifiers than it has now.
struct Nameless {
    file: FileId,
    /// How many names it gets.
    identifiers: usize,
    /// The note that its identifiers changed.
    changed: Option<Changed>,
}

impl<'a> Run<'a> {
    fn new(
        node: &'a Arc<Node>,
        held: &'a Arc<Held>,
        (epoch, now): (Epoch, Timestamp),
        again: bool,
    ) -> Result<Self, StoreError> {
        let audience = held.manifest.audience(&node.config.member, now);
        let burst = held.manifest.member(&node.config.member).map_or(1, |me| me.quotas.evaluations_burst);
        let evaluated = usize::try_from(burst).unwrap_or(EVALUATED).clamp(1, EVALUATED);
        let published = publication(&audience, node.index_generation()?, now);
        Ok(Run { node, held, audience, evaluated, aim: Aim { epoch, published, now, again } })
    }

    /// Goes through all files, [`IN_FLIGHT`] batches at a time: while holders and registry work on some, this machine
    /// works on others.
    async fn go_through(&self, total: u64, report: Report<'_>) -> Result<(u64, u64), EnrolError> {
        let (mut flying, mut after) = (FuturesUnordered::new(), Some(Vec::new()));
        let (mut pseudonymised, mut published, mut seen) = (0, 0, 0);
        loop {
            while let Some(last) = after.take_if(|_| flying.len() < IN_FLIGHT) {
                let files = self.page(&last)?;
                after = files.last().map(|last| last.as_bytes().to_vec());
                if !files.is_empty() {
                    flying.push(self.enrol(files));
                }
            }
            let Some(done) = flying.next().await else { return Ok((pseudonymised, published)) };
            let (count, named, entered) = done?;
            seen += count;
            pseudonymised += named;
            published += entered;
            report(Progress { done: seen, total });
        }
    }

    /// Names and publishes one batch; how many there were, were named, were published.
    async fn enrol(&self, files: Vec<FileId>) -> Result<(u64, u64, u64), EnrolError> {
        let count = files.len() as u64;
        let (named, due) = self.pseudonymise(files).await?;
        Ok((count, named, self.publish(due).await?))
    }

    fn page(&self, after: &[u8]) -> Result<Vec<FileId>, StoreError> {
        let keys = self.node.store.read()?.keys_after(Table::FILES, after, BATCH)?;
        Ok(keys.iter().filter_map(|key| key.as_slice().try_into().ok().map(FileId)).collect())
    }

    /// Gives names to the clients among `files` that lack them; how many, and everybody whose entry is due.
    async fn pseudonymise(&self, files: Vec<FileId>) -> Result<(u64, Vec<Due>), EnrolError> {
        let aim = self.aim;
        let Sorted { mut due, nameless, inputs } = self.on_a_lane(move |node| sort_out(node, aim, &files)).await?;
        if nameless.is_empty() {
            return Ok((0, due));
        }
        let mut evaluated = Vec::with_capacity(inputs.len());
        for inputs in inputs.chunks(self.evaluated) {
            let ask = || outputs(self.node, self.held, aim.epoch, inputs.to_vec(), EvaluationPurpose::Enrol);
            evaluated.extend(patiently(ask).await?);
        }
        let count = nameless.len() as u64;
        due.extend(self.on_a_lane(move |node| name(node, aim.epoch, &nameless, &evaluated)).await?);
        Ok((count, due))
    }

    /// Publishes or renews the entries that are due.
    async fn publish(&self, due: Vec<Due>) -> Result<u64, EnrolError> {
        if due.is_empty() {
            return Ok(0);
        }
        let now = self.node.now().map_err(EnrolError::Closed)?;
        let aim = self.aim;
        let (due, put) = self
            .on_a_lane(move |node| {
                let entry = |name: &Name| {
                    let seal = SealKey::from_bytes(&name.seal);
                    let life = (now, aim.published.expires);
                    seal_entry(node, aim.epoch, name.index, &seal, life).ok_or(EnrolError::Record)
                };
                let names = due.iter().flat_map(|(_, names)| names.iter()).filter(|name| aim.wants(name));
                let mut put = names.map(entry).collect::<Result<Vec<_>, _>>()?;
                // Names of one client do not stand side by side.
                put.sort_unstable_by_key(|entry| entry.index.0);
                Ok((due, put))
            })
            .await?;
        let count = put.len() as u64;
        // At once, so that at the registry they share a commit.
        try_join_all(put.chunks(MAX_BATCH).map(|part| self.write(part, &[]))).await?;
        self.on_a_lane(move |node| note_published(node, aim, due)).await?;
        Ok(count)
    }

    /// Changes own entries, as soon as the registry lets us.
    async fn write(&self, put: &[PutEntry], delete: &[Index]) -> Result<(), RegistryError> {
        let write = || {
            write_entries(self.node, self.held, self.aim.epoch, self.audience.clone(), put.to_vec(), delete.to_vec())
        };
        patiently(write).await.map(drop)
    }

    /// Runs `work` beside the network threads.
    async fn on_a_lane<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Node) -> Result<T, EnrolError> + Send + 'static,
    ) -> Result<T, EnrolError> {
        let node = self.node.clone();
        blocking(move || work(&node)).await.map_err(NodeError::from)?
    }

    /// Removes entries of residents who are clients no more.
    async fn remove_leaving(&self) -> Result<u64, EnrolError> {
        let mut removed = 0;
        loop {
            let (keys, indexes) = {
                let read = self.node.store.read()?;
                let keys = read.some_with(Table::LEAVING, &self.aim.epoch.0.to_be_bytes(), MAX_BATCH)?;
                let indexes = keys
                    .iter()
                    .filter_map(|key| read.get::<Index>(Table::LEAVING, key).transpose())
                    .collect::<Result<Vec<_>, _>>()?;
                (keys, indexes)
            };
            if keys.is_empty() {
                return Ok(removed);
            }
            self.write(&[], &indexes).await?;
            removed += keys.len() as u64;
            self.node
                .store
                .write(|write| keys.iter().try_for_each(|key| write.remove(Table::LEAVING, key).map(drop)))
                .map_err(|e: StoreError| EnrolError::from(e))?;
        }
    }
}

/// A batch of clients, by what is to be done for them.
struct Sorted {
    /// Whose entry is due.
    due: Vec<Due>,
    /// Who is to be named.
    nameless: Vec<Nameless>,
    /// What their names are made of, one client's after the other's.
    inputs: Vec<Input>,
}

/// Of `files`: whose entry is due under its names, and, unless it is only to be published again, who is to be named.
fn sort_out(node: &Node, aim: Aim, files: &[FileId]) -> Result<Sorted, EnrolError> {
    let mut sorted = Sorted { due: Vec::new(), nameless: Vec::new(), inputs: Vec::new() };
    let read = node.store.read()?;
    for &file in files {
        let changed = read.get(Table::CHANGED, &names_key(aim.epoch, file))?.filter(|_: &Changed| !aim.again);
        if let (Some(names), None) = (read.names(aim.epoch, file)?, changed) {
            let ordinary = |name: &Name| name.published.is_some_and(|published| !published.provisional);
            let wanted = names.iter().any(|name| aim.wants(name));
            let may = wanted && (names.iter().all(ordinary) || newcomers::has_come(&read, file)?);
            if may && !flags::of(&read, file)?.withheld() {
                sorted.due.push((file, names));
            }
            continue;
        }
        if aim.again || flags::of(&read, file)?.unenrolled() {
            continue;
        }
        let record = read.get::<FileRecord<IgnoredAny>>(Table::FILES, file.as_bytes())?.filter(FileRecord::has_rows);
        let Some(record) = record else { continue };
        let before = sorted.inputs.len();
        for identifier in record.enrolled_by() {
            sorted.inputs.push(input(node, aim.epoch, identifier).ok_or(EnrolError::Record)?);
        }
        let identifiers = sorted.inputs.len() - before;
        // Who has no identifier is on file here and nowhere else.
        if identifiers > 0 {
            sorted.nameless.push(Nameless { file, identifiers, changed });
        }
    }
    Ok(sorted)
}

/// Keeps the names of clients, durably, before anything of them is published.
fn name(node: &Node, epoch: Epoch, clients: &[Nameless], outputs: &[Output]) -> Result<Vec<Due>, EnrolError> {
    node.store.write(|write| {
        let (mut named, mut outputs) = (Vec::with_capacity(clients.len()), outputs);
        let (files, notes) = (write.open(Table::FILES)?, write.open(Table::NOTES)?);
        for client in clients {
            let (own, others) = outputs.split_at_checked(client.identifiers).ok_or(StoreError::Shape("names"))?;
            outputs = others;
            // Imported away or unenrolled meanwhile: then there is nobody to name.
            if !files.has(client.file.as_bytes())? {
                continue;
            }
            let noted = flags::noted_among(&notes, client.file)?;
            if !noted.unenrolled() {
                named.push((client.file, client.named(node, write, epoch, own)?, noted.withheld()));
            }
        }
        write.put_all(Table::NAMES, named.iter().map(|(file, names, _)| (names_key(epoch, *file), names)))?;
        let link = |name: &Name| node.store.subject_link(epoch, &name.subject).to_vec();
        let links = named.iter().flat_map(|(file, names, _)| names.iter().map(move |name| (link(name), file)));
        let mut links: Vec<_> = links.collect();
        // In their order neighbours share a page.
        links.sort_unstable();
        write.put_all(Table::LINKS, links)?;
        Ok(named.into_iter().filter(|(_, _, withheld)| !withheld).map(|(file, names, _)| (file, names)).collect())
    })
}

impl Nameless {
    /// The client's names, of which those stay that it had already; the others leave the registry.
    fn named(&self, node: &Node, write: &Write<'_>, epoch: Epoch, outputs: &[Output]) -> Result<Names, StoreError> {
        let key = names_key(epoch, self.file);
        let mut before = Names::default();
        if self.changed.is_some() {
            before = write.get(Table::NAMES, &key)?.unwrap_or_default();
            // Changed once more meanwhile: then the next enrolment looks again.
            if write.get(Table::CHANGED, &key)? == self.changed {
                write.remove(Table::CHANGED, &key)?;
            }
        }
        let mut names = Names(Vec::with_capacity(outputs.len()));
        for output in outputs {
            let kept = before.take(&Index(output.index()));
            names.0.push(kept.map_or_else(|| new_name(node, output), Ok)?);
        }
        before.iter().try_for_each(|gone| write.leave(epoch, &gone.index))?;
        Ok(names)
    }
}

/// Remembers what the registry acknowledged.
fn note_published(node: &Node, aim: Aim, due: Vec<Due>) -> Result<(), EnrolError> {
    Ok(node.store.write(|write| {
        let mut withheld = Vec::new();
        let (mut kept, notes) = (write.open(Table::NAMES)?, write.open(Table::NOTES)?);
        for (file, mut names) in due {
            // Unlisted meanwhile: then what was just published leaves again.
            if flags::noted_among(&notes, file)?.withheld() {
                withheld.push(file);
            }
            if names.iter().any(|name| name.published.is_some_and(|before| before.provisional)) {
                write.remove(Table::NEWCOMERS, file.as_bytes())?;
            }
            names.0.iter_mut().filter(|name| aim.wants(name)).for_each(|name| name.published = Some(aim.published));
            let key = names_key(aim.epoch, file);
            // Removed meanwhile: its entry is queued for removal and must not be forgotten.
            if kept.has(&key)? {
                kept.put(&key, &names)?;
            }
        }
        drop((kept, notes));
        withheld.into_iter().try_for_each(|file| flags::unpublish(write, file, &[aim.epoch]))
    })?)
}
