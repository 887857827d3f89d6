//! Examples: a request in a few words with the outcome it must have, run through [`Engine::decide`].
//!
//! An example says what a request is; everything else is made valid, so that only the rules decide. A library's own are
//! run whenever it is loaded; an institution can write more, and recorded traffic is replayed as examples.

use crate::catalogue::{BasisKind, Moment, Tier};
use crate::coverage::Uncovered;
use crate::engine::Engine;
use crate::explain::Explanation;
use crate::facts::{
    Approval, ApprovalFact, ConsentFact, Facts, Flags, PeerFact, Refusal, StatusFact, SubjectFact, TicketFact, Used,
};
use crate::guard::Question;
use crate::library::{EXAMPLES, Library, LibraryError};
use crate::permit::{Denial, Permit};
use protocol::agreement::{Agreement, AgreementRef, AnswerMode, SignedAgreement};
use protocol::consent::{Acting, ConsentRef, Grant, TemplateRef};
use protocol::jws::JwsError;
use protocol::manifest::{Duty, KeyEpoch, Manifest, ManifestRef, Member, Officers, Quotas};
use protocol::query::{Basis, Confirmation, EmergencyClaim, LogPosition, QueryRequest, User};
use protocol::registry::{TICKET_SECONDS, Ticket};
use protocol::{
    Bytes, ConsentId, Epoch, FieldId, Index, MemberId, MemberKind, Purpose, QueryType, Realm, Reason, Role, SubjectId,
    Timestamp,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A file of examples, as `examples.toml` of a library.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    at: Moment,
    example: Vec<Example>,
    #[serde(default)]
    policy: Vec<PolicyExample>,
}

/// A request with the outcome it must have: fields released or compared, or a reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// Kind of the institution that asks.
    pub asker: MemberKind,
    /// Kind of the institution that is asked.
    pub holder: MemberKind,
    /// The user's role.
    pub role: Role,
    /// The query type.
    pub query: QueryType,
    /// What for.
    pub purpose: Purpose,
    /// A mandate's id.
    #[serde(default)]
    pub mandate: Option<String>,
    /// A template's id and version: the resident consented to `modules` of it.
    #[serde(default)]
    pub consent: Option<TemplateRef>,
    /// The modules given; all of them if not said.
    #[serde(default)]
    pub modules: Option<BTreeSet<String>>,
    /// The agreement template the two institutions signed as it is; one on every field there is, if not said.
    #[serde(default)]
    pub agreement: Option<String>,
    /// An emergency's reason.
    #[serde(default)]
    pub emergency: Option<String>,
    /// Whether an open case is cited.
    #[serde(default)]
    pub case: bool,
    /// Fields asked, or compared.
    #[serde(default)]
    pub fields: BTreeSet<FieldId>,
    /// What a person at the holder decided, if anybody did.
    #[serde(default)]
    pub person: Option<Person>,
    /// It must be answered with these values: none for a presence query.
    #[serde(default)]
    pub releases: Option<BTreeSet<FieldId>>,
    /// It must be answered by comparing these.
    #[serde(default)]
    pub compares: Option<BTreeSet<FieldId>>,
    /// It must be refused so.
    #[serde(default)]
    pub refused: Option<Reason>,
}

/// A question put to the Cedar policies alone, with the forbid that must stop it. The steps before them let few such
/// questions through; a forbid must hold all the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyExample {
    pub(crate) name: String,
    pub(crate) asker: MemberKind,
    pub(crate) role: Role,
    pub(crate) purpose: Purpose,
    pub(crate) basis: BasisKind,
    pub(crate) query: QueryType,
    /// The action: what kind of answer is asked for.
    pub(crate) tier: Tier,
    #[serde(default)]
    pub(crate) fields: BTreeSet<FieldId>,
    #[serde(default)]
    pub(crate) values: BTreeSet<FieldId>,
    pub(crate) forbidden_by: String,
}

/// What a person at the holder decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Person {
    /// Yes, wholly.
    Approved,
    /// No.
    Refused,
    /// Nothing, in time.
    Lapsed,
}

/// Why examples could not be run, or which one disagrees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExampleError(String);

impl Examples {
    /// Reads a file of examples.
    ///
    /// # Errors
    /// [`ExampleError`] with line and column.
    pub fn parse(text: &str) -> Result<Self, ExampleError> {
        toml::from_str(text).map_err(|e| ExampleError(e.to_string()))
    }

    /// When they are judged.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at.0
    }

    /// The examples, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Example> {
        self.example.iter()
    }
}

