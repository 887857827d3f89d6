//! An institution's node: keeps the institution's own data, publishes pseudonymous entries of its clients, asks peers
//! on behalf of caseworkers and answers theirs.
//!
//! Read `query.rs` first (a peer's query from top to bottom), then `ask.rs`, its mirror image.
//! `node.rs` has the one struct everything hangs on; `serve.rs` what a node does by itself.

mod admin;
mod ask;
mod bulk;
mod config;
mod consents;
mod continuation;
mod dkg;
mod dpo;
mod enrol;
mod events;
pub mod extract;
mod grants;
mod guard;
mod holder;
mod import;
mod jwks;
mod local_api;
mod locate;
mod manifests;
mod node;
mod outbox;
mod peer_api;
mod pseudonymise;
mod query;
mod reconcile;
mod records;
mod release;
mod residents;
mod results;
mod serve;
mod shared;
mod status;
mod store;
mod tokens;

pub use admin::{Line, NodeStatus, socket};
pub use ask::{Ask, BasisBody, ObligationsBody, Outcome, OutcomeKind, QueryBody, QueryResult};
pub use bulk::{Progress, Report};
pub use config::{Config, ConfigError, JwksSource, LocalConfig, PeerConfig, TokenConfig};
pub use consents::{ConsentBody, ConsentReceipt, ConsentState, ModuleAnswer};
pub use continuation::{ContinueError, Continued, continue_after_restore};
pub use dkg::{BirthError, run as take_part_in_key_birth};
pub use dpo::{EraseBody, Erased, ResidentBody, ResidentData, ResidentRow};
pub use dpo::{ExportBody, LogEntry, LogFilter, LogPage, LogPosted, SearchBody};
pub use dpo::{Finding, ReconcileBody, Reconciled, ReviewBody, ReviewState};
pub use enrol::{EnrolError, EnrolSummary, enrol};
pub use guard::GuardError;
pub use import::{ImportError, ImportMode, ImportRequest, ImportSummary, import};
pub use local_api::openapi;
pub use locate::RegistryError;
pub use manifests::{REGISTRY, RefreshError};
pub use node::{Birth, Node, NodeError, Surroundings, local_policies};
pub use pseudonymise::PseudonymError;
pub use reconcile::Disagreement;
pub use residents::Resident;
pub use shared::{SharedClient, SharedError, SharedSummary, shared};
pub use store::StoreError;
pub use tokens::{TokenError, TokensError};
