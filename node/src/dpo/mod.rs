//! What the institution's data-protection officer may do with its log, and with one resident's data.
//!
//! Everything here is itself recorded, before its answer leaves; the names of a search's criteria stand in the log and
//! never their values, except the resident's file id, so that a resident's list shows the officer's looking too. Nobody
//! sees another institution's log.

mod act;
mod anomalies;
mod api;
mod compare;
pub(crate) mod export;
mod eyes;
mod findings;
mod resident;
mod search;
mod who;

pub(crate) use act::Act;
pub use anomalies::{Anomalies, AnomaliesBody, Explanation, Parameters as AnomalyParameters, Rule};
pub(crate) use api::routes;
pub use compare::{ReconcileBody, Reconciled};
pub use export::{ExportBody, LogPosted, Witnessed, WitnessedLog};
pub use eyes::Oversight;
pub(crate) use findings::expire as expire_findings;
pub use findings::{Finding, FindingKind, FindingPage, FindingReviewBody, ReviewState};
pub use resident::{AccessBody, EraseBody, Erased, ResidentData, ResidentRow, RestrictBody, Restricted};
pub use search::{LogEntry, LogFilter, LogPage, LogStream, SearchBody};
pub use who::{Who, WhoBody};

use crate::desk;
use crate::faults::{Expected, Fault};
use crate::node::{Node, NodeError};
use crate::residents::ResidentError;
use crate::store::StoreError;
use crate::tokens::Caller;
use audit::AppendError;
use protocol::encoding::{Bytes, b64};
use protocol::{Problem, Reason, Timestamp};

/// The role that may.
pub(crate) const ROLE: &str = "dpo";

/// Why the officer gets nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DpoError {
    #[error("only the data-protection officer may do this")]
    Role,
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    #[error("{0} is out of range")]
    Value(&'static str),
    #[error("{field} is not one of: {expected}")]
    Unlisted { field: &'static str, expected: Expected },
    #[error("a second officer must confirm")]
    Confirmation,
    #[error("a reason or a second officer is needed")]
    Reason,
    #[error("an officer does not review what the same officer did")]
    Own,
    #[error("no such user here")]
    NoUser,
    #[error("no such resident here")]
    Unknown,
    #[error("no such finding")]
    NoFinding,
    #[error("the peer does not give its entries")]
    Peer,
    #[error(transparent)]
    Resident(#[from] ResidentError),
    /// The resident of a filter.
    #[error(transparent)]
    Filter(ResidentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Log(#[from] audit::Fault),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl DpoError {
    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            DpoError::Role => {
                Problem::because(403, Reason::RoleNotAllowed).detail("Only the data-protection officer may do this.")
            }
            DpoError::Closed(reason) => Problem::because(503, *reason).retry_after(5),
            DpoError::Value(field) => Fault::ValueInvalid.problem().field(*field),
            DpoError::Unlisted { field, expected } => expected.problem(field),
            DpoError::Confirmation => Fault::ConfirmationMissing.problem(),
            DpoError::Reason => Fault::ReasonMissing
                .problem()
                .detail("Say why, or send another officer's token in the header `confirmation`.")
                .field("reason"),
            DpoError::Own => Fault::FindingOwn.problem(),
            DpoError::NoUser => Fault::UserUnknown.problem(),
            DpoError::Unknown => Fault::ResidentUnknown.problem(),
            DpoError::NoFinding => Fault::FindingUnknown.problem(),
            DpoError::Peer => Problem::because(503, Reason::PeerUnavailable),
            DpoError::Resident(error) => error.problem(),
            DpoError::Filter(error) => match error.problem() {
                Problem { field: Some(field), .. } => error.problem().field(format!("filter.{field}")),
                problem => problem,
            },
            DpoError::Append(_) | DpoError::Log(_) | DpoError::Node(_) => Problem::because(503, Reason::LogUnavailable),
            DpoError::Store(_) => Fault::StoreFailed.problem(),
            DpoError::System(_) => Fault::Internal.problem(),
        }
    }
}

/// A caller who was found to be an officer.
pub(crate) struct Officer(Caller);

impl Officer {
    pub(crate) fn admit(caller: &Caller) -> Result<Self, DpoError> {
        if caller.has(&[ROLE]) { Ok(Officer(caller.clone())) } else { Err(DpoError::Role) }
    }

    /// As the log names the officer.
    fn id(&self, node: &Node) -> Bytes {
        desk::user(node, &self.0)
    }

    /// `second`, if nobody acts or is acted for on both sides.
    fn confirmed<'a>(&self, second: Option<&'a Officer>) -> Option<&'a Officer> {
        second.filter(|second| second.0.names().all(|name| self.0.names().all(|own| own != name)))
    }

    /// Whether it was this officer, or whom this officer acts for, whom the log calls `user`.
    fn is(&self, node: &Node, user: &str) -> bool {
        self.0.names().any(|name| b64(&node.macs.staff_id(name).0) == user)
    }
}

/// The time. An officer may look while the manifest is out of date, but not by a wrong clock: what is looked at is
/// recorded.
fn now(node: &Node) -> Result<Timestamp, DpoError> {
    node.now().map_err(DpoError::Closed)
}
