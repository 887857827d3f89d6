//! The audit log: an append-only Merkle tree (RFC 6962) under signed checkpoints (C2SP), written durably, verified
//! offline.
//!
//! **What it is.** [`Log::append`] returns a [`Receipt`] once the entry is on the disk and not before; nothing else
//! makes a `Receipt`, so an answer that needs one cannot leave unlogged. The tree holds salted hashes only; payloads
//! lie beside it, encrypted, and can be erased later without changing one hash. [`verify_dir`] checks a log
//! directory, a live one too, with nothing but the public key.
//!
//! **What it is not.** It has no network, no clock (`now` is given at open) and no idea what an entry means: a
//! payload is any [`serde::Serialize`]. Whoever holds the signing key can still rewrite everything after the last
//! checkpoint somebody else has seen: that is what witnesses are for.
//!
//! **Invariants.** One process writes a log (`flock`). Entries are numbered from 0 without gaps. What was
//! acknowledged is never cut; what is cut at open was never acknowledged. Memory does not grow with the log.
//!
//! Where to read: [`Log`] (`log.rs`: append, group commit) → `store.rs` (the directory, crash and repair) →
//! `segment.rs` and `record.rs` (the bytes) → [`tree`] and [`note`] (the public formats) → `verify.rs`.

mod disk;
mod entry;
mod fault;
mod log;
pub mod note;
mod read;
mod record;
mod segment;
mod store;
#[cfg(test)]
mod tests;
pub mod tree;
mod verify;
mod writer;

pub use entry::MAX_PAYLOAD;
pub use fault::{AppendError, Fault};
pub use log::{Config, Log, Receipt};
pub use note::{Checkpoint, NoteError, Vkey};
pub use read::{Entries, Entry};
pub use tree::Hash;
pub use verify::{Report, verify_dir};
