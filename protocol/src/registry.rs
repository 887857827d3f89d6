//! Messages between a node and the registry: batches of entries, locating, tickets.

use crate::encoding::{Bytes, sha256};
use crate::jws::Envelope;
use crate::manifest::ManifestRef;
use crate::time::DAY_SECONDS;
use crate::{Epoch, Index, MemberId, Purpose, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Length of a sealed registry value: nonce 12, plaintext 256, tag 16.
pub const SEALED_BYTES: usize = 284;
/// Most entries or indexes of one batch.
pub const MAX_BATCH: usize = 1000;
/// Most members an entry can be visible to.
pub const MAX_AUDIENCE: usize = 16;
/// A provisional entry lapses at most this many days after it is put.
pub const PROVISIONAL_DAYS: i64 = 14;
/// Header with which the registry answers `GET /v1/manifest`: base64url of 16 bytes that change when its index was restored
/// from a backup. A member that meets a new value publishes its entries again.
pub const INDEX_HEADER: &str = "ogniwo-index";
/// A fresh ticket lives this long.
pub const TICKET_SECONDS: i64 = 15 * 60;
/// While the registry is away a ticket of this age still serves, and is logged as such.
pub const OLD_TICKET_SECONDS: i64 = DAY_SECONDS;

/// `PUT /v1/entries`: a member's changes to its own entries. Idempotent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesRequest {
    /// The writer.
    pub iss: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// Random id.
    pub jti: Bytes,
    /// The manifest it was written under.
    pub manifest: ManifestRef,
    /// Which key the indexes are of.
    pub epoch: Epoch,
    /// Who may see the entries put: at most [`MAX_AUDIENCE`].
    pub audience: BTreeSet<MemberId>,
    /// New or renewed entries.
    pub put: Vec<PutEntry>,
    /// Entries to remove.
    pub delete: Vec<Index>,
}

/// One entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutEntry {
    /// The resident's address.
    pub index: Index,
    /// [`SEALED_BYTES`] bytes.
    pub sealed: Bytes,
    /// When it lapses.
    pub expires: Timestamp,
    /// Set while the resident's case is not opened yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisional: Option<Provisional>,
}

/// Why there is an entry before there is a case. Such an entry lapses within [`PROVISIONAL_DAYS`], cannot be renewed, only
/// replaced by an ordinary one, and is reported to its writer's reviewers if it never is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisional {
    /// What makes the resident a client soon.
    pub reason: ProvisionalReason,
    /// The member's pseudonym of the user who says so: 16 to 32 bytes. Each has a small quota a day.
    pub user: Bytes,
}

/// What makes a resident a client soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionalReason {
    /// The resident has applied or reported in person.
    Application,
    /// Another body refers the resident.
    Referral,
    /// Life or health is in danger.
    Emergency,
}

impl Envelope for EntriesRequest {
    const TYP: &'static str = "ogniwo-entries+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// What a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesAnswer {
    /// Entries stored durably.
    pub stored: usize,
    /// Entries removed durably (those that were there).
    pub deleted: usize,
}

/// `POST /v1/locate`: which other members know these residents.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateRequest {
    /// The asker.
    pub iss: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// Random id.
    pub jti: Bytes,
    /// The manifest it was written under.
    pub manifest: ManifestRef,
    /// Which key the indexes are of.
    pub epoch: Epoch,
    /// What for.
    pub purpose: Purpose,
    /// Whether a ticket is wanted for each.
    pub tickets: bool,
    /// The residents' addresses.
    pub indexes: Vec<Index>,
}

impl Envelope for LocateRequest {
    const TYP: &'static str = "ogniwo-locate+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// Answer to a locate, in the order of its indexes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocateAnswer {
    /// One per index.
    pub found: Vec<Located>,
}

/// What the registry knows at one index, for this asker. Unknown, expired and forbidden are alike: empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// Sealed values of the other members' entries.
    pub entries: Vec<Bytes>,
    /// A [`Ticket`] as compact JWS, if wanted and the asker serves the resident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// The registry's word that `sub` serves the resident behind `bind` now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The registry.
    pub iss: MemberId,
    /// The asker it was given to.
    pub sub: MemberId,
    /// 16 random bytes.
    pub nonce: Bytes,
    /// SHA-256(nonce ‖ index).
    pub bind: Bytes,
    /// Which key the index is of.
    pub epoch: Epoch,
    /// When it was given.
    pub iat: Timestamp,
    /// When it lapses: at most [`TICKET_SECONDS`] later.
    pub exp: Timestamp,
}

impl Ticket {
    /// SHA-256(nonce ‖ index), 32 bytes.
    #[must_use]
    pub fn binding(nonce: &[u8], index: &Index) -> [u8; 32] {
        sha256(&[nonce, index.as_bytes()])
    }

    /// Whether this ticket was given for `index`.
    #[must_use]
    pub fn is_for(&self, index: &Index) -> bool {
        self.bind.0 == Self::binding(&self.nonce.0, index)
    }
}

impl Envelope for Ticket {
    const TYP: &'static str = "ogniwo-ticket+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}
