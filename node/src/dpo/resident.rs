//! One resident's data at this institution: shown to the officer (GDPR art. 15), erased on the officer's word (art. 17).

use super::act::Act;
use super::{DpoError, Officer};
use crate::events::Happened;
use crate::node::Node;
use crate::records::FileRecord;
use crate::residents::{Resident, find};
use crate::store::Table;
use protocol::{Epoch, FieldId, FileId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
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
}

/// What was erased.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Erased {
    /// The file id that stood for the resident.
    pub file: String,
    /// Rows that are gone.
    pub rows: u64,
}

fn wanted(node: &Node, resident: &Resident, reason: &str) -> Result<Option<FileId>, DpoError> {
    if reason.trim().is_empty() {
        return Err(DpoError::Value("reason"));
    }
    Ok(find(node, resident)?)
}

/// Shows what is on file, once that is recorded; also that nobody was.
pub(super) async fn show(node: &Arc<Node>, officer: &Officer, body: &AccessBody) -> Result<ResidentData, DpoError> {
    let file = wanted(node, &body.resident, &body.reason)?;
    let mut act = Act::of(officer, Happened::ResidentShown, node)?;
    act.file = file;
    act.reason_text = Some(body.reason.clone());
    act.counts = [("found", u64::from(file.is_some()))].into();
    let _recorded = act.record(node).await?;
    let file = file.ok_or(DpoError::Unknown)?;
    let read = node.store.read()?;
    let record: FileRecord = read.get(Table::FILES, file.as_bytes())?.ok_or(DpoError::Unknown)?;
    let sealed: BTreeMap<String, Vec<Value>> = read.get(Table::SEALED_FIELDS, file.as_bytes())?.unwrap_or_default();
    let row = |row: crate::records::StoredRow| {
        let crate::records::StoredRow { source, local_number, fields } = row;
        ResidentRow { source, local_number, fields }
    };
    Ok(ResidentData {
        file: file.to_string(),
        rows: record.rows.into_iter().map(row).collect(),
        sealed: sealed.values().flatten().any(|row| row.as_object().is_some_and(|fields| !fields.is_empty())),
    })
}

/// Erases a resident's records and names; what is published at the registry is removed by the next enrolment. Consents
/// stay as proof of what was done under them (art. 17(3)(e)), and so do entries of the log.
pub(super) async fn erase(node: &Arc<Node>, officer: &Officer, body: &EraseBody) -> Result<Erased, DpoError> {
    if !body.no_exception_applies {
        return Err(DpoError::Value("no_exception_applies"));
    }
    // Nothing may be imported meanwhile: an import holds what it read.
    let _alone = node.bulk.lock().await;
    let file = wanted(node, &body.resident, &body.reason)?.ok_or(DpoError::Unknown)?;
    let record: FileRecord = node.store.read()?.get(Table::FILES, file.as_bytes())?.ok_or(DpoError::Unknown)?;
    let held = node.held.load_full();
    let manifest = held.as_ref().map(|held| &held.manifest);
    let epochs: Vec<Epoch> = manifest.into_iter().flat_map(|m| &m.epochs).map(|epoch| epoch.epoch).collect();
    let rows = record.rows.len() as u64;
    let mut act = Act::of(officer, Happened::ResidentErased, node)?;
    act.file = Some(file);
    act.reason_text = Some(body.reason.clone());
    act.counts = [("rows", rows)].into();
    let _recorded = act.record(node).await?;
    node.store.write(|write| write.remove_file(&node.store, file, &epochs))?;
    Ok(Erased { file: file.to_string(), rows })
}
