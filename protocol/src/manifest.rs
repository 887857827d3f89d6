//! The manifest: who is in the federation, with which keys, agreements and pseudonym key. Signed by officers.
//!
//! Version n+1 is accepted under the thresholds of both n and n+1; the first is pinned by a fingerprint compared out
//! of band.

use crate::agreement::{AgreementError, AgreementRef, SignedAgreement};
use crate::bundle::LibraryPin;
use crate::encoding::{Bytes, b64, push_len8, sha256};
use crate::keys::{KeyId, PublicKey, SigningKey};
use crate::succession::Succession;
use crate::{Epoch, MemberId, MemberKind, Realm, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Header in which the registry tells its time with a manifest, in seconds since 1970.
pub const TIME_HEADER: &str = "ogniwo-time";

/// Header with which the registry answers `GET /v1/manifest/{which}`: the version accepted after the one served, if there is
/// one. Whoever pinned an old manifest walks forward by it.
pub const NEXT_HEADER: &str = "ogniwo-next";

/// The federation's signed description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The federation's name.
    pub realm: Realm,
    /// Never goes back.
    pub version: u64,
    /// When it was drawn up.
    pub issued: Timestamp,
    /// After this it opens nothing.
    pub expires: Timestamp,
    /// Who signs the next one.
    pub officers: Officers,
    /// Institutions and the registry.
    pub members: Vec<Member>,
    /// Pseudonym keys in use, at most one per epoch number.
    pub epochs: Vec<KeyEpoch>,
    /// What was agreed between members, each signed by both.
    pub agreements: Vec<SignedAgreement>,
    /// Institutions that follow others, as far back as this federation goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successions: Vec<Succession>,
    /// The policy library every node must run. Its version never goes back.
    pub library: LibraryPin,
}

/// Whose signatures a manifest needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Officers {
    /// How many different officers' signatures are needed.
    pub threshold: u8,
    /// Their keys, each from another institution.
    pub keys: Vec<OfficerKey>,
}

/// One officer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerKey {
    /// The institution the officer belongs to.
    pub member: MemberId,
    /// The officer's key.
    pub key: PublicKey,
}

/// A member institution, or the registry (kind `registry`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Stable id.
    pub id: MemberId,
    /// Name for people.
    pub name: String,
    /// What sort of institution it is.
    pub kind: MemberKind,
    /// Where its mutual-TLS listener is reached, `https://host:port`, first to try first.
    pub endpoints: Vec<String>,
    /// What it does for the federation.
    pub roles: BTreeSet<Duty>,
    /// Who holds root and backups of its machine.
    pub operator: String,
    /// Its public keys by use.
    pub keys: Vec<MemberKey>,
    /// What it may use of others.
    pub quotas: Quotas,
    /// Whom to call there when a life is in danger, day and night: everybody who asks in an emergency is told, whatever
    /// the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty_desk: Option<String>,
}

/// A duty a member has taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// Holds a share of the pseudonym key.
    KeyHolder,
    /// Keeps the index.
    Registry,
}

/// One public key of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberKey {
    /// What it may sign.
    #[serde(rename = "use")]
    pub usage: KeyUse,
    /// The key.
    pub key: PublicKey,
    /// First moment of validity.
    pub valid_from: Timestamp,
    /// Last moment of validity.
    pub valid_to: Timestamp,
    /// If withdrawn: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// Requests, answers, grants, tickets: every JWS.
    Message,
    /// Registry entries and evaluation messages.
    Entry,
    /// Log checkpoints.
    Log,
    /// Cosignatures on others' checkpoints.
    Cosign,
}

/// What a member may use of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Evaluations per holder that may be spent at once.
    pub evaluations_burst: u64,
    /// Evaluations per holder and day.
    pub evaluations_per_day: u64,
    /// A raised daily quota for a first enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_enrolment: Option<RaisedQuota>,
}

/// A raised quota with its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaisedQuota {
    /// Evaluations per holder, in all, on top of the daily ones.
    pub evaluations: u64,
    /// Until when.
    pub until: Timestamp,
}

