//! Messages between key holders at a key's birth and when its shares are renewed (docs/PROTOCOL.md, Key ceremonies). All go over
//! mutual TLS straight to the holder meant, are kept before they are acknowledged, and are sent again until they are.

use crate::encoding::Bytes;
use crate::jws::Envelope;
use crate::{Epoch, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What all participants must agree on before they begin: a birth, or new shares of an old key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// 16 random bytes naming this ceremony.
    pub session: Bytes,
    /// The epoch to be born, or whose shares are renewed.
    pub epoch: Epoch,
    /// The generation of shares to come: 1 for a birth, else one more than the manifest's.
    pub generation: u32,
    /// Holders needed.
    pub threshold: u16,
    /// Share number → member, of who holds a share afterwards.
    pub holders: BTreeMap<u16, MemberId>,
    /// Share number → member, of who deals its old share: nobody for a birth, else exactly `threshold` holders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dealers: BTreeMap<u16, MemberId>,
    /// When the key or its new shares shall come into use.
    pub not_before: Timestamp,
}

impl Ceremony {
    /// Everybody who takes part: who deals and who holds. A number stands for one member throughout.
    #[must_use]
    pub fn participants(&self) -> BTreeMap<u16, MemberId> {
        self.dealers.iter().chain(&self.holders).map(|(id, member)| (*id, member.clone())).collect()
    }

    /// Who publishes a package in round 1: the dealers, or at a birth every holder.
    #[must_use]
    pub fn publishers(&self) -> &BTreeMap<u16, MemberId> {
        if self.dealers.is_empty() { &self.holders } else { &self.dealers }
    }
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
    /// The ceremony, proposed by one of its participants.
    Invite {
        /// JSON of the [`Ceremony`].
        ceremony: Bytes,
    },
    /// Commitments, the same to everybody.
    Round1 {
        /// Serialised package.
        package: Bytes,
    },
    /// SHA-256 over all round-1 packages as this participant received them: any difference aborts.
    Compared {
        /// 32 bytes.
        transcript: Bytes,
    },
    /// The secret part for one holder.
    Round2 {
        /// Serialised package; secret.
        package: Bytes,
    },
    /// This participant computed the result, and has its share on disk if it holds one: its signature over the epoch's
    /// statement.
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
            DkgStep::Invite { .. } => 0,
            DkgStep::Round1 { .. } => 1,
            DkgStep::Compared { .. } => 2,
            DkgStep::Round2 { .. } => 3,
            DkgStep::Born { .. } => 4,
        }
    }

    /// The step of `round`, 0 to 4, that carries these bytes.
    #[must_use]
    pub fn of(round: u8, bytes: Bytes) -> Option<Self> {
        match round {
            0 => Some(DkgStep::Invite { ceremony: bytes }),
            1 => Some(DkgStep::Round1 { package: bytes }),
            2 => Some(DkgStep::Compared { transcript: bytes }),
            3 => Some(DkgStep::Round2 { package: bytes }),
            4 => Some(DkgStep::Born { signature: bytes }),
            _ => None,
        }
    }

    /// The bytes it carries.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            DkgStep::Invite { ceremony: bytes }
            | DkgStep::Round1 { package: bytes }
            | DkgStep::Compared { transcript: bytes }
            | DkgStep::Round2 { package: bytes }
            | DkgStep::Born { signature: bytes } => bytes,
        }
    }
}

impl Envelope for DkgMessage {
    const TYP: &'static str = "ogniwo-dkg+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}
