//! May this leave the institution? [`Engine::decide`] turns facts into a [`Permit`] or a [`Denial`].
//!
//! Pure: no I/O but reading a library's files, no clock, no randomness. The rules are data in `library/` — catalogue,
//! mandates, emergencies, consent templates, Cedar policies — checked against each other and against the library's own
//! examples before one of them is used.

mod asked;
mod basis;
mod bundle;
pub mod calendar;
mod catalogue;
mod check;
mod compare;
mod consent;
mod coverage;
mod decide;
mod engine;
mod example;
mod explain;
mod export;
mod facts;
mod guard;
pub mod hours;
pub mod letter;
mod library;
mod permit;
pub mod receipt;
pub mod record;
mod simulate;
mod template;
#[cfg(test)]
mod tests;
mod verify;

pub use asked::Asked;
pub use bundle::{Bundle, Change};
pub use catalogue::{
    BasisKind, Buckets, Catalogue, Emergency, Evidence, Field, FieldType, Mandate, Name, PrintedName, PurposeTerm,
    Query, Sensitivity, Term, Tier,
};
pub use compare::{Allowed, Beyond, Released, Unfit};
pub use engine::Engine;
pub use example::{Example, ExampleError, Examples, Person, Scenario};
pub use explain::{Explanation, Outcome, Seen};
pub use facts::{
    Approval, ApprovalFact, ConsentFact, Facts, Flags, PeerFact, Refusal, StatusFact, SubjectFact, TicketFact, Used,
};
pub use library::{Library, LibraryError};
pub use permit::{BasisRef, Denial, Permit, Proposal, Step};
pub use protocol::agreement::{AgreementRef, AnswerMode};
pub use simulate::{Decided, Recorded, RecordedBasis, Simulated, Simulation};
pub use template::{AgreementTemplate, Module, Permission, Template, TemplateText};
pub use verify::{compare, plain_words};
