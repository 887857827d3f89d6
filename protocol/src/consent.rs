//! Consent between members: grants, withdrawals, status lists.

use crate::encoding::Bytes;
use crate::jws::Envelope;
use crate::{ConsentId, Epoch, FieldId, MemberId, Purpose, SubjectId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

/// A holder's view of a recorder's status list may be this old.
pub const STATUS_MAX_AGE_SECONDS: i64 = 60;
/// Most consents one list can carry.
pub const MAX_STATUS_BITS: usize = 1 << 22;

/// `GET /v1/status/copy`: what a follower holds of the caller's own status list. A recorder that was restored from a backup
/// makes its list whole by it: a bit set anywhere is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusCopy {
    /// The sequence number of the copy; 0 if there is none.
    pub seq: u64,
    /// Its bits.
    pub status_list: CompressedBits,
}

/// Points at a consent somebody recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentRef {
    /// Its id.
    pub id: ConsentId,
}

/// A recorder's accountable word to one holder that the resident consented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The recorder.
    pub iss: MemberId,
    /// The holder.
    pub aud: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// The consent.
    pub consent: ConsentId,
    /// The holder's own name for the resident.
    pub sub: SubjectId,
    /// Which key `sub` comes from.
    pub epoch: Epoch,
    /// Who may receive.
    pub recipient: MemberId,
    /// What for.
    pub purposes: BTreeSet<Purpose>,
    /// Which fields.
    pub fields: BTreeSet<FieldId>,
    /// The template's modules that were given; the others are refused.
    pub modules: BTreeSet<String>,
    /// Who gave it.
    #[serde(default)]
    pub acting: Acting,
    /// First moment of validity.
    pub valid_from: Timestamp,
    /// Last moment of validity.
    pub valid_to: Timestamp,
    /// Template the resident agreed to.
    pub template: TemplateRef,
    /// SHA-256 of the evidence kept at the recorder (a scan, a signed form).
    pub evidence: Bytes,
    /// Pseudonymous id of the user who took the consent, under the recorder's key.
    pub collected_by: Bytes,
    /// Position in the recorder's status list.
    pub status: u32,
}

impl Envelope for Grant {
    const TYP: &'static str = "ogniwo-grant+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// In whose hand a consent was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acting {
    /// The resident's own.
    #[default]
    Resident,
    /// A minor's parent or guardian.
    Guardian,
    /// Somebody the resident gave a power of attorney to.
    Attorney,
}

/// A consent template of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateRef {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// A withdrawal of one consent, in whole or in part, sent to its recorder and every holder; by who did not record
/// it, to every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// Where it was taken.
    pub iss: MemberId,
    /// The holder.
    pub aud: MemberId,
    /// When it was taken.
    pub iat: Timestamp,
    /// The consent.
    pub consent: ConsentId,
    /// Whose it is.
    pub resident: Whose,
    /// Which key that comes from.
    pub epoch: Epoch,
    /// The modules withdrawn; all of them if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<BTreeSet<String>>,
}

/// How a withdrawal names the resident to one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The member's own name for the resident.
    Subject(SubjectId),
    /// What only who knows the resident can tell, for this member and this consent; 32 bytes each: HKDF-Expand under the
    /// key of the resident's registry entries, by each identifier the resident has. It needs no key holders.
    Marks(Vec<Bytes>),
}

impl Envelope for Withdrawal {
    const TYP: &'static str = "ogniwo-withdrawal+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// A member's list of withdrawn consents (the shape of IETF Token Status List): bit i set = withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusList {
    /// The recorder.
    pub iss: MemberId,
    /// Where the list is to be had: `/v1/status` of the recorder's first endpoint.
    pub sub: String,
    /// How many seconds a copy serves.
    pub ttl: i64,
    /// When it was written; its age counts from here.
    pub iat: Timestamp,
    /// Never goes back.
    pub seq: u64,
    /// The bits.
    pub status_list: CompressedBits,
}

/// One bit a token, least significant first within a byte, zlib-compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressedBits {
    /// Bits per token: 1.
    pub bits: u8,
    /// zlib (RFC 1950) of the bit array.
    pub lst: Bytes,
}

impl Envelope for StatusList {
    const TYP: &'static str = "statuslist+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// An uncompressed status list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusBits(Vec<u8>);

impl StatusBits {
    /// Whether token `position` is withdrawn. Beyond the list's end nothing is known: counted as withdrawn.
    #[must_use]
    pub fn is_set(&self, position: u32) -> bool {
        let position = position as usize;
        self.0.get(position / 8).is_none_or(|byte| byte >> (position % 8) & 1 == 1)
    }

    /// Makes room up to `position` and sets its bit to `withdrawn`, unless it is already set: withdrawal is final.
    pub fn set(&mut self, position: u32, withdrawn: bool) {
        let position = position as usize;
        if self.0.len() <= position / 8 {
            self.0.resize(position / 8 + 1, 0);
        }
        if let Some(byte) = self.0.get_mut(position / 8) {
            *byte |= u8::from(withdrawn) << (position % 8);
        }
    }

    /// Sets every bit that is set in `other`, and makes room for all it has; how many places there are then.
    pub fn join(&mut self, other: &StatusBits) -> u32 {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (byte, more) in self.0.iter_mut().zip(&other.0) {
            *byte |= more;
        }
        u32::try_from(self.0.len() * 8).unwrap_or(u32::MAX)
    }

    /// Compressed for the wire.
    ///
    /// # Errors
    /// Never for memory buffers; the compressor's own error otherwise.
    pub fn compress(&self) -> std::io::Result<CompressedBits> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&self.0)?;
        Ok(CompressedBits { bits: 1, lst: Bytes(encoder.finish()?) })
    }
}

impl CompressedBits {
    /// The bits, at most [`MAX_STATUS_BITS`]; nothing if it is longer or not zlib.
    #[must_use]
    pub fn expand(&self) -> Option<StatusBits> {
        let limit = MAX_STATUS_BITS / 8;
        let mut out = Vec::new();
        let mut decoder = flate2::read::ZlibDecoder::new(self.lst.0.as_slice()).take(limit as u64 + 1);
        decoder.read_to_end(&mut out).ok()?;
        (self.bits == 1 && out.len() <= limit).then_some(StatusBits(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of draft-ietf-oauth-status-list §4.1: bytes b9 a3.
    #[test]
    fn bits_stand_as_in_the_draft() {
        let mut bits = StatusBits::default();
        for (position, value) in [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1].into_iter().enumerate() {
            bits.set(u32::try_from(position).unwrap(), value == 1);
        }
        assert_eq!(bits.0, [0xb9, 0xa3]);
        let expanded = bits.compress().unwrap().expand().unwrap();
        assert_eq!(expanded, bits);
        assert!(expanded.is_set(0) && !expanded.is_set(1) && expanded.is_set(16));
    }

    #[test]
    fn a_withdrawal_cannot_be_undone() {
        let mut bits = StatusBits::default();
        bits.set(9, true);
        bits.set(9, false);
        assert!(bits.is_set(9));
        assert!(!bits.is_set(8));
    }

    #[test]
    fn joining_sets_what_either_has() {
        let mut bits = StatusBits(vec![0b01]);
        assert_eq!(bits.join(&StatusBits(vec![0b10, 0b100])), 16);
        assert_eq!(bits.0, [0b11, 0b100]);
        assert_eq!(bits.join(&StatusBits::default()), 16);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bits = StatusBits(vec![0; MAX_STATUS_BITS / 8 + 1]);
        assert_eq!(bits.compress().unwrap().expand(), None);
    }
}
