//! The birth of a key: three rounds after which each holder has a share and nobody has the key.
//!
//! A thin, byte-level front of the DKG of `frost-ristretto255` (FROST, ePrint 2020/852, figure 1: a Pedersen DKG with
//! proofs of possession). No dealer; t at least 2.
//!
//! 1. [`round1`]: each holder publishes a package **to all**. All compare [`round1_digest`] over an authenticated
//!    channel: the scheme is only sound if everybody got the same packages.
//! 2. [`round2`]: each holder sends every other one a **confidential** package.
//! 3. [`round3`]: each holder gets its share and the public key, and signs [`PublicKey::digest`] for the others to compare.
//!
//! Any error ends the ceremony; begin again without the holder named. A rushing participant can bias the public key,
//! which is harmless for this use.

mod adapter;

use std::collections::BTreeMap;
use std::fmt;

use frost_ristretto255::Identifier;
use frost_ristretto255::keys::dkg as frost;
use frost_ristretto255::keys::dkg::{part1, part2, part3};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{CombineError, KeyShare, PublicKey};
pub(crate) use adapter::Rng06;

/// What a holder keeps between rounds 1 and 2. Wiped on drop; redacting `Debug`. Kept encrypted, it outlives a restart:
/// [`round2`] makes the same packages from it again.
pub struct Secret1 {
    package: Vec<u8>,
    secret: frost::round1::SecretPackage,
}

/// What a holder keeps between rounds 2 and 3. Wiped on drop; redacting `Debug`. Kept encrypted, it outlives a restart.
pub struct Secret2 {
    transcript: [u8; 32],
    secret: frost::round2::SecretPackage,
}

/// Secret packages of round 2, each readable by one holder alone: by recipient when sent, by sender when received.
pub type Addressed = BTreeMap<u16, Zeroizing<Vec<u8>>>;

/// What a finished ceremony gives one holder.
#[derive(Debug)]
pub struct Born {
    /// Its own share of the key.
    pub share: KeyShare,
    /// The key's public half, the same for all holders.
    pub public: PublicKey,
}

