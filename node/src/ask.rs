//! Asking peers on behalf of a caseworker: record "about to ask", locate, fan out, record the outcome, merge.
//!
//! Each holder has its own outcome; what one answers does not wait for another's failure beyond the deadline.

mod shapes;

pub use shapes::*;

use crate::consents::{self, Spent};
use crate::desk;
use crate::emergencies;
use crate::events::{Duties, Event, Happened, OutcomeLine, position};
use crate::faults::{Expected, Fault};
use crate::guard::GuardError;
use crate::locate::RegistryError;
use crate::manifests::Held;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::query::{basis_name, consent_of};
use crate::release::Response;
use crate::residents::{Client, Place, ResidentError, Whereabouts, client, find, pseudonyms, subject_at, whereabouts};
use crate::staff::Hand;
use crate::store::StoreError;
use crate::tokens::Caller;
use crate::trace::{TRACEPARENT, Trace};
use audit::AppendError;
use bytes::Bytes;
use futures_util::future::join_all;
use keyring::random;
use policies::{Asked as Question, Denial, Engine, Step, Tier};
use protocol::encoding::{Bytes as B64, b64};
use protocol::jws::{self, JwsError};
use protocol::manifest::Member;
use protocol::query::{
    AnswerMessage, AnswerOutcome, Basis, Confirmation, LogPosition, MAX_LIFE_SECONDS, QueryAnswer, QueryRequest, User,
};
use protocol::saying::{Language, Message, Saying, pick};
use protocol::{ConsentId, FieldId, FileId, Index, MemberId, Problem, Purpose, QueryType, Reason, Role, Timestamp};
use pseudonym::Output;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use transport::CallError;

/// Why a question as a whole was not put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    #[error(transparent)]
    Resident(#[from] ResidentError),
    #[error("1 to 32 questions may be asked at once")]
    NoAsks,
    #[error("a reason is required")]
    NoReason,
    #[error("the purpose is not one of the catalogue")]
    Purpose,
    #[error("refused: {}", .0.code())]
    Refused(Reason),
    #[error(transparent)]
    Log(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Jws(#[from] JwsError),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl AskError {
    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            AskError::Closed(reason) => Problem::because(503, *reason).retry_after(5),
            AskError::Resident(error) => error.problem(),
            AskError::NoAsks => Fault::AsksCount.problem().field("asks"),
            AskError::NoReason => Fault::ReasonMissing.problem().field("reason"),
            AskError::Purpose => Expected::new("a purpose of the catalogue", "cel z katalogu").problem("purpose"),
            AskError::Refused(reason) => Problem::because(403, *reason).field("basis"),
            AskError::Log(_) => Problem::because(503, Reason::LogUnavailable),
            AskError::Store(_) | AskError::Guard(_) => Fault::StoreFailed.problem(),
            AskError::Jws(_) | AskError::System(_) => Fault::Internal.problem(),
        }
    }
}

const MAX_ASKS: usize = 32;

/// What was said, and which questions wait for a person at their holder.
pub(crate) struct Asked {
    pub(crate) result: QueryResult,
    pub(crate) pending: Vec<PendingAsk>,
}

/// A question that waits for a person at its holder.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PendingAsk {
    /// Its outcome's place in the result.
    pub(crate) place: usize,
    pub(crate) ask: Ask,
    pub(crate) request: [u8; 32],
    pub(crate) until: Timestamp,
}

/// The outcome of a question that no one decided in time.
pub(crate) fn lapsed(ask: &Ask) -> Outcome {
    Told::refused(ask, Reason::ApprovalExpired).outcome
}

/// Whether a question was put before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is new, and judged by the limits of its user's role.
    First,
    /// It waited at its holder, and was judged then.
    Again,
}

