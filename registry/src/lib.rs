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
//! Where to read: [`Registry`] (`server.rs`: state and routes) → `admit.rs` (the gate) → `entries.rs`, `locate.rs`,
//! `review.rs`, `honeypots.rs` → `meters.rs`, `fair.rs` (what members may use) → `blind.rs` (rows) → `store.rs` and its
//! engines `embedded.rs`, `postgres.rs`.

mod admit;
mod blind;
#[cfg(any(test, feature = "conformance"))]
mod cluster;
mod config;
#[cfg(any(test, feature = "conformance"))]
mod conformance;
mod continuation;
mod cosigning;
mod embedded;
mod engine;
mod entries;
mod errors;
mod events;
mod export;
mod fair;
mod honeypots;
mod init;
mod locate;
mod manifest;
mod meters;
mod migrate;
mod postgres;
mod recovery;
mod review;
mod server;
mod status;
mod store;
mod sweep;

pub use blind::{Blind, Content, Entry, State, Tag};
#[cfg(any(test, feature = "conformance"))]
pub use cluster::{Cluster, ClusterError};
pub use config::{Config, ConfigError, Engine, PeerConfig, PostgresConfig, Shares};
#[cfg(any(test, feature = "conformance"))]
pub use conformance::conformance;
pub use continuation::{ContinueError, LogLoss, continue_after_restore, draft_loss};
pub use embedded::Embedded;
pub use errors::Refusal;
pub use export::export_log;
pub use init::{init, member_keys};
pub use migrate::{MigrateError, Migrated, Progress, migrate};
pub use postgres::Postgres;
pub use recovery::restored;
pub use server::{OpenError, Registry};
pub use status::{MemberStatus, Status};
pub use store::{
    Answer, Batch, Count, IndexStore, Ledger, MeterId, NoteKey, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written,
};
