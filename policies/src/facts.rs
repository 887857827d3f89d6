//! What the node found out before it asks for a decision. Plain borrowed data: a decision looks up nothing.

use protocol::consent::Grant;
use protocol::jws::JwsError;
use protocol::query::QueryRequest;
use protocol::registry::Ticket;
use protocol::{Index, Manifest, MemberId, Timestamp};

/// Everything a decision rests on. What could not be found out is given as the value that denies.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The institution that is asked.
    pub me: &'a MemberId,
    /// The manifest in force here.
    pub manifest: &'a Manifest,
    /// SHA-256 of its bytes.
    pub manifest_hash: &'a [u8; 32],
    /// Who is at the other end of the connection.
    pub peer: PeerFact<'a>,
    /// The request, its signature verified under a message key of its issuer; or why not.
    pub request: Result<&'a QueryRequest, JwsError>,
    /// Whether the replay guard has just recorded the request's `jti` for the first time. In doubt: false.
    pub first_use: bool,
    /// The ticket that came with the request.
    pub ticket: TicketFact<'a>,
    /// Whether the registry is out of reach, so that an old ticket serves.
    pub registry_away: bool,
    /// The resident the request's `sub` and `epoch` name here, if any.
    pub subject: Option<SubjectFact<'a>>,
    /// The consent the request cites, if a grant with that id is held.
    pub consent: Option<ConsentFact<'a>>,
    /// Queries already counted today under the agreement that [`Engine::agreement_for`](crate::Engine::agreement_for)
    /// names.
    pub used_today: u64,
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

/// The resident a request is about.
#[derive(Clone, Copy, Debug)]
pub struct SubjectFact<'a> {
    /// The resident's registry address in the request's epoch.
    pub index: &'a Index,
    /// What the institution noted about answering.
    pub flags: Flags,
}

/// What an institution noted about answering on one resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Processing is restricted (GDPR art. 18).
    pub restricted: bool,
    /// Never published, never answered.
    pub unlisted: bool,
}

/// A consent the holder keeps a grant of.
#[derive(Clone, Copy, Debug)]
pub struct ConsentFact<'a> {
    /// The grant, its signature verified when it arrived.
    pub grant: &'a Grant,
    /// Whether a withdrawal arrived here.
    pub withdrawn: bool,
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
