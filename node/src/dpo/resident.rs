//! One resident's data at this institution: shown to the officer (GDPR art. 15), restricted (art. 18) and erased (art. 17)
//! on the officer's word.

use super::act::Act;
use super::{DpoError, Officer};
use crate::bulk::blocking;
use crate::events::Happened;
use crate::flags::{self, Flag};
use crate::node::Node;
use crate::records::{FileRecord, StoredRow};
use crate::residents::{Resident, find};
use crate::retention;
use crate::store::Table;
use audit::Filter;
use protocol::{Epoch, FieldId, FileId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// Whose data.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessBody {
    /// Who; the number is kept nowhere.
    pub resident: Resident,
    /// Why, in the officer's words; stays in the log.
    pub reason: String,
}

/// An erasure.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseBody {
    /// Who; the number is kept nowhere.
    pub resident: Resident,
    /// Why the resident may have it, in the officer's words; stays in the log.
    pub reason: String,
    /// That no exception of art. 17(3) applies: no legal duty to keep the data, no archive, no claim. Only the officer can
    /// know; without it nothing is erased.
    pub no_exception_applies: bool,
    /// Whether entries of the log about the resident lose their payloads as well; they keep their places in its tree.
    #[serde(default)]
    pub log_entries: bool,
    /// That none of those entries is needed as proof, of a consent or against a claim. Only the officer can know; without
    /// it none is erased.
    #[serde(default)]
    pub no_proof_needed: bool,
}

/// A restriction of processing, or its end.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestrictBody {
    /// Who; the number is kept nowhere.
    pub resident: Resident,
    /// Why, in the officer's words; stays in the log.
    pub reason: String,
    /// Whether an earlier restriction ends.
    #[serde(default)]
    pub lift: bool,
    /// That the resident was told before the restriction ends, as art. 18(3) wants; without it none does.
    #[serde(default)]
    pub resident_informed: bool,
}

/// How a resident's processing stands.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Restricted {
    /// The file id, by which entries of the log name the resident.
    pub file: String,
    /// Whether it is restricted now.
    pub restricted: bool,
}

/// What is on file of a resident.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct ResidentData {
    /// The file id, by which entries of the log name the resident.
    pub file: String,
    /// Rows as imported. Sealed fields are not among them: they are handed over in person only.
    pub rows: Vec<ResidentRow>,
    /// Whether there are sealed fields.
    pub sealed: bool,
}

/// One imported row.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct ResidentRow {
    /// The source it came from.
    pub source: String,
    /// This institution's number.
    pub local_number: Option<String>,
    /// Fields with their values.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub fields: BTreeMap<FieldId, Value>,
    /// The last day it is kept (`2031-11-21`), where the configuration gives its source a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
}

/// What was erased.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Erased {
    /// The file id that stood for the resident.
    pub file: String,
    /// Rows that are gone.
    pub rows: u64,
    /// Entries of the log whose payloads are gone.
    #[serde(default)]
    pub log_entries: u64,
}

/// An officer's act about a resident; `None` if nobody is meant here.
fn begun(
    node: &Node,
    officer: &Officer,
    event: Happened,
    resident: &Resident,
    reason: &str,
) -> Result<(Act, Option<FileId>), DpoError> {
    if reason.trim().is_empty() {
        return Err(DpoError::Value("reason"));
    }
    let file = find(node, resident)?;
    let mut act = Act::of(officer, event, node)?;
    act.file = file;
    act.reason_text = Some(reason.to_owned());
    Ok((act, file))
}

/// That somebody is not on file here is found out too: it is recorded like the rest.
async fn known(node: &Node, act: &mut Act, file: Option<FileId>) -> Result<FileId, DpoError> {
    if file.is_none() {
        act.counts = [("found", 0)].into();
        let _recorded = act.record(node).await?;
    }
    file.ok_or(DpoError::Unknown)
}

/// Shows what is on file, once that is recorded; also that nobody was.
pub(super) async fn show(node: &Arc<Node>, officer: &Officer, body: &AccessBody) -> Result<ResidentData, DpoError> {
    let (mut act, file) = begun(node, officer, Happened::ResidentShown, &body.resident, &body.reason)?;
    let file = known(node, &mut act, file).await?;
    act.counts = [("found", 1)].into();
    let _recorded = act.record(node).await?;
    let read = node.store.read()?;
    let record: FileRecord = read.get(Table::FILES, file.as_bytes())?.ok_or(DpoError::Unknown)?;
    let sealed: BTreeMap<String, Vec<Value>> = read.get(Table::SEALED_FIELDS, file.as_bytes())?.unwrap_or_default();
    let row = |row: &StoredRow| {
        let kept_until = retention::kept_until(&node.config.retention, &record, row).map(|day| day.to_string());
        let StoredRow { source, local_number, fields } = row.clone();
        ResidentRow { source, local_number, fields, kept_until }
    };
    Ok(ResidentData {
        file: file.to_string(),
        rows: record.rows.iter().map(row).collect(),
        sealed: sealed.values().flatten().any(|row| row.as_object().is_some_and(|fields| !fields.is_empty())),
    })
}