/// A generation of the pseudonym key, signed by all its holders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEpoch {
    /// Its number.
    pub epoch: Epoch,
    /// Share generation; a refresh raises it.
    pub generation: u32,
    /// Holders needed.
    pub threshold: u16,
    /// The group key, a compressed ristretto255 point (32 bytes).
    pub group_key: Bytes,
    /// Who holds which share.
    pub holders: Vec<KeyHolder>,
    /// SHA-256 of the round-1 packages all holders compared.
    pub transcript: Bytes,
    /// First moment of use. A key listed before that is re-enrolled under while the one before it still answers.
    pub not_before: Timestamp,
    /// When its holders destroy their shares and members its names; the officers' word, not the holders'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_at: Option<Timestamp>,
    /// Signatures of all holders over [`KeyEpoch::statement`], and of who dealt the shares they hold.
    pub signatures: BTreeMap<MemberId, Bytes>,
}

/// A holder of one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHolder {
    /// Share number, 1 or more.
    pub id: u16,
    /// Who holds it.
    pub member: MemberId,
    /// The public share, a compressed ristretto255 point (32 bytes).
    pub public_share: Bytes,
}

impl Officers {
    /// Whether enough officers signed `message`.
    ///
    /// # Errors
    /// [`ManifestError::Unsigned`].
    pub fn signed(&self, message: &[u8], signatures: &BTreeMap<KeyId, Bytes>) -> Result<(), ManifestError> {
        let (found, needed) = (self.count(message, signatures), usize::from(self.threshold));
        if found >= needed { Ok(()) } else { Err(ManifestError::Unsigned { found, needed }) }
    }

    /// How many officers signed `message`.
    fn count(&self, message: &[u8], signatures: &BTreeMap<KeyId, Bytes>) -> usize {
        let signed = |officer: &&OfficerKey| {
            signatures.get(&officer.key.id()).is_some_and(|signature| officer.key.verifies(message, &signature.0))
        };
        self.keys.iter().filter(signed).count()
    }
}

impl KeyEpoch {
    /// The bytes each holder signs with its message key.
    #[must_use]
    pub fn statement(&self, realm: &Realm) -> Vec<u8> {
        let mut out = b"ogniwo/v1/epoch".to_vec();
        push_len8(&mut out, realm.as_str());
        out.extend(self.epoch.0.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend(self.threshold.to_be_bytes());
        out.extend_from_slice(&sha256(&[&self.group_key.0]));
        for holder in &self.holders {
            out.extend(holder.id.to_be_bytes());
            push_len8(&mut out, holder.member.as_str());
            out.extend_from_slice(&sha256(&[&holder.public_share.0]));
        }
        out.extend_from_slice(&sha256(&[&self.transcript.0]));
        out.extend(self.not_before.0.to_be_bytes());
        out
    }

    /// Whether it must be destroyed by `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.destroy_at.is_some_and(|at| at <= now)
    }

    /// The holder of share `id`.
    #[must_use]
    pub fn holder(&self, id: u16) -> Option<&KeyHolder> {
        self.holders.iter().find(|h| h.id == id)
    }
}

