//! What is done at the institution's own desk besides asking — flags, newcomers, approvals, emergencies — and why it may not be.

use crate::faults::{Expected, Fault};
use crate::locate::RegistryError;
use crate::node::Node;
use crate::pseudonymise::PseudonymError;
use crate::residents::{Resident, ResidentError, find};
use crate::store::StoreError;
use crate::tokens::Caller;
use audit::AppendError;
use protocol::encoding::Bytes;
use protocol::jws::JwsError;
use protocol::saying::pick;
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
    Value { field: &'static str, expected: Expected },
    #[error("no question of this institution's serves in an emergency")]
    NoEmergency,
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
            DeskError::Closed(reason) => Problem::because(503, *reason).retry_after(5),
            DeskError::Resident(error) => error.problem(),
            DeskError::Refused(reason) => Problem::because(403, *reason),
            DeskError::Value { field, expected } => expected.problem(field),
            DeskError::NoEmergency => Problem::said(403, Reason::BasisNotAllowed.code(), |language| {
                let words = [
                    "Your institution may ask nothing in an emergency.",
                    "Use another basis, or telephone whoever may know.",
                    "W stanie nagłym jednostka nie może zadać żadnego pytania.",
                    "Użyj innej podstawy albo zadzwoń do jednostki, która może coś wiedzieć.",
                ];
                pick(words, language)
            }),
            DeskError::Unknown => Fault::Unknown.problem(),
            DeskError::Decided => Fault::AlreadyDecided.problem(),
            DeskError::OnFile => Fault::ResidentOnFile.problem().field("resident"),
            DeskError::Pseudonym(error) => error.problem(),
            DeskError::Registry(error) => error.problem(),
            DeskError::Log(_) => Problem::because(503, Reason::LogUnavailable),
            DeskError::Store(_) => Fault::StoreFailed.problem(),
            DeskError::Jws(_) | DeskError::System(_) => Fault::Internal.problem(),
        }
    }
}

/// Lets only users in one of `roles` go on.
pub(crate) fn only(caller: &Caller, roles: &[&str]) -> Result<(), DeskError> {
    if caller.has(roles) { Ok(()) } else { Err(DeskError::Refused(Reason::RoleNotAllowed)) }
}

/// The pseudonymous id of a user, as it stands in logs and messages.
pub(crate) fn user(node: &Node, caller: &Caller) -> Bytes {
    node.macs.staff_id(&caller.staff)
}

/// The file meant; a resident without one is not served.
pub(crate) fn file(node: &Node, resident: &Resident) -> Result<FileId, DeskError> {
    find(node, resident)?.ok_or(DeskError::Refused(Reason::NotServed))
}
