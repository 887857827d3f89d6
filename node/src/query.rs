//! A peer's query, top to bottom: read, decide, select, minimise, record, answer.
//!
//! ```text
//! attempt:   gather facts → Engine::decide → Permit      any doubt is a denial
//!            records::select(&Permit)      → Records     no Records without a Permit
//!            minimise(&Permit, Records)    → Released    only permitted fields survive
//! describe → log.append(entry).await       → Receipt     permit, denial and failure alike
//! answer(Released, Receipt)                              cannot be built without both
//! ```

use crate::epochs;
use crate::events::{Event, Happened, Replay};
use crate::manifests::Held;
use crate::node::Node;
use crate::records::select;
use crate::release::{Parties, Released, answer as write_answer, minimise};
use crate::status::Status;
use crate::store::{StoreError, Table};
use audit::AppendError;
use policies::{
    ApprovalFact, ConsentFact, Denial, Engine, Facts, Flags, PeerFact, Permit, SubjectFact, TicketFact, Used,
};
use protocol::consent::Grant;
use protocol::encoding::Bytes;
use protocol::jws::{self, JwsError};
use protocol::manifest::KeyUse;
use protocol::query::{AnswerMessage, Basis, QueryRequest};
use protocol::registry::Ticket;
use protocol::time::MAX_SKEW_SECONDS;
use protocol::{FileId, Index, Problem, Reason, Timestamp};
use std::collections::BTreeSet;
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
pub(crate) async fn answer(node: Arc<Node>, peer: PeerIdentity, token: String) -> Result<AnswerMessage, QueryError> {
    let held = node.manifest().map_err(QueryError::Closed)?;
    let now = node.now().map_err(QueryError::Closed)?;
    let request: Result<QueryRequest, JwsError> =
        jws::verify(&token, |kid| held.manifest.key(kid, KeyUse::Message, now));
    let received = Received { node: &node, held: &held, peer: &peer, request: &request, now };
    let attempt = received.attempt().await;
    let digest = jws::digest(&token);
    let receipt = node.log.append(&received.describe(&attempt, &digest)).await?;
    let parties = Parties { holder: &node.config.member, asker: peer.spiffe.member(), request: digest, now };
    let decided = attempt.outcome.map(|(_, released)| released).map_err(|refusal| refusal.reason().told());
    Ok(write_answer(&parties, decided, &receipt, &node.keys.message)?)
}

/// A request with what is needed to judge it.
struct Received<'a> {
    node: &'a Node,
    held: &'a Held,
    peer: &'a PeerIdentity,
    request: &'a Result<QueryRequest, JwsError>,
    now: Timestamp,
}

/// What became of a request, and which resident it meant here.
struct Attempt {
    file: Option<FileId>,
    outcome: Result<(Permit, Released), Refusal>,
}

/// Why nothing is released.
enum Refusal {
    Decision(Denial),
    /// Something needed for the decision or the release could not be read.
    Failure(&'static str),
}

impl Refusal {
    fn reason(&self) -> Reason {
        match self {
            Refusal::Decision(denial) => denial.reason(),
            Refusal::Failure(_) => Reason::NodeClosed,
        }
    }
}

/// What the store knows that bears on a request.
#[derive(Default)]
struct Gathered {
    first_use: bool,
    ticket: Option<Result<Ticket, JwsError>>,
    file: Option<FileId>,
    index: Option<Index>,
    grant: Option<Grant>,
    withdrawn: bool,
    status: Option<Status>,
    used_today: u64,
}

impl Received<'_> {
    async fn attempt(&self) -> Attempt {
        let gathered = match self.request {
            Ok(request) if &request.iss == self.peer.spiffe.member() => match self.gather(request).await {
                Ok(gathered) => gathered,
                Err(what) => return Attempt { file: None, outcome: Err(Refusal::Failure(what)) },
            },
            _ => Gathered::default(),
        };
        let outcome = self.decide(&gathered).map_err(Refusal::Decision).and_then(|permit| {
            let released = self.release(&permit, gathered.file)?;
            Ok((permit, released))
        });
        Attempt { file: gathered.file, outcome }
    }

