//! A peer's query, top to bottom: read, decide, select, minimise, record, answer.
//!
//! ```text
//! attempt:   gather facts → Engine::decide → Permit      any doubt is a denial
//!            records::select(&Permit)      → Records     no Records without a Permit
//!            minimise(&Permit, Records)    → Released    only permitted fields survive
//! describe → log.append(entry).await       → Receipt     permit, denial and failure alike
//! answer(Released, Receipt)                              cannot be built without both
//! ```
//!
//! Where a person must decide, the question is kept (`approvals.rs`) and the answer is `pending`. Whoever asks it again is
//! decided on again as a whole, with what the person said as one more fact.

use crate::approvals::{self, Waiting};
use crate::emergencies;
use crate::epochs;
use crate::events::{Event, Happened, Replay};
use crate::flags::{self, Notes};
use crate::grants::Heard;
use crate::manifests::Held;
use crate::meters::{compares, mismatches};
use crate::node::Node;
use crate::records::select;
use crate::release::{Answer, Parties, Released, answer as write_answer, minimise};
use crate::status::Status;
use crate::store::{StoreError, Table};
use crate::trace::Trace;
use audit::AppendError;
use policies::{
    ApprovalFact, BasisRef, ConsentFact, Denial, Facts, Flags, PeerFact, Permit, Refusal as Refused, Seen, SubjectFact,
    TicketFact, Used,
};
use protocol::consent::{Grant, TemplateRef};
use protocol::encoding::Bytes;
use protocol::jws::{self, JwsError};
use protocol::query::{AnswerMessage, Basis, QueryRequest};
use protocol::registry::Ticket;
use protocol::time::MAX_SKEW_SECONDS;
use protocol::{ConsentId, FileId, Index, KeyId, Problem, Reason, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use transport::PeerIdentity;

/// No signed answer can be given at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// The node is closed.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// The decision could not be recorded, so nothing may leave.
    #[error("the log cannot be written")]
    Log(#[from] AppendError),
    /// The answer could not be signed.
    #[error(transparent)]
    Jws(#[from] JwsError),
}

impl QueryError {
    /// What the peer is told.
    pub(crate) fn problem(&self) -> Problem {
        let reason = match self {
            QueryError::Closed(reason) => *reason,
            QueryError::Log(_) => Reason::LogUnavailable,
            QueryError::Jws(_) => Reason::NodeClosed,
        };
        Problem::new(503, reason.told().code(), "The node gives no answers at present").retry_after(5)
    }
}

/// Answers the query `token` of the peer whose certificate was checked. Every outcome is recorded before it leaves.
pub(crate) async fn answer(
    node: Arc<Node>,
    peer: PeerIdentity,
    trace: Option<Trace>,
    token: String,
) -> Result<AnswerMessage, QueryError> {
    let arrived_ms = node.clock.now_ms();
    let held = node.manifest().map_err(QueryError::Closed)?;
    let now = node.now().map_err(QueryError::Closed)?;
    let (request, key) = read_signed(&held, &token, now);
    let peer = PeerFact {
        member: peer.spiffe.member(),
        certificate_sha256: peer.cert_sha256,
        active: node.trust.check(&peer).is_ok(),
    };
    let registry_away = node.registry_away.load(Ordering::Relaxed);
    let received = Received { node: &node, held: &held, peer, request: &request, at: now, registry_away, now };
    let digest = jws::digest(&token);
    let attempt = received.attempt(&token, &digest).await;
    let mut event = received.describe(&attempt, key, &digest, arrived_ms);
    event.steps = attempt.seen;
    let (said, refused) = match attempt.outcome {
        Ok((_, released)) => (Answer::Released(released), None),
        Err(Refusal::Pending { until, .. }) => (Answer::Pending(until), None),
        Err(refusal) => (Answer::Denied(refusal.reason().told()), Some(refusal.reason())),
    };
    let written = said.written();
    let response = written.response();
    (event.response, event.bytes) = (Some(response.digest), Some(response.bytes));
    event.trace = trace;
    event.latency_ms = Some(node.since(arrived_ms));
    let receipt = node.log.append(&event).await?;
    if let Some(reason) = refused {
        let counted = node.count_refusal(peer.member, reason, now);
        counted.unwrap_or_else(|error| tracing::error!(%error, "a refusal is not counted"));
    }
    let parties = Parties { holder: &node.config.member, asker: peer.member, request: digest, now };
    Ok(write_answer(&parties, written, &receipt, &node.keys.message)?)
}

/// A request, if one of the members signed it.
pub(crate) fn read(held: &Held, token: &str, now: Timestamp) -> Result<QueryRequest, JwsError> {
    read_signed(held, token, now).0
}

/// [`read`], with the key it says it was signed with.
fn read_signed(held: &Held, token: &str, now: Timestamp) -> (Result<QueryRequest, JwsError>, Option<KeyId>) {
    let mut key = None;
    let request = jws::verify(token, |kid| {
        key = Some(kid.clone());
        held.signer(kid, now)
    });
    (request, key)
}

/// A request with what is needed to judge it.
pub(crate) struct Received<'a> {
    pub(crate) node: &'a Node,
    pub(crate) held: &'a Held,
    pub(crate) peer: PeerFact<'a>,
    pub(crate) request: &'a Result<QueryRequest, JwsError>,
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// Whether the registry was out of reach then.
    pub(crate) registry_away: bool,
    pub(crate) now: Timestamp,
}

/// What became of a request, and which resident it meant here.
struct Attempt {
    file: Option<FileId>,
    /// The question a person was asked.
    approval: Option<[u8; 32]>,
    /// Of the consent cited, if it is known here.
    template: Option<TemplateRef>,
    /// The steps of the decision that were passed.
    seen: Vec<Seen>,
    outcome: Result<(Permit, Released), Refusal>,
}

/// Why nothing is released.
enum Refusal {
    Decision(Denial),
    /// A person decides.
    Pending {
        until: Timestamp,
    },
    /// Something needed for the decision or the release could not be read.
    Failure(&'static str),
}

impl Refusal {
    fn reason(&self) -> Reason {
        match self {
            Refusal::Decision(denial) => denial.reason(),
            Refusal::Pending { .. } => Reason::ApprovalPending,
            Refusal::Failure(_) => Reason::NodeClosed,
        }
    }
}

/// What the store knows that bears on a request.
#[derive(Default)]
pub(crate) struct Gathered {
    first_use: bool,
    ticket: Option<Result<Ticket, JwsError>>,
    pub(crate) file: Option<FileId>,
    index: Option<Index>,
    notes: Notes,
    /// By the birth date on file; asked for consents alone.
    under_age: bool,
    refusals: Vec<Refused>,
    grant: Option<Grant>,
    heard: Heard,
    status: Option<Status>,
    used: Used,
    /// The question a person was asked.
    approval: Option<[u8; 32]>,
    /// The steps that the last decision on it passed.
    seen: Vec<Seen>,
}

impl Received<'_> {
    async fn attempt(&self, token: &str, digest: &[u8; 32]) -> Attempt {
        let request = match self.request {
            Ok(request) if &request.iss == self.peer.member => request,
            _ => {
                let mut nothing = Gathered::default();
                let denied = self.decide(&mut nothing, ApprovalFact::Awaited).err();
                let outcome = Err(denied.map_or(Refusal::Failure("a permit without a request"), Refusal::Decision));
                return Attempt { file: None, approval: None, template: None, seen: nothing.seen, outcome };
            }
        };
        match self.arrived(request).await {
            Ok(mut gathered) => {
                let outcome = self.settle(request, &mut gathered, token, digest);
                let Gathered { file, approval, grant, seen, .. } = gathered;
                Attempt { file, approval, template: grant.map(|grant| grant.template), seen, outcome }
            }
            Err(what) => {
                let outcome = Err(Refusal::Failure(what));
                Attempt { file: None, approval: None, template: None, seen: Vec::new(), outcome }
            }
        }
    }

    /// What is known about a request that just came, which is counted.
    async fn arrived(&self, request: &QueryRequest) -> Result<Gathered, &'static str> {
        let node = self.node;
        let keep_until = request.exp + MAX_SKEW_SECONDS;
        let first = node.guard.first_time(request.iss.as_str(), &request.jti.0, keep_until);
        // The guard may have forgotten what was asked before this start.
        let first_use = first.map_err(|_| "the replay guard failed")? && request.iat >= node.started;
        let gathered = self.gather(request).await?;
        let used = node.count(&self.held.manifest, request, gathered.file, self.now);
        Ok(Gathered { first_use, used: used.map_err(|_| "the meters failed")?, ..gathered })
    }

    /// What is known about a request as of now; of one that was counted when it came.
    pub(crate) async fn gather(&self, request: &QueryRequest) -> Result<Gathered, &'static str> {
        let mut out = Gathered { first_use: true, ..Gathered::default() };
        if !request.ticket.is_empty() {
            out.ticket = Some(jws::verify(&request.ticket, |kid| self.held.signer(kid, self.now)));
        }
        self.look_up(request, &mut out).map_err(|_| "the store failed")?;
        if let Some(grant) = &mut out.grant {
            // What was given for an institution serves who alone follows it.
            if self.held.manifest.heir(&grant.recipient, self.now) == Some(&request.iss) {
                grant.recipient = request.iss.clone();
            }
            out.status = self.node.status_of(&grant.iss, self.held).await;
        }
        Ok(out)
    }

    fn look_up(&self, request: &QueryRequest, out: &mut Gathered) -> Result<(), StoreError> {
        let store = &self.node.store;
        let read = store.read()?;
        out.file = read.file_of_subject(store, request.epoch, &request.sub)?;
        if let Some(file) = out.file {
            let names = read.names(request.epoch, file)?.unwrap_or_default();
            out.index = names.called(&request.sub).map(|name| name.index);
            out.notes = flags::of(&read, file)?;
            out.refusals = out.notes.refusals();
        }
        if let Basis::Consent(consent) = &request.basis {
            let grant: Option<Grant> = read.get(Table::GRANTS, consent.id.as_bytes())?;
            let carry = |grant| epochs::carried(&read, store, grant, (request.epoch, &request.sub), out.file);
            out.grant = grant.map(carry).transpose()?;
            out.heard = read.get(Table::WITHDRAWN, consent.id.as_bytes())?.unwrap_or_default();
            out.under_age =
                out.file.map(|file| flags::under_age(&read, file, self.now)).transpose()?.unwrap_or_default();
        }
        Ok(())
    }

    /// Decides on what was `gathered`, which keeps the steps passed.
    pub(crate) fn decide(&self, gathered: &mut Gathered, approval: ApprovalFact<'_>) -> Result<Permit, Denial> {
        let revoked = self.node.revoked.get();
        let facts = Facts {
            me: &self.node.config.member,
            manifest: &self.held.manifest,
            manifest_hash: &self.held.hash,
            revoked: &revoked,
            received: self.at,
            peer: self.peer,
            request: self.request.as_ref().map_err(|e| *e),
            first_use: gathered.first_use,
            ticket: match &gathered.ticket {
                None => TicketFact::Missing,
                Some(Err(_)) => TicketFact::Invalid,
                Some(Ok(ticket)) => TicketFact::Read(ticket),
            },
            registry_away: self.registry_away,
            used: gathered.used,
            subject: gathered.index.as_ref().map(|index| SubjectFact {
                index,
                flags: Flags { minor: gathered.notes.flags().minor || gathered.under_age, ..gathered.notes.flags() },
                refusals: &gathered.refusals,
            }),
            consent: gathered.grant.as_ref().map(|grant| ConsentFact {
                grant,
                withdrawn: gathered.heard.whole,
                withdrawn_modules: &gathered.heard.modules,
                status: gathered.status.as_ref().map(|status| status.fact(grant.status)),
            }),
            approval,
        };
        let (outcome, seen) = self.node.engine.decide_watched(&facts, self.now);
        gathered.seen = seen;
        outcome
    }

    fn settle(
        &self,
        request: &QueryRequest,
        gathered: &mut Gathered,
        token: &str,
        digest: &[u8; 32],
    ) -> Result<(Permit, Released), Refusal> {
        let permit = match self.decide(gathered, ApprovalFact::Awaited) {
            Err(denial) if denial.proposal().is_some() => {
                self.by_a_person(request, gathered, &denial, token, digest)?
            }
            decided => decided.map_err(Refusal::Decision)?,
        };
        let file = gathered.file.ok_or(Refusal::Failure("a permit without a file"))?;
        if compares(&permit) {
            let recorded = self.node.record_guesses(&permit, &request.iss, file, self.now);
            if !recorded.map_err(|_| Refusal::Failure("the meters failed"))? {
                // Another request took the last one meanwhile.
                gathered.used.guesses = u32::MAX;
                let denied = self.decide(gathered, ApprovalFact::Awaited).err();
                return Err(denied.map_or(Refusal::Failure("the meters failed"), Refusal::Decision));
            }
        }
        if matches!(permit.basis(), BasisRef::Emergency { .. }) {
            let noted = emergencies::answered(self.node, request, file, &permit);
            noted.map_err(|_| Refusal::Failure("the store failed"))?;
        }
        let released = self.release(&permit, file)?;
        let counted = self.node.count_matches(request, released.matches(), self.now);
        counted.map_err(|_| Refusal::Failure("the meters failed"))?;
        Ok((permit, released))
    }

    /// What a person said to the question; keeps it for one if nobody has.
    fn by_a_person(
        &self,
        request: &QueryRequest,
        gathered: &mut Gathered,
        pending: &Denial,
        token: &str,
        digest: &[u8; 32],
    ) -> Result<Permit, Refusal> {
        let question = request.question().map_err(|_| Refusal::Failure("the question cannot be written"))?;
        let failed = |_| Refusal::Failure("the store failed");
        let (Some(proposal), Some(file)) = (pending.proposal(), gathered.file) else {
            return Err(Refusal::Failure("nothing to approve"));
        };
        let fresh = Waiting::new(self, request, proposal, file, token);
        gathered.approval = Some(question);
        let kept = approvals::find_or_keep(self.node, &question, fresh, digest, self.now).map_err(failed)?;
        match kept.fact(&question) {
            ApprovalFact::Awaited => Err(Refusal::Pending { until: kept.until() }),
            fact => self.decide(gathered, fact).map_err(Refusal::Decision),
        }
    }

    fn release(&self, permit: &Permit, file: FileId) -> Result<Released, Refusal> {
        let read = self.node.store.read().map_err(|_| Refusal::Failure("the store failed"))?;
        let records = select(&read, permit, file).map_err(|_| Refusal::Failure("the store failed"))?;
        let expected = self.request.as_ref().map(|request| &request.expected).ok();
        minimise(permit, &records, &self.node.engine, expected).map_err(|_| Refusal::Failure("no randomness"))
    }

    /// The log entry: one for permit, denial and failure alike.
    fn describe(&self, attempt: &Attempt, key: Option<KeyId>, digest: &[u8; 32], arrived_ms: i64) -> Event {
        let happened = match &attempt.outcome {
            Ok(_) => Happened::QueryAnswered,
            Err(Refusal::Pending { .. }) => Happened::ApprovalWaiting,
            Err(Refusal::Decision(denial)) if denial.reason() == Reason::SubjectUnknown => Happened::QueryNoMatch,
            Err(_) => Happened::QueryDenied,
        };
        let mut event = Event::at(happened, arrived_ms);
        event.asker = Some(self.peer.member.clone());
        event.holder = Some(self.node.config.member.clone());
        event.clock = Some(self.node.clock_status());
        event.file = attempt.file;
        event.request = Some(Bytes(digest.to_vec()));
        event.certificate = Some(Bytes(self.peer.certificate_sha256.to_vec()));
        event.approval = attempt.approval.map(|question| Bytes(question.to_vec()));
        event.template = attempt.template.as_ref().map(|template| format!("{}@{}", template.id, template.version));
        event.policies.clone_from(&self.node.policies);
        event.library = Some(Bytes(self.node.engine.library().digest().to_vec()));
        if let Ok(request) = self.request {
            // Of a key that did not verify nothing is known.
            event.key = key;
            event.consent = consent_of(&request.basis);
            event.user = Some(request.user.id.clone());
            event.role = Some(request.user.role.clone());
            event.auth.clone_from(&request.user.auth);
            event.system.clone_from(&request.user.system);
            event.query = Some(request.query.clone());
            event.purpose = Some(request.purpose.clone());
            event.basis = Some(basis_name(&request.basis));
            if let Basis::Emergency(claim) = &request.basis {
                event.emergency = Some(Bytes(claim.id(&request.iss).to_vec()));
            }
            event.case.clone_from(&request.case);
            event.fields_requested.clone_from(&request.fields);
            event.replay = Some(Replay { jti: request.jti.clone(), until: request.exp + MAX_SKEW_SECONDS });
            event.peer_log = Some(request.log.clone());
            event.epoch = Some(request.epoch);
        }
        match &attempt.outcome {
            Ok((permit, released)) => {
                event.decision = Some("permit");
                event.agreement = Some(permit.agreement().to_string());
                event.basis = Some(permit.basis().to_string());
                // One of the library's own words, or there were no permit.
                if let Ok(QueryRequest { basis: Basis::Emergency(claim), .. }) = self.request {
                    event.detail = Some(claim.reason.clone());
                }
                event.fields_returned.clone_from(released.fields());
                event.obligations = Some(released.obligations().into());
                event.counts = [("records", released.records())].into();
                if compares(permit) {
                    event.counts.insert("mismatches", mismatches(released.matches()));
                }
                event.as_of = released.as_of();
                event.old_ticket = permit.used_old_ticket();
            }
            Err(Refusal::Pending { .. }) => {
                event.reason = Some(Reason::ApprovalPending.code());
                event.detail = Some("mode: a person here must decide".to_owned());
            }
            Err(Refusal::Decision(denial)) => {
                event.decision = Some("deny");
                event.reason = Some(denial.reason().code());
                event.detail = Some(format!("{}: {}", denial.step(), denial.detail()));
            }
            Err(Refusal::Failure(what)) => {
                event.decision = Some("deny");
                event.reason = Some(Reason::NodeClosed.code());
                event.detail = Some((*what).to_owned());
            }
        }
        event
    }
}

/// The consent a basis cites.
pub(crate) fn consent_of(basis: &Basis) -> Option<ConsentId> {
    if let Basis::Consent(consent) = basis { Some(consent.id) } else { None }
}

/// A basis as a log names it.
pub(crate) fn basis_name(basis: &Basis) -> String {
    match basis {
        Basis::None => "none".to_owned(),
        Basis::Consent(consent) => format!("consent:{}", consent.id),
        Basis::Mandate { id } => format!("mandate:{id}"),
        Basis::Emergency(claim) => format!("emergency:{}", claim.reason),
    }
}
