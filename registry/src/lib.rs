//! The registry: a blind index of who knows whom, and the keeper of the federation's manifest and revocation list.
//!
//! **What it is.** Members put entries under the pseudonymous index of a resident; a member with an entry of its own may
//! locate the others' (`locate.rs`), and gets a ticket that it serves the resident. The registry signs, counts and
//! records; it never learns an identifier, and its disk does not tell which member wrote a row (`blind.rs`).
//!
//! **What it is not.** It holds no share of the pseudonym key, opens no sealed value, decides no query and knows no
//! resident's name. It is not needed for answering a query: tickets outlive it for a day.
//!
//! **Invariants.** What was acknowledged is on the disk. Nothing is answered before the log entry is on the disk. Rows
//! have one size and say nothing without the registry's two secrets, which live outside its data directory. Unknown,
//! lapsed and forbidden are answered alike.
//!
//! Where to read: [`Registry`] (`server.rs`: state and routes) → `admit.rs` (the gate) → `entries.rs`, `locate.rs` →
//! `blind.rs` (rows) → `store.rs` and `embedded.rs` (the engine).

mod admit;
mod blind;
mod config;
#[cfg(any(test, feature = "conformance"))]
mod conformance;
mod embedded;
mod entries;
mod errors;
mod events;
mod init;
mod locate;
mod manifest;
mod server;
mod store;
mod sweep;

pub use blind::{Blind, Entry, Tag};
pub use config::{Config, ConfigError};
#[cfg(any(test, feature = "conformance"))]
pub use conformance::conformance;
pub use embedded::Embedded;
pub use errors::Refusal;
pub use init::{init, member_keys};
pub use server::{OpenError, Registry};
pub use store::{Answer, Batch, IndexStore, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written};