    async fn gather(&self, request: &QueryRequest) -> Result<Gathered, &'static str> {
        let mut out = Gathered::default();
        let node = self.node;
        let keep_until = request.exp + MAX_SKEW_SECONDS;
        let first = node.guard.first_time(request.iss.as_str(), &request.jti.0, keep_until);
        // The guard may have forgotten what was asked before this start.
        out.first_use = first.map_err(|_| "the replay guard failed")? && request.iat >= node.started;
        if !request.ticket.is_empty() {
            out.ticket =
                Some(jws::verify(&request.ticket, |kid| self.held.manifest.key(kid, KeyUse::Message, self.now)));
        }
        self.look_up(request, &mut out).map_err(|_| "the store failed")?;
        if let Some(grant) = &out.grant {
            out.status = node.status_of(&grant.iss, self.held).await;
        }
        let (asker, holder) = (&request.iss, &node.config.member);
        let agreed =
            Engine::agreement_for(&self.held.manifest, &[], asker, holder, &request.query, &request.purpose, self.now);
        if let Ok(agreement) = agreed {
            let meter = ["agreement", agreement.id.as_str(), asker.as_str()];
            // Counted in one step, whatever is decided then: guessing is metered like asking.
            let spent = node.guard.spend_today(&meter, 1, agreement.queries_per_day, self.now);
            out.used_today = if spent.map_err(|_| "the meters failed")?.is_ok() { 0 } else { u64::MAX };
        }
        Ok(out)
    }

    fn look_up(&self, request: &QueryRequest, out: &mut Gathered) -> Result<(), StoreError> {
        let store = &self.node.store;
        let read = store.read()?;
        out.file = read.file_of_subject(store, request.epoch, &request.sub)?;
        if let Some(file) = out.file {
            out.index = read.names(request.epoch, file)?.map(|names| names.index);
        }
        if let Basis::Consent(consent) = &request.basis {
            let grant: Option<Grant> = read.get(Table::GRANTS, consent.id.as_bytes())?;
            let carry = |grant| epochs::carried(&read, store, grant, (request.epoch, &request.sub), out.file);
            out.grant = grant.map(carry).transpose()?;
            out.withdrawn = read.get::<crate::grants::Heard>(Table::WITHDRAWN, consent.id.as_bytes())?.is_some();
        }
        Ok(())
    }

    fn decide(&self, gathered: &Gathered) -> Result<Permit, Denial> {
        let facts = Facts {
            me: &self.node.config.member,
            manifest: &self.held.manifest,
            manifest_hash: &self.held.hash,
            revoked: &[],
            received: self.now,
            peer: PeerFact {
                member: self.peer.spiffe.member(),
                certificate_sha256: self.peer.cert_sha256,
                active: self.node.trust.check(self.peer).is_ok(),
            },
            request: self.request.as_ref().map_err(|e| *e),
            first_use: gathered.first_use,
            ticket: match &gathered.ticket {
                None => TicketFact::Missing,
                Some(Err(_)) => TicketFact::Invalid,
                Some(Ok(ticket)) => TicketFact::Read(ticket),
            },
            registry_away: self.node.registry_away.load(Ordering::Relaxed),
            // What is not counted here yet is spent.
            used: Used {
                today: gathered.used_today,
                today_by_user: u64::MAX,
                guesses: u32::MAX,
                emergencies_today: u32::MAX,
                review_overdue: true,
            },
            subject: gathered.index.as_ref().map(|index| SubjectFact { index, flags: Flags::default(), refusals: &[] }),
            consent: gathered.grant.as_ref().map(|grant| ConsentFact {
                grant,
                withdrawn: gathered.withdrawn,
                withdrawn_modules: const { &BTreeSet::new() },
                status: gathered.status.as_ref().map(|status| status.fact(grant.status)),
            }),
            approval: ApprovalFact::Awaited,
        };
        self.node.engine.decide(&facts, self.now)
    }

    fn release(&self, permit: &Permit, file: Option<FileId>) -> Result<Released, Refusal> {
        let file = file.ok_or(Refusal::Failure("a permit without a file"))?;
        let read = self.node.store.read().map_err(|_| Refusal::Failure("the store failed"))?;
        let records = select(&read, permit, file).map_err(|_| Refusal::Failure("the store failed"))?;
        let expected = self.request.as_ref().map(|request| &request.expected).ok();
        minimise(permit, &records, &self.node.engine, expected).map_err(|_| Refusal::Failure("no randomness"))
    }

    /// The log entry: one for permit, denial and failure alike.
    fn describe(&self, attempt: &Attempt, digest: &[u8; 32]) -> Event {
        let happened = if attempt.outcome.is_ok() { Happened::QueryAnswered } else { Happened::QueryDenied };
        let mut event = Event::new(happened, self.now);
        event.asker = Some(self.peer.spiffe.member().clone());
        event.holder = Some(self.node.config.member.clone());
        event.file = attempt.file;
        event.request = Some(Bytes(digest.to_vec()));
        event.library = Some(Bytes(self.node.engine.library().digest().to_vec()));
        if let Ok(request) = self.request {
            event.user = Some(request.user.id.clone());
            event.role = Some(request.user.role.clone());
            event.query = Some(request.query.clone());
            event.purpose = Some(request.purpose.clone());
            event.basis = Some(basis_name(&request.basis));
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
                event.fields_returned.clone_from(released.fields());
                event.old_ticket = permit.used_old_ticket();
            }
            Err(refusal) => {
                event.decision = Some("deny");
                event.reason = Some(refusal.reason());
                event.detail = Some(match refusal {
                    Refusal::Decision(denial) => format!("{}: {}", denial.step(), denial.detail()),
                    Refusal::Failure(what) => (*what).to_owned(),
                });
            }
        }
        event
    }
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
