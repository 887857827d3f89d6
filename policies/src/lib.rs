//! May this leave the institution? [`Engine::decide`] turns facts into a [`Permit`] or a [`Denial`].
//!
//! Pure: no I/O but reading a library's files, no clock, no randomness. The rules are data in `library/` — catalogue,
//! mandates, consent templates, Cedar policies — checked against each other and against the library's own examples
//! before one of them is used.

mod basis;
mod catalogue;
mod check;
mod decide;
mod engine;
mod example;
mod facts;
mod guard;
mod library;
mod permit;
#[cfg(test)]
mod tests;

pub use catalogue::{
    BasisKind, Catalogue, Field, FieldType, Mandate, Mode, Module, Name, Permission, PurposeTerm, Query, Sensitivity,
    Template, TemplateText, Tier,
};
pub use engine::Engine;
pub use facts::{ConsentFact, Facts, Flags, PeerFact, StatusFact, SubjectFact, TicketFact};
pub use library::{Library, LibraryError};
pub use permit::{AgreementRef, BasisRef, Denial, Permit, Step};
