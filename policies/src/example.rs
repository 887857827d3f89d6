//! The library's own examples, run through [`Engine::decide`] whenever it is loaded.
//!
//! An example says what a request is; everything else is made valid, so that only the rules decide.

use crate::catalogue::Moment;
use crate::engine::Engine;
use crate::facts::{ConsentFact, Facts, Flags, PeerFact, StatusFact, SubjectFact, TicketFact};
use crate::library::{EXAMPLES, Library, LibraryError};
use crate::permit::{Denial, Permit};
use protocol::consent::{ConsentRef, Grant, TemplateRef};
use protocol::jws::JwsError;
use protocol::manifest::{Agreement, Duty, KeyEpoch, Manifest, ManifestRef, Member, Officers, Quotas};
use protocol::query::{Basis, Confirmation, LogPosition, QueryRequest, User};
use protocol::registry::{TICKET_SECONDS, Ticket};
use protocol::{
    Bytes, ConsentId, Epoch, FieldId, Index, MemberId, MemberKind, Purpose, QueryType, Realm, Reason, Role, SubjectId,
    Timestamp,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// `examples.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Examples {
    at: Moment,
    example: Vec<Example>,
}

/// A request with the outcome it must have: fields released, or a reason.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) asker: MemberKind,
    pub(crate) holder: MemberKind,
    pub(crate) role: Role,
    pub(crate) query: QueryType,
    pub(crate) purpose: Purpose,
    /// A mandate's id.
    pub(crate) mandate: Option<String>,
    /// A template's id and version: the resident consented to all of it.
    pub(crate) consent: Option<TemplateRef>,
    #[serde(default)]
    pub(crate) case: bool,
    #[serde(default)]
    pub(crate) fields: BTreeSet<FieldId>,
    releases: Option<BTreeSet<FieldId>>,
    refused: Option<Reason>,
}

/// Runs `examples`; every query type needs one that is answered and one that is refused.
pub(crate) fn run(examples: &Examples, engine: &Engine) -> Result<(), LibraryError> {
    let wrong = |problem: String| LibraryError::new(EXAMPLES, problem);
    let mut uncovered: BTreeSet<_> =
        engine.library().catalogue().queries.keys().flat_map(|id| [(id, true), (id, false)]).collect();
    for example in &examples.example {
        let scenario = Scenario::new(engine.library(), example, examples.at.0).map_err(wrong)?;
        let outcome = scenario.decide(engine);
        uncovered.remove(&(&example.query, outcome.is_ok()));
        let agrees = match (&outcome, &example.releases, example.refused) {
            (Ok(permit), Some(fields), None) => permit.fields() == fields,
            (Err(denial), None, Some(reason)) => denial.reason() == reason,
            _ => false,
        };
        if !agrees {
            let found =
                outcome.map_or_else(|denial| denial.to_string(), |permit| format!("released {:?}", permit.fields()));
            return Err(wrong(format!("{:?} disagrees: {found}", example.name)));
        }
    }
    match uncovered.first() {
        Some((id, true)) => Err(wrong(format!("{id} has no example that is answered"))),
        Some((id, false)) => Err(wrong(format!("{id} has no example that is refused"))),
        None => Ok(()),
    }
}

/// Owned facts of one request that is valid in everything its example does not say.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact, as in `Facts`")]
pub(crate) struct Scenario {
    pub(crate) now: Timestamp,
    pub(crate) me: MemberId,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_hash: [u8; 32],
    pub(crate) peer: MemberId,
    pub(crate) certificate: [u8; 32],
    pub(crate) active: bool,
    pub(crate) request: Result<QueryRequest, JwsError>,
    pub(crate) first_use: bool,
    pub(crate) ticket: Option<Result<Ticket, JwsError>>,
    pub(crate) registry_away: bool,
    pub(crate) subject: Option<(Index, Flags)>,
    pub(crate) grant: Option<Grant>,
    pub(crate) withdrawn: bool,
    pub(crate) status: Option<StatusFact>,
    pub(crate) used_today: u64,
}

