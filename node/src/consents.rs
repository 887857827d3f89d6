//! A resident's consent from being asked to being withdrawn (design §6).
//!
//! The consent, its grants and their place in the status list become durable in one transaction, with the messages to
//! deliver; then delivery is tried at once, and goes on in the background until it succeeds. A withdrawal may be taken at
//! any member that serves the resident: it tells every located holder itself, and the recorder, which tells its own.

use crate::desk;
use crate::events::{Event, Happened};
use crate::flags;
use crate::grants::{GrantError, keep_grant, keep_refusal, keep_withdrawal};
use crate::locate::RegistryError;
use crate::manifests::Held;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::residents::{Resident, ResidentError, Whereabouts, client, find, pseudonyms, subject_at, whereabouts};
use crate::store::{Read, StoreError, Table};
use crate::tokens::Caller;
use audit::AppendError;
use keyring::random;
use policies::Template;
use policies::receipt::{self, Tongue};
use policies::record::{self, Answer, Answers, ConsentEvent, ConsentHappened, ConsentRecord, Method, Party};
use protocol::consent::{Acting, Grant, TemplateRef, Withdrawal};
use protocol::encoding::Bytes as B64;
use protocol::jws::{self, JwsError};
use protocol::notice::Refused;
use protocol::{ConsentId, Epoch, FieldId, FileId, Index, MemberId, Problem, Purpose, Reason, Timestamp};
use pseudonym::Output;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Who may take a resident's consent.
const RECORDING_ROLES: [&str; 5] = ["front-desk", "caseworker", "coordinator", "supervisor", "steward"];

/// What a resident is asked to consent to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentRequest {
    /// Whom.
    pub resident: Resident,
    /// The template; its current version.
    #[schema(example = "instead-of-certificate")]
    pub template: String,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// What for; one or more of the template's purposes.
    #[schema(value_type = Vec<String>)]
    pub purposes: BTreeSet<Purpose>,
    /// For how many days from the answer on; the template's longest, if not said.
    #[serde(default)]
    pub days: Option<u32>,
}

/// What the resident answered.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentAnswer {
    /// The answer to each module; what is not listed is refused.
    pub modules: BTreeMap<String, ModuleAnswer>,
    /// Who answered: `resident`, `guardian` or `attorney`.
    #[serde(default)]
    #[schema(value_type = String, example = "resident")]
    pub acting: Acting,
    /// What other guardians of a minor answered; only what all give is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_guardians: Vec<BTreeMap<String, ModuleAnswer>>,
    /// How: `counter_paper`, `counter_tablet`, `portal`, `phone_recorded` or `epuap`.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "counter_paper")]
    pub method: Method,
    /// SHA-256 of the signed paper or scan, base64url without padding, 43 characters.
    #[schema(value_type = String)]
    pub evidence_sha256: B64,
}

/// A consent as the front desk records it, asked and answered at once.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentBody {
    /// Whose.
    pub resident: Resident,
    /// The template the resident signed; its current version.
    #[schema(example = "instead-of-certificate")]
    pub template: String,
    /// The resident's answer to each module; what is not listed is refused.
    pub modules: BTreeMap<String, ModuleAnswer>,
    /// Who answered: `resident`, `guardian` or `attorney`.
    #[serde(default)]
    #[schema(value_type = String, example = "resident")]
    pub acting: Acting,
    /// What other guardians of a minor answered; only what all give is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_guardians: Vec<BTreeMap<String, ModuleAnswer>>,
    /// How: `counter_paper`, `counter_tablet`, `portal`, `phone_recorded` or `epuap`.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "counter_paper")]
    pub method: Method,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// What for; one or more of the template's purposes.
    #[schema(value_type = Vec<String>)]
    pub purposes: BTreeSet<Purpose>,
    /// For how many days; the template's longest, if not said.
    #[serde(default)]
    pub days: Option<u32>,
    /// SHA-256 of the signed paper or scan, base64url without padding, 43 characters.
    #[schema(value_type = String)]
    pub evidence_sha256: B64,
}

fn on_paper() -> Method {
    Method::CounterPaper
}

/// What of a consent is withdrawn.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawBody {
    /// These modules; all of it, if not said.
    #[serde(default)]
    pub modules: Option<BTreeSet<String>>,
}

