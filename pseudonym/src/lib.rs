//! Pseudonyms without a key holder: bytes and keys in, bytes out.
//!
//! An identifier (a [`Pesel`], a [`document`](document())) is framed as an [`Input`], blinded ([`Blinded`]), evaluated by
//! a quorum of key holders ([`KeyShare`]) who each prove their answer, and finished into an [`Output`], from which every
//! name the federation uses is derived. The key is born split ([`dkg`]), its shares are renewed ([`reshare`]), and it
//! never exists in one place. The function is the VOPRF of RFC 9497, suite ristretto255-SHA512; a holder answering for a
//! quorum is an ordinary RFC 9497 server under `λ_j·k_j`, so any conforming client can check it.
//!
//! ```text
//! client                                            holder j of quorum S
//! x = frame(realm, kind, epoch, id)
//! B = H2G(x) + r·G           ── S, B ──▶            k' = λ_j(S)·k_j,  E_j = k'·B
//! verify under λ_j·PK_j      ◀── E_j, proof ──      RFC 9497 batch proof of (G, λ_j·PK_j, B, E_j)
//! N = Σ E_j − r·PK,  P = SHA-512(x, N)  →  index, seal key, subject
//! ```
//!
//! What this crate is **not**: it has no network, no clock, no storage, no threads and no randomness of its own, meters
//! nothing and authenticates nobody. Batches are independent: who wants more cores runs more batches at once. Whoever calls it pins the [`PublicKey`], signs requests, counts evaluations and keeps secrets
//! encrypted at rest.
//!
//! Additive blinding is safe only if the public key is pinned and nothing is output before every proof holds (Jarecki,
//! Krawczyk, Xu, ePrint 2021/273). Therefore [`Blinded::finish`] takes [`Verified`] answers, which only
//! [`Blinded::verify_answer`] makes: there is no unverified path.

pub mod dkg;
pub mod reshare;

mod client;
mod dleq;
mod document;
mod entry;
mod group;
mod holder;
mod input;
mod names;
mod oprf;
mod pesel;
mod public_key;
mod quorum;
mod seal;

#[cfg(test)]
mod tests;

pub use client::{BlindError, Blinded, CombineError, Verified};
pub use document::{DOCUMENT_TYPES, DocumentError, document};
pub use entry::{ENTRY_BYTES, Entry, EntryError};
pub use holder::{Answer, EvaluateError, KeyShare, KeyShareError};
pub use input::{Input, InputError, Kind, frame};
pub use names::{LabelError, Output};
pub use pesel::{Pesel, PeselError, Sex};
pub use public_key::{PublicKey, PublicKeyError};
pub use quorum::QuorumError;
pub use seal::{OpenError, SEALED_BYTES, SealKey};

/// The most elements one request may carry (RFC 9497's own limit is 65535).
pub const MAX_BATCH: usize = 4096;