impl Manifest {
    /// The member `id`.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.iter().find(|m| &m.id == id)
    }

    /// The registry's entry.
    #[must_use]
    pub fn registry(&self) -> Option<&Member> {
        self.members.iter().find(|m| m.roles.contains(&Duty::Registry))
    }

    /// The institutions besides `me`: everybody but the registry.
    pub fn others<'m>(&'m self, me: &'m MemberId) -> impl Iterator<Item = &'m Member> {
        self.members.iter().filter(move |member| &member.id != me && !member.roles.contains(&Duty::Registry))
    }

    /// Owner and key named `kid`, if it may be used so at `at`.
    #[must_use]
    pub fn key(&self, kid: &KeyId, usage: KeyUse, at: Timestamp) -> Option<(MemberId, PublicKey)> {
        self.members.iter().find_map(|member| {
            let key = member.keys.iter().find(|k| k.usage == usage && k.valid_at(at) && &k.key.id() == kid)?;
            Some((member.id.clone(), key.key))
        })
    }

    /// Owner and key named `kid` of this use, valid or not any more: for signatures of the past.
    pub(crate) fn any_key(&self, kid: &KeyId, usage: KeyUse) -> Option<(&MemberId, &MemberKey)> {
        self.members.iter().find_map(|member| {
            let key = member.keys.iter().find(|k| k.usage == usage && &k.key.id() == kid)?;
            Some((&member.id, key))
        })
    }

    /// The keys of `member` that may be used so at `at`.
    pub fn keys_of<'a>(
        &'a self,
        member: &MemberId,
        usage: KeyUse,
        at: Timestamp,
    ) -> impl Iterator<Item = PublicKey> + 'a {
        self.member(member)
            .into_iter()
            .flat_map(|m| &m.keys)
            .filter(move |k| k.usage == usage && k.valid_at(at))
            .map(|k| k.key)
    }

    /// The pseudonym key of `epoch`.
    #[must_use]
    pub fn epoch(&self, epoch: Epoch) -> Option<&KeyEpoch> {
        self.epochs.iter().find(|e| e.epoch == epoch)
    }

    /// The newest pseudonym key in use at `at`.
    #[must_use]
    pub fn current_epoch(&self, at: Timestamp) -> Option<&KeyEpoch> {
        self.epochs.iter().filter(|e| e.not_before <= at && !e.is_over(at)).max_by_key(|e| e.epoch)
    }

    /// Everyone `member` has an agreement with, either way: whom its entries are visible to, and whose it sees.
    #[must_use]
    pub fn audience(&self, member: &MemberId, at: Timestamp) -> BTreeSet<MemberId> {
        self.agreements
            .iter()
            .filter(|agreement| agreement.in_force(at))
            .filter_map(|SignedAgreement { terms, .. }| match (&terms.asker == member, &terms.holder == member) {
                (true, false) => Some(terms.holder.clone()),
                (false, true) => Some(terms.asker.clone()),
                _ => None,
            })
            .collect()
    }

    /// The SPIFFE id of `member`.
    #[must_use]
    pub fn spiffe(&self, member: &MemberId) -> SpiffeId {
        SpiffeId::new(self.realm.clone(), member.clone())
    }

    /// What officers' signatures cannot vouch for: unique ids, thresholds that bind, epochs signed by all holders,
    /// agreements signed by both parties.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`], [`ManifestError::TooFewOperators`], [`ManifestError::EpochUnsigned`] or
    /// [`ManifestError::Agreement`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let unique = |count: usize, set: usize| if count == set { Ok(()) } else { Err(ManifestError::Inconsistent) };
        unique(self.members.len(), self.members.iter().map(|m| &m.id).collect::<BTreeSet<_>>().len())?;
        unique(self.epochs.len(), self.epochs.iter().map(|e| e.epoch).collect::<BTreeSet<_>>().len())?;
        let officers: BTreeSet<_> = self.officers.keys.iter().map(|o| &o.member).collect();
        unique(self.officers.keys.len(), officers.len())?;
        if self.officers.threshold < 1 || usize::from(self.officers.threshold) > officers.len() {
            return Err(ManifestError::Inconsistent);
        }
        let keys: Vec<_> = self.members.iter().flat_map(|m| &m.keys).map(|k| k.key).collect();
        unique(keys.len(), keys.iter().collect::<BTreeSet<_>>().len())?;
        let agreements: BTreeSet<_> = self.agreements.iter().map(|a| a.terms.reference()).collect();
        unique(self.agreements.len(), agreements.len())?;
        for agreement in &self.agreements {
            let bad = |why| ManifestError::Agreement(agreement.terms.reference(), why);
            agreement.check(self).map_err(bad)?;
        }
        self.check_successions()?;
        self.epochs.iter().try_for_each(|epoch| self.check_epoch(epoch))
    }

    /// Whether what was agreed in `old` still stands as it was: an agreement's terms never change under one version,
    /// and a revoked one stays, revoked, until it would have ended or a party is no member any more.
    fn keeps_agreements_of(&self, old: &Manifest) -> Result<(), ManifestError> {
        for before in &old.agreements {
            let now = self.agreements.iter().find(|a| a.terms.reference() == before.terms.reference());
            let kept = if let Some(now) = now {
                now.terms == before.terms && (before.revocation.is_none() || now.revocation.is_some())
            } else {
                let parties = [&before.terms.asker, &before.terms.holder];
                let somebody_left = parties.into_iter().any(|party| self.member(party).is_none());
                before.revocation.is_none() || somebody_left || before.terms.valid_to < self.issued
            };
            if !kept {
                return Err(ManifestError::AgreementChanged(before.terms.reference()));
            }
        }
        Ok(())
    }

    /// New shares are of the same key, and of a later generation; they, and a new key, are signed by t holders of the
    /// shares that were there before: officers alone cannot put another key in its place. So that nobody forgets whose
    /// signatures these are, the newest key stays listed; any other may go once its time is over, and never comes back.
    fn check_next_keys(&self, old: &Manifest) -> Result<(), ManifestError> {
        let newest = old.epochs.iter().max_by_key(|e| e.epoch);
        for before in old.epochs.iter().filter(|before| self.epoch(before.epoch).is_none()) {
            if !before.is_over(self.issued) || newest.is_some_and(|newest| newest.epoch == before.epoch) {
                return Err(ManifestError::EpochDropped(before.epoch));
            }
        }
        for epoch in &self.epochs {
            let before = match old.epoch(epoch.epoch) {
                Some(before) if before.statement(&old.realm) == epoch.statement(&self.realm) => continue,
                Some(before) => {
                    let same = before.group_key == epoch.group_key && before.threshold == epoch.threshold;
                    if !same || epoch.generation <= before.generation {
                        return Err(ManifestError::Inconsistent);
                    }
                    before
                }
                None => match newest {
                    Some(newest) if epoch.epoch < newest.epoch => return Err(ManifestError::Inconsistent),
                    Some(newest) => newest,
                    None => continue,
                },
            };
            let signed = before.holders.iter().filter(|holder| self.has_signed(epoch, &holder.member)).count();
            if signed < usize::from(before.threshold) {
                return Err(ManifestError::EpochUnsigned(epoch.epoch));
            }
        }
        Ok(())
    }

    fn has_signed(&self, epoch: &KeyEpoch, member: &MemberId) -> bool {
        let statement = epoch.statement(&self.realm);
        epoch.signatures.get(member).is_some_and(|signature| {
            self.keys_of(member, KeyUse::Message, epoch.not_before).any(|key| key.verifies(&statement, &signature.0))
        })
    }

    fn check_epoch(&self, epoch: &KeyEpoch) -> Result<(), ManifestError> {
        let members: BTreeSet<_> = epoch.holders.iter().map(|h| &h.member).collect();
        let ids: BTreeSet<_> = epoch.holders.iter().map(|h| h.id).collect();
        let all = epoch.holders.len();
        if members.len() != all || ids.len() != all || ids.contains(&0) || usize::from(epoch.threshold) > all {
            return Err(ManifestError::Inconsistent);
        }
        if self.operators_of_threshold(epoch) < usize::from(epoch.threshold) {
            return Err(ManifestError::TooFewOperators(epoch.epoch));
        }
        let signed = epoch.holders.iter().all(|holder| self.has_signed(epoch, &holder.member));
        if signed { Ok(()) } else { Err(ManifestError::EpochUnsigned(epoch.epoch)) }
    }
}

