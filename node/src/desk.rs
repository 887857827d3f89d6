//! What is done at the institution's own desk besides asking — flags, newcomers, approvals, emergencies — and why it may not be.

use crate::bulk::Passing as _;
use crate::locate::RegistryError;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::residents::{Resident, ResidentError, find};
use crate::store::StoreError;
use crate::tokens::Caller;
use audit::AppendError;
use protocol::encoding::Bytes;
use protocol::jws::JwsError;
use protocol::saying::Language;
use protocol::{FileId, Problem, Reason};

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    #[error(transparent)]
    Resident(#[from] ResidentError),
    #[error("refused: {}", .0.code())]
    Refused(Reason),
    #[error("{field} is not acceptable: {expected}")]
    Value { field: &'static str, expected: String },
    #[error("nothing of this id")]
    Unknown,
    #[error("it was decided before")]
    Decided,
    #[error("the resident is on file")]
    OnFile,
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Log(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Jws(#[from] JwsError),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl DeskError {
    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            DeskError::Closed(reason) => because(503, *reason).retry_after(5),
            DeskError::Resident(error) => error.problem(),
            DeskError::Refused(reason) => because(403, *reason),
            DeskError::Value { field, expected } => {
                Problem::new(422, "value_invalid", "A value is not acceptable").detail(expected).field(*field)
            }
            DeskError::Unknown => Problem::new(404, "unknown", "Nothing of this id is kept here for you"),
            DeskError::Decided => Problem::new(409, "already_decided", "This was decided before"),
            DeskError::OnFile => Problem::new(409, "resident_on_file", "The resident is on file here already")
                .detail("Enrol (`ogniwo node enrol`) to publish new clients.")
                .field("resident"),
            DeskError::Pseudonym(error) => {
                let problem = because(503, Reason::KeyHoldersUnavailable).detail(error.to_string());
                error.retry_after().map_or_else(|| problem.clone(), |seconds| problem.clone().retry_after(seconds))
            }
            // What the registry says of one user's quota is for the user; the rest is the operator's.
            DeskError::Registry(RegistryError::Refused(problem)) if [409, 429].contains(&problem.status) => {
                (**problem).clone()
            }
            DeskError::Registry(error) => because(503, Reason::RegistryUnavailable).detail(error.to_string()),
            DeskError::Log(_) => Problem::new(503, "log_unavailable", "It cannot be recorded now"),
            DeskError::Store(_) => Problem::new(503, "store_failed", "The node's store failed"),
            DeskError::Jws(_) | DeskError::System(_) => Problem::new(500, "internal", "The node failed; see its trace"),
        }
    }
}

/// A refusal in the words of its reason, English in the title, both what was missing and what to do.
fn because(status: u16, reason: Reason) -> Problem {
    let saying = reason.saying(Language::En);
    Problem::new(status, reason.code(), saying.missing).detail(saying.next)
}

/// Lets only users in one of `roles` go on.
pub(crate) fn only(caller: &Caller, roles: &[&str]) -> Result<(), DeskError> {
    if caller.has(roles) { Ok(()) } else { Err(DeskError::Refused(Reason::RoleNotAllowed)) }
}

/// The pseudonymous id of a user, as it stands in logs and messages.
pub(crate) fn user(node: &Node, caller: &Caller) -> Bytes {
    Bytes(node.macs.staff.mac(&[caller.staff.as_bytes()]).to_vec())
}

/// The file meant; a resident without one is not served.
pub(crate) fn file(node: &Node, resident: &Resident) -> Result<FileId, DeskError> {
    find(node, resident)?.ok_or(DeskError::Refused(Reason::NotServed))
}
