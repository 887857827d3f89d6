//! Messages of a key birth between holders (design §3, §8). All go over mutual TLS straight to the holder meant.

use crate::encoding::Bytes;
use crate::jws::Envelope;
use crate::{Epoch, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What all holders must agree on before they begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// 16 random bytes naming this birth.
    pub session: Bytes,
    /// The epoch to be born.
    pub epoch: Epoch,
    /// Holders needed.
    pub threshold: u16,
    /// Share number → member.
    pub holders: BTreeMap<u16, MemberId>,
    /// When the key shall come into use.
    pub not_before: Timestamp,
}

/// One step of one holder, addressed to one other.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkgMessage {
    /// Who sends.
    pub iss: MemberId,
    /// Who is meant.
    pub aud: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// The ceremony.
    pub session: Bytes,
    /// What is sent.
    pub step: DkgStep,
}

/// The steps, in order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum DkgStep {
    /// Commitments, the same to everybody.
    Round1 {
        /// Serialised package.
        package: Bytes,
    },
    /// SHA-256 over all round-1 packages as this holder received them: any difference aborts.
    Compared {
        /// 32 bytes.
        transcript: Bytes,
    },
    /// The secret part for one holder.
    Round2 {
        /// Serialised package; secret.
        package: Bytes,
    },
    /// The born key as this holder sees it, with its signature over the epoch's statement.
    Born {
        /// Signature, 64 bytes.
        signature: Bytes,
    },
}

impl DkgStep {
    /// Its place in the order.
    #[must_use]
    pub fn round(&self) -> u8 {
        match self {
            DkgStep::Round1 { .. } => 1,
            DkgStep::Compared { .. } => 2,
            DkgStep::Round2 { .. } => 3,
            DkgStep::Born { .. } => 4,
        }
    }
}

impl Envelope for DkgMessage {
    const TYP: &'static str = "ogniwo-dkg+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}
