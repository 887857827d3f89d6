//! The audit log: an append-only Merkle tree (RFC 6962) under signed checkpoints (C2SP), written durably, witnessed by
//! others, searched, exported, verified offline.
//!
//! **What it is.** [`Log::append`] returns a [`Receipt`] once the entry is on the disk and not before; nothing else
//! makes a `Receipt`, so an answer that needs one cannot leave unlogged. The tree holds salted hashes only; payloads
//! lie beside it, encrypted, and can be erased later without changing one hash. [`verify_dir`] checks a log
//! directory, a live one too, with nothing but the public key; [`verify_export`] what an auditor was given. A
//! [`Witness`] cosigns other logs' checkpoints, so that none of them can be rewritten unnoticed.
//!
//! **What it is not.** It has no network and no clock (`now` is given). It looks into a payload for two things only:
//! what [`Filter`] finds entries by, and what [`project`] lets into a stream. Whoever holds the signing key can still
//! rewrite everything after the last checkpoint somebody else has seen: that is what witnesses are for.
//!
//! **Invariants.** One process writes a log (`flock`). Entries are numbered from 0 without gaps. What was
//! acknowledged is never cut; what is cut at open was never acknowledged. Memory does not grow with the log.
//!
//! Where to read: [`Log`] (`log.rs`) → `commit.rs` (group commit) → `store.rs` (the directory, crash and repair) →
//! `segment.rs`, `record.rs`, `entry.rs` (the bytes) → `publish.rs`, `tile.rs`, [`tree`] and [`note`] (the public
//! formats) → `witness.rs` → `index.rs`, `search.rs` → `erase.rs` → `verify.rs`, `export.rs` → `catalogue.rs` (what
//! entries say).

mod catalogue;
mod commit;
mod disk;
mod entry;
mod erase;
mod export;
mod fault;
mod index;
mod log;
pub mod note;
mod proof;
mod publish;
mod read;
mod record;
mod restore;
mod search;
mod segment;
mod store;
mod submit;
#[cfg(test)]
mod tests;
mod tile;
pub mod tree;
mod verify;
mod witness;

pub use catalogue::{Activity, DECISIONS, EventKind, FIELDS, Retention, SCHEMA, Stream, Visibility, project};
pub use entry::MAX_PAYLOAD;
pub use export::{Exported, export, verify_export};
pub use fault::{AppendError, Fault};
pub use log::{Config, Log, Receipt};
pub use note::{Checkpoint, NoteError, Vkey, notes};
pub use proof::Resource;
pub use read::{Entries, Entry};
pub use restore::{Continuation, Place, SucceedError, identity, succeed};
pub use search::{Filter, Page};
pub use submit::{Step, Submission, SubmitError};
pub use tree::Hash;
pub use verify::{Against, Report, signed_size, verify_against, verify_dir};
pub use witness::{AddCheckpoint, MAX_REQUEST, Refusal, Witness, witnessed};
