//! Recording a resident's consent, and its withdrawal (design §6).
//!
//! The consent, its grants and their place in the status list become durable in one transaction, with the messages to
//! deliver; then delivery is tried at once, and goes on in the background until it succeeds.

use crate::enrol::subject;
use crate::events::{Event, Happened};
use crate::grants::{GrantError, keep_grant, keep_withdrawal};
use crate::locate::RegistryError;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::residents::{Resident, ResidentError, client, find, pseudonym, whereabouts};
use crate::store::{StoreError, Table};
use crate::tokens::Caller;
use audit::AppendError;
use keyring::random;
use policies::Template;
use protocol::consent::{Acting, Grant, TemplateRef, Withdrawal};
use protocol::encoding::Bytes as B64;
use protocol::jws::{self, JwsError};
use protocol::{ConsentId, FieldId, FileId, MemberId, Problem, Purpose, Reason, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Who may take a resident's consent.
const RECORDING_ROLES: [&str; 5] = ["front-desk", "caseworker", "coordinator", "supervisor", "steward"];

/// A consent as the front desk records it.
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
    /// `given` or `withdrawn`.
    pub state: ConsentState,
    /// Template and version.
    pub template: String,
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
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// In force.
    Given,
    /// Withdrawn; final.
    Withdrawn,
}

/// A consent as kept.
#[derive(Serialize, Deserialize)]
struct Consent {
    file: FileId,
    state: ConsentState,
    position: u32,
    grants: Vec<Grant>,
    modules: BTreeMap<String, ModuleAnswer>,
    recipient: MemberId,
    template: TemplateRef,
    valid_from: Timestamp,
    valid_to: Timestamp,
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

/// Records a consent and grants it to every holder concerned.
pub(crate) async fn record(
    node: &Arc<Node>,
    caller: &Caller,
    body: &ConsentBody,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let (template, reference) = checked(node, &held, body)?;
    let file = find(node, &body.resident)?.ok_or(ConsentError::NotServed)?;
    let client = client(node, &held, file, now)?.ok_or(ConsentError::NotServed)?;
    let output = pseudonym(node, &held, &client).await?;
    let purpose = body.purposes.first().ok_or(ConsentError::NotServed)?;
    let located = whereabouts(node, &held, &client, purpose).await?;

    let id = ConsentId(random()?);
    let valid_to = now + i64::from(body.days.unwrap_or(template.max_days)) * DAY_SECONDS;
    let fields = fields_by_holder(node, &held, body, template, &located.holders);
    let epoch = held.epoch(now).ok_or(ConsentError::Closed(Reason::EpochUnknown))?.0.epoch;
    let collected_by = B64(node.macs.staff.mac(&[caller.staff.as_bytes()]).to_vec());
    let grant = |position: u32, holder: &MemberId, fields: &BTreeSet<FieldId>| -> Result<Grant, ConsentError> {
        Ok(Grant {
            iss: node.config.member.clone(),
            aud: holder.clone(),
            iat: now,
            consent: id,
            sub: SubjectId(subject(&output, holder).ok_or(ConsentError::NotServed)?.0),
            epoch,
            recipient: body.recipient.clone(),
            purposes: body.purposes.clone(),
            fields: fields.clone(),
            modules: given(body),
            acting: Acting::Resident,
            valid_from: now,
            valid_to,
            template: reference.clone(),
            evidence: body.evidence_sha256.clone(),
            collected_by: collected_by.clone(),
            status: position,
        })
    };

    let mut event = Event::new(Happened::ConsentRecorded, now);
    event.file = Some(file);
    event.consent = Some(id);
    event.user = Some(collected_by.clone());
    event.asker = Some(body.recipient.clone());
    event.fields_requested = fields.values().flatten().cloned().collect();
    event.detail = Some(format!("{}@{}", reference.id, reference.version));
    let _recorded = node.log.append(&event).await?;

    let consent = node.store.write(|write| {
        let position = write.next_status()?;
        let grants = fields.iter().map(|(holder, f)| grant(position, holder, f)).collect::<Result<Vec<_>, _>>()?;
        for grant in grants.iter().filter(|grant| grant.aud != node.config.member) {
            write.post(&grant.aud, "/v1/grants", jws::sign(&node.keys.message, grant)?, now)?;
        }
        let consent = Consent {
            file,
            state: ConsentState::Given,
            position,
            grants,
            modules: body.modules.clone(),
            recipient: body.recipient.clone(),
            template: reference.clone(),
            valid_from: now,
            valid_to,
        };
        write.put(Table::CONSENTS, id.as_bytes(), &consent)?;
        Ok::<_, ConsentError>(consent)
    })?;
    for own in consent.grants.iter().filter(|grant| grant.aud == node.config.member) {
        keep_grant(node, own, now).await?;
    }
    let undelivered = node.deliver().await?;
    Ok(consent.receipt(id, &undelivered))
}

/// Withdraws a consent recorded here: final, at once here and at every holder that can be reached.
pub(crate) async fn withdraw(node: &Arc<Node>, caller: &Caller, id: ConsentId) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let mut consent: Consent = node.store.read()?.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)?;
    if consent.state != ConsentState::Withdrawn {
        consent.state = ConsentState::Withdrawn;
        // Recorded first: a withdrawal that takes effect must never be missing from the log.
        let mut event = Event::new(Happened::ConsentWithdrawn, now);
        event.file = Some(consent.file);
        event.consent = Some(id);
        event.user = Some(B64(node.macs.staff.mac(&[caller.staff.as_bytes()]).to_vec()));
        let _recorded = node.log.append(&event).await?;
        let withdrawals: Vec<Withdrawal> = consent.grants.iter().map(|grant| withdrawal(node, grant, now)).collect();
        node.store.write(|write| {
            write.withdraw_status(consent.position)?;
            for withdrawal in withdrawals.iter().filter(|w| w.aud != node.config.member) {
                write.post(&withdrawal.aud, "/v1/withdrawals", jws::sign(&node.keys.message, withdrawal)?, now)?;
            }
            write.put(Table::CONSENTS, id.as_bytes(), &consent)?;
            Ok::<_, ConsentError>(())
        })?;
        for own in withdrawals.iter().filter(|w| w.aud == node.config.member) {
            keep_withdrawal(node, own, now).await?;
        }
    }
    let undelivered = node.deliver().await?;
    node.push_status(consent.grants.iter().map(|grant| &grant.aud)).await;
    Ok(consent.receipt(id, &undelivered))
}

