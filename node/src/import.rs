//! Import of an extract: rows become residents' records, found by MAC(PESEL), so that no other machine is needed.
//!
//! One transaction per [`BATCH`] rows. A run that is cut off leaves whole rows; running it again completes it.

use crate::bulk::{Progress, Report};
use crate::events::{Event, Happened};
use crate::extract::{Entry, Extract, ExtractError, FieldRule, Mapping, MappingError, RejectsError, RejectsFile, Row};
use crate::node::{Node, NodeError};
use crate::records::{FileRecord, Kind, StoredRow, local_number_key};
use crate::store::{Store, StoreError, Table, Write};
use keyring::random;
use protocol::{Epoch, FieldId, FileId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use zeroize::Zeroizing;

const BATCH: usize = 1000;
/// Key in `state` of the last run's number.
const RUN: &[u8] = b"import-run";

/// What to import, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The mapping file.
    pub mapping: PathBuf,
    /// The extract.
    pub extract: PathBuf,
    /// Where refused rows are listed; without, beside the extract's name in the data directory.
    pub rejects: Option<PathBuf>,
    /// What becomes of residents and rows that are not in the extract.
    pub mode: ImportMode,
    /// Read and check only; change nothing.
    pub dry_run: bool,
    /// Let a full import remove more than a fifth of a source's residents: without it that is taken for an export that
    /// was cut short.
    #[serde(default)]
    pub remove_many: bool,
}

/// What an extract is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// Residents in it have these rows and no others of this source; residents not in it stay.
    Update,
    /// The whole truth of this source: who is not in it is removed and unenrolled.
    Full,
    /// Additions only: rows join those that are there.
    Delta,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSummary {
    /// Rows read, without the header.
    pub rows: u64,
    /// Rows refused.
    pub rejected: u64,
    /// Refused rows by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Different residents in the extract.
    pub residents: u64,
    /// Residents not known before.
    pub new: u64,
    /// Residents removed because they vanished.
    pub removed: u64,
    /// Rows with neither PESEL nor document: on file here, not enrolled.
    #[serde(default)]
    pub unlinked: u64,
    /// Residents on file now.
    pub clients: u64,
    /// Where refused rows are listed, if there are any.
    pub rejects: Option<PathBuf>,
}

/// Why an import stopped. What was committed stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The mapping file.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The extract as a whole.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The list of refused rows.
    #[error(transparent)]
    Rejects(#[from] RejectsError),
    /// A full import would remove suspiciously many.
    #[error(
        "{vanished} of {of} residents of this source are not in the extract: if that is right, import again with \
         --remove-many; their rows were imported, nobody was removed"
    )]
    TooManyVanished {
        /// Residents not in the extract.
        vanished: u64,
        /// Residents of this source.
        of: u64,
    },
    /// Store or log.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl ImportError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::Mapping(error) => error.code(),
            ImportError::Extract(_) | ImportError::TooManyVanished { .. } => "extract_refused",
            ImportError::Rejects(_) => "rejects_unwritable",
            ImportError::Node(error) => error.code(),
        }
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        ImportError::Node(error.into())
    }
}

/// Imports an extract. Blocks.
///
/// # Errors
/// [`ImportError`]; refused rows are not errors.
pub fn import(node: &Node, request: &ImportRequest, report: Report<'_>) -> Result<ImportSummary, ImportError> {
    let mapping = Mapping::load(&request.mapping, &|field| node.engine.field(field).map(FieldRule::from))?;
    let extract = Extract::open(&request.extract, &mapping, today(node))?;
    let mut run = Run::new(node, request, mapping.source())?;
    if !request.dry_run {
        let event = Event::new(Happened::ImportStarted, node.clock.now()).counting([("run", run.number)]);
        let _recorded = node.log.append_blocking(&event).map_err(NodeError::from)?;
    }
    run.read(extract, report)?;
    run.finish()
}

