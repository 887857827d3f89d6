//! Import of an extract: rows become residents' records, found by MAC(PESEL), so that no other machine is needed.
//!
//! One transaction per [`BATCH`] rows. A run that is cut off leaves whole rows; running it again completes it.

use crate::bulk::{Progress, Report};
use crate::enrol::Changed;
use crate::events::{Event, Happened};
use crate::extract::{
    Entry, Extract, ExtractError, FieldRule, Mapping, MappingError, Reject, RejectReason, RejectsError, RejectsFile,
    Row,
};
use crate::node::{Node, NodeError};
use crate::records::{FileRecord, Kind, StoredRow, local_number_key, names_key};
use crate::store::{Read, Store, StoreError, Table, Write};
use keyring::random;
use protocol::{Epoch, FieldId, FileId};
use pseudonym::Pesel;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Where refused rows are listed, none of them too; without, under the extract's name in the data directory if there
    /// are any, but of a dry run nowhere. What stands there and is no such list stays, and nothing is imported.
    pub rejects: Option<PathBuf>,
    /// What becomes of residents and rows that are not in the extract.
    pub mode: ImportMode,
    /// Read and check only; change nothing, and write no more than the list of refused rows, if a place for it is named.
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

/// What an import did, or would do if it is a dry run.
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
         --remove-many; {}",
        if *dry_run { "nothing was changed" } else { "their rows were imported, nobody was removed" }
    )]
    TooManyVanished {
        /// Whether it was only tried.
        dry_run: bool,
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
        let event = Event::new(Happened::ImportStarted, &node.clock).counting([("run", run.number)]);
        let _recorded = node.log.append_blocking(&event).map_err(NodeError::from)?;
    }
    let done = run.read(extract, report).and_then(|()| run.finish());
    let recorded = run.record_end(done.as_ref().err());
    done.and(recorded)?;
    Ok(run.summary)
}

/// Where refused rows are listed.
fn rejects_path(node: &Node, request: &ImportRequest) -> Option<PathBuf> {
    request.rejects.clone().or_else(|| {
        let name = request.extract.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (!request.dry_run).then(|| node.config.data.join(format!("{name}.rejects.csv")))
    })
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
    /// Refused among the rows read since the last commit.
    refused: Vec<Reject>,
    rejects: Option<RejectsFile>,
    tried: Tried,
    summary: ImportSummary,
}

/// What a dry run would have put in the store, as far as later rows depend on it: some hundred bytes for each resident.
#[derive(Default)]
struct Tried {
    links: HashMap<[u8; 32], FileId>,
    /// Whom the extract has.
    brought: HashSet<FileId>,
}

