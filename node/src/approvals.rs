//! Peers' questions that a person here decides.
//!
//! A row is keyed by the question: what is asked by whom about whom, why and on which basis. Whoever puts the same
//! question again finds what became of it. A person's word opens nothing by itself: the question is decided on again as a
//! whole when it is approved, and once more when the asker comes for the answer.

use crate::desk::{self, DeskError};
use crate::dpo::Act;
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::node::Node;
use crate::query::{Received, basis_name, read};
use crate::store::{Read, StoreError, Table};
use crate::tokens::Caller;
use policies::{Approval, ApprovalFact, Catalogue, Mandate, PeerFact, Proposal};
use protocol::encoding::{Bytes, b64, unb64};
use protocol::jws;
use protocol::notice::Decided;
use protocol::query::{Basis, PENDING_SECONDS, QueryRequest};
use protocol::time::DAY_SECONDS;
use protocol::{FieldId, FileId, MemberId, Purpose, QueryType, Reason, Role, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who decides.
const ROLES: [&str; 3] = ["caseworker", "coordinator", "supervisor"];
/// Who may look on.
const READERS: [&str; 4] = ["caseworker", "coordinator", "supervisor", "dpo"];
/// What was decided is kept this long after it has served.
const KEEP_SECONDS: i64 = 7 * DAY_SECONDS;

/// A question that waits for a person, or was decided by one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who asks.
    #[schema(value_type = String)]
    pub asker: MemberId,
    /// Pseudonymous id of the asker's user, which the asker can resolve.
    pub user: String,
    /// In which role the user asks.
    #[schema(value_type = String)]
    pub role: Role,
    /// What is asked.
    #[schema(value_type = String)]
    pub query: QueryType,
    /// What for.
    #[schema(value_type = String)]
    pub purpose: Purpose,
    /// On what legal basis.
    pub basis: String,
    /// Whether an open case was cited.
    pub case: bool,
    /// Fields that may leave if it is approved.
    #[schema(value_type = Vec<String>)]
    pub fields: BTreeSet<FieldId>,
    /// What the library in use calls the query, the purpose, the statute of the basis and the fields, by their ids here.
    #[serde(default)]
    pub names: BTreeMap<String, NameView>,
    /// This institution's own numbers of the resident.
    pub local_numbers: BTreeSet<String>,
    /// When it came (seconds since 1970).
    pub received: i64,
    /// Until when it can be decided, or was approved for (seconds since 1970).
    pub until: i64,
    /// Fields approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub approved: Option<BTreeSet<FieldId>>,
    /// Why it was refused, in the words of who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What people call something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameView {
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
}

impl NameView {
    fn new(pl: &str, en: &str) -> Self {
        NameView { pl: pl.to_owned(), en: en.to_owned() }
    }
}

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody decided yet.
    Waiting,
    /// Approved, wholly or in part.
    Granted,
    /// Refused.
    Refused,
    /// Nobody decided in time.
    Lapsed,
}

/// Questions, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalList {
    /// Those that wait, and those decided in the last days.
    pub approvals: Vec<ApprovalView>,
}

/// What is approved.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    /// Only these fields; all that may leave, if not said.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub fields: Option<BTreeSet<FieldId>>,
}

/// Why a question is refused.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefuseBody {
    /// In the words of who refuses; stays in this institution.
    pub reason: String,
}

/// A question as kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The request that put it first, and how it came.
    token: String,
    certificate: [u8; 32],
    received: Timestamp,
    registry_away: bool,
    until: Timestamp,
    file: FileId,
    asker: MemberId,
    fields: BTreeSet<FieldId>,
    /// The request answered `pending` last: what the asker knows it by.
    request: [u8; 32],
    decided: Option<Word>,
}

/// What a person said, or that nobody did.
#[derive(Clone, Serialize, Deserialize)]
enum Word {
    Granted { by: Bytes, fields: BTreeSet<FieldId>, until: Timestamp },
    Refused { reason: String },
    // With brackets, for rows kept before say when it was.
    Lapsed {},
}

impl Waiting {
    pub(crate) fn new(
        received: &Received<'_>,
        request: &QueryRequest,
        proposal: &Proposal,
        file: FileId,
        token: &str,
    ) -> Self {
        Waiting {
            token: token.to_owned(),
            certificate: received.peer.certificate_sha256,
            received: received.at,
            registry_away: received.registry_away,
            until: proposal.until(),
            file,
            asker: request.iss.clone(),
            fields: proposal.fields().clone(),
            request: [0; 32],
            decided: None,
        }
    }