impl Engine {
    /// Whether every example has the outcome it says.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check(&self, examples: &Examples) -> Result<(), ExampleError> {
        examples.example.iter().try_for_each(|example| example.holds(self, examples.at.0).map(|_| ()))?;
        examples.policy.iter().try_for_each(|example| example.holds(self))
    }

    /// The decision on `example` at `at`, step by step.
    ///
    /// # Errors
    /// [`ExampleError`] if it names what the library does not have.
    pub fn explain_example(&self, example: &Example, at: Timestamp) -> Result<Explanation, ExampleError> {
        let scenario = Scenario::new(self.library(), example, at).map_err(ExampleError)?;
        Ok(self.explain(&scenario.facts(), at))
    }
}

impl Example {
    /// Its outcome, if that is the one it says.
    fn holds(&self, engine: &Engine, at: Timestamp) -> Result<Result<Permit, Denial>, ExampleError> {
        let outcome = Scenario::new(engine.library(), self, at).map_err(ExampleError)?.decide(engine);
        let agrees = match (&outcome, &self.releases, &self.compares, self.refused) {
            (Ok(permit), Some(fields), None, None) => permit.fields() == fields && permit.compared().is_empty(),
            (Ok(permit), None, Some(fields), None) => permit.compared() == fields && permit.fields().is_empty(),
            (Err(denial), None, None, Some(reason)) => denial.reason() == reason,
            _ => false,
        };
        if agrees {
            return Ok(outcome);
        }
        let found = match outcome {
            Ok(permit) => format!("released {:?}, compared {:?}", permit.fields(), permit.compared()),
            Err(denial) => denial.to_string(),
        };
        Err(ExampleError(format!("{:?} disagrees: {found}", self.name)))
    }
}

impl PolicyExample {
    fn holds(&self, engine: &Engine) -> Result<(), ExampleError> {
        let asker: MemberId = "asker".parse().map_err(|e: protocol::ids::BadId| ExampleError(e.to_string()))?;
        let question = Question {
            asker: &asker,
            asker_kind: &self.asker,
            role: &self.role,
            purpose: &self.purpose,
            basis: self.basis,
            case: true,
            query: &self.query,
            tier: self.tier,
            fields: &self.fields,
        };
        let found = engine.guard.forbidding(&question, &self.values).map_err(ExampleError)?;
        if found.iter().any(|id| id.rsplit('#').next() == Some(&self.forbidden_by)) {
            return Ok(());
        }
        Err(ExampleError(format!("{:?} disagrees: forbidden by {found:?}", self.name)))
    }
}

/// Runs a library's own `examples`, which must show every part of it at work.
pub(crate) fn run(examples: &Examples, engine: &Engine) -> Result<(), LibraryError> {
    let wrong = |problem: String| LibraryError::new(EXAMPLES, problem);
    let mut uncovered = Uncovered::new(engine);
    for example in &examples.example {
        let outcome = example.holds(engine, examples.at.0).map_err(|e| wrong(e.to_string()))?;
        uncovered.shown(engine, example, &outcome);
    }
    for example in &examples.policy {
        example.holds(engine).map_err(|e| wrong(e.to_string()))?;
        uncovered.forbidden(&example.forbidden_by);
    }
    uncovered.first().map_or(Ok(()), |part| Err(wrong(part.to_string())))
}

/// Owned facts of one request that is valid in everything its example does not say.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact, as in `Facts`")]
pub struct Scenario {
    pub(crate) now: Timestamp,
    pub(crate) me: MemberId,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_hash: [u8; 32],
    pub(crate) revoked: Vec<AgreementRef>,
    pub(crate) received: Timestamp,
    pub(crate) peer: MemberId,
    pub(crate) certificate: [u8; 32],
    pub(crate) active: bool,
    pub(crate) request: Result<QueryRequest, JwsError>,
    pub(crate) first_use: bool,
    pub(crate) ticket: Option<Result<Ticket, JwsError>>,
    pub(crate) registry_away: bool,
    pub(crate) subject: Option<(Index, Flags)>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) grant: Option<Grant>,
    pub(crate) withdrawn: bool,
    pub(crate) withdrawn_modules: BTreeSet<String>,
    pub(crate) status: Option<StatusFact>,
    pub(crate) used: Used,
    pub(crate) decided: Decided,
}

/// What a person at the holder decided, owned.
#[derive(Clone, Debug)]
pub(crate) enum Decided {
    Nothing,
    Refused,
    Lapsed,
    Approved { question: [u8; 32], by: Bytes, fields: BTreeSet<FieldId>, until: Timestamp },
}

const EPOCH: Epoch = Epoch(1);
const MANIFEST_HASH: [u8; 32] = [1; 32];
const CERTIFICATE: [u8; 32] = [2; 32];
const SUBJECT: SubjectId = SubjectId([3; 32]);
const INDEX: Index = Index([4; 32]);
const CONSENT: ConsentId = ConsentId([5; 16]);
const NONCE: [u8; 16] = [6; 16];