/// A withdrawal of a consent that may have been recorded anywhere.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawalBody {
    /// Whose.
    pub resident: Resident,
    /// The consent's id, as on its receipt.
    #[schema(value_type = String)]
    pub consent: ConsentId,
    /// These modules; all of it, if not said.
    #[serde(default)]
    pub modules: Option<BTreeSet<String>>,
}

/// A withdrawal that was taken.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WithdrawalReceipt {
    /// The consent.
    #[schema(value_type = String)]
    pub consent: ConsentId,
    /// Institutions told.
    #[schema(value_type = Vec<String>)]
    pub told: BTreeSet<MemberId>,
    /// Institutions that could not be told yet; delivery goes on.
    #[schema(value_type = Vec<String>)]
    pub undelivered: BTreeSet<MemberId>,
}

/// A resident's answer to one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleAnswer {
    /// Given.
    Given,
    /// Refused.
    Refused,
}

/// A recorded consent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentReceipt {
    /// Its id, which the recipient cites.
    #[schema(value_type = String)]
    pub id: ConsentId,
    /// Where it stands.
    pub state: ConsentState,
    /// Template and version.
    pub template: String,
    /// The modules given and not withdrawn.
    #[serde(default)]
    pub standing: BTreeSet<String>,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// First moment (seconds since 1970).
    pub valid_from: i64,
    /// Last moment (seconds since 1970).
    pub valid_to: i64,
    /// Institutions that may answer under it, and which of their fields.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub holders: BTreeMap<MemberId, BTreeSet<FieldId>>,
    /// Institutions that could not be told yet; delivery goes on.
    #[schema(value_type = Vec<String>)]
    pub undelivered: BTreeSet<MemberId>,
    /// The consent this one renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub renews: Option<ConsentId>,
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// Asked for, not answered.
    Requested,
    /// In force.
    Given,
    /// In force, given again.
    Renewed,
    /// Refused.
    Refused,
    /// Its period is over.
    Expired,
    /// Withdrawn; final.
    Withdrawn,
    /// Ended by somebody else; final.
    Revoked,
}

impl From<record::ConsentState> for ConsentState {
    fn from(state: record::ConsentState) -> Self {
        match state {
            record::ConsentState::Requested => ConsentState::Requested,
            record::ConsentState::Given => ConsentState::Given,
            record::ConsentState::Renewed => ConsentState::Renewed,
            record::ConsentState::Refused => ConsentState::Refused,
            record::ConsentState::Expired => ConsentState::Expired,
            record::ConsentState::Withdrawn => ConsentState::Withdrawn,
            record::ConsentState::Revoked => ConsentState::Revoked,
        }
    }
}

/// A consent as kept.
#[derive(Serialize, Deserialize)]
struct Consent {
    file: FileId,
    template: TemplateRef,
    recipient: MemberId,
    purposes: BTreeSet<Purpose>,
    days: u32,
    valid_from: Timestamp,
    valid_to: Timestamp,
    acting: Acting,
    method: Method,
    evidence: B64,
    answers: Answers,
    /// Place in our status list, once it was given.
    position: Option<u32>,
    grants: Vec<Grant>,
    renews: Option<ConsentId>,
    /// What happened to it, oldest first; never changed, only added to.
    events: Vec<ConsentEvent>,
}

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
    Value { field: &'static str, expected: String },
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
        let because = |status, reason: Reason| Problem::new(status, reason.code(), reason.next_step());
        match self {
            ConsentError::Closed(reason) => because(503, *reason),
            ConsentError::Resident(error) => error.problem(),
            ConsentError::NotServed => because(403, Reason::NotServed).field("resident"),
            ConsentError::Role => because(403, Reason::RoleNotAllowed),
            ConsentError::Value { field, expected } => {
                Problem::new(422, "value_invalid", "A value is not acceptable").detail(expected).field(*field)
            }
            ConsentError::Refused(reason) => because(409, *reason),
            ConsentError::Unknown => Problem::new(404, "consent_unknown", "No consent with this id was recorded here"),
            ConsentError::Pseudonym(error) => because(503, Reason::KeyHoldersUnavailable).detail(error.to_string()),
            ConsentError::Registry(error) => because(503, Reason::RegistryUnavailable).detail(error.to_string()),
            ConsentError::Grant(error) => error.problem(),
            ConsentError::Log(_) => Problem::new(503, "log_unavailable", "It cannot be recorded now"),
            ConsentError::Store(_) => Problem::new(503, "store_failed", "The node's store failed"),
            ConsentError::Jws(_) | ConsentError::System(_) => {
                Problem::new(500, "internal", "The node failed; see its trace")
            }
        }
    }
}

