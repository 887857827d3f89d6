//! How long imported records stay: each archive category has sources and days, counted from a date of the row itself or,
//! without one, from its last import. A row past its time is removed; a resident without rows goes whole, and the next
//! enrolment takes back what is published.
//!
//! Nothing is removed of a resident whose processing is restricted (GDPR art. 18: what is restricted is kept), nor where
//! the source brought sealed fields, which somebody has to hand over first. Each category's removals are one entry of the
//! log, with numbers, before the first of them.

use crate::bulk::blocking;
use crate::config::ConfigError;
use crate::events::Happened;
use crate::flags;
use crate::import::{SealedFields, forget_rows, today};
use crate::node::{Node, NodeError};
use crate::records::{FileRecord, StoredRow};
use crate::store::{Read, StoreError, Table, Write};
use jiff::ToSpan as _;
use jiff::civil::Date;
use policies::{FieldType, calendar};
use protocol::{Epoch, FieldId, FileId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Files looked at in one transaction.
const BATCH: usize = 500;
/// Key in `state` of the day of the last sweep.
const SWEPT: &[u8] = b"retention";

/// How long one archive category stays.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Days after the day that counts. 1 to 36500.
    pub days: u32,
    /// Sources whose rows are of this category, by their names in the mapping files.
    pub sources: BTreeSet<String>,
    /// The field with the day that counts; where a row has none, and without this, it is the day of the last import.
    #[serde(default)]
    pub since: Option<FieldId>,
}

/// What a sweep did, or would do, in one category.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// The category.
    pub category: String,
    /// Rows removed.
    pub rows: u64,
    /// Residents they were of.
    pub residents: u64,
    /// Residents of whom nothing is left.
    pub files: u64,
    /// Residents whose rows stay because their processing is restricted.
    pub restricted: u64,
    /// Residents whose rows stay because the source brought sealed fields.
    pub sealed: u64,
}

impl Category {
    /// The last day a row is kept, if it is of this category. One imported before imports were dated stays until it is
    /// imported again.
    fn keeps(&self, record: &FileRecord, row: &StoredRow) -> Option<Date> {
        if !self.sources.contains(&row.source) {
            return None;
        }
        let own = self.since.as_ref().and_then(|field| row.fields.get(field)?.as_str()?.parse::<Date>().ok());
        let imported = || Some(calendar::local(*record.imported.get(&row.source)?)?.date());
        own.or_else(imported)?.checked_add(i64::from(self.days).days()).ok()
    }
}

/// The last day a row is kept; `None` if no category says.
pub(crate) fn kept_until(
    categories: &BTreeMap<String, Category>,
    record: &FileRecord,
    row: &StoredRow,
) -> Option<Date> {
    categories.values().find_map(|category| category.keeps(record, row))
}

impl Swept {
    fn counts(&self) -> [(&'static str, u64); 5] {
        let Swept { rows, residents, files, restricted, sealed, .. } = self;
        [
            ("files", *files),
            ("residents", *residents),
            ("restricted", *restricted),
            ("rows", *rows),
            ("sealed", *sealed),
        ]
    }
}

/// Refuses categories that cannot be meant. `date` says whether a field is a day.
pub(crate) fn check(
    categories: &BTreeMap<String, Category>,
    date: impl Fn(&FieldId) -> bool,
) -> Result<(), ConfigError> {
    let wrong = |expected| Err(ConfigError::Value { key: "retention".into(), expected });
    let mut sources = BTreeSet::new();
    for (name, category) in categories {
        if name.is_empty() || name.len() > 16 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return wrong("categories like `B5`: at most 16 letters, digits and dashes");
        }
        if !(1..=36_500).contains(&category.days) {
            return wrong("categories with `days` between 1 and 36500");
        }
        if category.sources.is_empty() || !category.sources.iter().all(|source| sources.insert(source)) {
            return wrong("categories with `sources`, each source in one category alone");
        }
        if category.since.as_ref().is_some_and(|field| !date(field)) {
            return wrong("categories whose `since` is a date field of the policy library");
        }
    }
    Ok(())
}

/// Whether the policy library has `field`, and it holds a day.
pub(crate) fn is_date(engine: &policies::Engine, field: &FieldId) -> bool {
    engine.field(field).is_some_and(|field| field.kind == FieldType::Date)
}

/// Removes what is past its time, or only counts it. Blocks; nothing may be imported meanwhile.
///
/// # Errors
/// [`NodeError`]; categories before the one that failed are swept.
pub fn sweep(node: &Node, dry_run: bool) -> Result<Vec<Swept>, NodeError> {
    // By a wrong clock nothing is old.
    node.now().map_err(|_| NodeError::Clock)?;
    let today = today(node);
    let mut all = Vec::new();
    for (name, category) in &node.config.retention {
        let sweep = Sweep { node, category, today };
        let found = Swept { category: name.clone(), ..sweep.walk(None)? };
        if found.rows > 0 && !dry_run {
            let mut act = crate::dpo::Act::new(Happened::RetentionApplied, &node.clock);
            act.retention = Some(name.clone());
            act.counts = found.counts().into();
            let _recorded = node.log.append_blocking(&act)?;
            let held = node.held.load();
            let epochs: Vec<Epoch> =
                held.iter().flat_map(|held| &held.manifest.epochs).map(|epoch| epoch.epoch).collect();
            // What was restricted meanwhile stays.
            all.push(Swept { category: name.clone(), ..sweep.walk(Some(&epochs))? });
        } else {
            all.push(found);
        }
    }
    Ok(all)
}

/// One category being swept.
struct Sweep<'a> {
    node: &'a Node,
    category: &'a Category,
    today: Date,
}