/// The day it is in Poland in summer time: no newborn is refused for lying in the future, and the hour in winter by
/// which the day comes early does no harm.
pub(crate) fn today(node: &Node) -> jiff::civil::Date {
    let now = jiff::Timestamp::from_second(node.clock.now().0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::constant(2).to_datetime(now).date()
}

/// One import under way.
struct Run<'a> {
    node: &'a Node,
    request: &'a ImportRequest,
    source: &'a str,
    number: u64,
    epochs: Vec<Epoch>,
    batch: Vec<Row>,
    rejects: Option<RejectsFile>,
    summary: ImportSummary,
}

impl<'a> Run<'a> {
    fn new(node: &'a Node, request: &'a ImportRequest, source: &'a str) -> Result<Self, ImportError> {
        let number = if request.dry_run {
            0
        } else {
            node.store.write(|w| {
                let next = w.get::<u64>(Table::STATE, RUN)?.unwrap_or(0) + 1;
                w.put(Table::STATE, RUN, &next)?;
                Ok::<_, StoreError>(next)
            })?
        };
        let held = node.held.load();
        let epochs = held.as_ref().map(|h| h.manifest.epochs.iter().map(|e| e.epoch).collect()).unwrap_or_default();
        let summary = ImportSummary::default();
        Ok(Run { node, request, source, number, epochs, batch: Vec::with_capacity(BATCH), rejects: None, summary })
    }

    fn read(&mut self, mut extract: Extract, report: Report<'_>) -> Result<(), ImportError> {
        let total = std::fs::metadata(&self.request.extract).map_or(0, |m| m.len());
        while let Some(entry) = extract.next() {
            self.summary.rows += 1;
            match entry? {
                Entry::Row(row) => {
                    self.summary.unlinked += u64::from(row.pesel.is_none() && row.document.is_none());
                    self.batch.push(row);
                }
                Entry::Reject(reject) => {
                    self.summary.rejected += 1;
                    *self.summary.reasons.entry(reject.reason.code().to_owned()).or_default() += 1;
                    let path = self.rejects_path();
                    let file = match &mut self.rejects {
                        Some(file) => file,
                        None => self.rejects.insert(RejectsFile::create(&path)?),
                    };
                    file.write(&reject)?;
                }
            }
            if self.batch.len() == BATCH {
                self.commit()?;
                report(Progress { done: extract.bytes_read(), total });
            }
        }
        self.commit()?;
        report(Progress { done: total, total });
        Ok(())
    }

    fn rejects_path(&self) -> PathBuf {
        self.request.rejects.clone().unwrap_or_else(|| {
            let name = self.request.extract.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            self.node.config.data.join(format!("{name}.rejects.csv"))
        })
    }

    /// Writes the rows read, durably.
    fn commit(&mut self) -> Result<(), ImportError> {
        let batch = std::mem::take(&mut self.batch);
        let (node, source, number, mode) = (self.node, self.source, self.number, self.request.mode);
        if self.request.dry_run || batch.is_empty() {
            return Ok(());
        }
        let (mut residents, mut new) = (0, 0);
        node.store.write(|write| {
            for row in batch {
                match file_row(node, write, &row, source, (number, mode), &self.epochs)? {
                    Filed::Again => {}
                    Filed::Known => residents += 1,
                    Filed::New => {
                        residents += 1;
                        new += 1;
                    }
                }
            }
            Ok::<_, StoreError>(())
        })?;
        self.summary.residents += residents;
        self.summary.new += new;
        Ok(())
    }

    fn finish(mut self) -> Result<ImportSummary, ImportError> {
        if let Some(rejects) = self.rejects.take() {
            rejects.finish()?;
            self.summary.rejects = Some(self.rejects_path());
        }
        if !self.request.dry_run {
            if self.request.mode == ImportMode::Full {
                self.remove_vanished()?;
            }
            self.summary.clients = self.node.store.read()?.count(Table::FILES)?;
            let ImportSummary { rows, rejected, residents, new, removed, clients, .. } = self.summary;
            let event = Event::new(Happened::ImportFinished, self.node.clock.now()).counting([
                ("run", self.number),
                ("rows", rows),
                ("rejected", rejected),
                ("residents", residents),
                ("new", new),
                ("removed", removed),
                ("clients", clients),
            ]);
            let _recorded = self.node.log.append_blocking(&event).map_err(NodeError::from)?;
        }
        Ok(self.summary)
    }