    /// Until when it can be decided.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// What a decision takes of it; it is of `question`.
    pub(crate) fn fact<'a>(&'a self, question: &'a [u8; 32]) -> ApprovalFact<'a> {
        match &self.decided {
            None => ApprovalFact::Awaited,
            Some(Word::Granted { by, fields, until }) => {
                ApprovalFact::Given(Approval { question, by, fields, until: *until })
            }
            Some(Word::Refused { .. }) => ApprovalFact::Refused,
            Some(Word::Lapsed { .. }) => ApprovalFact::Lapsed,
        }
    }

    /// Whether it has served: the same question is then a new one.
    fn over(&self, now: Timestamp) -> bool {
        match &self.decided {
            None | Some(Word::Refused { .. } | Word::Lapsed { .. }) => now > self.until,
            Some(Word::Granted { until, .. }) => now > *until,
        }
    }
}

/// What became of `question`, which is kept as `fresh` if it is new.
pub(crate) fn find_or_keep(
    node: &Node,
    question: &[u8; 32],
    fresh: Waiting,
    request: &[u8; 32],
    now: Timestamp,
) -> Result<Waiting, StoreError> {
    let kept: Option<Waiting> = node.store.read()?.get(Table::APPROVALS, question)?;
    match kept {
        // Decided: there is nothing to tell anybody any more.
        Some(kept) if kept.decided.is_some() && !kept.over(now) => Ok(kept),
        _ => node.store.write(|write| {
            let kept: Option<Waiting> = write.get(Table::APPROVALS, question)?;
            let mut row = kept.filter(|kept| !kept.over(now)).unwrap_or(fresh);
            if row.decided.is_none() {
                row.request = *request;
                write.put(Table::APPROVALS, question, &row)?;
            }
            Ok(row)
        }),
    }
}

/// The questions kept, for a user who may see them; recorded.
pub(crate) async fn list(node: &Node, caller: &Caller) -> Result<ApprovalList, DeskError> {
    desk::only(caller, &READERS)?;
    let approvals = all(node)?;
    let act = Act::reading(node, caller, &READERS, "approval", approvals.len()).map_err(DeskError::Closed)?;
    let _recorded = node.log.append(&act).await?;
    Ok(ApprovalList { approvals })
}

fn all(node: &Node) -> Result<Vec<ApprovalView>, DeskError> {
    let (read, mut approvals) = (node.store.read()?, Vec::new());
    for row in read.each(Table::APPROVALS)? {
        let (key, row) = row?;
        if let Ok(question) = key.as_slice().try_into() {
            approvals.push(view(node, &read, question, row)?);
        }
    }
    approvals.sort_by_key(|view| view.received);
    Ok(approvals)
}

/// One question, for a user who may see it; recorded.
pub(crate) async fn show(node: &Node, caller: &Caller, id: &str) -> Result<ApprovalView, DeskError> {
    desk::only(caller, &READERS)?;
    let question: [u8; 32] = unb64(id).ok_or(DeskError::Unknown)?;
    let row = kept(node, &question)?;
    let file = row.file;
    let found = view(node, &node.store.read()?, &question, row)?;
    let mut act = Act::reading(node, caller, &READERS, "approval", 1).map_err(DeskError::Closed)?;
    act.file = Some(file);
    let _recorded = node.log.append(&act).await?;
    Ok(found)
}

fn kept(node: &Node, question: &[u8; 32]) -> Result<Waiting, DeskError> {
    node.store.read()?.get(Table::APPROVALS, question)?.ok_or(DeskError::Unknown)
}

fn view(node: &Node, store: &Read<'_>, question: &[u8; 32], row: Waiting) -> Result<ApprovalView, DeskError> {
    let request = request_of(node, &row)?;
    let local_numbers = store.local_numbers(row.file)?;
    let (state, until, approved, reason) = match row.decided {
        None => (ApprovalState::Waiting, row.until, None, None),
        Some(Word::Granted { fields, until, .. }) => (ApprovalState::Granted, until, Some(fields), None),
        Some(Word::Refused { reason }) => (ApprovalState::Refused, row.until, None, Some(reason)),
        Some(Word::Lapsed { .. }) => (ApprovalState::Lapsed, row.until, None, None),
    };
    let catalogue = node.engine.library().catalogue();
    Ok(ApprovalView {
        id: b64(question),
        names: names(catalogue, &request, &row.fields),
        state,
        asker: row.asker,
        user: b64(&request.user.id.0),
        role: request.user.role,
        query: request.query,
        purpose: request.purpose,
        basis: basis_name(&request.basis),
        case: request.case.is_some(),
        fields: row.fields,
        local_numbers,
        received: row.received.0,
        until: until.0,
        approved,
        reason,
    })
}