/// Notes that a resident was asked. The answer comes later, to the version of the template that is current now.
pub(crate) async fn request(
    node: &Arc<Node>,
    caller: &Caller,
    body: &ConsentRequest,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let file = find(node, &body.resident)?.ok_or(ConsentError::NotServed)?;
    let consent = asked(node, &held, body, file, now)?;
    let id = ConsentId(random()?);
    note(node, caller, Happened::ConsentRequested, id, &consent, None, now).await?;
    node.store.write(|write| write.put(Table::CONSENTS, id.as_bytes(), &consent))?;
    consent.receipt(node, &held, id, &BTreeSet::new(), now)
}

/// Records a consent and grants it to every holder concerned.
pub(crate) async fn record(
    node: &Arc<Node>,
    caller: &Caller,
    body: ConsentBody,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let ConsentBody { resident, template, recipient, purposes, days, .. } = body;
    let request = ConsentRequest { resident, template, recipient, purposes, days };
    let ConsentBody { modules, acting, other_guardians, method, evidence_sha256, .. } = body;
    let answer = ConsentAnswer { modules, acting, other_guardians, method, evidence_sha256 };
    checked(node, &held, &request)?;
    let file = find(node, &request.resident)?.ok_or(ConsentError::NotServed)?;
    let consent = asked(node, &held, &request, file, now)?;
    answered(node, caller, &held, ConsentId(random()?), consent, &answer, ConsentHappened::Given, now).await
}

/// Records the answer to a consent that was asked for.
pub(crate) async fn answer(
    node: &Arc<Node>,
    caller: &Caller,
    id: ConsentId,
    body: &ConsentAnswer,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let consent = kept(&node.store.read()?, id)?;
    if consent.with(node, &held, id, |record| record.state(now))? != record::ConsentState::Requested {
        return Err(ConsentError::Value { field: "id", expected: "a consent that was not answered yet".to_owned() });
    }
    answered(node, caller, &held, id, consent, body, ConsentHappened::Given, now).await
}

/// Asks again: a new consent to the current version of the template, which names the old one.
pub(crate) async fn renew(
    node: &Arc<Node>,
    caller: &Caller,
    old: ConsentId,
    body: &ConsentAnswer,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let before = kept(&node.store.read()?, old)?;
    let Some(template) = node.engine.template(&before.template.id) else { return Err(ConsentError::Unknown) };
    let reference = TemplateRef { id: before.template.id.clone(), version: template.version.clone() };
    let days = before.days.min(template.max_days);
    let renewed = Consent { template: reference, days, renews: Some(old), ..before.asked_again() };
    answered(node, caller, &held, ConsentId(random()?), renewed, body, ConsentHappened::Renewed, now).await
}

/// Withdraws a consent recorded here: final, at once here and at every holder that can be reached.
pub(crate) async fn withdraw(
    node: &Arc<Node>,
    caller: &Caller,
    id: ConsentId,
    modules: Option<BTreeSet<String>>,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let consent = kept(&node.store.read()?, id)?;
    if modules
        .as_ref()
        .is_some_and(|modules| modules.is_empty() || !modules.iter().all(|m| consent.answers.contains_key(m)))
    {
        return Err(ConsentError::Value { field: "modules", expected: "modules of the consent".to_owned() });
    }
    // Recorded first: a withdrawal that takes effect must never be missing from the log.
    let standing = consent.with(node, &held, id, |record| record.standing(now))?;
    let says_more = modules.as_ref().map_or(!standing.is_empty(), |modules| !modules.is_disjoint(&standing));
    if says_more || consent.position.is_none() {
        note(node, caller, Happened::ConsentWithdrawn, id, &consent, modules.as_ref(), now).await?;
        let consent = end(node, &held, id, modules.as_ref(), None, now)?;
        for own in consent.grants.iter().filter(|grant| grant.aud == node.config.member) {
            keep_withdrawal(node, &withdrawal(node, own, modules.as_ref(), now), now).await?;
        }
    }
    let undelivered = node.deliver().await?;
    node.push_status(consent.grants.iter().map(|grant| &grant.aud)).await;
    kept(&node.store.read()?, id)?.receipt(node, &held, id, &undelivered, now)
}