    /// Takes this source's rows from residents whom the run did not bring; who has none left is removed whole.
    fn remove_vanished(&mut self) -> Result<(), ImportError> {
        let (vanished, of) = self.count_vanished()?;
        if !self.request.remove_many && vanished * 5 > of {
            return Err(ImportError::TooManyVanished { vanished, of });
        }
        let mut after = Vec::new();
        loop {
            let page = self.node.store.read()?.keys_after(Table::FILES, &after, BATCH)?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(last);
            self.summary.removed += self.node.store.write(|write| {
                let mut removed = 0;
                for key in &page {
                    removed += u64::from(self.remove_if_vanished(write, key)?);
                }
                Ok::<_, StoreError>(removed)
            })?;
        }
    }

    /// Residents of this source whom the run did not bring, and residents of this source.
    fn count_vanished(&self) -> Result<(u64, u64), StoreError> {
        let (mut vanished, mut of, mut after) = (0, 0, Vec::new());
        loop {
            let read = self.node.store.read()?;
            let page = read.keys_after(Table::FILES, &after, BATCH)?;
            let Some(last) = page.last() else { return Ok((vanished, of)) };
            after.clone_from(last);
            for key in &page {
                let record = read.get::<FileRecord>(Table::FILES, key)?;
                let run = record.and_then(|record| record.sources.get(self.source).copied());
                of += u64::from(run.is_some());
                vanished += u64::from(run.is_some_and(|run| run != self.number));
            }
        }
    }

    fn remove_if_vanished(&self, write: &Write<'_>, key: &[u8]) -> Result<bool, StoreError> {
        let Some(mut record) = write.get::<FileRecord>(Table::FILES, key)? else { return Ok(false) };
        let vanished = record.sources.get(self.source).is_some_and(|run| *run != self.number);
        let (true, Ok(id)) = (vanished, <[u8; 16]>::try_from(key)) else { return Ok(false) };
        record.sources.remove(self.source);
        if record.sources.is_empty() {
            write.remove_file(&self.node.store, FileId(id), &self.epochs)?;
            return Ok(true);
        }
        record.imported.remove(self.source);
        forget_rows(self.node, write, FileId(id), &mut record, |row| row.source == self.source)?;
        let mut sealed: SealedFields = write.get(Table::SEALED_FIELDS, key)?.unwrap_or_default();
        sealed.remove(self.source);
        write.put(Table::SEALED_FIELDS, key, &sealed)?;
        write.put(Table::FILES, key, &record)?;
        Ok(false)
    }
}

/// What filing a row did to the count of residents.
enum Filed {
    New,
    Known,
    Again,
}

/// Sealed fields of a resident, by source.
pub(crate) type SealedFields = BTreeMap<String, Vec<BTreeMap<FieldId, Value>>>;

fn file_row(
    node: &Node,
    write: &Write<'_>,
    row: &Row,
    source: &str,
    (run, mode): (u64, ImportMode),
    epochs: &[Epoch],
) -> Result<Filed, StoreError> {
    let store = &node.store;
    let known = known_as(store, write, row, source)?;
    let file = known.map_or_else(|| random().map(FileId), Ok)?;
    let mut record = write.get(Table::FILES, file.as_bytes())?.unwrap_or_else(|| FileRecord {
        pesel: None,
        document: None,
        former: Vec::new(),
        sources: BTreeMap::new(),
        imported: BTreeMap::new(),
        rows: Vec::new(),
    });
    identify(store, write, &mut record, (row, file), epochs)?;
    let mut sealed: SealedFields = write.get(Table::SEALED_FIELDS, file.as_bytes())?.unwrap_or_default();
    let first = record.sources.insert(source.to_owned(), run) != Some(run);
    record.imported.insert(source.to_owned(), node.clock.now());
    if first && mode != ImportMode::Delta {
        forget_rows(node, write, file, &mut record, |row| row.source == source)?;
        sealed.remove(source);
    }
    if let Some(number) = &row.local_number {
        write.put(Table::LOCAL_NUMBERS, &local_number_key(store, number, file), &())?;
    }
    let stored =
        StoredRow { source: source.to_owned(), local_number: row.local_number.clone(), fields: row.fields.clone() };
    if mode != ImportMode::Delta || !record.rows.contains(&stored) {
        record.rows.push(stored);
    }
    if !row.sealed.is_empty() {
        let rows = sealed.entry(source.to_owned()).or_default();
        if !rows.contains(&row.sealed) {
            rows.push(row.sealed.clone());
        }
    }
    if let (None, Some(number)) = (record.enrolled_by(), &row.local_number) {
        write.put(Table::LINKS, &store.unlinked_link(source, number), &file)?;
    }
    write.put(Table::FILES, file.as_bytes(), &record)?;
    write.put(Table::SEALED_FIELDS, file.as_bytes(), &sealed)?;
    Ok(match (known, first) {
        (None, _) => Filed::New,
        (Some(_), true) => Filed::Known,
        (Some(_), false) => Filed::Again,
    })
}

