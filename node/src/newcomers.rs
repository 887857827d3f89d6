//! Newcomers: residents who are clients soon, registered before there are records of them.
//!
//! A newcomer's entry at the registry is provisional: it says why, counts against a small quota of the user who
//! put it, lapses within two weeks and is not renewed. Until then the institution can locate and ask about the newcomer.
//! An import that brings records makes it a client, and the next enrolment puts an ordinary entry in its place. Otherwise
//! it goes by itself, and the registry tells both its officers and ours.
//!
//! **Kept** as a file without rows, with names like everybody's, and a row in `newcomers`. Written before the registry is
//! asked; a request whose answer was lost is finished by making it again.

use crate::bulk::Passing as _;
use crate::desk::{self, DeskError};
use crate::enrol::{input, new_name, publication};
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::import::today;
use crate::locate::{RegistryError, seal_entry, write_entries};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::pseudonymise::{PseudonymError, outputs};
use crate::records::{FileRecord, Kind, Name, Published, names_key};
use crate::residents::Resident;
use crate::store::{Read, StoreError, Table};
use crate::tokens::Caller;
use protocol::evaluation::EvaluationPurpose;
use protocol::registry::{PROVISIONAL_DAYS, Provisional, ProvisionalReason, PutEntry};
use protocol::time::DAY_SECONDS;
use protocol::{Epoch, FileId, Timestamp};
use pseudonym::{Pesel, SealKey};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// Who may register newcomers.
const ROLES: [&str; 3] = ["caseworker", "front-desk", "supervisor"];
/// As long as the registry allows, by whichever of the two clocks is later.
const LIFE_SECONDS: i64 = PROVISIONAL_DAYS * DAY_SECONDS - 600;
/// A file outlives its entry by this: the registry's news of it still finds it.
const LINGER_SECONDS: i64 = DAY_SECONDS;

/// What makes a resident a client soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewcomerReason {
    /// The resident has applied or reported in person.
    Application,
    /// Another body refers the resident.
    Referral,
    /// Life or health is in danger.
    Emergency,
}

impl NewcomerReason {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NewcomerReason::Application => "application",
            NewcomerReason::Referral => "referral",
            NewcomerReason::Emergency => "emergency",
        }
    }
}

impl From<NewcomerReason> for ProvisionalReason {
    fn from(reason: NewcomerReason) -> Self {
        match reason {
            NewcomerReason::Application => ProvisionalReason::Application,
            NewcomerReason::Referral => ProvisionalReason::Referral,
            NewcomerReason::Emergency => ProvisionalReason::Emergency,
        }
    }
}

/// A newcomer.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewcomerBody {
    /// Who: a PESEL or a document. Who has a number here has records here.
    pub resident: Resident,
    /// What makes the resident a client soon.
    pub reason: NewcomerReason,
    /// In the caller's words; stays in this institution's log.
    pub text: String,
    /// Reference of the case, if there is one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_ref: Option<String>,
}

/// A newcomer registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct NewcomerView {
    /// The file id, by which the log names the resident.
    pub file: String,
    /// When the entry lapses, unless records come before (seconds since 1970).
    pub expires: i64,
}

/// What is kept of a newcomer besides the file.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Newcomer {
    expires: Timestamp,
}

/// Whether there are records of `file`, so that it may have an ordinary entry.
pub(crate) fn has_come(read: &Read<'_>, file: FileId) -> Result<bool, StoreError> {
    Ok(read.get::<FileRecord>(Table::FILES, file.as_bytes())?.is_some_and(|record| record.has_rows()))
}

/// Registers a newcomer for a user who may.
pub(crate) async fn put(node: &Arc<Node>, caller: &Caller, body: &NewcomerBody) -> Result<NewcomerView, DeskError> {
    desk::only(caller, &ROLES)?;
    if body.text.trim().is_empty() {
        return Err(DeskError::Value {
            field: "text",
            expected: Expected::new("why the resident is a client soon", "dlaczego mieszkaniec będzie klientem"),
        });
    }
    let held = node.manifest().map_err(DeskError::Closed)?;
    let now = node.now().map_err(DeskError::Closed)?;
    let epoch = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
    let identifier = identifier(node, &body.resident)?;
    let link = node.store.identifier_link(identifier.0, &identifier.1);
    let known: Option<FileId> = node.store.read()?.get(Table::LINKS, &link)?;
    let (file, newcomer, name) = match known {
        Some(file) => unanswered(node, epoch, file)?,
        None => begin(node, caller, &held, (epoch, now), body, (&identifier, &link)).await?,
    };
    let audience = held.manifest.audience(&node.config.member, now);
    let published = publication(&audience, node.index_generation()?, now);
    let published = Published { expires: newcomer.expires, provisional: true, ..published };
    let provisional = Provisional { reason: body.reason.into(), user: desk::user(node, caller) };
    let entry = seal_entry(node, epoch, name.index, &SealKey::from_bytes(&name.seal), (now, newcomer.expires));
    let entry = entry.ok_or(StoreError::Shape("names"))?;
    let put = vec![PutEntry { provisional: Some(provisional), ..entry }];
    match write_entries(node, &held, epoch, audience, put, Vec::new()).await {
        Ok(_) => {}
        // The answer to the first request was lost; it was done.
        Err(RegistryError::Refused(problem)) if known.is_some() && problem.code == "provisional_renewed" => {}
        // Whether it was done is not known: the same call finishes it.
        Err(error @ RegistryError::Unreachable(_)) => return Err(error.into()),
        Err(error) if known.is_some() || error.retry_after().is_some() => return Err(error.into()),
        Err(error) => {
            node.store.write(|write| write.end_newcomer(&node.store, file, &[epoch]))?;
            return Err(error.into());
        }
    }
    node.store.write(|write| {
        if !write.has(Table::FILES, file.as_bytes())? {
            // Erased meanwhile, before there was anything to remove.
            return write.leave(epoch, &name.index);
        }
        // Whom an enrolment published meanwhile has an ordinary entry.
        let ours = |own: &Name| own.index == name.index && own.published.is_none();
        write.change_names(file, epoch, |own| Ok(ours(own).then(|| own.published = Some(published)).is_some()))
    })?;
    Ok(NewcomerView { file: protocol::encoding::b64(file.as_bytes()), expires: newcomer.expires.0 })
}

