//! A resident's consent from being asked to being withdrawn.
//!
//! The consent, its grants and their place in the status list become durable in one transaction, with the messages to
//! deliver; then delivery is tried at once, and goes on in the background until it succeeds. A withdrawal may be taken at
//! any member ([`elsewhere`]): it is durable before anybody is asked for anything, and told to every member.

mod elsewhere;
mod end;
mod kept;
mod late;
mod shapes;
mod take;

pub(crate) use elsewhere::{confirmed, finish, refused_by, withdraw_anywhere};
pub(crate) use end::{revoke, withdraw, withdrawn_elsewhere};
pub(crate) use late::{consenting, follow, met};
pub use shapes::*;
pub(crate) use take::{answer, record, renew, request};

use crate::desk;
use crate::dpo::Act;
use crate::events::{Event, Happened};
use crate::faults::{Expected, Fault};
use crate::grants::GrantError;
use crate::locate::RegistryError;
use crate::manifests::Held;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::residents::{Resident, ResidentError, find};
use crate::store::{Read, StoreError, Table};
use crate::tokens::Caller;
use audit::AppendError;
use kept::Consent;
use policies::receipt::{self, Tongue};
use policies::record::{ConsentEvent, ConsentHappened, Method};
use protocol::consent::TemplateRef;
use protocol::encoding::{Bytes, b64};
use protocol::jws::JwsError;
use protocol::{ConsentId, FileId, Problem, Reason, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;

/// The path at which members take withdrawals.
pub(crate) const WITHDRAWALS: &str = "/v1/withdrawals";
/// Who may take a resident's consent.
const RECORDING_ROLES: [&str; 5] = ["front-desk", "caseworker", "coordinator", "supervisor", "steward"];

/// Why a consent is not recorded or withdrawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsentError {
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    #[error(transparent)]
    Resident(#[from] ResidentError),
    #[error("not a client")]
    NotServed,
    #[error("the role does not permit it")]
    Role,
    #[error("{field} is not acceptable: {expected}")]
    Value { field: &'static str, expected: Expected },
    #[error("refused: {}", .0.code())]
    Refused(Reason),
    #[error("no such consent")]
    Unknown,
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Log(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Jws(#[from] JwsError),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl ConsentError {
    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        let because = Problem::because;
        match self {
            ConsentError::Closed(reason) => because(503, *reason).retry_after(5),
            ConsentError::Resident(error) => error.problem(),
            ConsentError::NotServed => because(403, Reason::NotServed).field("resident"),
            ConsentError::Role => because(403, Reason::RoleNotAllowed),
            ConsentError::Value { field, expected } => expected.problem(field),
            ConsentError::Refused(reason) => because(409, *reason),
            ConsentError::Unknown => because(404, Reason::ConsentUnknown),
            ConsentError::Pseudonym(error) => error.problem(),
            ConsentError::Registry(error) => error.problem(),
            ConsentError::Grant(error) => error.problem(),
            ConsentError::Log(_) => because(503, Reason::LogUnavailable),
            ConsentError::Store(_) => Fault::StoreFailed.problem(),
            ConsentError::Jws(_) | ConsentError::System(_) => Fault::Internal.problem(),
        }
    }
}

/// A consent recorded here, as far as others' withdrawals of it are judged by it.
pub(crate) struct Recorded {
    pub(crate) file: FileId,
    pub(crate) template: TemplateRef,
}

/// The consent of this id, if it was recorded here.
pub(crate) fn recorded_here(read: &Read<'_>, id: ConsentId) -> Result<Option<Recorded>, StoreError> {
    let consent: Option<Consent> = read.get(Table::CONSENTS, id.as_bytes())?;
    Ok(consent.map(|Consent { file, template, .. }| Recorded { file, template }))
}

/// Why a consent recorded here serves nothing any more, or not this user.
pub(crate) struct Spent {
    pub(crate) reason: Reason,
    /// The consent that took its place.
    pub(crate) by: Option<ConsentId>,
}

/// What stands against asking on a consent for ourselves that was recorded here for the resident of `file`, if `user` asks.
pub(crate) fn spent(
    node: &Node,
    id: ConsentId,
    file: FileId,
    user: &Bytes,
    now: Timestamp,
) -> Result<Option<Spent>, StoreError> {
    let consent: Option<Consent> = node.store.read()?.get(Table::CONSENTS, id.as_bytes())?;
    let ours = |consent: &Consent| consent.file == file && consent.recipient == node.config.member;
    let Some(consent) = consent.filter(ours) else { return Ok(None) };
    let newer = consent.events.iter().filter(|event| event.at <= now).find_map(|event| match event.happened {
        ConsentHappened::Superseded(newer) => Some(newer),
        _ => None,
    });
    if newer.is_some() {
        return Ok(Some(Spent { reason: Reason::ConsentSuperseded, by: newer }));
    }
    let same = consent.grants.iter().any(|grant| &grant.collected_by == user);
    Ok(same.then_some(Spent { reason: Reason::ConsentSameUser, by: None }))
}

/// Whether `modules` are some of `template`'s; of a template that is not of our library nothing is known.
pub(crate) fn modules_fit(node: &Node, template: &TemplateRef, modules: Option<&BTreeSet<String>>) -> bool {
    let template = node.engine.library().catalogue().template(template);
    let fits = |modules: &BTreeSet<String>| {
        !modules.is_empty() && template.is_none_or(|t| modules.iter().all(|module| t.modules.contains_key(module)))
    };
    modules.is_none_or(fits)
}

/// A consent recorded here, as it stands; that it is read is recorded.
pub(crate) async fn show(node: &Node, caller: &Caller, id: ConsentId) -> Result<ConsentReceipt, ConsentError> {
    let now = node.clock.now();
    shown(node, caller, id, |held, consent| consent.receipt(node, held, id, &BTreeSet::new(), now)).await
}

/// What `show` makes of a consent recorded here; that it is read is recorded.
async fn shown<T>(
    node: &Node,
    caller: &Caller,
    id: ConsentId,
    show: impl FnOnce(&Held, &Consent) -> Result<T, ConsentError>,
) -> Result<T, ConsentError> {
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let consent = kept(node, id)?;
    let shown = show(&held, &consent)?;
    read_by(node, caller, Some(consent.file), 1).await?;
    Ok(shown)
}

/// Records that somebody read what stands here of consents; nobody's, if there is no file.
async fn read_by(node: &Node, caller: &Caller, file: Option<FileId>, found: usize) -> Result<(), ConsentError> {
    let mut act = Act::reading(node, caller, &RECORDING_ROLES, "consent", found).map_err(ConsentError::Closed)?;
    act.file = file;
    let _recorded = node.log.append(&act).await?;
    Ok(())
}

/// The consents of one resident recorded here, newest first; recorded, also when nobody is on file.
pub(crate) async fn list(node: &Node, caller: &Caller, resident: &Resident) -> Result<ConsentList, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let file = find(node, resident)?;
    let consents = file.map(|file| of_file(node, &held, file)).transpose()?;
    read_by(node, caller, file, consents.iter().map(Vec::len).sum()).await?;
    Ok(ConsentList { consents: consents.ok_or(ConsentError::NotServed)? })
}

fn of_file(node: &Node, held: &Held, file: FileId) -> Result<Vec<ConsentReceipt>, ConsentError> {
    let (read, now) = (node.store.read()?, node.clock.now());
    let mut consents = Vec::new();
    for row in read.each::<Consent>(Table::CONSENTS)? {
        let (key, consent) = row?;
        let Some(id) = key.try_into().ok().filter(|_| consent.file == file).map(ConsentId) else { continue };
        consents.push(consent.receipt(node, held, id, &BTreeSet::new(), now)?);
    }
    consents.sort_by_key(|consent| std::cmp::Reverse(consent.valid_from));
    Ok(consents)
}

/// What the resident takes home, as text or HTML; that it is read is recorded.
pub(crate) async fn printed(
    node: &Node,
    caller: &Caller,
    id: ConsentId,
    (tongue, html): (Tongue, bool),
) -> Result<String, ConsentError> {
    let (catalogue, now) = (node.engine.library().catalogue(), node.clock.now());
    let write = if html { receipt::html } else { receipt::text };
    let print =
        |held: &Held, consent: &Consent| consent.with(node, held, id, |record| write(record, catalogue, tongue, now));
    shown(node, caller, id, print).await
}

/// A consent in the shape of ISO/IEC TS 27560 and the Data Privacy Vocabulary (JSON-LD); that it is read is recorded.
pub(crate) async fn exported(node: &Node, caller: &Caller, id: ConsentId) -> Result<Value, ConsentError> {
    let (catalogue, now) = (node.engine.library().catalogue(), node.clock.now());
    let export = |held: &Held, consent: &Consent| consent.with(node, held, id, |record| record.export(catalogue, now));
    shown(node, caller, id, export).await
}

fn kept(node: &Node, id: ConsentId) -> Result<Consent, ConsentError> {
    node.store.read()?.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)
}

/// A step in a consent's life that a user here took down.
fn event(
    node: &Node,
    caller: &Caller,
    happened: ConsentHappened,
    method: Option<Method>,
    now: Timestamp,
) -> ConsentEvent {
    let by = Some(b64(&desk::user(node, caller).0));
    ConsentEvent { happened, at: now, by, method, place: node.config.member.clone() }
}

async fn note(
    node: &Node,
    caller: &Caller,
    happened: Happened,
    id: ConsentId,
    consent: &Consent,
    part: Option<&str>,
) -> Result<(), ConsentError> {
    let mut event = Event::new(happened, &node.clock).by(node, caller);
    event.file = Some(consent.file);
    event.consent = Some(id);
    event.asker = Some(consent.recipient.clone());
    let template = &consent.template;
    let part = part.map(|part| format!(", {part}")).unwrap_or_default();
    event.detail = Some(format!("{}@{}{part}", template.id, template.version));
    match happened {
        Happened::ConsentRecorded => {
            event.evidence = Some(consent.evidence.clone());
            event.valid_until = Some(consent.valid_to);
        }
        Happened::ConsentWithdrawn | Happened::ConsentSuperseded => {
            event = event.counting([("holders", consent.others(node))]);
        }
        _ => {}
    }
    let _recorded = node.log.append(&event).await?;
    Ok(())
}

/// Modules as the log names them.
pub(crate) fn named(modules: &BTreeSet<String>) -> String {
    format!("of {}", modules.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn may_record(caller: &Caller) -> Result<(), ConsentError> {
    if caller.has(&RECORDING_ROLES) { Ok(()) } else { Err(ConsentError::Role) }
}