/// Puts a caseworker's questions and gives every holder's outcome.
pub(crate) async fn ask(
    node: &Arc<Node>,
    caller: &Caller,
    body: &QueryBody,
    id: String,
    put: Put,
    trace: Trace,
) -> Result<Asked, AskError> {
    if body.asks.is_empty() || body.asks.len() > MAX_ASKS {
        return Err(AskError::NoAsks);
    }
    if body.reason.trim().is_empty() {
        return Err(AskError::NoReason);
    }
    if !node.engine.library().catalogue().purposes.contains_key(&body.purpose) {
        return Err(AskError::Purpose);
    }
    let held = node.manifest().map_err(AskError::Closed)?;
    let now = node.now().map_err(AskError::Closed)?;
    let file = find(node, &body.resident)?;
    let basis = body.basis.claim(node, caller, file, now).map_err(AskError::Refused)?;
    let begun_ms = node.clock.now_ms();
    let case = node.macs.case_id(body.case_ref.as_deref());

    let mut event = Event::at(Happened::QueryAsking, begun_ms).by(node, caller);
    event.clock = Some(node.clock_status());
    event.trace = Some(trace.clone());
    event.file = file;
    event.asker = Some(node.config.member.clone());
    let mut roles: Vec<_> = body.asks.iter().map(|ask| role_for(node, &held, caller, &ask.query)).collect();
    event.role = roles.iter().find_map(|role| role.ok()).or(caller.roles.first()).cloned();
    event.library = Some(B64(node.engine.library().digest().to_vec()));
    event.policies.clone_from(&node.policies);
    event.search_key = Some(body.resident.search_key());
    event.purpose = Some(body.purpose.clone());
    event.basis = Some(cited(node, &basis));
    event.consent = consent_of(&basis);
    if let Basis::Emergency(claim) = &basis {
        event.emergency = Some(B64(claim.id(&node.config.member).to_vec()));
    }
    event.reason_text = Some(body.reason.clone());
    event.case.clone_from(&case);
    event.outcomes = body.asks.iter().map(|ask| ask.line("asking")).collect();
    event.fields_requested = body.asks.iter().flat_map(|ask| ask.fields_asked(node)).collect();
    let receipt = node.log.append(&event).await?;

    let known = file.map(|file| client(node, &held, file, now)).transpose()?.flatten();
    let mut newer = None;
    if known.is_some() {
        judge(node, &held, body, (&basis, case.as_ref()), &mut roles, now);
        if let (Basis::Consent(consent), Some(file)) = (&basis, file)
            && let Some(Spent { reason, by }) = consents::spent(node, consent.id, file, &desk::user(node, caller), now)?
        {
            newer = by;
            roles.iter_mut().filter(|role| role.is_ok()).for_each(|role| *role = Err(reason));
        }
    }
    let limited = match &basis {
        // Danger waits for nothing.
        Basis::Emergency(_) => false,
        _ => put == Put::First && limit(node, &b64(&desk::user(node, caller).0), &mut roles, now)?,
    };
    let asking = Asking { node, held: &held, caller, body, basis, newer, case, log: position(&receipt), trace, now };
    let mut told = asking.everyone(known.as_ref(), roles).await;
    if let Basis::Emergency(claim) = &asking.basis {
        for told in &mut told {
            told.outcome.duty_desks = emergencies::duty_desks(node, &held, &claim.reason, told.outcome.holder.as_ref());
        }
    }

    let mut done = event;
    done.event = Happened::QueryOutcome;
    (done.time, done.ms) = Timestamp::of_ms(node.clock.now_ms());
    done.outcomes = told.iter().map(Told::line).collect();
    (done.decision, done.reason) = together(&told);
    done.detail = if limited {
        Some(format!("{}: the institution's own limit of the role", Step::Quota))
    } else {
        let faults: Vec<&str> = told.iter().filter_map(|told| told.fault.as_deref()).collect();
        (!faults.is_empty()).then(|| faults.join(", "))
    };
    done.latency_ms = Some(node.since(begun_ms));
    done.fields_returned = told.iter().flat_map(|t| t.outcome.fields.keys().cloned()).collect();
    let _recorded = node.log.append(&done).await?;
    let answered = told.iter().filter(|told| told.outcome.outcome == OutcomeKind::Answered);
    let seen = answered.filter_map(|told| {
        let Outcome { holder, fields, matches, .. } = &told.outcome;
        Some((holder.clone()?, fields.keys().chain(matches.keys()).cloned().collect()))
    });
    emergencies::used(node, &asking.basis, seen)?;
    let pending = told.iter().enumerate().filter_map(|(place, told)| told.pending(place)).collect();
    Ok(Asked { result: QueryResult { id, outcomes: told.into_iter().map(|t| t.outcome).collect() }, pending })
}