/// The identifier by which a newcomer is known from now on.
fn identifier(node: &Node, resident: &Resident) -> Result<(Kind, Zeroizing<String>), DeskError> {
    match resident {
        Resident::Pesel(raw) => {
            let pesel = Pesel::parse(raw, today(node)).map_err(crate::residents::ResidentError::from)?;
            Ok((Kind::Pesel, Zeroizing::new(pesel.as_str().to_owned())))
        }
        Resident::Document(document) => {
            let text = pseudonym::document(&document.kind, &document.country, &document.number);
            Ok((Kind::Document, text.map_err(crate::residents::ResidentError::from)?))
        }
        Resident::LocalNumber(_) => Err(DeskError::Value {
            field: "resident",
            expected: Expected::new("a PESEL or a document", "PESEL albo dokument"),
        }),
    }
}

/// A newcomer whose registration did not get its answer; nobody else on file is one.
fn unanswered(node: &Node, epoch: Epoch, file: FileId) -> Result<(FileId, Newcomer, Name), DeskError> {
    let read = node.store.read()?;
    let newcomer: Option<Newcomer> = read.get(Table::NEWCOMERS, file.as_bytes())?;
    let name = read.names(epoch, file)?.and_then(|mut names| names.0.pop()).filter(|name| name.published.is_none());
    match newcomer.zip(name) {
        Some((newcomer, name)) if !has_come(&read, file)? => Ok((file, newcomer, name)),
        _ => Err(DeskError::OnFile),
    }
}

/// Files a newcomer under names of its own, recorded first.
async fn begin(
    node: &Arc<Node>,
    caller: &Caller,
    held: &Held,
    (epoch, now): (Epoch, Timestamp),
    body: &NewcomerBody,
    ((kind, identifier), link): (&(Kind, Zeroizing<String>), &[u8; 32]),
) -> Result<(FileId, Newcomer, Name), DeskError> {
    let (pesel, document) = match kind {
        Kind::Pesel => (Some(identifier.clone()), None),
        Kind::Document => (None, Some(identifier.clone())),
    };
    let record: FileRecord = FileRecord { pesel, document, ..FileRecord::default() };
    let framed = record.enrolled_by().next().and_then(|identifier| input(node, epoch, identifier));
    let framed = framed.ok_or(StoreError::Shape("files"))?;
    let mut output = outputs(node, held, epoch, vec![framed], EvaluationPurpose::Lookup).await?;
    let output = output.pop().ok_or(PseudonymError::NoEpoch)?;
    let name = new_name(node, &output)?;
    let file = FileId(keyring::random()?);
    let mut event = Event::new(Happened::NewcomerEntered, &node.clock).by(node, caller);
    event.file = Some(file);
    event.epoch = Some(epoch);
    event.search_key = Some(body.resident.search_key());
    event.detail = Some(body.reason.as_str().to_owned());
    event.reason_text = Some(body.text.clone());
    event.case = node.macs.case_id(body.case_ref.as_deref());
    let _recorded = node.log.append(&event).await?;
    let newcomer = Newcomer { expires: now + LIFE_SECONDS };
    node.store.write(|write| {
        if write.has(Table::LINKS, link)? {
            // Imported, or registered by another user, meanwhile.
            return Err(DeskError::OnFile);
        }
        write.put(Table::LINKS, link, &file)?;
        write.put(Table::LINKS, &node.store.subject_link(epoch, &name.subject), &file)?;
        write.put(Table::FILES, file.as_bytes(), &record)?;
        write.put(Table::NEWCOMERS, file.as_bytes(), &newcomer)?;
        Ok(write.put(Table::NAMES, &names_key(epoch, file), &[&name])?)
    })?;
    Ok((file, newcomer, name))
}

/// Removes newcomers whose time is over; of those who have come meanwhile, what made them newcomers.
pub(crate) async fn sweep(node: &Node) -> Result<(), NodeError> {
    let (Ok(held), Ok(now)) = (node.manifest(), node.now()) else { return Ok(()) };
    let epochs: Vec<Epoch> = held.manifest.epochs.iter().map(|epoch| epoch.epoch).collect();
    for key in node.store.read()?.keys_with(Table::NEWCOMERS, &[])? {
        let Some(file) = key.as_slice().try_into().ok().map(FileId) else { continue };
        let Some(Newcomer { expires }) = node.store.read()?.get(Table::NEWCOMERS, &key)? else { continue };
        let come = has_come(&node.store.read()?, file)?;
        if now < if come { expires } else { expires + LINGER_SECONDS } {
            continue;
        }
        if !come {
            let mut event = Event::new(Happened::NewcomerLapsed, &node.clock);
            event.file = Some(file);
            let _recorded = node.log.append(&event).await?;
        }
        node.store.write(|write| write.end_newcomer(&node.store, file, &epochs))?;
    }
    Ok(())
}