impl Manifest {
    /// How many operators together control as many shares of `epoch` as its threshold: whoever holds root and backups of a
    /// holder's machine holds its share. A holder that is no member, or names nobody, is taken to be everybody's.
    fn operators_of_threshold(&self, epoch: &KeyEpoch) -> usize {
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for holder in &epoch.holders {
            match self.member(&holder.member).and_then(Member::operated_by) {
                Some(operator) => *shares.entry(operator).or_default() += 1,
                None => return 0,
            }
        }
        let mut counts: Vec<_> = shares.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = usize::from(epoch.threshold);
        counts
            .into_iter()
            .take_while(|shares| {
                let needed = left > 0;
                left = left.saturating_sub(*shares);
                needed
            })
            .count()
    }
}

impl Member {
    /// Its operator as operators are compared: without case and outer spaces. `None` if it names nobody.
    #[must_use]
    pub fn operated_by(&self) -> Option<String> {
        Some(self.operator.trim().to_lowercase()).filter(|name| !name.is_empty())
    }
}

impl MemberKey {
    /// Whether it may be used at `at`.
    #[must_use]
    pub fn valid_at(&self, at: Timestamp) -> bool {
        self.valid_from <= at && at <= self.valid_to && self.revoked_at.is_none_or(|revoked| at < revoked)
    }
}

