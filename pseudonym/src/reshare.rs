//! New shares of an old key: refreshing them, and replacing, adding or leaving out a holder, in one ceremony.
//!
//! Any t old holders split their weighted share `λ_j·k_j` verifiably among the new holders (Feldman's scheme); a new
//! share is the sum of what its holder was dealt. The key and all pseudonyms stay, and still nobody has the key
//! (Desmedt and Jajodia, "Redistributing secret shares", 1997). The dealing is FROST's own, here with t dealers who trust
//! nobody: `frost-ristretto255`'s refresh needs every remaining holder and admits no new one, its repair names no culprit.
//!
//! 1. [`deal`]: each dealer publishes a package **to all**. All compare [`Plan::digest`] over an authenticated channel.
//! 2. [`Dealing::addressed`]: each dealer sends every new holder a **confidential** package.
//! 3. [`join`]: each new holder gets its share and the public key, and signs [`PublicKey::digest`] for the others.
//!
//! Any error ends the ceremony; begin again with other dealers than the one named. Nothing old is given up before all new
//! holders confirm. Once the old shares and every [`Dealing`] are erased, fewer
//! than t old shares are worth nothing, not even beside fewer than t new ones. t stays: another t is another key.

use std::collections::BTreeMap;
use std::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use frost_ristretto255::SigningKey;
use frost_ristretto255::keys::{
    IdentifierList, PublicKeyPackage, SecretShare, SigningShare, VerifiableSecretSharingCommitment, split,
};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::dkg::{Addressed, Born, DkgError, Rng06, canonical, holder, identifier, split_prefixed};
use crate::group::{decode_point, decode_scalar};
use crate::quorum::Quorum;
use crate::{KeyShare, PublicKey};

/// Who deals from which key to whom: the same for everybody in a ceremony.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    key: PublicKey,
    dealers: Quorum,
    recipients: Vec<u16>,
}

/// What a dealer keeps from round 1 to the end, wiped on drop; redacting `Debug`. The packages are made once: after a
/// restart the same are sent again.
pub struct Dealing {
    package: Vec<u8>,
    shares: Addressed,
}

impl Plan {
    /// `dealers` are exactly t holders of `key`, `recipients` at least t ids, both ascending. A recipient may be an old
    /// holder, dealing or not, or a new one.
    ///
    /// # Errors
    /// [`DkgError::Dealers`], [`DkgError::Parameters`].
    pub fn new(key: &PublicKey, dealers: &[u16], recipients: &[u16]) -> Result<Self, DkgError> {
        let dealers = key.consistent_quorum(dealers)?;
        let enough = recipients.len() >= usize::from(key.threshold()).max(2);
        // With one holder enough, a share is the key, and redistributing it renews nothing.
        if key.threshold() < 2 || !enough || !recipients.is_sorted_by(|a, b| a < b) || recipients.contains(&0) {
            return Err(DkgError::Parameters);
        }
        Ok(Self { key: key.clone(), dealers, recipients: recipients.to_vec() })
    }

    /// SHA-256 over the plan and all published packages, for the participants to compare and sign before round 2:
    /// `"ogniwo/v1/reshare" | old key's digest 32 | n u64be | n × recipient u16be | m u64be | m × (dealer u16be |
    /// length u64be | package)`.
    #[must_use]
    pub fn digest(&self, packages: &BTreeMap<u16, Vec<u8>>) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"ogniwo/v1/reshare");
        hash.update(self.key.digest());
        hash.update((self.recipients.len() as u64).to_be_bytes());
        self.recipients.iter().for_each(|id| hash.update(id.to_be_bytes()));
        hash.update((packages.len() as u64).to_be_bytes());
        for (dealer, package) in packages {
            hash.update(dealer.to_be_bytes());
            hash.update((package.len() as u64).to_be_bytes());
            hash.update(package);
        }
        hash.finalize().into()
    }

    /// The public key with the new shares, from what was published alone: anybody can check it.
    ///
    /// # Errors
    /// [`DkgError`], naming the dealer whose package is malformed or does not deal its share.
    pub fn public_key(&self, packages: &BTreeMap<u16, Vec<u8>>) -> Result<PublicKey, DkgError> {
        let identifiers = self.recipients.iter().map(|&id| identifier(id)).collect::<Result<_, _>>()?;
        let mut sums: BTreeMap<u16, RistrettoPoint> = BTreeMap::new();
        for commitment in self.commitments(packages)?.values() {
            let dealt = PublicKeyPackage::from_commitment(&identifiers, commitment).map_err(DkgError::Refused)?;
            for (identifier, share) in dealt.verifying_shares() {
                let bytes = canonical(&share.serialize().map_err(DkgError::Refused)?)?;
                *sums.entry(holder(identifier)).or_default() += decode_point(&bytes).ok_or(DkgError::Unusable)?;
            }
        }
        let shares = sums.into_iter().map(|(id, share)| (id, share.compress().to_bytes())).collect();
        PublicKey::new(self.key.threshold(), self.key.group_key(), &shares).map_err(|_| DkgError::Unusable)
    }

    /// The dealers' commitments, each to its own weighted share and of the key's threshold.
    fn commitments(
        &self,
        packages: &BTreeMap<u16, Vec<u8>>,
    ) -> Result<BTreeMap<u16, VerifiableSecretSharingCommitment>, DkgError> {
        if !packages.keys().eq(self.dealers.ids()) {
            return Err(DkgError::Count { expected: self.dealers.ids().len(), found: packages.len() });
        }
        let decode = |(&holder, bytes): (&u16, &Vec<u8>)| {
            let (points, rest) = bytes.as_chunks::<32>();
            if points.len() != usize::from(self.key.threshold()) || !rest.is_empty() {
                return Err(DkgError::Package { holder });
            }
            let commitment = VerifiableSecretSharingCommitment::deserialize_whole(bytes);
            let commitment = commitment.map_err(|_| DkgError::Package { holder })?;
            let weighted = self.key.server_key(&self.dealers, holder).map(|point| point.compress().to_bytes());
            if points.first() != weighted.as_ref() {
                return Err(DkgError::OtherSecret { holder });
            }
            Ok((holder, commitment))
        };
        packages.iter().map(decode).collect()
    }
}