impl BasisBody {
    fn claim(&self, node: &Node, caller: &Caller, file: Option<FileId>, now: Timestamp) -> Result<Basis, Reason> {
        Ok(match self {
            BasisBody::None => Basis::None,
            BasisBody::Consent { id } => Basis::Consent(protocol::consent::ConsentRef { id: *id }),
            BasisBody::Mandate { id } => Basis::Mandate { id: id.clone() },
            BasisBody::Emergency { id } => emergencies::claim(node, caller, id, file, now)?,
        })
    }
}

/// A basis as a log names it, with the version a mandate has here.
fn cited(node: &Node, basis: &Basis) -> String {
    let mandates = &node.engine.library().catalogue().mandates;
    match basis {
        Basis::Mandate { id } => {
            mandates.get(id).map_or_else(|| basis_name(basis), |mandate| format!("mandate:{id}@{}", mandate.version))
        }
        _ => basis_name(basis),
    }
}

/// A role of the caller's in which a question may be asked.
fn role_for<'a>(node: &Node, held: &Held, caller: &'a Caller, query: &QueryType) -> Result<&'a Role, Reason> {
    let kind = held.manifest.member(&node.config.member).map(|m| &m.kind).ok_or(Reason::NodeClosed)?;
    let mut refusal = Reason::RoleNotAllowed;
    for role in &caller.roles {
        match node.engine.askable(query, kind, role) {
            Ok(_) => return Ok(role),
            Err(reason) => refusal = reason,
        }
    }
    Err(refusal)
}

/// Judges each question that has a role by what depends on no resident, as its holders would.
fn judge(
    node: &Node,
    held: &Held,
    body: &QueryBody,
    on: (&Basis, Option<&B64>),
    roles: &mut [Result<&Role, Reason>],
    now: Timestamp,
) {
    for (ask, role) in body.asks.iter().zip(roles) {
        let Ok(known) = *role else { continue };
        if let Err(reason) = ask.answerable(node, held, &body.purpose, on, known, now) {
            *role = Err(reason);
        }
    }
}

/// Judges each question that has a role by the institution's own limits; whether one of them may not be put.
fn limit(node: &Node, user: &str, roles: &mut [Result<&Role, Reason>], now: Timestamp) -> Result<bool, GuardError> {
    let mut limited = false;
    for role in roles {
        let Ok(known) = *role else { continue };
        if let Some(reason) = node.limit(user, known, now)? {
            *role = Err(reason);
            limited = true;
        }
    }
    Ok(limited)
}

/// What came of all questions together: a permit, where something was answered and nothing refused; a denial, where it is
/// the other way round; else mixed, and each outcome says what it was. With the first reason, unless it is a permit.
fn together(told: &[Told]) -> (Option<&'static str>, Option<&'static str>) {
    let first = |kind: OutcomeKind| told.iter().find(|told| told.outcome.outcome == kind);
    let (answered, denied) = (first(OutcomeKind::Answered), first(OutcomeKind::Denied));
    let reason = |told: Option<&Told>| told.and_then(|told| told.code);
    match (answered, denied) {
        (Some(_), None) => (Some("permit"), None),
        (Some(_), Some(_)) => (Some("mixed"), reason(denied)),
        (None, Some(_)) => (Some("deny"), reason(denied)),
        (None, None) => (None, reason(told.first())),
    }
}

