//! The public half of a split key, as the manifest lists it and every client pins it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use curve25519_dalek::ristretto::{RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use sha2::{Digest, Sha256};

use crate::group::decode_point;
use crate::quorum::{Quorum, QuorumError};
use crate::{CombineError, KeyShare};

/// Group key PK, threshold t and each holder's public share `PK_j`. Cheap to clone: it shares a 30 kB table of PK.
#[derive(Clone)]
pub struct PublicKey(Arc<Parts>);

struct Parts {
    threshold: u16,
    group: Share,
    shares: BTreeMap<u16, Share>,
    table: RistrettoBasepointTable,
}

struct Share {
    bytes: [u8; 32],
    point: RistrettoPoint,
}

/// Why bytes are not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The threshold is zero or above the number of holders.
    #[error("threshold {threshold} does not fit {holders} holders")]
    Threshold {
        /// The threshold given.
        threshold: u16,
        /// How many shares were given.
        holders: usize,
    },
    /// The group key is non-canonical or the identity.
    #[error("the group key is not a canonical group element")]
    GroupKey,
    /// A share is non-canonical or the identity, or its holder id is zero.
    #[error("the public share of holder {holder} is not acceptable")]
    Share {
        /// The holder listed with it.
        holder: u16,
    },
}

impl PublicKey {
    /// `group_key` is k·G, `shares` maps each holder's id (from 1) to `k_j·G`; all canonical 32-byte ristretto255.
    ///
    /// That the shares fit the group key is checked for a quorum, by [`check_quorum`](Self::check_quorum) and on every
    /// [`finish`](crate::Blinded::finish).
    ///
    /// # Errors
    /// [`PublicKeyError`] for a threshold outside 1 to n, a zero id or an unacceptable point.
    pub fn new(threshold: u16, group_key: [u8; 32], shares: &BTreeMap<u16, [u8; 32]>) -> Result<Self, PublicKeyError> {
        if threshold == 0 || usize::from(threshold) > shares.len() {
            return Err(PublicKeyError::Threshold { threshold, holders: shares.len() });
        }
        let group = Share::decode(group_key).ok_or(PublicKeyError::GroupKey)?;
        let table = RistrettoBasepointTable::create(&group.point);
        let decode = |(&holder, &bytes): (&u16, &[u8; 32])| {
            let share = Share::decode(bytes).filter(|_| holder != 0);
            share.map(|share| (holder, share)).ok_or(PublicKeyError::Share { holder })
        };
        let shares = shares.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Parts { threshold, group, shares, table })))
    }

    /// How many holders must answer together.
    #[must_use]
    pub fn threshold(&self) -> u16 {
        self.0.threshold
    }

    /// The group key k·G, 32 bytes.
    #[must_use]
    pub fn group_key(&self) -> [u8; 32] {
        self.0.group.bytes
    }

    /// Each holder's id and public share `k_j·G`, by ascending id.
    pub fn shares(&self) -> impl Iterator<Item = (u16, [u8; 32])> {
        self.0.shares.iter().map(|(&holder, share)| (holder, share.bytes))
    }

    /// SHA-256 over the whole key, for people and holders to compare and sign:
    /// `"ogniwo/v1/public-key" | t u16be | PK 32 | n u32be | n × (id u16be | PK_j 32)`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"ogniwo/v1/public-key");
        hash.update(self.0.threshold.to_be_bytes());
        hash.update(self.0.group.bytes);
        // Ids are u16 and none is zero, so the count fits.
        hash.update(u32::try_from(self.0.shares.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (holder, bytes) in self.shares() {
            hash.update(holder.to_be_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    /// Whether the shares of `quorum` add up to the group key: `Σ λ_j·PK_j = PK`.
    ///
    /// # Errors
    /// [`CombineError::Quorum`] for a malformed quorum, [`CombineError::KeyMismatch`] if the sum differs.
    pub fn check_quorum(&self, quorum: &[u16]) -> Result<(), CombineError> {
        self.consistent_quorum(quorum).map(drop)
    }

    /// Whether `share` is the one this key lists for its holder. One restored from an old backup is of an earlier
    /// generation of shares, and is not.
    #[must_use]
    pub fn lists(&self, share: &KeyShare) -> bool {
        let listed = self.0.shares.get(&share.id());
        share.threshold() == self.threshold() && listed.is_some_and(|listed| listed.bytes == share.public_share())
    }

    pub(crate) fn consistent_quorum(&self, ids: &[u16]) -> Result<Quorum, CombineError> {
        let quorum = self.quorum(ids)?;
        let (lambdas, shares): (Vec<Scalar>, Vec<RistrettoPoint>) =
            quorum.ids().iter().filter_map(|&id| Some((quorum.lambda(id), self.0.shares.get(&id)?.point))).unzip();
        if RistrettoPoint::vartime_multiscalar_mul(lambdas, shares) == self.0.group.point {
            Ok(quorum)
        } else {
            Err(CombineError::KeyMismatch)
        }
    }

    /// Exactly t known holders, ascending.
    pub(crate) fn quorum(&self, ids: &[u16]) -> Result<Quorum, QuorumError> {
        let quorum = Quorum::new(ids, self.0.threshold)?;
        match ids.iter().find(|id| !self.0.shares.contains_key(id)) {
            Some(&holder) => Err(QuorumError::UnknownHolder { holder }),
            None => Ok(quorum),
        }
    }

    /// `λ_j(S)·PK_j`, the public key under which holder j answers for S. `None` if j is not in S.
    pub(crate) fn server_key(&self, quorum: &Quorum, holder: u16) -> Option<RistrettoPoint> {
        let share = self.0.shares.get(&holder).filter(|_| quorum.contains(holder))?;
        Some(share.point * quorum.lambda(holder))
    }

    /// secret·PK in constant time.
    pub(crate) fn multiply(&self, secret: &Scalar) -> RistrettoPoint {
        secret * &self.0.table
    }
}

impl Share {
    fn decode(bytes: [u8; 32]) -> Option<Self> {
        decode_point(&bytes).map(|point| Self { bytes, point })
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.threshold() == other.threshold()
            && self.group_key() == other.group_key()
            && self.shares().eq(other.shares())
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("threshold", &self.0.threshold)
            .field("holders", &self.0.shares.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{TestRng, deal};

    #[test]
    fn refuses_malformed_parts_naming_the_holder() {
        let dealt = deal(2, &[1, 2, 3], &mut TestRng::new(1));
        let (group, shares) = (dealt.public.group_key(), dealt.public.shares().collect::<BTreeMap<_, _>>());
        let new = |threshold, group, shares: &BTreeMap<_, _>| PublicKey::new(threshold, group, shares).unwrap_err();

        assert_eq!(new(0, group, &shares), PublicKeyError::Threshold { threshold: 0, holders: 3 });
        assert_eq!(new(4, group, &shares), PublicKeyError::Threshold { threshold: 4, holders: 3 });
        assert_eq!(new(2, [0; 32], &shares), PublicKeyError::GroupKey);
        for bad in [[0; 32], [0xff; 32]] {
            let mut shares = shares.clone();
            shares.insert(2, bad);
            assert_eq!(new(2, group, &shares), PublicKeyError::Share { holder: 2 });
        }
        let mut shares = shares.clone();
        shares.insert(0, group);
        assert_eq!(new(2, group, &shares), PublicKeyError::Share { holder: 0 });
    }

    #[test]
    fn a_share_of_another_key_shows_in_its_quorums_only() {
        let mut rng = TestRng::new(2);
        let (dealt, other) = (deal(2, &[1, 2, 3], &mut rng), deal(2, &[1, 2, 3], &mut rng));
        let mut shares: BTreeMap<_, _> = dealt.public.shares().collect();
        shares.extend(other.public.shares().filter(|&(holder, _)| holder == 3));
        let key = PublicKey::new(2, dealt.public.group_key(), &shares).unwrap();

        assert_eq!(key.check_quorum(&[1, 2]), Ok(()));
        assert_eq!(key.check_quorum(&[1, 3]), Err(CombineError::KeyMismatch));
        assert_eq!(key.check_quorum(&[1, 4]), Err(QuorumError::UnknownHolder { holder: 4 }.into()));
    }

    #[test]
    fn the_digest_covers_every_part() {
        let dealt = deal(2, &[1, 2, 3], &mut TestRng::new(3));
        let (group, shares) = (dealt.public.group_key(), dealt.public.shares().collect::<BTreeMap<_, _>>());
        let digest =
            |threshold, group, shares: &BTreeMap<_, _>| PublicKey::new(threshold, group, shares).unwrap().digest();
        assert_eq!(digest(2, group, &shares), dealt.public.digest());

        let mut fewer = shares.clone();
        fewer.remove(&3);
        let mut swapped = shares.clone();
        swapped.insert(1, shares[&2]);
        let variants = [
            digest(3, group, &shares),
            digest(2, shares[&1], &shares),
            digest(2, group, &fewer),
            digest(2, group, &swapped),
        ];
        assert!(!variants.contains(&dealt.public.digest()));
    }
}