/// Takes the withdrawal of a consent that may have been recorded at any member.
pub(crate) async fn withdraw_anywhere(
    node: &Arc<Node>,
    caller: &Caller,
    body: &WithdrawalBody,
) -> Result<WithdrawalReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let file = find(node, &body.resident)?.ok_or(ConsentError::NotServed)?;
    if let Some(of) = recorded_here(&node.store.read()?, body.consent)? {
        if of != file {
            return Err(ConsentError::Unknown);
        }
        let receipt = withdraw(node, caller, body.consent, body.modules.clone()).await?;
        let told = receipt.holders.into_keys().collect();
        return Ok(WithdrawalReceipt { consent: body.consent, told, undelivered: receipt.undelivered });
    }
    let (pseudonyms, located, epoch) = located(node, &held, file, None, now).await?;
    let mut event = Event::new(Happened::ConsentWithdrawn, now);
    event.file = Some(file);
    event.consent = Some(body.consent);
    event.user = Some(desk::user(node, caller));
    event.detail = Some("recorded elsewhere".to_owned());
    let _recorded = node.log.append(&event).await?;
    let withdrawal = |aud: &MemberId| -> Result<Withdrawal, ConsentError> {
        Ok(Withdrawal {
            iss: node.config.member.clone(),
            aud: aud.clone(),
            iat: now,
            consent: body.consent,
            sub: subject_at(&pseudonyms, &located, aud).ok_or(ConsentError::NotServed)?,
            epoch,
            modules: body.modules.clone(),
        })
    };
    // Whoever knows the resident may hold a grant, or have recorded it.
    let holders: BTreeSet<MemberId> = located.holders().into_keys().cloned().collect();
    node.store.write(|write| {
        for aud in &holders {
            write.post(aud, WITHDRAWALS, jws::sign(&node.keys.message, &withdrawal(aud)?)?, now)?;
        }
        Ok::<_, ConsentError>(())
    })?;
    keep_withdrawal(node, &withdrawal(&node.config.member)?, now).await?;
    let undelivered = node.deliver().await?;
    let undelivered = holders.intersection(&undelivered).cloned().collect();
    Ok(WithdrawalReceipt { consent: body.consent, told: holders, undelivered })
}

/// The path at which members take withdrawals.
pub(crate) const WITHDRAWALS: &str = "/v1/withdrawals";

/// The file of a consent recorded here.
pub(crate) fn recorded_here(read: &Read<'_>, id: ConsentId) -> Result<Option<FileId>, StoreError> {
    Ok(read.get::<Consent>(Table::CONSENTS, id.as_bytes())?.map(|consent| consent.file))
}

/// Ends, wholly or in part, a consent recorded here, whose withdrawal another member took.
pub(crate) fn withdrawn_elsewhere(node: &Arc<Node>, taken: &Withdrawal, now: Timestamp) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let ended = end(node, &held, taken.consent, taken.modules.as_ref(), Some(&taken.iss), now);
    let consent = ended.map_err(|error| {
        tracing::error!(%error, "a withdrawal taken elsewhere is not recorded");
        GrantError::Closed(Reason::NodeClosed)
    })?;
    let node = node.clone();
    // Whoever brought it has told the others too.
    tokio::spawn(async move {
        if let Err(error) = node.deliver().await {
            tracing::error!(%error, "the outbox cannot be read");
        }
        node.push_status(consent.grants.iter().map(|grant| &grant.aud)).await;
    });
    Ok(())
}

/// A consent recorded here, as it stands.
pub(crate) fn show(node: &Node, id: ConsentId) -> Result<ConsentReceipt, ConsentError> {
    let held = node.manifest().map_err(ConsentError::Closed)?;
    kept(&node.store.read()?, id)?.receipt(node, &held, id, &BTreeSet::new(), node.clock.now())
}