const EPOCH: Epoch = Epoch(1);
const MANIFEST_HASH: [u8; 32] = [1; 32];
const CERTIFICATE: [u8; 32] = [2; 32];
const SUBJECT: SubjectId = SubjectId([3; 32]);
const INDEX: Index = Index([4; 32]);
const CONSENT: ConsentId = ConsentId([5; 16]);
const NONCE: [u8; 16] = [6; 16];

impl Scenario {
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
            agreements: vec![agreement(example, &me, &peer, library, now)],
            library: Bytes(library.digest().to_vec()),
        };
        let grant = match &example.consent {
            Some(reference) => Some(grant(example, reference, &me, &peer, library, now)?),
            None => None,
        };
        Ok(Scenario {
            now,
            me: me.clone(),
            manifest,
            manifest_hash: MANIFEST_HASH,
            peer: peer.clone(),
            certificate: CERTIFICATE,
            active: true,
            request: Ok(request(example, me, peer.clone(), now)),
            first_use: true,
            ticket: Some(Ok(ticket(registry, peer, now))),
            registry_away: false,
            subject: Some((INDEX, Flags::default())),
            grant,
            withdrawn: false,
            status: Some(StatusFact { as_of: now, withdrawn: false }),
            used_today: 0,
        })
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            me: &self.me,
            manifest: &self.manifest,
            manifest_hash: &self.manifest_hash,
            peer: PeerFact { member: &self.peer, certificate_sha256: self.certificate, active: self.active },
            request: self.request.as_ref().map_err(|error| *error),
            first_use: self.first_use,
            ticket: match &self.ticket {
                None => TicketFact::Missing,
                Some(Err(_)) => TicketFact::Invalid,
                Some(Ok(ticket)) => TicketFact::Read(ticket),
            },
            registry_away: self.registry_away,
            subject: self.subject.as_ref().map(|(index, flags)| SubjectFact { index, flags: *flags }),
            consent: self.grant.as_ref().map(|grant| ConsentFact {
                grant,
                withdrawn: self.withdrawn,
                status: self.status,
            }),
            used_today: self.used_today,
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

/// Agrees on the query with every field there is: what must not leave is for the other rules to keep.
fn agreement(example: &Example, me: &MemberId, peer: &MemberId, library: &Library, now: Timestamp) -> Agreement {
    Agreement {
        id: "example".into(),
        version: 1,
        asker: peer.clone(),
        holder: me.clone(),
        queries: BTreeSet::from([example.query.clone()]),
        fields: library.catalogue().fields.keys().cloned().collect(),
        purposes: BTreeSet::from([example.purpose.clone()]),
        queries_per_day: 100,
        valid_from: now,
        valid_to: now + 86_400,
    }
}

fn request(example: &Example, me: MemberId, peer: MemberId, now: Timestamp) -> QueryRequest {
    let basis = match (&example.mandate, &example.consent) {
        (Some(id), None) => Basis::Mandate { id: id.clone() },
        (None, Some(_)) => Basis::Consent(ConsentRef { id: CONSENT }),
        _ => Basis::None,
    };
    QueryRequest {
        iss: peer,
        aud: me,
        iat: now,
        exp: now + 30,
        jti: Bytes(vec![7; 16]),
        sub: SUBJECT,
        epoch: EPOCH,
        ticket: String::new(),
        user: User { id: Bytes(vec![8; 32]), role: example.role.clone() },
        query: example.query.clone(),
        fields: example.fields.clone(),
        expected: BTreeMap::new(),
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

/// Recorded by the asker itself, by another user, naming every field there is.
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
        valid_from: now,
        valid_to: now + 86_400,
        template: reference.clone(),
        evidence: Bytes(vec![10; 32]),
        collected_by: Bytes(vec![11; 32]),
        status: 0,
    })
}