fn names(catalogue: &Catalogue, request: &QueryRequest, fields: &BTreeSet<FieldId>) -> BTreeMap<String, NameView> {
    let query = catalogue.queries.get(&request.query).map(|query| NameView::new(&query.pl, &query.en));
    let purpose = catalogue.purposes.get(&request.purpose).map(|purpose| NameView::new(&purpose.pl, &purpose.en));
    let statute = match &request.basis {
        Basis::Mandate { id } => catalogue.mandates.get(id).map(|mandate| {
            let Mandate { statute, article, pl, en, .. } = mandate;
            NameView { pl: format!("{statute}, {article}: {pl}"), en: en.clone() }
        }),
        Basis::None | Basis::Consent(_) | Basis::Emergency(_) => None,
    };
    let fields = fields.iter().map(|id| {
        let field = catalogue.fields.get(id).map(|field| NameView::new(&field.pl, &field.en));
        (id.to_string(), field)
    });
    let named = [
        (request.query.to_string(), query),
        (request.purpose.to_string(), purpose),
        (basis_name(&request.basis), statute),
    ];
    named.into_iter().chain(fields).filter_map(|(id, name)| Some((id, name?))).collect()
}

/// The request as it was signed; its signature was verified when it came, and is again before it is approved.
fn request_of(node: &Node, row: &Waiting) -> Result<QueryRequest, DeskError> {
    let held = node.manifest().map_err(DeskError::Closed)?;
    read(&held, &row.token, row.received).map_err(|_| DeskError::Refused(Reason::SignatureInvalid))
}

/// Approves a question, wholly or in part, if everything else still permits it.
pub(crate) async fn grant(
    node: &Arc<Node>,
    caller: &Caller,
    id: &str,
    body: &GrantBody,
) -> Result<ApprovalView, DeskError> {
    let (question, row, now) = to_decide(node, caller, id)?;
    let fields = match &body.fields {
        None => row.fields.clone(),
        Some(fields) if !fields.is_empty() && fields.is_subset(&row.fields) => fields.clone(),
        Some(_) => {
            return Err(DeskError::Value {
                field: "fields",
                expected: Expected::new("some of the fields proposed", "niektóre z proponowanych pól"),
            });
        }
    };
    let by = desk::user(node, caller);
    let until = now + PENDING_SECONDS;
    still_permitted(node, &row, &question, &Word::Granted { by: by.clone(), fields: fields.clone(), until }, now)
        .await?;
    let mut event = noted(node, Happened::ApprovalGranted, &question, &row)?.by(node, caller);
    event.fields_returned.clone_from(&fields);
    let _recorded = node.log.append(&event).await?;
    let row = settle(node, &question, Word::Granted { by, fields, until }, now)?;
    tell(node);
    view(node, &node.store.read()?, &question, row)
}

/// Refuses a question.
pub(crate) async fn refuse(
    node: &Arc<Node>,
    caller: &Caller,
    id: &str,
    body: &RefuseBody,
) -> Result<ApprovalView, DeskError> {
    let (question, row, now) = to_decide(node, caller, id)?;
    if body.reason.trim().is_empty() {
        return Err(DeskError::Value { field: "reason", expected: Expected::new("a reason", "uzasadnienie") });
    }
    let mut event = noted(node, Happened::ApprovalRefused, &question, &row)?.by(node, caller);
    event.reason = Some(Reason::ApprovalRefused.code());
    event.reason_text = Some(body.reason.clone());
    let _recorded = node.log.append(&event).await?;
    let row = settle(node, &question, Word::Refused { reason: body.reason.clone() }, now)?;
    tell(node);
    view(node, &node.store.read()?, &question, row)
}