/// What the resident takes home, as text or HTML.
pub(crate) fn printed(node: &Node, id: ConsentId, tongue: Tongue, html: bool) -> Result<String, ConsentError> {
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let (catalogue, now) = (node.engine.library().catalogue(), node.clock.now());
    let write = if html { receipt::html } else { receipt::text };
    kept(&node.store.read()?, id)?.with(node, &held, id, |record| write(record, catalogue, tongue, now))
}

/// A consent in the shape of ISO/IEC TS 27560 and the Data Privacy Vocabulary (JSON-LD).
pub(crate) fn exported(node: &Node, id: ConsentId) -> Result<Value, ConsentError> {
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let (catalogue, now) = (node.engine.library().catalogue(), node.clock.now());
    kept(&node.store.read()?, id)?.with(node, &held, id, |record| record.export(catalogue, now))
}

fn kept(read: &Read<'_>, id: ConsentId) -> Result<Consent, ConsentError> {
    read.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)
}

async fn note(
    node: &Node,
    caller: &Caller,
    happened: Happened,
    id: ConsentId,
    consent: &Consent,
    modules: Option<&BTreeSet<String>>,
    now: Timestamp,
) -> Result<(), ConsentError> {
    let mut event = Event::new(happened, now);
    event.file = Some(consent.file);
    event.consent = Some(id);
    event.user = Some(desk::user(node, caller));
    event.asker = Some(consent.recipient.clone());
    let part =
        modules.map(|modules| format!(", of {}", modules.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
    let template = &consent.template;
    event.detail = Some(format!("{}@{}{}", template.id, template.version, part.unwrap_or_default()));
    let _recorded = node.log.append(&event).await?;
    Ok(())
}

/// The client's pseudonyms and who else knows the client by which.
async fn located(
    node: &Arc<Node>,
    held: &Held,
    file: FileId,
    purpose: Option<&Purpose>,
    now: Timestamp,
) -> Result<(Vec<(Index, Output)>, Whereabouts, Epoch), ConsentError> {
    let client = client(node, held, file, now)?.ok_or(ConsentError::NotServed)?;
    let pseudonyms = pseudonyms(node, held, &client).await?;
    let any = node.engine.library().catalogue().purposes.keys().next();
    let purpose = purpose.or(any).ok_or(ConsentError::NotServed)?;
    let located = whereabouts(node, held, &client, purpose).await?;
    let epoch = held.epoch(now).ok_or(ConsentError::Closed(Reason::EpochUnknown))?.0.epoch;
    Ok((pseudonyms, located, epoch))
}

/// Takes in what the resident answered: grants what was given, passes on what was refused.
#[expect(clippy::too_many_arguments, reason = "who, where, which, what, how and when")]
async fn answered(
    node: &Arc<Node>,
    caller: &Caller,
    held: &Held,
    id: ConsentId,
    mut consent: Consent,
    body: &ConsentAnswer,
    happened: ConsentHappened,
    now: Timestamp,
) -> Result<ConsentReceipt, ConsentError> {
    let template = consent.template_of(node)?;
    consent.answers = answers(template, body)?;
    // The one who may speak for the resident today; a holder asks the same of its own flags.
    let minor = flags::of(&node.store.read()?, consent.file)?.flags().minor;
    if minor != (body.acting == Acting::Guardian) {
        return Err(ConsentError::Refused(Reason::ConsentRepresentative));
    }
    (consent.acting, consent.method, consent.evidence) = (body.acting, body.method, body.evidence_sha256.clone());
    (consent.valid_from, consent.valid_to) = (now, now + i64::from(consent.days) * DAY_SECONDS);
    let purpose = consent.purposes.first().cloned();
    let (pseudonyms, located, epoch) = located(node, held, consent.file, purpose.as_ref(), now).await?;
    let given = consent.given();
    if given.is_empty() {
        consent.events.push(ConsentEvent { happened: ConsentHappened::Refused, at: now });
        note(node, caller, Happened::ConsentRefused, id, &consent, None, now).await?;
        let asked: BTreeSet<String> = consent.answers.keys().cloned().collect();
        let fields = fields_by_holder(node, held, &consent, template, &asked, &located);
        return refused(node, held, id, &consent, (&pseudonyms, &located), epoch, fields, now).await;
    }
    if !node.list_is_whole()? {
        return Err(ConsentError::Closed(Reason::NodeClosed));
    }
    let fields = fields_by_holder(node, held, &consent, template, &given, &located);
    let collected_by = desk::user(node, caller);
    let grant = |position: u32, holder: &MemberId, fields: &BTreeSet<FieldId>| -> Result<Grant, ConsentError> {
        Ok(Grant {
            iss: node.config.member.clone(),
            aud: holder.clone(),
            iat: now,
            consent: id,
            sub: subject_at(&pseudonyms, &located, holder).ok_or(ConsentError::NotServed)?,
            epoch,
            recipient: consent.recipient.clone(),
            purposes: consent.purposes.clone(),
            fields: fields.clone(),
            modules: given.clone(),
            acting: consent.acting,
            valid_from: consent.valid_from,
            valid_to: consent.valid_to,
            template: consent.template.clone(),
            evidence: consent.evidence.clone(),
            collected_by: collected_by.clone(),
            status: position,
        })
    };
    note(node, caller, Happened::ConsentRecorded, id, &consent, None, now).await?;
    let (position, grants) = node.store.write(|write| {
        let position = write.next_status()?;
        let grants = fields.iter().map(|(holder, f)| grant(position, holder, f)).collect::<Result<Vec<_>, _>>()?;
        for grant in grants.iter().filter(|grant| grant.aud != node.config.member) {
            write.post(&grant.aud, "/v1/grants", jws::sign(&node.keys.message, grant)?, now)?;
        }
        let mut events = consent.events.clone();
        events.push(ConsentEvent { happened, at: now });
        let row = consent.with_grants(position, &grants, &events);
        write.put(Table::CONSENTS, id.as_bytes(), &row)?;
        Ok::<_, ConsentError>((position, grants))
    })?;
    for own in grants.iter().filter(|grant| grant.aud == node.config.member) {
        keep_grant(node, own, now).await?;
    }
    let undelivered = node.deliver().await?;
    tracing::debug!(position, "a consent was recorded");
    kept(&node.store.read()?, id)?.receipt(node, held, id, &undelivered, now)
}

/// Keeps that the resident refused, and tells every holder, so that nobody else's consent opens it.
#[expect(clippy::too_many_arguments, reason = "who, where, which, what, how and when")]
async fn refused(
    node: &Arc<Node>,
    held: &Held,
    id: ConsentId,
    consent: &Consent,
    (pseudonyms, located): (&[(Index, Output)], &Whereabouts),
    epoch: Epoch,
    fields: BTreeMap<MemberId, BTreeSet<FieldId>>,
    now: Timestamp,
) -> Result<ConsentReceipt, ConsentError> {
    let notices = fields.into_iter().map(|(aud, fields)| {
        Ok(Refused {
            iss: node.config.member.clone(),
            iat: now,
            sub: subject_at(pseudonyms, located, &aud).ok_or(ConsentError::NotServed)?,
            aud,
            epoch,
            recipient: consent.recipient.clone(),
            purposes: consent.purposes.clone(),
            fields,
        })
    });
    let notices = notices.collect::<Result<Vec<Refused>, ConsentError>>()?;
    node.store.write(|write| {
        for notice in notices.iter().filter(|notice| notice.aud != node.config.member) {
            write.post(&notice.aud, "/v1/refusals", jws::sign(&node.keys.message, notice)?, now)?;
        }
        Ok::<_, ConsentError>(write.put(Table::CONSENTS, id.as_bytes(), consent)?)
    })?;
    for own in notices.iter().filter(|notice| notice.aud == node.config.member) {
        keep_refusal(node, own, now).await?;
    }
    let undelivered = node.deliver().await?;
    consent.receipt(node, held, id, &undelivered, now)
}

/// Writes that a consent ended, wholly or in part, with its status and the messages to every holder but `told` already.
fn end(
    node: &Node,
    held: &Held,
    id: ConsentId,
    modules: Option<&BTreeSet<String>>,
    told: Option<&MemberId>,
    now: Timestamp,
) -> Result<Consent, ConsentError> {
    node.store.write(|write| {
        let mut consent: Consent = write.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)?;
        let happened = modules.map_or(ConsentHappened::Withdrawn, |m| ConsentHappened::PartlyWithdrawn(m.clone()));
        consent.events.push(ConsentEvent { happened, at: now });
        let over = consent.with(node, held, id, |record| record.standing(now))?.is_empty();
        if let (true, Some(position)) = (over, consent.position) {
            write.withdraw_status(position)?;
        }
        let modules = modules.filter(|_| !over);
        for grant in &consent.grants {
            if grant.aud != node.config.member && Some(&grant.aud) != told {
                let withdrawal = withdrawal(node, grant, modules, now);
                write.post(&grant.aud, WITHDRAWALS, jws::sign(&node.keys.message, &withdrawal)?, now)?;
            }
        }
        write.put(Table::CONSENTS, id.as_bytes(), &consent)?;
        Ok(consent)
    })
}

fn withdrawal(node: &Node, grant: &Grant, modules: Option<&BTreeSet<String>>, now: Timestamp) -> Withdrawal {
    Withdrawal {
        iss: node.config.member.clone(),
        aud: grant.aud.clone(),
        iat: now,
        consent: grant.consent,
        sub: grant.sub,
        epoch: grant.epoch,
        modules: modules.cloned(),
    }
}

fn may_record(caller: &Caller) -> Result<(), ConsentError> {
    if caller.has(&RECORDING_ROLES) { Ok(()) } else { Err(ConsentError::Role) }
}

/// The template meant, if everything in `body` fits it.
fn checked<'n>(node: &'n Node, held: &Held, body: &ConsentRequest) -> Result<&'n Template, ConsentError> {
    let refuse = |field, expected: &str| Err(ConsentError::Value { field, expected: expected.to_owned() });
    let Some(template) = node.engine.template(&body.template) else {
        return refuse("template", "a consent template of the library");
    };
    if body.purposes.is_empty() || !body.purposes.is_subset(&template.purposes) {
        return refuse("purposes", "one or more of the template's purposes");
    }
    if body.days.is_some_and(|days| days == 0 || days > template.max_days) {
        return Err(ConsentError::Value { field: "days", expected: format!("1 to {}", template.max_days) });
    }
    if held.manifest.member(&body.recipient).is_none() {
        return refuse("recipient", "a member of the federation");
    }
    Ok(template)
}