impl Ask {
    /// The fields it is about: those named, or all of the query type.
    fn fields_asked(&self, node: &Node) -> BTreeSet<FieldId> {
        if !self.expected.is_empty() && self.fields.is_empty() {
            self.expected.keys().cloned().collect()
        } else if self.fields.is_empty() {
            node.engine.query(&self.query).map(|query| query.fields.clone()).unwrap_or_default()
        } else {
            self.fields.clone()
        }
    }

    /// Whether one of the holders that may be meant could answer, as far as that depends on no resident.
    fn answerable(
        &self,
        node: &Node,
        held: &Held,
        purpose: &Purpose,
        (basis, case): (&Basis, Option<&B64>),
        role: &Role,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let asker = held.manifest.member(&node.config.member).ok_or(Reason::NodeClosed)?;
        let kinds = node.engine.query(&self.query).map(|query| &query.holder_kinds);
        let meant = |member: &&Member| match &self.holder {
            Some(named) => named == &member.id,
            None => kinds.is_some_and(|kinds| kinds.contains(&member.kind)),
        };
        let (revoked, fields) = (node.revoked.get(), self.fields_asked(node));
        let mut refusal: Option<Denial> = None;
        for holder in held.manifest.others(&asker.id).filter(meant) {
            let (query, fields, expected) = (&self.query, &fields, &self.expected);
            let asked = Question { asker, holder, role, query, fields, expected, purpose, basis, case };
            match node.engine.answerable(&asked, &held.manifest, &revoked, now) {
                Ok(()) => return Ok(()),
                // Who came nearest to an answer says most.
                Err(denial) if refusal.as_ref().is_none_or(|before| before.step() < denial.step()) => {
                    refusal = Some(denial);
                }
                Err(_) => {}
            }
        }
        // Nobody is meant whom we know: that is said where holders are looked for.
        let Some(denial) = refusal else { return Ok(()) };
        Err(match denial.reason() {
            // Its reason was one of the library's when it was opened: it serves other questions.
            Reason::EmergencyReason => Reason::BasisNotAllowed,
            reason => reason,
        })
    }

    fn line(&self, outcome: &'static str) -> OutcomeLine {
        OutcomeLine {
            agreement: None,
            bytes: None,
            obligations: None,
            response: None,
            holder: self.holder.clone(),
            query: self.query.clone(),
            outcome,
            reason: None,
            fields: BTreeSet::new(),
            request: None,
            peer_log: None,
        }
    }
}

/// An outcome with what the log also wants to know.
struct Told {
    outcome: Outcome,
    /// Code of the refusal or failure.
    code: Option<&'static str>,
    /// What stood in the way of an answer, for the log.
    fault: Option<String>,
    agreement: Option<String>,
    obligations: Option<Duties>,
    request: Option<[u8; 32]>,
    response: Option<Response>,
    peer_log: Option<LogPosition>,
    ask: Option<Ask>,
}

impl Told {
    fn new(query: &QueryType, holder: Option<&MemberId>, kind: OutcomeKind) -> Self {
        let outcome = Outcome {
            query: query.clone(),
            holder: holder.cloned(),
            outcome: kind,
            reason: None,
            next_step: None,
            message: None,
            until: None,
            present: None,
            fields: BTreeMap::new(),
            matches: BTreeMap::new(),
            obligations: None,
            duty_desks: BTreeMap::new(),
        };
        Told {
            outcome,
            code: None,
            fault: None,
            agreement: None,
            obligations: None,
            request: None,
            response: None,
            peer_log: None,
            ask: None,
        }
    }

    fn refused(ask: &Ask, reason: Reason) -> Self {
        Told::new(&ask.query, ask.holder.as_ref(), OutcomeKind::Denied).because(reason)
    }