impl Scenario {
    /// The facts of `example` at `now`, as far as `library` has what it names.
    ///
    /// # Errors
    /// [`ExampleError`].
    pub fn of(library: &Library, example: &Example, now: Timestamp) -> Result<Self, ExampleError> {
        Self::new(library, example, now).map_err(ExampleError)
    }

    pub(crate) fn new(library: &Library, example: &Example, now: Timestamp) -> Result<Self, String> {
        let id = |text: &str| text.parse::<MemberId>().map_err(|e| e.to_string());
        let (me, peer, registry) = (id("holder")?, id("asker")?, id("registry")?);
        let realm: Realm = "example".parse().map_err(|e: protocol::ids::BadId| e.to_string())?;
        let registry_kind: MemberKind = "registry".parse().map_err(|e: protocol::ids::BadId| e.to_string())?;
        let members = vec![
            member(&me, &example.holder, BTreeSet::new()),
            member(&peer, &example.asker, BTreeSet::new()),
            member(&registry, &registry_kind, BTreeSet::from([Duty::Registry])),
        ];
        let manifest = Manifest {
            realm,
            version: 7,
            issued: now,
            expires: now + 86_400,
            officers: Officers { threshold: 2, keys: Vec::new() },
            members,
            epochs: vec![epoch(now)],
            agreements: vec![SignedAgreement::draft(agreement(example, &me, &peer, library, now)?)],
            successions: vec![],
            library: library.pin(),
        };
        let grant = match &example.consent {
            Some(reference) => Some(grant(example, reference, &me, &peer, library, now)?),
            None => None,
        };
        let request = request(library, example, me.clone(), peer.clone(), now);
        let question = request.question().map_err(|e| e.to_string())?;
        let approved =
            Decided::Approved { question, by: Bytes(vec![12; 32]), fields: example.fields.clone(), until: now };
        Ok(Scenario {
            now,
            me,
            manifest,
            manifest_hash: MANIFEST_HASH,
            revoked: Vec::new(),
            received: now,
            peer: peer.clone(),
            certificate: CERTIFICATE,
            active: true,
            request: Ok(request),
            first_use: true,
            ticket: Some(Ok(ticket(registry, peer, now))),
            registry_away: false,
            subject: Some((INDEX, Flags::default())),
            refusals: Vec::new(),
            grant,
            withdrawn: false,
            withdrawn_modules: BTreeSet::new(),
            status: Some(StatusFact { as_of: now, withdrawn: false }),
            used: Used::default(),
            decided: match example.person {
                None => Decided::Nothing,
                Some(Person::Approved) => approved,
                Some(Person::Refused) => Decided::Refused,
                Some(Person::Lapsed) => Decided::Lapsed,
            },
        })
    }

    /// These facts, borrowed.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            me: &self.me,
            manifest: &self.manifest,
            manifest_hash: &self.manifest_hash,
            revoked: &self.revoked,
            received: self.received,
            peer: PeerFact { member: &self.peer, certificate_sha256: self.certificate, active: self.active },
            request: self.request.as_ref().map_err(|error| *error),
            first_use: self.first_use,
            ticket: match &self.ticket {
                None => TicketFact::Missing,
                Some(Err(_)) => TicketFact::Invalid,
                Some(Ok(ticket)) => TicketFact::Read(ticket),
            },
            registry_away: self.registry_away,
            used: self.used,
            subject: self.subject.as_ref().map(|(index, flags)| SubjectFact {
                index,
                flags: *flags,
                refusals: &self.refusals,
            }),
            consent: self.grant.as_ref().map(|grant| ConsentFact {
                grant,
                withdrawn: self.withdrawn,
                withdrawn_modules: &self.withdrawn_modules,
                status: self.status,
            }),
            approval: match &self.decided {
                Decided::Nothing => ApprovalFact::Awaited,
                Decided::Refused => ApprovalFact::Refused,
                Decided::Lapsed => ApprovalFact::Lapsed,
                Decided::Approved { question, by, fields, until } => {
                    ApprovalFact::Given(Approval { question, by, fields, until: *until })
                }
            },
        }
    }

    pub(crate) fn decide(&self, engine: &Engine) -> Result<Permit, Denial> {
        engine.decide(&self.facts(), self.now)
    }
}

fn member(id: &MemberId, kind: &MemberKind, roles: BTreeSet<Duty>) -> Member {
    Member {
        id: id.clone(),
        name: id.to_string(),
        kind: kind.clone(),
        endpoints: Vec::new(),
        roles,
        operator: String::new(),
        keys: Vec::new(),
        quotas: Quotas { evaluations_burst: 0, evaluations_per_day: 0, first_enrolment: None },
        duty_desk: None,
    }
}