/// Erases a resident's records and names; what is published at the registry is removed by the next enrolment. Consents
/// stay as proof of what was done under them (art. 17(3)(e)), and so do entries of the log, unless the officer says that
/// none is needed. Outcomes kept for who asked and questions that wait for a person go by themselves, in days.
pub(super) async fn erase(node: &Arc<Node>, officer: &Officer, body: &EraseBody) -> Result<Erased, DpoError> {
    if !body.no_exception_applies {
        return Err(DpoError::Value("no_exception_applies"));
    }
    if body.log_entries && !body.no_proof_needed {
        return Err(DpoError::Value("no_proof_needed"));
    }
    // Nothing may be imported meanwhile: an import holds what it read.
    let _alone = node.bulk.lock().await;
    let (mut act, file) = begun(node, officer, Happened::ResidentErased, &body.resident, &body.reason)?;
    let file = known(node, &mut act, file).await?;
    let record: FileRecord = node.store.read()?.get(Table::FILES, file.as_bytes())?.ok_or(DpoError::Unknown)?;
    let held = node.held.load_full();
    let manifest = held.as_ref().map(|held| &held.manifest);
    let epochs: Vec<Epoch> = manifest.into_iter().flat_map(|m| &m.epochs).map(|epoch| epoch.epoch).collect();
    let rows = record.rows.len() as u64;
    act.counts = [("rows", rows)].into();
    let _recorded = act.record(node).await?;
    node.store.write(|write| write.remove_file(&node.store, file, &epochs))?;
    let log_entries = if body.log_entries { erase_entries(node, officer, file).await? } else { 0 };
    Ok(Erased { file: file.to_string(), rows, log_entries })
}

/// Erases the payloads of the log's entries about a resident, but for those that say what was erased; how many.
async fn erase_entries(node: &Arc<Node>, officer: &Officer, file: FileId) -> Result<u64, DpoError> {
    let reader = node.clone();
    let filter = Filter { file: Some(file.to_string()), ..Filter::default() };
    let found = blocking(move || {
        let mut found = BTreeSet::new();
        reader.log.search_each(&filter, |entry| found.extend((!proves_erasure(&entry)).then_some(entry.index)))?;
        Ok::<_, audit::Fault>(found)
    });
    let found = found.await??;
    let mut act = Act::of(officer, Happened::PayloadsErased, node)?;
    act.file = Some(file);
    act.counts = [("entries", found.len() as u64)].into();
    let receipt = act.record(node).await?;
    let eraser = node.clone();
    Ok(blocking(move || eraser.log.erase(&receipt, &found)).await??)
}

fn proves_erasure(entry: &audit::Entry) -> bool {
    let event = entry.payload.as_ref().and_then(|payload| payload.get("event")?.as_str());
    event
        .is_some_and(|name| [Happened::ResidentErased, Happened::PayloadsErased].iter().any(|kind| kind.name() == name))
}

/// Restricts the processing of a resident's data (art. 18), or ends that: nothing is answered, and nothing removed by its age.
pub(super) async fn restrict(node: &Arc<Node>, officer: &Officer, body: &RestrictBody) -> Result<Restricted, DpoError> {
    if body.lift && !body.resident_informed {
        return Err(DpoError::Value("resident_informed"));
    }
    let (mut act, file) = begun(node, officer, Happened::ResidentRestricted, &body.resident, &body.reason)?;
    let file = known(node, &mut act, file).await?;
    act.decision = Some(if body.lift { "lifted" } else { "restricted" });
    let _recorded = act.record(node).await?;
    let (flag, none) = (BTreeSet::from([Flag::Restricted]), BTreeSet::new());
    let (set, clear) = if body.lift { (&none, &flag) } else { (&flag, &none) };
    let notes = node.store.write(|write| flags::change(write, file, set, clear, node.clock.now()))?;
    Ok(Restricted { file: file.to_string(), restricted: notes.flags().restricted })
}