    fn because(self, reason: Reason) -> Self {
        self.coded(reason.code(), |language| reason.saying(language))
    }

    /// What a holder told of a refusal.
    fn told(self, told: protocol::Told) -> Self {
        self.coded(told.code(), |language| told.saying(language))
    }

    fn coded(mut self, code: &'static str, saying: impl Fn(Language) -> Saying) -> Self {
        self.code = Some(code);
        self.outcome.reason = Some(code.to_owned());
        self.in_words(saying)
    }

    fn in_words(mut self, saying: impl Fn(Language) -> Saying) -> Self {
        self.outcome.next_step = Some(saying(Language::En).next.to_owned());
        self.outcome.message = Some(Message::of(saying));
        self
    }

    /// The question, if it waits for a person; to be put again to this holder.
    fn pending(&self, place: usize) -> Option<PendingAsk> {
        let until = Timestamp(self.outcome.until?);
        let ask = Ask { holder: self.outcome.holder.clone(), ..self.ask.clone()? };
        Some(PendingAsk { place, ask, request: self.request?, until })
    }

    /// Nothing came of asking `holder`; `fault` says more to the operator.
    fn unavailable(query: &QueryType, holder: &MemberId, reason: Reason, fault: Option<&str>) -> Self {
        let told = Told::new(query, Some(holder), OutcomeKind::Unavailable).because(reason);
        // A code may be a peer's own: nothing but a code is written down.
        let code = |fault: &&str| fault.len() <= 40 && fault.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let fault = fault.map(|fault| Some(fault).filter(code).unwrap_or("unreadable"));
        Told { fault: fault.map(|fault| format!("{holder}: {fault}")), ..told }
    }

    /// In words that say more of this case.
    fn saying(self, words: [&'static str; 4]) -> Self {
        self.in_words(|language| pick(words, language))
    }

    /// With a sentence more.
    fn adding(mut self, pl: &str, en: &str) -> Self {
        if let Some(message) = &mut self.outcome.message {
            *message = Message { pl: format!("{} {pl}", message.pl), en: format!("{} {en}", message.en) };
        }
        self.outcome.next_step = Some(en.to_owned());
        self
    }

    fn line(&self) -> OutcomeLine {
        OutcomeLine {
            agreement: self.agreement.clone(),
            obligations: self.obligations.clone(),
            bytes: self.response.as_ref().map(|response| response.bytes),
            response: self.response.as_ref().map(|response| response.digest.clone()),
            holder: self.outcome.holder.clone(),
            query: self.outcome.query.clone(),
            outcome: self.outcome.outcome.as_str(),
            reason: self.outcome.reason.clone(),
            fields: self.outcome.fields.keys().cloned().collect(),
            request: self.request.map(|digest| B64(digest.to_vec())),
            peer_log: self.peer_log.clone(),
        }
    }
}

/// A client's pseudonyms, and who knows the client by which.
type Known = (Vec<(Index, Output)>, Whereabouts);

/// A request that is being put.
struct Asking<'a> {
    node: &'a Arc<Node>,
    held: &'a Held,
    caller: &'a Caller,
    body: &'a QueryBody,
    basis: Basis,
    /// What took the place of the consent cited.
    newer: Option<ConsentId>,
    case: Option<B64>,
    log: LogPosition,
    trace: Trace,
    now: Timestamp,
}

