//! What one member tells another beside queries and their answers: that a person decided, that an emergency was
//! reviewed, that a resident refused.

use crate::encoding::Bytes;
use crate::jws::Envelope;
use crate::{Epoch, FieldId, MemberId, Purpose, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// `POST /v1/decided`: a person at the holder decided a question, or nobody did in time. Not what: the asker puts the
/// question again, and it is decided again as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The holder.
    pub iss: MemberId,
    /// The asker.
    pub aud: MemberId,
    /// When it was decided.
    pub iat: Timestamp,
    /// SHA-256 of the request that was answered `pending` last, 32 bytes.
    pub request: Bytes,
}

impl Envelope for Decided {
    const TYP: &'static str = "ogniwo-decided+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// `POST /v1/reviewed`: the member that took an emergency access has reviewed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewed {
    /// Who took it.
    pub iss: MemberId,
    /// Who answered on it.
    pub aud: MemberId,
    /// When it was reviewed.
    pub iat: Timestamp,
    /// The emergency: [`EmergencyClaim::id`](crate::query::EmergencyClaim::id), 16 bytes.
    pub emergency: Bytes,
    /// What the review found.
    pub outcome: ReviewOutcome,
}

impl Envelope for Reviewed {
    const TYP: &'static str = "ogniwo-reviewed+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// What the review of an emergency access found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    /// There was danger, and what was read was needed.
    Justified,
    /// There was none, or more was read than was needed.
    Unjustified,
}

impl ReviewOutcome {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReviewOutcome::Justified => "justified",
            ReviewOutcome::Unjustified => "unjustified",
        }
    }
}

/// `POST /v1/refusals`: the resident refused, at `iss`, that `recipient` learns these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Where it was said.
    pub iss: MemberId,
    /// The holder.
    pub aud: MemberId,
    /// When it was said.
    pub iat: Timestamp,
    /// The holder's own name for the resident.
    pub sub: SubjectId,
    /// Which key `sub` comes from.
    pub epoch: Epoch,
    /// Whom it keeps out.
    pub recipient: MemberId,
    /// For which purposes.
    pub purposes: BTreeSet<Purpose>,
    /// Which fields.
    pub fields: BTreeSet<FieldId>,
}

impl Envelope for Refused {
    const TYP: &'static str = "ogniwo-refusal+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}