/// A consent that was asked for and is not answered.
fn asked(
    node: &Node,
    held: &Held,
    body: &ConsentRequest,
    file: FileId,
    now: Timestamp,
) -> Result<Consent, ConsentError> {
    let template = checked(node, held, body)?;
    let days = body.days.unwrap_or(template.max_days);
    Ok(Consent {
        file,
        template: TemplateRef { id: body.template.clone(), version: template.version.clone() },
        recipient: body.recipient.clone(),
        purposes: body.purposes.clone(),
        days,
        valid_from: now,
        valid_to: now + i64::from(days) * DAY_SECONDS,
        acting: Acting::Resident,
        method: on_paper(),
        evidence: B64(Vec::new()),
        answers: Answers::new(),
        position: None,
        grants: Vec::new(),
        renews: None,
        events: vec![ConsentEvent { happened: ConsentHappened::Requested, at: now }],
    })
}

/// The answers, several guardians' as one.
fn answers(template: &Template, body: &ConsentAnswer) -> Result<Answers, ConsentError> {
    let own = |modules: &BTreeMap<String, ModuleAnswer>| -> Result<Answers, ConsentError> {
        if !modules.keys().all(|module| template.modules.contains_key(module)) {
            let known: Vec<&str> = template.modules.keys().map(String::as_str).collect();
            return Err(ConsentError::Value { field: "modules", expected: format!("of: {}", known.join(", ")) });
        }
        let answer = |answer: &ModuleAnswer| match answer {
            ModuleAnswer::Given => Answer::Given,
            ModuleAnswer::Refused => Answer::Refused,
        };
        Ok(modules.iter().map(|(module, given)| (module.clone(), answer(given))).collect())
    };
    if body.evidence_sha256.0.len() != 32 {
        let expected = "the SHA-256 of the evidence, 43 characters of base64url".to_owned();
        return Err(ConsentError::Value { field: "evidence_sha256", expected });
    }
    if !body.other_guardians.is_empty() && body.acting != Acting::Guardian {
        return Err(ConsentError::Value { field: "other_guardians", expected: "acting as guardian".to_owned() });
    }
    let mut all = vec![own(&body.modules)?];
    for other in &body.other_guardians {
        all.push(own(other)?);
    }
    record::jointly(&all).map_err(ConsentError::Refused)
}