/// The file a row belongs to: by PESEL, by the PESEL before, by document, or by the number under which it came without either.
fn known_as(store: &Store, write: &Write<'_>, row: &Row, source: &str) -> Result<Option<FileId>, StoreError> {
    let pesel = row.pesel.as_ref().map(|pesel| store.identifier_link(Kind::Pesel, pesel.as_str()));
    let former = row.former_pesel.as_ref().map(|pesel| store.identifier_link(Kind::Pesel, pesel.as_str()));
    let document = row.document.as_ref().map(|document| store.identifier_link(Kind::Document, document));
    let unlinked = row.local_number.as_ref().map(|number| store.unlinked_link(source, number));
    for link in [pesel, former, document, unlinked].into_iter().flatten() {
        if let Some(file) = write.get(Table::LINKS, &link)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Takes a row's identifiers into the record. Who gets a PESEL, or another one, stays the same file: the old identifier
/// still finds it here, and its names are made anew of the new one.
fn identify(
    store: &Store,
    write: &Write<'_>,
    record: &mut FileRecord,
    (row, file): (&Row, FileId),
    epochs: &[Epoch],
) -> Result<(), StoreError> {
    let owned = |(kind, identifier): (pseudonym::Kind, &str)| (kind, Zeroizing::new(identifier.to_owned()));
    let before = record.enrolled_by().map(owned);
    let pesel = row.pesel.as_ref().map(|pesel| Zeroizing::new(pesel.as_str().to_owned()));
    for (kind, new) in [(Kind::Pesel, pesel), (Kind::Document, row.document.clone())] {
        let Some(new) = new else { continue };
        let link = store.identifier_link(kind, &new);
        if write.get::<FileId>(Table::LINKS, &link)?.is_some_and(|other| other != file) {
            // Somebody else's here: the PESEL decides, and the other file keeps what it is found by.
            continue;
        }
        write.put(Table::LINKS, &link, &file)?;
        let place = if kind == Kind::Pesel { &mut record.pesel } else { &mut record.document };
        if let Some(old) = place.replace(new.clone()).filter(|old| *old != new) {
            record.former.push((kind, old));
        }
    }
    if before.is_some() && before != record.enrolled_by().map(owned) {
        for &epoch in epochs {
            let _names = write.unname(file, epoch)?;
        }
    }
    Ok(())
}

/// Drops rows and the client numbers only they carried.
pub(crate) fn forget_rows(
    node: &Node,
    write: &Write<'_>,
    file: FileId,
    record: &mut FileRecord,
    goes: impl FnMut(&StoredRow) -> bool,
) -> Result<(), StoreError> {
    let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut record.rows).into_iter().partition(goes);
    record.rows = kept;
    for number in gone.iter().filter_map(|row| row.local_number.as_ref()) {
        if !record.rows.iter().any(|row| row.local_number.as_ref() == Some(number)) {
            write.remove(Table::LOCAL_NUMBERS, &local_number_key(&node.store, number, file))?;
        }
    }
    Ok(())
}