impl<'a> Run<'a> {
    fn new(node: &'a Node, request: &'a ImportRequest, source: &'a str) -> Result<Self, ImportError> {
        let rejects = rejects_path(node, request).as_deref().map(RejectsFile::create).transpose()?;
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
        let (batch, refused) = (Vec::with_capacity(BATCH), Vec::new());
        let (tried, summary) = (Tried::default(), ImportSummary::default());
        Ok(Run { node, request, source, number, epochs, batch, refused, rejects, tried, summary })
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
                Entry::Reject(reject) => self.refused.push(reject),
            }
            if self.batch.len() + self.refused.len() == BATCH {
                self.commit()?;
                report(Progress { done: extract.bytes_read(), total });
            }
        }
        self.commit()?;
        report(Progress { done: total, total });
        Ok(())
    }

    /// Writes the rows read, durably, and lists those refused.
    fn commit(&mut self) -> Result<(), ImportError> {
        let (node, batch) = (self.node, std::mem::take(&mut self.batch));
        let filed: Result<Vec<Filed>, StoreError> = if self.request.dry_run {
            let read = node.store.read()?;
            batch.iter().map(|row| self.try_row(&read, row)).collect()
        } else if batch.is_empty() {
            Ok(Vec::new())
        } else {
            node.store.write(|write| batch.iter().map(|row| self.file_row(write, row)).collect())
        };
        for (row, filed) in batch.iter().zip(filed?) {
            match filed {
                Filed::Again => {}
                Filed::Known => self.summary.residents += 1,
                Filed::New => {
                    self.summary.residents += 1;
                    self.summary.new += 1;
                }
                Filed::Refused => {
                    self.refused.push(Reject { line: row.line, column: None, reason: RejectReason::TwoFiles });
                }
            }
        }
        self.list_refused()
    }

    fn list_refused(&mut self) -> Result<(), ImportError> {
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_unstable_by_key(|reject| reject.line);
        for reject in refused {
            self.summary.rejected += 1;
            *self.summary.reasons.entry(reject.reason.code().to_owned()).or_default() += 1;
            if let Some(file) = &mut self.rejects {
                file.write(&reject)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ImportError> {
        match self.rejects.take() {
            Some(rejects) if self.summary.rejected > 0 => {
                rejects.finish()?;
                self.summary.rejects = rejects_path(self.node, self.request);
            }
            // What an import before this one refused is refused no more.
            Some(rejects) if self.request.rejects.is_some() => rejects.finish()?,
            Some(rejects) => rejects.withdraw()?,
            None => {}
        }
        if self.request.mode == ImportMode::Full {
            self.remove_vanished()?;
        }
        if self.request.dry_run {
            let clients = self.node.store.read()?.count(Table::FILES)?;
            self.summary.clients = clients + self.summary.new - self.summary.removed;
        }
        Ok(())
    }

    /// Records what was done, and of an import that failed what was done before.
    fn record_end(&mut self, failed: Option<&ImportError>) -> Result<(), ImportError> {
        if self.request.dry_run {
            return Ok(());
        }
        self.summary.clients = self.node.store.read()?.count(Table::FILES)?;
        let ImportSummary { rows, rejected, residents, new, removed, clients, .. } = self.summary;
        let mut event = Event::new(Happened::ImportFinished, &self.node.clock).counting([
            ("run", self.number),
            ("rows", rows),
            ("rejected", rejected),
            ("residents", residents),
            ("new", new),
            ("removed", removed),
            ("clients", clients),
        ]);
        event.detail = failed.map(|error| error.code().to_owned());
        let _recorded = self.node.log.append_blocking(&event).map_err(NodeError::from)?;
        Ok(())
    }

    /// Takes this source's rows from residents whom the run did not bring; who has none left is removed whole.
    fn remove_vanished(&mut self) -> Result<(), ImportError> {
        let Vanished { some, whole } = self.count_vanished()?;
        // The others of this source are those whom the extract has.
        let of = some + self.summary.residents;
        let dry_run = self.request.dry_run;
        if !self.request.remove_many && some * 5 > of {
            return Err(ImportError::TooManyVanished { dry_run, vanished: some, of });
        }
        if dry_run {
            self.summary.removed = whole;
            return Ok(());
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

    /// Counts the residents of this source whom the run did not bring.
    fn count_vanished(&self) -> Result<Vanished, StoreError> {
        let (mut vanished, mut after) = (Vanished::default(), Vec::new());
        loop {
            let read = self.node.store.read()?;
            let page = read.keys_after(Table::FILES, &after, BATCH)?;
            let Some(last) = page.last() else { return Ok(vanished) };
            after.clone_from(last);
            for key in &page {
                let record: Option<FileRecord> = read.get(Table::FILES, key)?;
                if let Some(record) = record.filter(|record| self.has_vanished(key, record)) {
                    vanished.some += 1;
                    vanished.whole += u64::from(record.sources.len() == 1);
                }
            }
        }
    }

    /// Whether this source had the resident, and has no more.
    fn has_vanished(&self, key: &[u8], record: &FileRecord) -> bool {
        let brought = |run: u64| match <[u8; 16]>::try_from(key) {
            Ok(id) if self.request.dry_run => self.tried.brought.contains(&FileId(id)),
            _ => run == self.number,
        };
        record.sources.get(self.source).is_some_and(|run| !brought(*run))
    }

    fn remove_if_vanished(&self, write: &Write<'_>, key: &[u8]) -> Result<bool, StoreError> {
        let Some(mut record) = write.get::<FileRecord>(Table::FILES, key)? else { return Ok(false) };
        let (true, Ok(id)) = (self.has_vanished(key, &record), <[u8; 16]>::try_from(key)) else { return Ok(false) };
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

/// Residents of a source who are not in its extract.
#[derive(Default)]
struct Vanished {
    some: u64,
    /// Those of them whom no other source has: nothing of them stays.
    whole: u64,
}

/// What filing a row did to the count of residents.
enum Filed {
    New,
    Known,
    Again,
    /// Nothing: the row says that two files are one resident's. Consents, flags and the log hang on either.
    Refused,
}

/// Sealed fields of a resident, by source.
pub(crate) type SealedFields = BTreeMap<String, Vec<BTreeMap<FieldId, Value>>>;

impl Run<'_> {
    fn file_row(&self, write: &Write<'_>, row: &Row) -> Result<Filed, StoreError> {
        let (node, store, source) = (self.node, &self.node.store, self.source);
        let known = match file_of(store, |link: &[u8; 32]| write.get(Table::LINKS, link), row, source)? {
            FileOf::Two => return Ok(Filed::Refused),
            FileOf::One(file) => Some(file),
            FileOf::None => None,
        };
        let file = known.map_or_else(|| random().map(FileId), Ok)?;
        let mut record: FileRecord = write.get(Table::FILES, file.as_bytes())?.unwrap_or_default();
        if identify(store, write, &mut record, (row, file))? && known.is_some() {
            self.note_changed(write, file)?;
        }
        let mut sealed: SealedFields = write.get(Table::SEALED_FIELDS, file.as_bytes())?.unwrap_or_default();
        let first = record.sources.insert(source.to_owned(), self.number) != Some(self.number);
        let delta = self.request.mode == ImportMode::Delta;
        record.imported.insert(source.to_owned(), node.clock.now());
        if first && !delta {
            forget_rows(node, write, file, &mut record, |row| row.source == source)?;
            sealed.remove(source);
        }
        if let Some(number) = &row.local_number {
            write.put(Table::LOCAL_NUMBERS, &local_number_key(store, number, file), &())?;
        }
        let stored =
            StoredRow { source: source.to_owned(), local_number: row.local_number.clone(), fields: row.fields.clone() };
        if !delta || !record.rows.contains(&stored) {
            record.rows.push(stored);
        }
        if !row.sealed.is_empty() {
            let rows = sealed.entry(source.to_owned()).or_default();
            if !rows.contains(&row.sealed) {
                rows.push(row.sealed.clone());
            }
        }
        if let (None, Some(number)) = (record.enrolled_by().next(), &row.local_number) {
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

    /// What [`Run::file_row`] would do with a row, without doing it.
    fn try_row(&mut self, read: &Read<'_>, row: &Row) -> Result<Filed, StoreError> {
        let (store, links) = (&self.node.store, &mut self.tried.links);
        let link = |links: &HashMap<[u8; 32], FileId>, key: &[u8; 32]| match links.get(key) {
            Some(file) => Ok(Some(*file)),
            None => read.get(Table::LINKS, key),
        };
        let known = match file_of(store, |key| link(links, key), row, self.source)? {
            FileOf::Two => return Ok(Filed::Refused),
            FileOf::One(file) => Some(file),
            FileOf::None => None,
        };
        let file = known.map_or_else(|| random().map(FileId), Ok)?;
        let pesels = [&row.pesel, &row.former_pesel].into_iter().flatten();
        let pesels = pesels.map(|pesel| store.identifier_link(Kind::Pesel, pesel.as_str()));
        let document = row.document.iter().map(|document| store.identifier_link(Kind::Document, document));
        let mut keys: Vec<_> = pesels.chain(document).collect();
        if keys.is_empty() {
            keys.extend(row.local_number.iter().map(|number| store.unlinked_link(self.source, number)));
        }
        for key in keys {
            // Somebody else's stays theirs.
            if link(links, &key)?.is_none() {
                links.insert(key, file);
            }
        }
        Ok(match (known, self.tried.brought.insert(file)) {
            (None, _) => Filed::New,
            (Some(_), true) => Filed::Known,
            (Some(_), false) => Filed::Again,
        })
    }

    /// Lets the next enrolment make the names anew that it has under other identifiers.
    fn note_changed(&self, write: &Write<'_>, file: FileId) -> Result<(), StoreError> {
        let changed: Changed = random()?;
        self.epochs.iter().try_for_each(|epoch| write.put(Table::CHANGED, &names_key(*epoch, file), &changed))
    }
}

/// The files a row may belong to.
enum FileOf {
    None,
    One(FileId),
    /// One by its PESEL, another by the PESEL before.
    Two,
}

/// The file a row belongs to: by PESEL, by the PESEL before, by document, or by the number under which it came without either.
fn file_of(
    store: &Store,
    link: impl Fn(&[u8; 32]) -> Result<Option<FileId>, StoreError>,
    row: &Row,
    source: &str,
) -> Result<FileOf, StoreError> {
    let by = |pesel: &Option<Pesel>| match pesel {
        Some(pesel) => link(&store.identifier_link(Kind::Pesel, pesel.as_str())),
        None => Ok(None),
    };
    match (by(&row.pesel)?, by(&row.former_pesel)?) {
        (Some(file), Some(other)) if file != other => return Ok(FileOf::Two),
        (Some(file), _) | (None, Some(file)) => return Ok(FileOf::One(file)),
        (None, None) => {}
    }
    let document = row.document.as_ref().map(|document| store.identifier_link(Kind::Document, document));
    let unlinked = row.local_number.as_ref().map(|number| store.unlinked_link(source, number));
    for key in [document, unlinked].into_iter().flatten() {
        if let Some(file) = link(&key)? {
            return Ok(FileOf::One(file));
        }
    }
    Ok(FileOf::None)
}

/// Takes a row's identifiers into the record; whether it is enrolled by others now. Who gets a PESEL, or another one, stays
/// the same file, and the old identifier still finds it here.
fn identify(
    store: &Store,
    write: &Write<'_>,
    record: &mut FileRecord,
    (row, file): (&Row, FileId),
) -> Result<bool, StoreError> {
    let mut changed = false;
    // A source that has not heard of the change does not undo it.
    let pesel = row.pesel.as_ref().map(|pesel| Zeroizing::new(pesel.as_str().to_owned()));
    let pesel = pesel.filter(|pesel| !record.earlier.contains(pesel));
    for (kind, new) in [(Kind::Pesel, pesel), (Kind::Document, row.document.clone())] {
        let Some(new) = new else { continue };
        let link = store.identifier_link(kind, &new);
        if write.get::<FileId>(Table::LINKS, &link)?.is_some_and(|other| other != file) {
            // Somebody else's here: the PESEL decides, and the other file keeps what it is found by.
            continue;
        }
        write.put(Table::LINKS, &link, &file)?;
        let place = if kind == Kind::Pesel { &mut record.pesel } else { &mut record.document };
        let old = place.replace(new.clone());
        changed |= old.as_ref() != Some(&new);
        if let Some(old) = old.filter(|old| *old != new) {
            record.former.push((kind, old));
        }
    }
    if let Some(former) = row.former_pesel.as_ref().map(|pesel| Zeroizing::new(pesel.as_str().to_owned())) {
        let known = record.pesel.as_ref() == Some(&former) || record.earlier.contains(&former);
        if !known {
            write.put(Table::LINKS, &store.identifier_link(Kind::Pesel, &former), &file)?;
            record.former.retain(|(kind, old)| *kind != Kind::Pesel || *old != former);
            record.earlier.push(former);
            changed = true;
        }
    }
    Ok(changed)
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
