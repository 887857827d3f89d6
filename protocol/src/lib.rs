//! What crosses the wire between members and nothing else: ids, messages, signed envelopes, problem types.
//!
//! Pure: no I/O, no clock, no randomness of its own. Every message is either a compact JWS ([`jws`]), one of the two
//! binary evaluation messages ([`evaluation`]) or the signed manifest ([`manifest`]).

pub mod agreement;
pub mod bundle;
pub mod consent;
pub mod dkg;
pub mod encoding;
pub mod evaluation;
pub mod ids;
pub mod jws;
pub mod keys;
pub mod manifest;
pub mod notice;
pub mod problem;
pub mod query;
pub mod reason;
pub mod registry;
pub mod review;
pub mod saying;
pub mod succession;
pub mod time;

pub use encoding::Bytes;
pub use ids::{
    ConsentId, Epoch, FieldId, FileId, Index, MemberId, MemberKind, ProviderWord, Purpose, QueryType, Realm, Role,
    SpiffeId, SubjectId,
};
pub use keys::{KeyId, PublicKey, SigningKey};
pub use manifest::{Manifest, SignedManifest};
pub use problem::Problem;
pub use reason::{Reason, Told};
pub use time::Timestamp;
