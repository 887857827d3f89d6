//! An institution's node: keeps the institution's own data, publishes pseudonymous entries of its clients, asks peers
//! on behalf of caseworkers and answers theirs.
//!
//! Read `query.rs` first (a peer's query from top to bottom), then `ask.rs`, its mirror image.
//! `node.rs` has the one struct everything hangs on; `serve.rs` what a node does by itself.

mod admin;
mod agreements;
mod approvals;
mod ask;
mod bulk;
mod ceremony;
mod changes;
mod config;
mod consents;
mod continuation;
mod decisions;
mod desk;
mod dpo;
mod emergencies;
mod enrol;
mod epochs;
mod events;
pub mod extract;
mod faults;
mod flags;
mod grants;
mod guard;
mod holder;
mod honeypots;
mod import;
mod jwks;
mod kin;
mod limits;
mod local_api;
mod locate;
mod log_retention;
mod manifests;
mod meters;
mod newcomers;
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
mod retention;
mod review;
mod serve;
mod shared;
mod shares;
mod staff;
mod status;
mod store;
mod tokens;
mod trace;
mod unenrol;

pub use admin::{Line, NodeStatus, socket};
pub use agreements::{AgreeError, Word};
pub use approvals::{ApprovalList, ApprovalState, ApprovalView, GrantBody, NameView, RefuseBody};
pub use ask::{Ask, BasisBody, ObligationsBody, Outcome, OutcomeKind, QueryBody, QueryResult};
pub use audit::Continuation;
pub use bulk::{Progress, Report};
pub use ceremony::{CeremonyError, CeremonyState, CeremonyStatus, Invitation, SessionRef};
pub use config::{Config, ConfigError, JwksSource, LocalConfig, PeerConfig, TokenConfig};
pub use consents::{
    ConsentAnswer, ConsentBody, ConsentList, ConsentReceipt, ConsentRequest, ConsentState, ModuleAnswer, RevokeBody,
    WithdrawBody, WithdrawalBody, WithdrawalReceipt,
};
pub use continuation::{ContinueError, continue_after_restore};
pub use decisions::{Decision, DecisionList, StepSeen};
pub use dpo::{AccessBody, EraseBody, Erased, ResidentData, ResidentRow, RestrictBody, Restricted};
pub use dpo::{Anomalies, AnomaliesBody, AnomalyParameters, Explanation, Rule};
pub use dpo::{ExportBody, LogEntry, LogFilter, LogPage, LogPosted, LogStream, SearchBody};
pub use dpo::{
    Finding, FindingKind, FindingPage, FindingReviewBody, Oversight, ReconcileBody, Reconciled, ReviewState,
};
pub use dpo::{Who, WhoBody, Witnessed, WitnessedLog};
pub use emergencies::{
    EmergencyBody, EmergencyList, EmergencyView, NoticeWay, REVIEW_GRACE_SECONDS, ResidentNotice, ReviewBody, Side,
};
pub use enrol::{EnrolError, EnrolSummary, enrol};
pub use flags::{Flag, FlagBody, FlagList, ResidentBody};
pub use guard::GuardError;
pub use honeypots::{HoneypotError, HoneypotNumbers};
pub use import::{ImportError, ImportMode, ImportRequest, ImportSummary, import};
pub use kin::PersonClaims;
pub use limits::RoleLimit;
pub use local_api::openapi;
pub use locate::RegistryError;
pub use manifests::{REGISTRY, RefreshError, Unrefreshed};
pub use meters::AgreementUse;
pub use newcomers::{NewcomerBody, NewcomerReason, NewcomerView};
pub use node::{Birth, Node, NodeError, Surroundings, local_policies};
pub use pseudonymise::PseudonymError;
pub use reconcile::Disagreement;
pub use residents::{DocumentBody, Resident};
pub use retention::{Category as RetentionCategory, Swept, sweep};
pub use review::Notice;
pub use shared::{SharedChange, SharedClient, SharedError, SharedOptions, SharedSummary, shared};
pub use store::StoreError;
pub use tokens::{TokenError, TokensError};
pub use unenrol::UnenrolSummary;
