//! Messages about what the registry noticed: a member's review queue, and indexes that stand for nobody.

use crate::encoding::{Bytes, push_len8, sha256};
use crate::jws::Envelope;
use crate::keys::{KeyId, SigningKey};
use crate::manifest::{ManifestError, ManifestRef, Officers};
use crate::{Epoch, Index, MemberId, Realm, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most items of one answer.
pub const MAX_REVIEW_ITEMS: usize = 500;
/// Items are kept this many days.
pub const REVIEW_DAYS: i64 = 90;
/// Most indexes of one [`Honeypots`].
pub const MAX_HONEYPOTS: usize = 1000;

/// `POST /v1/review`: the member's review queue, from a position on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewRequest {
    /// The reader.
    pub iss: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// Random id.
    pub jti: Bytes,
    /// The manifest it was written under.
    pub manifest: ManifestRef,
    /// [`ReviewAnswer::next`] of the answer before; absent for the oldest items kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Bytes>,
}

impl Envelope for ReviewRequest {
    const TYP: &'static str = "ogniwo-review+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// Part of a review queue, oldest first. Reading does not remove anything: items stay for [`REVIEW_DAYS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewAnswer {
    /// At most [`MAX_REVIEW_ITEMS`].
    pub items: Vec<ReviewItem>,
    /// Where to go on: 24 bytes. Present as long as this answer has items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Bytes>,
}

/// Something for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewItem {
    /// When it happened.
    pub at: Timestamp,
    /// Which key the index is of.
    pub epoch: Epoch,
    /// [`review_handle`] of the resident for this reader, 16 bytes: the reader computes it for each of its clients.
    pub handle: Bytes,
    /// What happened.
    #[serde(flatten)]
    pub news: News,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    /// The reader and another member now both have an entry on this resident, and see each other's.
    Met {
        /// Whether it was the reader's entry that was new.
        by_reader: bool,
        /// Whether the new entry follows one that its writer removed or let lapse in the last 90 days.
        again: bool,
        /// The other's sealed entry, as locating shows it.
        sealed: Bytes,
    },
    /// The reader's provisional entry lapsed and no ordinary one ever took its place.
    NeverConverted,
    /// `member` located or posted an index that stands for nobody: it was guessed, or a share of the key is abused. Told to
    /// the officers' institutions.
    Honeypot {
        /// Who did.
        member: MemberId,
    },
    /// `member` has used up its budget of indexes located without serving the resident. Told to the officers' institutions.
    MissBudgetSpent {
        /// Who did.
        member: MemberId,
    },
    /// New entries of `member` met hardly any other member's: they may be invented. Told to the officers' institutions.
    SeldomMet {
        /// Whose.
        member: MemberId,
        /// New entries in 30 days.
        posted: u64,
        /// Of these, entries on a resident whom another member it sees knows.
        met: u64,
    },
}

/// How a review item means a resident to `reader`: the first 16 bytes of SHA-256("ogniwo/v1/review" ‖ len8 reader ‖
/// index).
#[must_use]
pub fn review_handle(reader: &MemberId, index: &Index) -> [u8; 16] {
    let mut message = b"ogniwo/v1/review".to_vec();
    push_len8(&mut message, reader.as_str());
    let digest = sha256(&[&message, index.as_bytes()]);
    let mut handle = [0; 16];
    handle.copy_from_slice(digest.split_at(16).0);
    handle
}

/// Indexes of identifiers that nobody has, planted by the officers: whoever comes upon one was guessing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Honeypots {
    /// The federation.
    pub realm: Realm,
    /// When it was drawn up.
    pub issued: Timestamp,
    /// Which key the indexes are of.
    pub epoch: Epoch,
    /// To plant, with those to remove at most [`MAX_HONEYPOTS`].
    pub plant: Vec<Index>,
    /// To remove.
    pub remove: Vec<Index>,
}

/// `PUT /v1/honeypots`: [`Honeypots`] under the officers' signatures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHoneypots {
    /// Canonical JSON (RFC 8785) of [`Honeypots`].
    pub honeypots: Bytes,
    /// Ed25519 signatures over `"ogniwo/v1/honeypots"` and those bytes, by key.
    pub signatures: BTreeMap<KeyId, Bytes>,
}

impl SignedHoneypots {
    /// Writes `honeypots` in canonical form, unsigned.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] if it does not serialise.
    pub fn draft(honeypots: &Honeypots) -> Result<Self, ManifestError> {
        let bytes = serde_json_canonicalizer::to_vec(honeypots).map_err(|_| ManifestError::Malformed)?;
        Ok(SignedHoneypots { honeypots: Bytes(bytes), signatures: BTreeMap::new() })
    }

    /// Adds an officer's signature.
    pub fn sign(&mut self, officer: &SigningKey) {
        self.signatures.insert(officer.id().clone(), Bytes(officer.sign(&self.message()).to_vec()));
    }

    /// Reads what enough of `officers` signed.
    ///
    /// # Errors
    /// [`ManifestError::Unsigned`] or [`ManifestError::Malformed`].
    pub fn accept(&self, officers: &Officers) -> Result<Honeypots, ManifestError> {
        officers.signed(&self.message(), &self.signatures)?;
        serde_json::from_slice(&self.honeypots.0).map_err(|_| ManifestError::Malformed)
    }

    /// SHA-256 of what is signed, 32 bytes.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[&self.honeypots.0])
    }

    fn message(&self) -> Vec<u8> {
        [b"ogniwo/v1/honeypots".as_slice(), &self.honeypots.0].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::OfficerKey;

    #[test]
    fn a_handle_means_one_resident_to_one_reader() {
        let handle = |reader: &str, n: u8| review_handle(&reader.parse().unwrap(), &Index([n; 32]));
        assert_eq!(handle("mops", 1), handle("mops", 1));
        assert_ne!(handle("mops", 1), handle("pup", 1));
        assert_ne!(handle("mops", 1), handle("mops", 2));
    }

    #[test]
    fn honeypots_need_as_many_officers_as_a_manifest() {
        let keys: Vec<_> = [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap()).into();
        let officer =
            |(key, name): (&SigningKey, &str)| OfficerKey { member: name.parse().unwrap(), key: key.public() };
        let officers = Officers { threshold: 2, keys: keys.iter().zip(["mops", "pup", "css"]).map(officer).collect() };
        let honeypots = Honeypots {
            realm: "lodz.example".parse().unwrap(),
            issued: Timestamp(1),
            epoch: Epoch(1),
            plant: vec![Index([7; 32])],
            remove: vec![],
        };
        let mut signed = SignedHoneypots::draft(&honeypots).unwrap();
        signed.sign(&keys[0]);
        assert_eq!(signed.accept(&officers).unwrap_err(), ManifestError::Unsigned { found: 1, needed: 2 });
        signed.sign(&keys[2]);
        assert_eq!(signed.accept(&officers).unwrap().plant, [Index([7; 32])]);
        signed.honeypots.0.push(b' ');
        assert_eq!(signed.accept(&officers).unwrap_err(), ManifestError::Unsigned { found: 0, needed: 2 });
    }
}