/// A manifest as it travels: its exact bytes and the officers' signatures over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// Canonical JSON (RFC 8785) of the [`Manifest`].
    pub manifest: Bytes,
    /// Ed25519 signatures over `"ogniwo/v1/manifest"` and those bytes, by key.
    pub signatures: BTreeMap<KeyId, Bytes>,
}

/// Version and hash of the manifest a message was written under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestRef {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub hash: Bytes,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not a manifest.
    #[error("not a manifest of this version of the program")]
    Malformed,
    /// Ids or thresholds contradict each other.
    #[error("the manifest contradicts itself: ids, keys or thresholds")]
    Inconsistent,
    /// Too few officers signed.
    #[error("signed by {found} of the {needed} officers needed")]
    Unsigned {
        /// Valid signatures found.
        found: usize,
        /// Signatures needed.
        needed: usize,
    },
    /// A pseudonym key lacks a holder's signature.
    #[error("key epoch {} is not signed by all its holders", .0.0)]
    EpochUnsigned(Epoch),
    /// A pseudonym key is listed no more that is not over, or is the newest.
    #[error("key epoch {} is missing: the newest stays listed, another until it is destroyed", .0.0)]
    EpochDropped(Epoch),
    /// The key's shares lie with too few operators.
    #[error("fewer operators than the threshold control enough shares of key epoch {} to use it", .0.0)]
    TooFewOperators(Epoch),
    /// An agreement is not what both parties signed.
    #[error("agreement {0}: {1}")]
    Agreement(AgreementRef, AgreementError),
    /// An agreement that was signed reads otherwise now, or a revocation is gone.
    #[error("agreement {0} was changed or its revocation dropped; a changed one needs a new version")]
    AgreementChanged(AgreementRef),
    /// An institution's succession reads otherwise now, or is gone.
    #[error("the succession of {0} was changed or dropped; it is history")]
    SuccessionChanged(MemberId),
    /// The library goes back to an earlier version, or has another content under the same.
    #[error("library version {found} does not follow version {seen}: another content is a new, higher version")]
    LibraryBack {
        /// The version offered.
        found: u32,
        /// The version held.
        seen: u32,
    },
    /// Not the one pinned.
    #[error("the manifest's fingerprint is not the one pinned")]
    WrongFingerprint,
    /// Another federation's.
    #[error("the manifest is of another realm")]
    OtherRealm,
    /// Older than one already seen.
    #[error("version {found} is older than version {seen} already accepted")]
    Older {
        /// The version offered.
        found: u64,
        /// The version held.
        seen: u64,
    },
    /// Same version, other content: somebody shows different manifests to different members.
    #[error("version {0} exists with two different contents; compare fingerprints with the officers")]
    Fork(u64),
    /// Its time is over.
    #[error("the manifest has expired")]
    Expired,
}

impl Manifest {
    /// Whether it keeps what must be kept of `old`: agreements and revocations, successions, the library's version, and the
    /// keys, new ones signed by holders of the old.
    ///
    /// # Errors
    /// What is not kept.
    pub fn may_follow(&self, old: &Manifest) -> Result<(), ManifestError> {
        self.keeps_agreements_of(old)?;
        self.keeps_successions_of(old)?;
        self.keeps_library_of(old)?;
        self.check_next_keys(old)
    }