impl Sweep<'_> {
    /// Goes through all files; removes, if `epochs` are given, under which residents have names.
    fn walk(&self, epochs: Option<&[Epoch]>) -> Result<Swept, StoreError> {
        let (store, mut swept, mut after) = (&self.node.store, Swept::default(), Vec::new());
        loop {
            let page = store.read()?.keys_after(Table::FILES, &after, BATCH)?;
            let Some(last) = page.last() else { return Ok(swept) };
            after.clone_from(last);
            let mut files = page.iter().filter_map(|key| Some(FileId(key.as_slice().try_into().ok()?)));
            match epochs {
                None => {
                    let read = store.read()?;
                    files.try_for_each(|file| self.due(&read, file, &mut swept).map(drop))?;
                }
                // Nobody else writes meanwhile, and each file is touched once: what is read is what is changed.
                Some(epochs) => store.write(|write| {
                    let read = store.read()?;
                    files.try_for_each(|file| match self.due(&read, file, &mut swept)? {
                        Some(record) => self.remove(write, file, record, epochs),
                        None => Ok(()),
                    })
                })?,
            }
        }
    }

    /// The record of a file with rows to remove; counted.
    fn due(&self, read: &Read<'_>, file: FileId, swept: &mut Swept) -> Result<Option<FileRecord>, StoreError> {
        let Some(record) = read.get::<FileRecord>(Table::FILES, file.as_bytes())? else { return Ok(None) };
        let rows = record.rows.iter().filter(|row| self.past(&record, row)).count();
        if rows == 0 {
            return Ok(None);
        }
        let sealed: SealedFields = read.get(Table::SEALED_FIELDS, file.as_bytes())?.unwrap_or_default();
        let of_sources = sealed.iter().filter(|(source, _)| self.category.sources.contains(*source));
        if flags::of(read, file)?.flags().restricted {
            swept.restricted += 1;
        } else if of_sources.flat_map(|(_, rows)| rows).flat_map(BTreeMap::values).any(says_something) {
            swept.sealed += 1;
        } else {
            swept.rows += rows as u64;
            swept.residents += 1;
            swept.files += u64::from(rows == record.rows.len());
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// Whether a row's time is over.
    fn past(&self, record: &FileRecord, row: &StoredRow) -> bool {
        self.category.keeps(record, row).is_some_and(|last| last < self.today)
    }

    fn remove(
        &self,
        write: &Write<'_>,
        file: FileId,
        mut record: FileRecord,
        epochs: &[Epoch],
    ) -> Result<(), StoreError> {
        let past: Vec<bool> = record.rows.iter().map(|row| self.past(&record, row)).collect();
        if past.iter().all(|past| *past) {
            return write.remove_file(&self.node.store, file, epochs);
        }
        let mut past = past.into_iter();
        forget_rows(self.node, write, file, &mut record, |_| past.next().unwrap_or(false))?;
        let left: BTreeSet<&str> = record.rows.iter().map(|row| row.source.as_str()).collect();
        record.sources.retain(|source, _| left.contains(source.as_str()));
        record.imported.retain(|source, _| left.contains(source.as_str()));
        write.put(Table::FILES, file.as_bytes(), &record)
    }
}

/// Whether a sealed field is there to be handed over: not one that only says no.
fn says_something(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

impl Node {
    /// Once a day, removes imported records that are past their time.
    pub(crate) async fn sweep_records_daily(self: &Arc<Self>) {
        if !self.config.retention.is_empty() {
            let sweep = sweep_alone(self, false);
            self.once(SWEPT, today(self).to_string(), "records past their time are not all removed", sweep).await;
        }
    }

    /// Does `work` unless it is noted under `key` as done on the day `today`; what fails is tried again, `failed` says so.
    pub(crate) async fn once<D: PartialEq + Serialize + DeserializeOwned, T>(
        &self,
        key: &[u8],
        today: D,
        failed: &'static str,
        work: impl Future<Output = Result<T, NodeError>>,
    ) {
        let last: Result<Option<D>, _> = self.store.read().and_then(|read| read.get(Table::STATE, key));
        if last.is_ok_and(|last| last.as_ref() == Some(&today)) {
            return;
        }
        let done = work.await.and_then(|_| Ok(self.store.write(|write| write.put(Table::STATE, key, &today))?));
        if let Err(error) = done {
            tracing::error!(%error, "{failed}");
        }
    }
}

/// [`sweep`] while nothing is imported.
pub(crate) async fn sweep_alone(node: &Arc<Node>, dry_run: bool) -> Result<Vec<Swept>, NodeError> {
    let _alone = node.bulk.lock().await;
    let worker = node.clone();
    blocking(move || sweep(&worker, dry_run)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |text: &str| {
            let categories: BTreeMap<String, Category> = toml::from_str(text).unwrap();
            check(&categories, |field| field.as_str() == "mops.case.to").is_err()
        };
        assert!(!refused("[B5]\ndays = 1825\nsources = [\"pomost\"]\nsince = \"mops.case.to\""));
        assert!(refused("[B5]\ndays = 0\nsources = [\"pomost\"]"));
        assert!(refused("[B5]\ndays = 1\nsources = []"));
        assert!(refused("[\"B 5\"]\ndays = 1\nsources = [\"a\"]"));
        assert!(refused("[B5]\ndays = 1\nsources = [\"a\"]\n[B10]\ndays = 2\nsources = [\"a\"]"));
        assert!(refused("[B5]\ndays = 1\nsources = [\"a\"]\nsince = \"mops.income\""));
        assert!(toml::from_str::<BTreeMap<String, Category>>("[B5]\ndays = 1\nsources = []\nx = 1").is_err());
    }
}