/// A consent recorded here, as it stands.
pub(crate) fn show(node: &Node, id: ConsentId) -> Result<ConsentReceipt, ConsentError> {
    let consent: Consent = node.store.read()?.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)?;
    Ok(consent.receipt(id, &BTreeSet::new()))
}

fn withdrawal(node: &Node, grant: &Grant, now: Timestamp) -> Withdrawal {
    Withdrawal {
        iss: node.config.member.clone(),
        aud: grant.aud.clone(),
        iat: now,
        consent: grant.consent,
        sub: grant.sub,
        epoch: grant.epoch,
        modules: None,
    }
}

fn may_record(caller: &Caller) -> Result<(), ConsentError> {
    let may = caller.roles.iter().any(|role| RECORDING_ROLES.contains(&role.as_str()));
    if may { Ok(()) } else { Err(ConsentError::Role) }
}

/// The template meant, if everything in `body` fits it.
fn checked<'n>(
    node: &'n Node,
    held: &crate::manifests::Held,
    body: &ConsentBody,
) -> Result<(&'n Template, TemplateRef), ConsentError> {
    let refuse = |field, expected: &str| Err(ConsentError::Value { field, expected: expected.to_owned() });
    let Some(template) = node.engine.template(&body.template) else {
        return refuse("template", "a consent template of the library");
    };
    if !body.modules.keys().all(|module| template.modules.contains_key(module)) {
        let known: Vec<&str> = template.modules.keys().map(String::as_str).collect();
        return Err(ConsentError::Value { field: "modules", expected: format!("of: {}", known.join(", ")) });
    }
    if body.purposes.is_empty() || !body.purposes.is_subset(&template.purposes) {
        return refuse("purposes", "one or more of the template's purposes");
    }
    if body.days.is_some_and(|days| days == 0 || days > template.max_days) {
        return Err(ConsentError::Value { field: "days", expected: format!("1 to {}", template.max_days) });
    }
    if body.evidence_sha256.0.len() != 32 {
        return refuse("evidence_sha256", "the SHA-256 of the evidence, 43 characters of base64url");
    }
    if held.manifest.member(&body.recipient).is_none() {
        return refuse("recipient", "a member of the federation");
    }
    Ok((template, TemplateRef { id: body.template.clone(), version: template.version.clone() }))
}

fn given(body: &ConsentBody) -> BTreeSet<String> {
    body.modules.iter().filter(|(_, a)| **a == ModuleAnswer::Given).map(|(id, _)| id.clone()).collect()
}

/// Which fields each located holder, and we, may release by what was given.
fn fields_by_holder(
    node: &Node,
    held: &crate::manifests::Held,
    body: &ConsentBody,
    template: &Template,
    located: &BTreeSet<MemberId>,
) -> BTreeMap<MemberId, BTreeSet<FieldId>> {
    let given = given(body);
    let mut out: BTreeMap<MemberId, BTreeSet<FieldId>> = BTreeMap::new();
    for permission in template.permissions(&given) {
        for holder in located.iter().chain([&node.config.member]).filter(|holder| **holder != body.recipient) {
            if held.manifest.member(holder).is_some_and(|m| m.kind == permission.holder_kind) {
                out.entry(holder.clone()).or_default().extend(permission.fields.iter().cloned());
            }
        }
    }
    out
}

impl Consent {
    fn receipt(&self, id: ConsentId, undelivered: &BTreeSet<MemberId>) -> ConsentReceipt {
        let holders: BTreeMap<_, _> = self.grants.iter().map(|g| (g.aud.clone(), g.fields.clone())).collect();
        ConsentReceipt {
            id,
            state: self.state,
            template: format!("{}@{}", self.template.id, self.template.version),
            recipient: self.recipient.clone(),
            valid_from: self.valid_from.0,
            valid_to: self.valid_to.0,
            undelivered: holders.keys().filter(|h| undelivered.contains(*h)).cloned().collect(),
            holders,
        }
    }
}