    fn keeps_library_of(&self, old: &Manifest) -> Result<(), ManifestError> {
        if self.library.may_follow(&old.library) {
            Ok(())
        } else {
            Err(ManifestError::LibraryBack { found: self.library.version, seen: old.library.version })
        }
    }
}

impl SignedManifest {
    /// Writes `manifest` in canonical form, unsigned.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] if it does not serialise.
    pub fn draft(manifest: &Manifest) -> Result<Self, ManifestError> {
        let bytes = serde_json_canonicalizer::to_vec(manifest).map_err(|_| ManifestError::Malformed)?;
        Ok(SignedManifest { manifest: Bytes(bytes), signatures: BTreeMap::new() })
    }

    /// Adds an officer's signature.
    pub fn sign(&mut self, officer: &SigningKey) {
        self.signatures.insert(officer.id().clone(), Bytes(officer.sign(&self.message()).to_vec()));
    }

    /// SHA-256 of the manifest's bytes: the fingerprint people compare.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[&self.manifest.0])
    }

    /// The fingerprint as text, base64url.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        b64(&self.hash())
    }

    /// Reads without trusting: for showing a draft to an officer.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`].
    pub fn read(&self) -> Result<Manifest, ManifestError> {
        serde_json::from_slice(&self.manifest.0).map_err(|_| ManifestError::Malformed)
    }

    /// Accepts a first manifest whose fingerprint was compared out of band.
    ///
    /// # Errors
    /// [`ManifestError`] if it is not the pinned one, not signed by its own officers, or contradicts itself.
    pub fn accept_first(&self, fingerprint: &[u8; 32]) -> Result<Manifest, ManifestError> {
        if &self.hash() != fingerprint {
            return Err(ManifestError::WrongFingerprint);
        }
        self.accept_held()
    }

    /// Accepts again a manifest this node accepted before, from its own sealed store.
    ///
    /// # Errors
    /// [`ManifestError`] if it is not signed by its own officers, or contradicts itself.
    pub fn accept_held(&self) -> Result<Manifest, ManifestError> {
        let manifest = self.read()?;
        self.signed_by(&manifest.officers)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Accepts a successor of `held`: any higher version, signed under the thresholds of both.
    ///
    /// # Errors
    /// [`ManifestError`]; in particular `Older` and `Fork`.
    pub fn accept_after(&self, held: &SignedManifest) -> Result<Manifest, ManifestError> {
        let (old, new) = (held.read()?, self.read()?);
        if old.realm != new.realm {
            return Err(ManifestError::OtherRealm);
        }
        if new.version < old.version {
            return Err(ManifestError::Older { found: new.version, seen: old.version });
        }
        if new.version == old.version && self.manifest != held.manifest {
            return Err(ManifestError::Fork(new.version));
        }
        self.signed_by(&old.officers)?;
        new.may_follow(&old)?;
        self.accept_held()
    }

    /// How many of `officers` signed it.
    #[must_use]
    pub fn signatures_of(&self, officers: &Officers) -> usize {
        officers.count(&self.message(), &self.signatures)
    }

    fn signed_by(&self, officers: &Officers) -> Result<(), ManifestError> {
        officers.signed(&self.message(), &self.signatures)
    }

    fn message(&self) -> Vec<u8> {
        [b"ogniwo/v1/manifest".as_slice(), &self.manifest.0].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn officer(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn manifest(version: u64, officers: &[u8]) -> Manifest {
        let names = ["mops", "pup", "css", "zlm"];
        Manifest {
            realm: "lodz.example".parse().unwrap(),
            version,
            issued: Timestamp(100),
            expires: Timestamp(1_000),
            officers: Officers {
                threshold: 2,
                keys: officers
                    .iter()
                    .zip(names)
                    .map(|(seed, name)| OfficerKey { member: name.parse().unwrap(), key: officer(*seed).public() })
                    .collect(),
            },
            members: vec![],
            epochs: vec![],
            agreements: vec![],
            successions: vec![],
            library: LibraryPin { version: 1, digest: Bytes(vec![0; 32]) },
        }
    }

    fn signed(manifest: &Manifest, by: &[u8]) -> SignedManifest {
        let mut draft = SignedManifest::draft(manifest).unwrap();
        for seed in by {
            draft.sign(&officer(*seed));
        }
        draft
    }

    #[test]
    fn the_first_is_pinned() {
        let first = signed(&manifest(1, &[1, 2, 3]), &[1, 2]);
        assert!(first.accept_first(&first.hash()).is_ok());
        assert_eq!(first.accept_first(&[0; 32]).unwrap_err(), ManifestError::WrongFingerprint);
        let alone = signed(&manifest(1, &[1, 2, 3]), &[1]);
        assert_eq!(alone.accept_first(&alone.hash()).unwrap_err(), ManifestError::Unsigned { found: 1, needed: 2 });
    }

    #[test]
    fn a_successor_needs_old_and_new_officers() {
        let held = signed(&manifest(1, &[1, 2, 3]), &[1, 2]);
        assert!(signed(&manifest(2, &[2, 3, 4]), &[2, 3]).accept_after(&held).is_ok());
        let usurped = signed(&manifest(2, &[7, 8, 9]), &[7, 8]);
        assert_eq!(usurped.accept_after(&held).unwrap_err(), ManifestError::Unsigned { found: 0, needed: 2 });
        let stranger = signed(&manifest(2, &[7, 8, 9]), &[1, 2]);
        assert_eq!(stranger.accept_after(&held).unwrap_err(), ManifestError::Unsigned { found: 0, needed: 2 });
    }

    #[test]
    fn versions_never_go_back_nor_fork() {
        let held = signed(&manifest(5, &[1, 2, 3]), &[1, 2]);
        let older = signed(&manifest(4, &[1, 2, 3]), &[1, 2]);
        assert_eq!(older.accept_after(&held).unwrap_err(), ManifestError::Older { found: 4, seen: 5 });
        let mut other = manifest(5, &[1, 2, 3]);
        other.expires = Timestamp(9_999);
        assert_eq!(signed(&other, &[1, 2]).accept_after(&held).unwrap_err(), ManifestError::Fork(5));
        assert!(held.accept_after(&held).is_ok());
    }

    #[test]
    fn an_epoch_needs_every_holders_signature() {
        let keys = [officer(11), officer(12), officer(13)];
        let mut manifest = manifest(1, &[1, 2, 3]);
        for (name, key) in ["mops", "pup", "css"].iter().zip(&keys) {
            manifest.members.push(Member {
                id: name.parse().unwrap(),
                name: name.to_string(),
                kind: name.parse().unwrap(),
                endpoints: vec![],
                roles: BTreeSet::from([Duty::KeyHolder]),
                operator: format!("IT of {name}"),
                keys: vec![MemberKey {
                    usage: KeyUse::Message,
                    key: key.public(),
                    valid_from: Timestamp(0),
                    valid_to: Timestamp(1_000),
                    revoked_at: None,
                }],
                quotas: Quotas { evaluations_burst: 1, evaluations_per_day: 1, first_enrolment: None },
                duty_desk: None,
            });
        }
        let holder =
            |id: u16, name: &str| KeyHolder { id, member: name.parse().unwrap(), public_share: Bytes(vec![7; 32]) };
        let mut epoch = KeyEpoch {
            epoch: Epoch(1),
            generation: 1,
            threshold: 2,
            group_key: Bytes(vec![9; 32]),
            holders: vec![holder(1, "mops"), holder(2, "pup")],
            transcript: Bytes(vec![1; 32]),
            not_before: Timestamp(0),
            destroy_at: None,
            signatures: BTreeMap::new(),
        };
        let statement = epoch.statement(&manifest.realm);
        epoch.signatures.insert("mops".parse().unwrap(), Bytes(keys[0].sign(&statement).to_vec()));
        manifest.epochs = vec![epoch.clone()];
        assert_eq!(signed(&manifest, &[1, 2]).accept_held().unwrap_err(), ManifestError::EpochUnsigned(Epoch(1)));
        epoch.signatures.insert("pup".parse().unwrap(), Bytes(keys[1].sign(&statement).to_vec()));
        manifest.epochs = vec![epoch.clone()];
        assert!(signed(&manifest, &[1, 2]).accept_held().is_ok());
        // Two shares of two, and one hand at both machines.
        for (operator, refused) in [(" it OF mops ", true), ("", true), ("somebody else", false)] {
            manifest.members[1].operator = operator.into();
            let verdict = signed(&manifest, &[1, 2]).accept_held().map(drop);
            let expected = if refused { Err(ManifestError::TooFewOperators(Epoch(1))) } else { Ok(()) };
            assert_eq!(verdict, expected, "{operator:?}");
        }
        let held = signed(&manifest, &[1, 2]);
        assert!(held.accept_held().is_ok());

        // New shares: of the same key, of a later generation, signed by t of the old holders.
        let next = |change: &dyn Fn(&mut KeyEpoch), signers: &[usize]| {
            let mut renewed = epoch.clone();
            (renewed.generation, renewed.holders) = (2, vec![holder(1, "mops"), holder(3, "css")]);
            change(&mut renewed);
            let statement = renewed.statement(&manifest.realm);
            renewed.signatures.clear();
            for &signer in signers {
                let name = ["mops", "pup", "css"][signer].parse().unwrap();
                renewed.signatures.insert(name, Bytes(keys[signer].sign(&statement).to_vec()));
            }
            let mut manifest = manifest.clone();
            manifest.version += 1;
            manifest.epochs.retain(|epoch| epoch.epoch != renewed.epoch);
            manifest.epochs.push(renewed);
            signed(&manifest, &[1, 2]).accept_after(&held).map(drop)
        };
        assert_eq!(next(&|_| {}, &[0, 1, 2]), Ok(()));
        assert_eq!(next(&|_| {}, &[0, 2]), Err(ManifestError::EpochUnsigned(Epoch(1))));
        assert_eq!(next(&|e| e.generation = 1, &[0, 1, 2]), Err(ManifestError::Inconsistent));
        assert_eq!(next(&|e| e.group_key = Bytes(vec![8; 32]), &[0, 1, 2]), Err(ManifestError::Inconsistent));
        assert_eq!(next(&|e| e.epoch = Epoch(2), &[0, 1, 2]), Ok(()));
        assert_eq!(next(&|e| e.epoch = Epoch(2), &[0, 2]), Err(ManifestError::EpochUnsigned(Epoch(2))));
        assert_eq!(next(&|e| e.epoch = Epoch(0), &[0, 1, 2]), Err(ManifestError::Inconsistent));

        // An epoch that is over may go, the newest never: who is to sign the next key stands there.
        let epochs = |version, over: Option<Timestamp>, listed: &[u32]| {
            let mut manifest = manifest.clone();
            let of = |number: &u32| {
                let destroy_at = over.filter(|_| *number == 1);
                let mut epoch = KeyEpoch { epoch: Epoch(*number), destroy_at, ..epoch.clone() };
                let statement = epoch.statement(&manifest.realm);
                for (name, key) in ["mops", "pup"].iter().zip(&keys) {
                    epoch.signatures.insert(name.parse().unwrap(), Bytes(key.sign(&statement).to_vec()));
                }
                epoch
            };
            (manifest.version, manifest.epochs) = (version, listed.iter().map(of).collect());
            signed(&manifest, &[1, 2])
        };
        let dropped = |held: &SignedManifest, listed: &[u32]| epochs(9, None, listed).accept_after(held).map(drop);
        let both = epochs(8, Some(Timestamp(100)), &[1, 2]);
        assert_eq!(dropped(&both, &[2]), Ok(()));
        assert_eq!(dropped(&both, &[1]), Err(ManifestError::EpochDropped(Epoch(2))));
        assert_eq!(dropped(&both, &[]), Err(ManifestError::EpochDropped(Epoch(2))));
        let running = epochs(8, Some(Timestamp(101)), &[1, 2]);
        assert_eq!(dropped(&running, &[2]), Err(ManifestError::EpochDropped(Epoch(1))));
    }
}
