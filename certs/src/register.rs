//! What was issued and what was taken back.

use crate::{AuthorityError, files};
use protocol::{Realm, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::str::FromStr;

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not said.
    #[default]
    Unspecified,
    /// The key may be in other hands.
    KeyCompromise,
    /// The member changed its name or place.
    AffiliationChanged,
    /// Replaced by a newer certificate.
    Superseded,
    /// The member left.
    CessationOfOperation,
    /// The member was shut out.
    PrivilegeWithdrawn,
}

impl FromStr for Reason {
    type Err = AuthorityError;

    /// Takes the names of the register, as `key_compromise`.
    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        serde_json::from_value(text.into())
            .map_err(|_| AuthorityError::BadRequest("unknown revocation reason".to_owned()))
    }
}

/// One certificate of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Serial number, 32 lower-case hexadecimal digits.
    pub serial: String,
    /// Whom it names.
    pub spiffe: SpiffeId,
    /// First second of its validity.
    pub not_before: Timestamp,
    /// Last second of its validity.
    pub not_after: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What a certificate of the register is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Neither revoked nor expired.
    Valid,
    /// Past its last second.
    Expired,
    /// Revoked, expired since or not.
    Revoked,
}

impl Issued {
    /// What it is worth at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        match self.revoked_at {
            Some(_) => Status::Revoked,
            None if self.not_after < now => Status::Expired,
            None => Status::Valid,
        }
    }
}

/// The register file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    pub(crate) realm: Realm,
    /// The number of the newest CRL.
    pub(crate) crl_number: u64,
    /// Oldest first.
    pub(crate) certificates: Vec<Issued>,
}

impl Register {
    pub(crate) fn load(path: &Path) -> Result<Self, AuthorityError> {
        serde_json::from_str(&files::read(path)?).map_err(|error| AuthorityError::damaged(path, &error))
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), AuthorityError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| AuthorityError::damaged(path, &error))?;
        files::replace(path, &text)
    }
}
