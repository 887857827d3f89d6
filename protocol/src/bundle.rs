//! The federation's officers' word for one version of the policy library.

use crate::encoding::Bytes;
use crate::jws::{self, Envelope, JwsError};
use crate::manifest::Officers;
use crate::{MemberId, Realm, SigningKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the policy library that a manifest has every node run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibraryPin {
    /// Its version.
    pub version: u32,
    /// Its digest, 32 bytes: that of its table of contents.
    pub digest: Bytes,
}

impl LibraryPin {
    /// Whether it may come after `old`: the same, or a higher version. Another content is another version.
    #[must_use]
    pub fn may_follow(&self, old: &LibraryPin) -> bool {
        self == old || self.version > old.version
    }
}

/// What an officer signs to release a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRelease {
    /// The institution the officer belongs to.
    pub iss: MemberId,
    /// When it was signed.
    pub iat: Timestamp,
    /// The federation it is released for.
    pub realm: Realm,
    /// The library's version.
    pub version: u32,
    /// The library's digest, 32 bytes: that of its manifest file, in which every other file's stands.
    pub digest: Bytes,
}

impl Envelope for BundleRelease {
    const TYP: &'static str = "ogniwo-library+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// Too few officers stand for a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("released by {found} of the {needed} officers needed")]
pub struct Unreleased {
    /// Officers whose signature holds.
    pub found: usize,
    /// Officers needed.
    pub needed: usize,
}

impl BundleRelease {
    /// This release as compact JWS.
    ///
    /// # Errors
    /// [`JwsError::Signing`].
    pub fn sign(&self, officer: &SigningKey) -> Result<String, JwsError> {
        jws::sign(officer, self)
    }

    /// Whether `token` is a release by `member`, signed with `officer`'s key.
    #[must_use]
    pub fn is_by(token: &str, member: &MemberId, officer: &SigningKey) -> bool {
        let key = officer.public();
        jws::verify::<BundleRelease>(token, |kid| (&key.id() == kid).then(|| (member.clone(), key))).is_ok()
    }

    /// Whether as many different `officers` as a manifest needs signed `version` and `digest` for `realm`; other
    /// tokens count for nothing.
    ///
    /// # Errors
    /// [`Unreleased`].
    pub fn check(
        tokens: &[String],
        officers: &Officers,
        realm: &Realm,
        version: u32,
        digest: &[u8; 32],
    ) -> Result<(), Unreleased> {
        let signed = tokens.iter().filter_map(|token| {
            let release: BundleRelease = jws::verify(token, |kid| {
                let officer = officers.keys.iter().find(|officer| &officer.key.id() == kid)?;
                Some((officer.member.clone(), officer.key))
            })
            .ok()?;
            let meant = &release.realm == realm && release.version == version && release.digest.0 == digest;
            meant.then_some(release.iss)
        });
        let (found, needed) = (signed.collect::<BTreeSet<_>>().len(), usize::from(officers.threshold));
        if found >= needed { Ok(()) } else { Err(Unreleased { found, needed }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::OfficerKey;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn release(iss: &str, version: u32) -> BundleRelease {
        BundleRelease {
            iss: iss.parse().unwrap(),
            iat: Timestamp(5),
            realm: "lodz.example".parse().unwrap(),
            version,
            digest: Bytes(vec![7; 32]),
        }
    }

    #[test]
    fn a_librarys_version_never_goes_back_or_changes_its_content() {
        let pin = |version, byte| LibraryPin { version, digest: Bytes(vec![byte; 32]) };
        assert!(pin(2, 7).may_follow(&pin(2, 7)) && pin(3, 8).may_follow(&pin(2, 7)));
        assert!(!pin(2, 8).may_follow(&pin(2, 7)), "another content");
        assert!(!pin(1, 7).may_follow(&pin(2, 7)), "back");
    }

    #[test]
    fn as_many_officers_as_the_manifest_needs() {
        let officer = |seed, name: &str| OfficerKey { member: name.parse().unwrap(), key: key(seed).public() };
        let officers = Officers { threshold: 2, keys: vec![officer(1, "mops"), officer(2, "pup"), officer(3, "css")] };
        let check =
            |tokens: &[String]| BundleRelease::check(tokens, &officers, &"lodz.example".parse().unwrap(), 3, &[7; 32]);
        let mops = release("mops", 3).sign(&key(1)).unwrap();
        let pup = release("pup", 3).sign(&key(2)).unwrap();
        assert_eq!(check(&[mops.clone(), pup]), Ok(()));
        let one = Err(Unreleased { found: 1, needed: 2 });
        assert_eq!(check(&[mops.clone(), mops.clone()]), one, "one officer twice");
        assert_eq!(check(&[mops.clone(), release("css", 3).sign(&key(2)).unwrap()]), one, "another's name");
        assert_eq!(check(&[mops.clone(), release("pup", 2).sign(&key(2)).unwrap()]), one, "another version");
        assert_eq!(check(&[mops, release("pup", 3).sign(&key(9)).unwrap()]), one, "no officer's key");
    }
}