fn epoch(now: Timestamp) -> KeyEpoch {
    KeyEpoch {
        epoch: EPOCH,
        generation: 1,
        threshold: 2,
        group_key: Bytes::default(),
        holders: Vec::new(),
        transcript: Bytes::default(),
        not_before: now,
        destroy_at: None,
        signatures: BTreeMap::new(),
    }
}

/// As its template says; or on the query with every field there is: what must not leave is for the other rules to keep.
fn agreement(
    example: &Example,
    me: &MemberId,
    peer: &MemberId,
    library: &Library,
    now: Timestamp,
) -> Result<Agreement, String> {
    if let Some(id) = &example.agreement {
        let template = library.catalogue().agreements.get(id);
        let template = template.filter(|of| of.asker_kind == example.asker && of.holder_kind == example.holder);
        let template =
            template.ok_or_else(|| format!("{:?}: no such agreement template of these kinds", example.name))?;
        return Ok(template.terms(id, peer, me, now));
    }
    Ok(Agreement {
        id: "example".into(),
        version: 1,
        asker: peer.clone(),
        holder: me.clone(),
        queries: BTreeSet::from([example.query.clone()]),
        fields: library.catalogue().fields.keys().cloned().collect(),
        purposes: BTreeSet::from([example.purpose.clone()]),
        queries_per_day: 100,
        queries_per_user_per_day: Some(20),
        hours: BTreeSet::new(),
        mode: AnswerMode::Automatic,
        valid_from: now,
        valid_to: now + 86_400,
    })
}

fn request(library: &Library, example: &Example, me: MemberId, peer: MemberId, now: Timestamp) -> QueryRequest {
    let basis = match (&example.mandate, &example.consent, &example.emergency) {
        (Some(id), None, None) => Basis::Mandate { id: id.clone() },
        (None, Some(_), None) => Basis::Consent(ConsentRef { id: CONSENT }),
        (None, None, Some(reason)) => Basis::Emergency(EmergencyClaim {
            reason: reason.clone(),
            note: Bytes(vec![13; 32]),
            opened: now + -10,
            confirmed: now,
        }),
        _ => Basis::None,
    };
    let compares = library.catalogue().queries.get(&example.query).is_some_and(|query| query.tier == Tier::Verify);
    let compared = example.fields.iter().filter(|_| compares);
    QueryRequest {
        iss: peer,
        aud: me,
        iat: now,
        exp: now + 30,
        jti: Bytes(vec![7; 16]),
        sub: SUBJECT,
        epoch: EPOCH,
        ticket: String::new(),
        user: User { id: Bytes(vec![8; 32]), role: example.role.clone(), auth: None, system: None },
        query: example.query.clone(),
        fields: example.fields.clone(),
        expected: compared.map(|field| (field.clone(), "?".into())).collect(),
        purpose: example.purpose.clone(),
        basis,
        case: example.case.then(|| Bytes(vec![9; 32])),
        manifest: ManifestRef { version: 7, hash: Bytes(MANIFEST_HASH.to_vec()) },
        cnf: Confirmation { x5t_s256: Bytes(CERTIFICATE.to_vec()) },
        log: LogPosition { origin: String::new(), index: 0, entry: Bytes::default() },
    }
}

fn ticket(registry: MemberId, peer: MemberId, now: Timestamp) -> Ticket {
    Ticket {
        iss: registry,
        sub: peer,
        nonce: Bytes(NONCE.to_vec()),
        bind: Bytes(Ticket::binding(&NONCE, &INDEX).to_vec()),
        epoch: EPOCH,
        iat: now,
        exp: now + TICKET_SECONDS,
    }
}

/// Recorded by the asker itself, by another user, with every field there is.
fn grant(
    example: &Example,
    reference: &TemplateRef,
    me: &MemberId,
    peer: &MemberId,
    library: &Library,
    now: Timestamp,
) -> Result<Grant, String> {
    let template = library.catalogue().template(reference);
    let template = template.ok_or_else(|| format!("{:?}: no such template", example.name))?;
    Ok(Grant {
        iss: peer.clone(),
        aud: me.clone(),
        iat: now,
        consent: CONSENT,
        sub: SUBJECT,
        epoch: EPOCH,
        recipient: peer.clone(),
        purposes: template.purposes.clone(),
        fields: library.catalogue().fields.keys().cloned().collect(),
        modules: example.modules.clone().unwrap_or_else(|| template.modules.keys().cloned().collect()),
        acting: Acting::Resident,
        valid_from: now,
        valid_to: now + 86_400,
        template: reference.clone(),
        evidence: Bytes(vec![10; 32]),
        collected_by: Bytes(vec![11; 32]),
        status: 0,
    })
}
