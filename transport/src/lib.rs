//! The network and nothing else: mutual TLS 1.3 between members, a one-way TLS listener for the local API, a pooled
//! HTTP/2 client, problem documents, limits, shutdown — and the one clock. Stores nothing but reads certificate, key
//! and CRL files again when they change.
//!
//! A peer is a [`PeerIdentity`], proved by its certificate: chain to the realm's root, purpose, validity at our clock,
//! CRL with unknown meaning refused, and exactly one URI name, a SPIFFE id of our realm. [`Trust`] decides this once
//! for a handshake and again for every request, so that a revoked peer is refused on an open connection too. There is
//! no resumption and no 0-RTT (RFC 8446 §2.3): every connection proves both sides afresh.

mod certificate;
mod client;
mod clock;
mod connection;
mod crl;
mod crypto;
mod dial;
mod identity;
mod known_answers;
mod limits;
mod peer;
mod places;
mod problem;
mod renewal;
mod request;
mod server;
mod tls;
mod trust;
mod verifier;

pub use certificate::PeerIdentity;
pub use client::{Client, Tap};
pub use clock::Clock;
pub use crypto::{CryptoError, install, provider};
pub use dial::CallError;
pub use identity::{Identity, IdentityError, new_key_and_csr};
pub use limits::Limits;
pub use peer::Peer;
pub use problem::{Prescribed, ProblemResponse, Refusal};
pub use renewal::{IdentityStore, watch};
pub use server::serve;
pub use tls::ServerTls;
pub use trust::{Trust, TrustError};
