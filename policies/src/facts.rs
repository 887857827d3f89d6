//! What the node found out before it asks for a decision. Plain borrowed data: a decision looks up nothing.

use protocol::agreement::AgreementRef;
use protocol::consent::Grant;
use protocol::encoding::Bytes;
use protocol::jws::JwsError;
use protocol::query::QueryRequest;
use protocol::registry::Ticket;
use protocol::{FieldId, Index, Manifest, MemberId, Purpose, Timestamp};
use std::collections::BTreeSet;

/// Everything a decision rests on. What could not be found out is given as the value that denies.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The institution that is asked.
    pub me: &'a MemberId,
    /// The manifest in force here.
    pub manifest: &'a Manifest,
    /// SHA-256 of its bytes.
    pub manifest_hash: &'a [u8; 32],
    /// Agreements one of whose parties sent its signed revocation here, which no manifest carries yet.
    pub revoked: &'a [AgreementRef],
    /// Who is at the other end of the connection.
    pub peer: PeerFact<'a>,
    /// When the request arrived: now, but for one a person decides on later. Its age and its ticket's are judged by it.
    pub received: Timestamp,
    /// The request, its signature verified under a message key of its issuer; or why not.
    pub request: Result<&'a QueryRequest, JwsError>,
    /// Whether the replay guard recorded the request's `jti` for the first time when it arrived. In doubt: false.
    pub first_use: bool,
    /// The ticket that came with the request.
    pub ticket: TicketFact<'a>,
    /// Whether the registry is out of reach, so that an old ticket serves.
    pub registry_away: bool,
    /// What was counted so far.
    pub used: Used,
    /// The resident the request's `sub` and `epoch` name here, if any.
    pub subject: Option<SubjectFact<'a>>,
    /// The consent the request cites, if a grant with that id is held.
    pub consent: Option<ConsentFact<'a>>,
    /// What a person here decided about this question, where one must.
    pub approval: ApprovalFact<'a>,
}

/// The TLS peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerFact<'a> {
    /// The member its certificate names.
    pub member: &'a MemberId,
    /// SHA-256 of its certificate.
    pub certificate_sha256: [u8; 32],
    /// Whether certificate and membership are valid now: not expired, not revoked.
    pub active: bool,
}

/// The ticket that came with a request.
#[derive(Clone, Copy, Debug)]
pub enum TicketFact<'a> {
    /// None.
    Missing,
    /// Not a signed ticket of a member.
    Invalid,
    /// Its claims, the signature verified under a message key of its issuer.
    Read(&'a Ticket),
}

/// What the meters say, before this request is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Queries today under the agreement that [`Engine::agreement_for`](crate::Engine::agreement_for) names.
    pub today: u64,
    /// Of these, the asking user's.
    pub today_by_user: u64,
    /// Verify queries: the most values of any field asked that this asker, or this user, compared for this `sub` in the
    /// last 30 days.
    pub guesses: u32,
    /// Emergencies the asker declared here today.
    pub emergencies_today: u32,
    /// Whether an emergency of the asking user is past its review.
    pub review_overdue: bool,
}

/// The resident a request is about.
#[derive(Clone, Copy, Debug)]
pub struct SubjectFact<'a> {
    /// The resident's registry address in the request's epoch.
    pub index: &'a Index,
    /// What the institution noted about answering.
    pub flags: Flags,
    /// What the resident refused, here or at a member that sent it.
    pub refusals: &'a [Refusal],
}

/// What an institution noted about answering on one resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is set and lifted by itself")]
pub struct Flags {
    /// Processing is restricted (GDPR art. 18).
    pub restricted: bool,
    /// Never published, never answered.
    pub unlisted: bool,
    /// The resident has died.
    pub deceased: bool,
    /// The resident objected (GDPR art. 21): no consent serves, and a person decides what a public task may have.
    pub objected: bool,
    /// Under age: a guardian consents.
    pub minor: bool,
    /// The recipient must not contact the resident on its own.
    pub do_not_contact: bool,
}

/// A resident's "not this": what is not said is meant in general.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whom it keeps out; everybody if not said.
    pub recipient: Option<MemberId>,
    /// Which purpose; every one if not said.
    pub purpose: Option<Purpose>,
    /// Which fields; all of them if not said.
    pub fields: Option<BTreeSet<FieldId>>,
    /// When it was said.
    pub at: Timestamp,
}

/// A consent the holder keeps a grant of.
#[derive(Clone, Copy, Debug)]
pub struct ConsentFact<'a> {
    /// The grant, its signature verified when it arrived.
    pub grant: &'a Grant,
    /// Whether a withdrawal of all of it arrived here.
    pub withdrawn: bool,
    /// Modules of which a withdrawal arrived here.
    pub withdrawn_modules: &'a BTreeSet<String>,
    /// What the recorder's status list says, if one is held. The recorder's own list is always as of now.
    pub status: Option<StatusFact>,
}

/// What a recorder's status list says of one consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusFact {
    /// When the list was written.
    pub as_of: Timestamp,
    /// Whether the bit is set.
    pub withdrawn: bool,
}

/// What a person at the holder decided.
#[derive(Clone, Copy, Debug)]
pub enum ApprovalFact<'a> {
    /// Nothing yet.
    Awaited,
    /// Refused, with a reason for the asker that the node keeps.
    Refused,
    /// Nobody decided before the deadline.
    Lapsed,
    /// Approved, wholly or in part.
    Given(Approval<'a>),
}

/// An approval.
#[derive(Clone, Copy, Debug)]
pub struct Approval<'a> {
    /// What was approved: [`QueryRequest::question`].
    pub question: &'a [u8; 32],
    /// Pseudonymous id of the approver, under the holder's key.
    pub by: &'a Bytes,
    /// The fields that may leave, or be compared.
    pub fields: &'a BTreeSet<FieldId>,
    /// Until when the answer may be collected.
    pub until: Timestamp,
}