impl Asking<'_> {
    /// Puts every question that has a role to everyone concerned.
    async fn everyone(&self, client: Option<&Client>, roles: Vec<Result<&Role, Reason>>) -> Vec<Told> {
        let known = match client {
            // While nothing may be asked, nobody hears that somebody wanted to.
            Some(client) if roles.iter().any(Result::is_ok) => self.known(client).await,
            _ => Err((OutcomeKind::Denied, Reason::NotServed)),
        };
        let asks = self.body.asks.iter().zip(roles);
        let put = asks.map(|(ask, role)| self.one(ask, role, known.as_ref()));
        join_all(put).await.into_iter().flatten().collect()
    }

    /// The client's pseudonyms, and who knows the client; or what is to be said of every question.
    async fn known(&self, client: &Client) -> Result<Known, (OutcomeKind, Reason)> {
        let pseudonyms = match pseudonyms(self.node, self.held, client).await {
            Ok(pseudonyms) => pseudonyms,
            Err(error) => {
                tracing::warn!(%error, "no pseudonym for a query");
                let quota = matches!(error, PseudonymError::Quota { .. });
                let reason = if quota { Reason::QuotaExceeded } else { Reason::KeyHoldersUnavailable };
                return Err((OutcomeKind::Unavailable, reason));
            }
        };
        let found = match whereabouts(self.node, self.held, client, &self.body.purpose).await {
            Ok(found) => found,
            Err(RegistryError::Refused(problem)) => {
                tracing::warn!(code = problem.code, "the registry refuses to locate");
                return Err((OutcomeKind::Unavailable, Reason::RegistryUnavailable));
            }
            Err(error) => {
                tracing::warn!(%error, "the registry cannot be asked");
                return Err((OutcomeKind::Unavailable, Reason::RegistryUnavailable));
            }
        };
        if !found.is_served() {
            return Err((OutcomeKind::Denied, Reason::NotServed));
        }
        Ok((pseudonyms, found))
    }

    /// Puts one question to its holders.
    async fn one(
        &self,
        ask: &Ask,
        role: Result<&Role, Reason>,
        known: Result<&Known, &(OutcomeKind, Reason)>,
    ) -> Vec<Told> {
        let (role, known) = match (role, known) {
            (Ok(role), Ok(known)) => (role, known),
            (Err(reason), _) => return vec![self.refused(ask, reason)],
            (_, Err((kind, reason))) => {
                return vec![Told::new(&ask.query, ask.holder.as_ref(), *kind).because(*reason)];
            }
        };
        let holders = self.holders(ask, &known.1);
        if holders.is_empty() {
            return vec![Told::refused(ask, Reason::NoHolder)];
        }
        join_all(holders.into_iter().map(|(holder, place)| self.put(ask, (holder, place), role, known))).await
    }

    /// A refusal before anything left, in words about this question.
    fn refused(&self, ask: &Ask, reason: Reason) -> Told {
        let told = Told::refused(ask, reason);
        match (reason, &self.basis) {
            (Reason::RequestMalformed, _) if self.compares(ask) => told.saying([
                "The values to compare are missing, or are not those of the fields asked.",
                "Give the expected value of each field.",
                "Brak wartości do porównania albo nie odpowiadają wskazanym polom.",
                "Podaj oczekiwaną wartość każdego pola.",
            ]),
            (Reason::RequestMalformed, _) => told.saying([
                "This query compares nothing: it takes no expected values.",
                "Leave them out, or choose a query that compares.",
                "To pytanie niczego nie porównuje i nie przyjmuje oczekiwanych wartości.",
                "Pomiń je albo wybierz pytanie, które porównuje.",
            ]),
            (Reason::BasisNotAllowed, Basis::Emergency(claim)) => match self.in_danger(&claim.reason) {
                Some((queries, purposes)) => told.adding(
                    &format!("W stanie nagłym można zadać: {queries}; w celu: {purposes}."),
                    &format!("In an emergency you may ask: {queries}; for: {purposes}."),
                ),
                None => told,
            },
            (Reason::ConsentSuperseded, _) => match self.newer {
                Some(newer) => told.adding(&format!("Nowsza to {newer}."), &format!("The newer one is {newer}.")),
                None => told,
            },
            _ => told,
        }
    }

    fn compares(&self, ask: &Ask) -> bool {
        self.node.engine.query(&ask.query).is_some_and(|query| query.tier == Tier::Verify)
    }

    /// What we may ask in an emergency of this reason, and for what.
    fn in_danger(&self, reason: &str) -> Option<(String, String)> {
        let catalogue = self.node.engine.library().catalogue();
        let (_, emergency) = catalogue.emergency_for(reason)?;
        let kind = &self.held.manifest.member(&self.node.config.member)?.kind;
        let queries: Vec<&str> = catalogue.in_danger(emergency, kind).map(QueryType::as_str).collect();
        let purposes: Vec<&str> = emergency.purposes.iter().map(Purpose::as_str).collect();
        Some((queries.join(", "), purposes.join(", ")))
    }

    /// Those located who may answer this question under an agreement; a holder named is asked even without one, so that
    /// the refusal is its own.
    fn holders<'f>(&self, ask: &Ask, found: &'f Whereabouts) -> Vec<(&'f MemberId, &'f Place)> {
        let kinds = self.node.engine.query(&ask.query).map(|query| &query.holder_kinds);
        let may = |holder: &MemberId| {
            if let Some(named) = &ask.holder {
                named == holder
            } else {
                let of_kind =
                    self.held.manifest.member(holder).is_some_and(|m| kinds.is_some_and(|k| k.contains(&m.kind)));
                of_kind && self.agreement(ask, holder).is_some()
            }
        };
        found.holders().into_iter().filter(|(holder, _)| may(holder)).collect()
    }

    /// The agreement under which `holder` may answer, id@version.
    fn agreement(&self, ask: &Ask, holder: &MemberId) -> Option<String> {
        let (manifest, revoked) = (&self.held.manifest, self.node.revoked.get());
        let (me, purpose) = (&self.node.config.member, &self.body.purpose);
        let terms = Engine::agreement_for(manifest, &revoked, me, holder, &ask.query, purpose, self.now).ok()?;
        Some(format!("{}@{}", terms.id, terms.version))
    }

    async fn put(&self, ask: &Ask, (holder, place): (&MemberId, &Place), role: &Role, known: &Known) -> Told {
        let request = match self.request(ask, (holder, place), role, known) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(%error, "a request could not be written");
                return Told::unavailable(&ask.query, holder, Reason::PeerUnavailable, Some("internal"));
            }
        };
        let digest = jws::digest(&request);
        let mut told = match self.call(holder, request).await {
            Ok(message) => self.read(ask, holder, &message, &digest),
            // Its own word, given before it read the question.
            Err(CallError::Problem(problem)) if problem.code == protocol::Told::Closed.code() => {
                Told::new(&ask.query, Some(holder), OutcomeKind::Unavailable).told(protocol::Told::Closed)
            }
            Err(error) => {
                tracing::warn!(%error, "a holder could not be asked");
                Told::unavailable(&ask.query, holder, Reason::PeerUnavailable, Some(error.code()))
            }
        };
        told.agreement = self.agreement(ask, holder);
        told.request = Some(digest);
        told.ask = Some(ask.clone());
        told
    }

    fn request(
        &self,
        ask: &Ask,
        (holder, place): (&MemberId, &Place),
        role: &Role,
        (pseudonyms, found): &Known,
    ) -> Result<String, AskError> {
        let epoch = self.held.epoch(self.now).ok_or(AskError::Closed(Reason::EpochUnknown))?.0.epoch;
        let sub = subject_at(pseudonyms, found, holder).ok_or(AskError::Closed(Reason::PeerUnknown))?;
        let iat = self.node.clock.now();
        let Hand { auth, system, user: id, .. } = Hand::of(self.node, self.caller);
        let user = User { id, role: role.clone(), auth, system };
        let request = QueryRequest {
            iss: self.node.config.member.clone(),
            aud: holder.clone(),
            iat,
            exp: iat + MAX_LIFE_SECONDS,
            jti: B64(random::<16>()?.to_vec()),
            sub,
            epoch,
            ticket: place.ticket.clone(),
            user,
            query: ask.query.clone(),
            fields: ask.fields_asked(self.node),
            expected: ask.expected.clone(),
            purpose: self.body.purpose.clone(),
            basis: self.basis.clone(),
            case: self.case.clone(),
            manifest: self.held.reference(),
            cnf: Confirmation { x5t_s256: B64(self.node.identity.current().cert_sha256().to_vec()) },
            log: self.log.clone(),
        };
        Ok(jws::sign(&self.node.keys.message, &request)?)
    }

    async fn call(&self, holder: &MemberId, request: String) -> Result<AnswerMessage, CallError> {
        let manifest = &self.held.manifest;
        let url = manifest.member(holder).and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
        let mut post = http::Request::post("/v1/query");
        if let Ok(trace) = self.trace.header() {
            post = post.header(TRACEPARENT, trace);
        }
        let request = post.body(Bytes::from(request)).map_err(|_| CallError::BadUrl)?;
        let answer =
            self.node.client.call(&manifest.spiffe(holder), url, request, self.node.config.peer_deadline).await?;
        serde_json::from_slice(answer.body()).map_err(|_| CallError::Closed)
    }

    /// Believes an answer only if it is the holder's, to this very request, and every value is one it signed for.
    fn read(&self, ask: &Ask, holder: &MemberId, message: &AnswerMessage, digest: &[u8; 32]) -> Told {
        let now = self.node.clock.now();
        let verified: Result<QueryAnswer, JwsError> = jws::verify(&message.answer, |kid| self.held.signer(kid, now));
        let answer = match verified {
            Ok(answer)
                if &answer.iss == holder && answer.aud == self.node.config.member && answer.request.0 == digest =>
            {
                answer
            }
            _ => return Told::unavailable(&ask.query, holder, Reason::AnswerInvalid, None),
        };
        let Some(values) = message.open(&answer) else {
            return Told::unavailable(&ask.query, holder, Reason::AnswerInvalid, None);
        };
        let asked = ask.fields_asked(self.node);
        let compared = match &answer.outcome {
            AnswerOutcome::Answered { matches, .. } => matches.keys().all(|field| ask.expected.contains_key(field)),
            _ => true,
        };
        if !compared || !values.keys().all(|field| asked.contains(field)) {
            return Told::unavailable(&ask.query, holder, Reason::AnswerInvalid, None);
        }
        let response = Response::of(&answer.outcome, &message.disclosures);
        let mut told = match answer.outcome {
            AnswerOutcome::Answered { present, obligations, matches, .. } => {
                let mut told = Told::new(&ask.query, Some(holder), OutcomeKind::Answered);
                told.outcome.present = present;
                told.outcome.fields = values;
                told.outcome.matches = matches;
                told.obligations = Some((&obligations).into());
                told.outcome.obligations = Some(obligations.into());
                told
            }
            AnswerOutcome::Pending { until } => {
                let mut pending =
                    Told::new(&ask.query, Some(holder), OutcomeKind::Pending).told(protocol::Told::Pending);
                pending.outcome.until = Some(until.0);
                pending
            }
            AnswerOutcome::Denied { told } => {
                let denied = Told::new(&ask.query, Some(holder), OutcomeKind::Denied).told(told);
                if told == protocol::Told::QuotaExceeded && self.compares(ask) {
                    denied.saying([
                        "A value was compared as often as may be in 30 days, or another quota is used up.",
                        "Ask for the paper: a value can be compared again 30 days after it was.",
                        "Wartość porównano tyle razy, ile wolno w ciągu 30 dni, albo wyczerpano inny limit.",
                        "Poproś o dokument: wartość można porównać ponownie po 30 dniach.",
                    ])
                } else {
                    denied
                }
            }
        };
        told.response = Some(response);
        told.peer_log = Some(answer.log);
        told
    }
}