/// Which fields each located holder, and we, may release by `modules`.
fn fields_by_holder(
    node: &Node,
    held: &Held,
    consent: &Consent,
    template: &Template,
    modules: &BTreeSet<String>,
    located: &Whereabouts,
) -> BTreeMap<MemberId, BTreeSet<FieldId>> {
    let mut out: BTreeMap<MemberId, BTreeSet<FieldId>> = BTreeMap::new();
    for permission in template.permissions(modules) {
        for holder in
            located.holders().into_keys().chain([&node.config.member]).filter(|holder| **holder != consent.recipient)
        {
            if held.manifest.member(holder).is_some_and(|m| m.kind == permission.holder_kind) {
                out.entry(holder.clone()).or_default().extend(permission.fields.iter().cloned());
            }
        }
    }
    out
}

impl Consent {
    fn given(&self) -> BTreeSet<String> {
        let given = self.answers.iter().filter(|(_, answer)| **answer == Answer::Given);
        given.map(|(module, _)| module.clone()).collect()
    }

    fn template_of<'n>(&self, node: &'n Node) -> Result<&'n Template, ConsentError> {
        node.engine.library().catalogue().template(&self.template).ok_or(ConsentError::Unknown)
    }

    /// The same, asked and not answered.
    fn asked_again(self) -> Self {
        Consent { position: None, grants: Vec::new(), events: Vec::new(), ..self }
    }

    fn with_grants(&self, position: u32, grants: &[Grant], events: &[ConsentEvent]) -> Self {
        Consent {
            file: self.file,
            template: self.template.clone(),
            recipient: self.recipient.clone(),
            purposes: self.purposes.clone(),
            days: self.days,
            valid_from: self.valid_from,
            valid_to: self.valid_to,
            acting: self.acting,
            method: self.method,
            evidence: self.evidence.clone(),
            answers: self.answers.clone(),
            position: Some(position),
            grants: grants.to_vec(),
            renews: self.renews,
            events: events.to_vec(),
        }
    }

    /// Lends the consent as the policies' pure functions take it.
    fn with<T>(
        &self,
        node: &Node,
        held: &Held,
        id: ConsentId,
        lend: impl FnOnce(&ConsentRecord<'_>) -> T,
    ) -> Result<T, ConsentError> {
        let party = |member: &'_ MemberId| {
            let found = held.manifest.members.iter().find(|m| &m.id == member);
            found.map(|m| Party { id: &m.id, name: &m.name, kind: &m.kind })
        };
        let known = |member| party(member).ok_or(ConsentError::Refused(Reason::PeerUnknown));
        let holders: Vec<_> = self.grants.iter().filter_map(|grant| party(&grant.aud)).collect();
        let record = ConsentRecord {
            id,
            template: self.template_of(node)?,
            reference: &self.template,
            acting: self.acting,
            answers: &self.answers,
            recorder: known(&node.config.member)?,
            recipient: known(&self.recipient)?,
            holders: &holders,
            purposes: &self.purposes,
            valid_from: self.valid_from,
            valid_to: self.valid_to,
            method: self.method,
            evidence: &self.evidence.0,
            events: &self.events,
        };
        Ok(lend(&record))
    }

    fn receipt(
        &self,
        node: &Node,
        held: &Held,
        id: ConsentId,
        undelivered: &BTreeSet<MemberId>,
        now: Timestamp,
    ) -> Result<ConsentReceipt, ConsentError> {
        let holders: BTreeMap<_, _> = self.grants.iter().map(|g| (g.aud.clone(), g.fields.clone())).collect();
        let (state, standing) = self.with(node, held, id, |record| (record.state(now), record.standing(now)))?;
        Ok(ConsentReceipt {
            id,
            state: state.into(),
            template: format!("{}@{}", self.template.id, self.template.version),
            standing,
            recipient: self.recipient.clone(),
            valid_from: self.valid_from.0,
            valid_to: self.valid_to.0,
            undelivered: holders.keys().filter(|h| undelivered.contains(*h)).cloned().collect(),
            holders,
            renews: self.renews,
        })
    }
}