/// A question that waits, for a user who may decide it.
fn to_decide(node: &Node, caller: &Caller, id: &str) -> Result<([u8; 32], Waiting, Timestamp), DeskError> {
    desk::only(caller, &ROLES)?;
    let now = node.now().map_err(DeskError::Closed)?;
    let question: [u8; 32] = unb64(id).ok_or(DeskError::Unknown)?;
    let row = kept(node, &question)?;
    if row.decided.is_some() || now > row.until {
        return Err(DeskError::Decided);
    }
    Ok((question, row, now))
}

/// Decides on the question again as it came, with `word` as a person's.
async fn still_permitted(
    node: &Arc<Node>,
    row: &Waiting,
    question: &[u8; 32],
    word: &Word,
    now: Timestamp,
) -> Result<(), DeskError> {
    let held = node.manifest().map_err(DeskError::Closed)?;
    let request = read(&held, &row.token, now);
    // Its certificate was valid when it came, and must be when the answer is fetched.
    let peer = PeerFact { member: &row.asker, certificate_sha256: row.certificate, active: true };
    let received = Received {
        node,
        held: &held,
        peer,
        request: &request,
        at: row.received,
        registry_away: row.registry_away,
        now,
    };
    let Ok(asked) = &request else { return Err(DeskError::Refused(Reason::SignatureInvalid)) };
    let mut gathered = received.gather(asked).await.map_err(|_| DeskError::Closed(Reason::NodeClosed))?;
    let approved = Waiting { decided: Some(word.clone()), ..row.clone() };
    match received.decide(&mut gathered, approved.fact(question)) {
        Ok(_) => Ok(()),
        Err(denial) => Err(DeskError::Refused(denial.reason())),
    }
}

fn noted(node: &Node, happened: Happened, question: &[u8; 32], row: &Waiting) -> Result<Event, DeskError> {
    let request = request_of(node, row)?;
    let mut event = Event::new(happened, &node.clock);
    event.approval = Some(Bytes(question.to_vec()));
    event.asker = Some(row.asker.clone());
    event.holder = Some(node.config.member.clone());
    event.file = Some(row.file);
    event.query = Some(request.query);
    event.purpose = Some(request.purpose);
    event.basis = Some(basis_name(&request.basis));
    event.fields_requested.clone_from(&row.fields);
    Ok(event)
}

/// Writes what was decided, with the notice to the asker. The first word stands.
fn settle(node: &Node, question: &[u8; 32], word: Word, now: Timestamp) -> Result<Waiting, DeskError> {
    node.store.write(|write| {
        let mut row: Waiting = write.get(Table::APPROVALS, question)?.ok_or(DeskError::Unknown)?;
        if row.decided.is_some() {
            return Err(DeskError::Decided);
        }
        let notice = Decided {
            iss: node.config.member.clone(),
            aud: row.asker.clone(),
            iat: now,
            request: Bytes(row.request.to_vec()),
        };
        write.post(&row.asker, "/v1/decided", jws::sign(&node.keys.message, &notice)?, now)?;
        row.decided = Some(word);
        write.put(Table::APPROVALS, question, &row)?;
        Ok(row)
    })
}

/// Delivers notices without keeping the approver waiting; what cannot be delivered now goes with the outbox.
fn tell(node: &Arc<Node>) {
    let node = node.clone();
    tokio::spawn(async move {
        if let Err(error) = node.deliver().await {
            tracing::error!(%error, "the outbox cannot be read");
        }
    });
}

/// Lets questions nobody decided lapse, and forgets those that have served.
pub(crate) async fn sweep(node: &Arc<Node>) -> Result<(), DeskError> {
    let now = node.now().map_err(DeskError::Closed)?;
    let keys = node.store.read()?.keys_with(Table::APPROVALS, &[])?;
    for key in keys {
        let row: Option<Waiting> = node.store.read()?.get(Table::APPROVALS, &key)?;
        let (Some(row), Ok(question)) = (row.filter(|row| row.over(now)), <[u8; 32]>::try_from(key.as_slice())) else {
            continue;
        };
        if row.decided.is_none() {
            let _recorded = node.log.append(&noted(node, Happened::ApprovalLapsed, &question, &row)?).await?;
            settle(node, &question, Word::Lapsed {}, now)?;
        } else if now - row.until > KEEP_SECONDS {
            node.store.write(|write| write.remove(Table::APPROVALS, &key).map(drop))?;
        }
    }
    Ok(())
}