/// Why the ceremony ends; names the holder at fault where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkgError {
    /// A holder id is zero, or not 2 ≤ t ≤ n.
    #[error("a ceremony needs ids from 1 and 2 ≤ threshold ≤ holders")]
    Parameters,
    /// Not one package of each other holder.
    #[error("{expected} packages are needed, not {found}")]
    Count {
        /// How many are needed.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// The published set does not contain this holder's own package as it made it.
    #[error("our own package was left out or changed")]
    OwnPackage,
    /// A package is malformed.
    #[error("the package of holder {holder} is malformed")]
    Package {
        /// Who sent it.
        holder: u16,
    },
    /// A package was made for another threshold.
    #[error("holder {holder} works with another threshold")]
    Threshold {
        /// Who sent it.
        holder: u16,
    },
    /// A round 1 package does not prove that its maker knows its secret.
    #[error("the proof of holder {holder} does not hold")]
    Proof {
        /// Who sent it.
        holder: u16,
    },
    /// A round 2 package does not fit its sender's round 1 package.
    #[error("the secret package of holder {holder} does not fit its public one")]
    Share {
        /// Who sent it.
        holder: u16,
    },
    /// Round 3 was given other round 1 packages than round 2.
    #[error("the packages of round 1 changed between rounds")]
    TranscriptChanged,
    /// A dealer of [`reshare`](crate::reshare) deals something else than its weighted share.
    #[error("holder {holder} deals another secret than its share")]
    OtherSecret {
        /// Who sent it.
        holder: u16,
    },
    /// Our own share is not the one the key lists: it is of an earlier generation, restored from a backup perhaps.
    #[error("our own share is not of the key's current generation")]
    StaleShare,
    /// The dealers of a [`reshare`](crate::reshare) are no quorum of the key.
    #[error("the dealers are not acceptable")]
    Dealers(#[from] CombineError),
    /// The bytes of a state kept between rounds are damaged.
    #[error("the kept state of the ceremony is damaged")]
    State,
    /// The library refused for a reason that names nobody.
    #[error("the key generation was refused")]
    Refused(#[source] frost_ristretto255::Error),
    /// The shares add up to an unusable key (identity or zero; happens with probability 2⁻²⁵²).
    #[error("the generated key is unusable")]
    Unusable,
}

/// Starts the ceremony for holder `id` of `holders` with `threshold`. The package goes to **all** holders.
///
/// # Errors
/// [`DkgError::Parameters`].
pub fn round1(id: u16, holders: u16, threshold: u16, rng: &mut impl CryptoRng) -> Result<(Secret1, Vec<u8>), DkgError> {
    if threshold < 2 || threshold > holders {
        return Err(DkgError::Parameters);
    }
    let identifier = identifier(id)?;
    let (secret, package) = part1(identifier, holders, threshold, Rng06(rng)).map_err(DkgError::Refused)?;
    let package = package.serialize().map_err(DkgError::Refused)?;
    Ok((Secret1 { package: package.clone(), secret }, package))
}

/// Checks the round 1 packages of all holders (our own among them) and makes one secret package for each other holder.
///
/// # Errors
/// [`DkgError`], naming the holder whose package is malformed, of another threshold or unproven.
pub fn round2(secret: Secret1, packages: &BTreeMap<u16, Vec<u8>>) -> Result<(Secret2, Addressed), DkgError> {
    let (id, threshold) = (secret.id(), *secret.secret.min_signers());
    let Secret1 { package, secret } = secret;
    let (expected, found) = (usize::from(*secret.max_signers()), packages.len());
    if expected != found {
        return Err(DkgError::Count { expected, found });
    }
    if packages.get(&id) != Some(&package) {
        return Err(DkgError::OwnPackage);
    }
    let others = others(id, threshold, packages)?;
    let (secret, addressed) = part2(secret, &others).map_err(blame)?;
    let transcript = round1_digest(packages);
    let encode = |(&recipient, package): (&Identifier, &frost::round2::Package)| {
        Ok((holder(&recipient), Zeroizing::new(package.serialize().map_err(DkgError::Refused)?)))
    };
    let addressed = addressed.iter().map(encode).collect::<Result<_, DkgError>>()?;
    Ok((Secret2 { transcript, secret }, addressed))
}

/// Ends the ceremony: `round1` as in [`round2`], and the secret packages the other holders addressed to us, by sender.
///
/// # Errors
/// [`DkgError`], naming the holder whose secret package is malformed or does not fit its public one.
pub fn round3(secret: &Secret2, round1: &BTreeMap<u16, Vec<u8>>, round2: &Addressed) -> Result<Born, DkgError> {
    if round1_digest(round1) != secret.transcript {
        return Err(DkgError::TranscriptChanged);
    }
    let (id, threshold) = (secret.id(), *secret.secret.min_signers());
    let others = others(id, threshold, round1)?;
    if !round1.keys().filter(|&&holder| holder != id).eq(round2.keys()) {
        return Err(DkgError::Count { expected: others.len(), found: round2.len() });
    }
    let decode = |(&sender, bytes): (&u16, &Zeroizing<Vec<u8>>)| {
        let package = frost::round2::Package::deserialize(bytes).ok();
        Ok((identifier(sender)?, package.ok_or(DkgError::Package { holder: sender })?))
    };
    let received = round2.iter().map(decode).collect::<Result<_, DkgError>>()?;
    let (key, public) = part3(&secret.secret, &others, &received).map_err(blame)?;

    let group = public.verifying_key().serialize().map_err(DkgError::Refused)?;
    let shares = public.verifying_shares().iter().map(|(identifier, share)| {
        let bytes = share.serialize().map_err(DkgError::Refused)?;
        Ok((holder(identifier), canonical(&bytes)?))
    });
    let shares: BTreeMap<u16, [u8; 32]> = shares.collect::<Result<_, DkgError>>()?;
    let public = PublicKey::new(threshold, canonical(&group)?, &shares).map_err(|_| DkgError::Unusable)?;

    let own = Zeroizing::new(key.signing_share().serialize());
    let own = Zeroizing::new(canonical(&own)?);
    let share = KeyShare::new(id, threshold, &own).map_err(|_| DkgError::Unusable)?;
    Ok(Born { share, public })
}

/// SHA-256 over all round 1 packages, for the holders to compare and sign before round 2:
/// `"ogniwo/v1/dkg-round1" | n u64be | n × (id u16be | length u64be | package)`.
#[must_use]
pub fn round1_digest(packages: &BTreeMap<u16, Vec<u8>>) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"ogniwo/v1/dkg-round1");
    hash.update((packages.len() as u64).to_be_bytes());
    for (id, package) in packages {
        hash.update(id.to_be_bytes());
        hash.update((package.len() as u64).to_be_bytes());
        hash.update(package);
    }
    hash.finalize().into()
}