/// Round 1 of a dealer. The package goes to **all** dealers and recipients; the [`Dealing`] is kept, encrypted, first.
///
/// # Errors
/// [`DkgError::StaleShare`] if `share` is not the one `plan`'s key lists, [`DkgError::Parameters`] if its holder is no
/// dealer.
pub fn deal(plan: &Plan, share: &KeyShare, rng: &mut impl CryptoRng) -> Result<(Dealing, Vec<u8>), DkgError> {
    if !plan.key.lists(share) {
        return Err(DkgError::StaleShare);
    }
    if !plan.dealers.contains(share.id()) {
        return Err(DkgError::Parameters);
    }
    let weighted = share.weighted(&plan.dealers);
    let secret = SigningKey::deserialize(weighted.as_bytes()).map_err(DkgError::Refused)?;
    let recipients = plan.recipients.iter().map(|&id| identifier(id)).collect::<Result<Vec<_>, _>>()?;
    let count = u16::try_from(recipients.len()).map_err(|_| DkgError::Parameters)?;
    let recipients = IdentifierList::Custom(&recipients);
    let (dealt, _) =
        split(&secret, count, plan.key.threshold(), recipients, &mut Rng06(rng)).map_err(DkgError::Refused)?;

    let commitment = dealt.values().next().map(|share| share.commitment().serialize_whole());
    let package = commitment.ok_or(DkgError::Parameters)?.map_err(DkgError::Refused)?;
    let encode = |(id, share): (&_, &SecretShare)| (holder(id), Zeroizing::new(share.signing_share().serialize()));
    Ok((Dealing { package: package.clone(), shares: dealt.iter().map(encode).collect() }, package))
}

impl Dealing {
    /// Round 2 of a dealer: one secret package for each new holder, 32 bytes, our own among them if we stay.
    ///
    /// # Errors
    /// [`DkgError`] as of [`Plan::public_key`]; nothing secret leaves while a published package is wrong.
    pub fn addressed(&self, plan: &Plan, packages: &BTreeMap<u16, Vec<u8>>) -> Result<Addressed, DkgError> {
        plan.commitments(packages)?;
        if !packages.values().any(|package| *package == self.package) {
            return Err(DkgError::OwnPackage);
        }
        Ok(self.shares.clone())
    }

    /// For encrypted storage: `length u64be | package | n × (recipient u16be | 32 bytes)`.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 + self.package.len() + self.shares.len() * 34));
        bytes.extend((self.package.len() as u64).to_be_bytes());
        bytes.extend(&self.package);
        for (recipient, share) in &self.shares {
            bytes.extend(recipient.to_be_bytes());
            bytes.extend(share.as_slice());
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`DkgError::State`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DkgError> {
        let (package, rest) = split_prefixed(bytes).ok_or(DkgError::State)?;
        let (shares, rest) = rest.as_chunks::<34>();
        if package.is_empty() || shares.is_empty() || !rest.is_empty() {
            return Err(DkgError::State);
        }
        let share =
            |[high, low, share @ ..]: &[u8; 34]| (u16::from_be_bytes([*high, *low]), Zeroizing::new(share.to_vec()));
        Ok(Self { package: package.to_vec(), shares: shares.iter().map(share).collect() })
    }
}

impl fmt::Debug for Dealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dealing").field("recipients", &self.shares.keys()).finish_non_exhaustive()
    }
}

/// Round 3 of the new holder `id`: `packages` as published and compared, `received` the secret packages by dealer.
///
/// # Errors
/// [`DkgError`], naming the dealer whose package, published or secret, is malformed or wrong.
pub fn join(plan: &Plan, id: u16, packages: &BTreeMap<u16, Vec<u8>>, received: &Addressed) -> Result<Born, DkgError> {
    if plan.recipients.binary_search(&id).is_err() {
        return Err(DkgError::Parameters);
    }
    let public = plan.public_key(packages)?;
    let commitments = plan.commitments(packages)?;
    if !commitments.keys().eq(received.keys()) {
        return Err(DkgError::Count { expected: commitments.len(), found: received.len() });
    }
    let mut sum = Zeroizing::new(Scalar::ZERO);
    for ((&holder, commitment), bytes) in commitments.iter().zip(received.values()) {
        let malformed = DkgError::Package { holder };
        let dealt = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| malformed.clone())?);
        *sum += decode_scalar(&dealt).ok_or(malformed.clone())?;
        let share = SigningShare::deserialize(dealt.as_slice()).map_err(|_| malformed)?;
        let share = SecretShare::new(identifier(id)?, share, commitment.clone());
        share.verify().map_err(|_| DkgError::Share { holder })?;
    }
    let share = KeyShare::new(id, public.threshold(), sum.as_bytes()).map_err(|_| DkgError::Unusable)?;
    if public.lists(&share) { Ok(Born { share, public }) } else { Err(DkgError::Unusable) }
}