impl Secret1 {
    fn id(&self) -> u16 {
        holder(self.secret.identifier())
    }

    /// For encrypted storage: `length u64be | package | the library's secret package`.
    ///
    /// # Errors
    /// [`DkgError::Refused`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, DkgError> {
        let secret = Zeroizing::new(self.secret.serialize().map_err(DkgError::Refused)?);
        let length = (self.package.len() as u64).to_be_bytes();
        Ok(Zeroizing::new([length.as_slice(), &self.package, &secret].concat()))
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`DkgError::State`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DkgError> {
        let (package, secret) = split_prefixed(bytes).ok_or(DkgError::State)?;
        let secret = frost::round1::SecretPackage::deserialize(secret).map_err(|_| DkgError::State)?;
        let state = Self { package: package.to_vec(), secret };
        // The library ignores trailing bytes.
        if state.to_bytes()?.as_slice() == bytes { Ok(state) } else { Err(DkgError::State) }
    }
}

impl Secret2 {
    fn id(&self) -> u16 {
        holder(self.secret.identifier())
    }

    /// For encrypted storage: `transcript 32 | the library's secret package`.
    ///
    /// # Errors
    /// [`DkgError::Refused`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, DkgError> {
        let secret = Zeroizing::new(self.secret.serialize().map_err(DkgError::Refused)?);
        Ok(Zeroizing::new([self.transcript.as_slice(), &secret].concat()))
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`DkgError::State`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DkgError> {
        let (transcript, secret) = bytes.split_first_chunk().ok_or(DkgError::State)?;
        let secret = frost::round2::SecretPackage::deserialize(secret).map_err(|_| DkgError::State)?;
        let state = Self { transcript: *transcript, secret };
        if state.to_bytes()?.as_slice() == bytes { Ok(state) } else { Err(DkgError::State) }
    }
}

impl fmt::Debug for Secret1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret1").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret2").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The other holders' round 1 packages, decoded.
fn others(
    own: u16,
    threshold: u16,
    packages: &BTreeMap<u16, Vec<u8>>,
) -> Result<BTreeMap<Identifier, frost::round1::Package>, DkgError> {
    let decode = |(&holder, bytes): (&u16, &Vec<u8>)| {
        let package = frost::round1::Package::deserialize(bytes).map_err(|_| DkgError::Package { holder })?;
        // The library ignores trailing bytes; here one package has one encoding.
        if package.serialize().ok().as_ref() != Some(bytes) {
            return Err(DkgError::Package { holder });
        }
        let coefficients = package.commitment().serialize().map_err(|_| DkgError::Package { holder })?;
        if coefficients.len() != usize::from(threshold) {
            return Err(DkgError::Threshold { holder });
        }
        Ok((identifier(holder)?, package))
    };
    packages.iter().filter(|&(&holder, _)| holder != own).map(decode).collect()
}

pub(crate) fn identifier(id: u16) -> Result<Identifier, DkgError> {
    Identifier::try_from(id).map_err(|_| DkgError::Parameters)
}

/// The id behind an [`identifier`]: its scalar, little-endian.
pub(crate) fn holder(identifier: &Identifier) -> u16 {
    match identifier.serialize().as_slice() {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

pub(crate) fn canonical(bytes: &[u8]) -> Result<[u8; 32], DkgError> {
    bytes.try_into().map_err(|_| DkgError::Unusable)
}

/// What follows a `u64be` length and is so long, and the rest.
pub(crate) fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
}

fn blame(error: frost_ristretto255::Error) -> DkgError {
    match &error {
        frost_ristretto255::Error::InvalidProofOfKnowledge { culprit } => DkgError::Proof { holder: holder(culprit) },
        frost_ristretto255::Error::InvalidSecretShare { culprit: Some(culprit) } => {
            DkgError::Share { holder: holder(culprit) }
        }
        _ => DkgError::Refused(error),
    }
}
