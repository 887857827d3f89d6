//! Agreements between two institutions: terms that both sign and that no one changes after, and their revocation, for
//! which either party's word alone is enough.
//!
//! They travel in the federation manifest. The officers who sign that vouch for nothing here: every member checks the
//! parties' own signatures when it accepts a manifest.

use crate::encoding::{Bytes, sha256};
use crate::jws::{self, Envelope, JwsError};
use crate::manifest::{KeyUse, Manifest};
use crate::{FieldId, MemberId, Purpose, QueryType, SigningKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What two members agreed: asker may put these queries to holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Stable id.
    pub id: String,
    /// Version of its text.
    pub version: u32,
    /// Who may ask.
    pub asker: MemberId,
    /// Who answers.
    pub holder: MemberId,
    /// Query types covered.
    pub queries: BTreeSet<QueryType>,
    /// Fields that may leave.
    pub fields: BTreeSet<FieldId>,
    /// Purposes covered.
    pub purposes: BTreeSet<Purpose>,
    /// Queries a day.
    pub queries_per_day: u64,
    /// Queries a day by one user of the asker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_per_user_per_day: Option<u64>,
    /// When queries are answered, in the holder's local time; at any time if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hours: BTreeSet<Hours>,
    /// Who decides at the holder. A query type that wants a person always has one.
    #[serde(default)]
    pub mode: AnswerMode,
    /// First moment of force.
    pub valid_from: Timestamp,
    /// Last moment of force.
    pub valid_to: Timestamp,
}

/// Who decides at the holder, from the least strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// The node, by the rules.
    #[default]
    Automatic,
    /// A person, who may still refuse or narrow what the rules permit.
    Human,
}

/// A span of local time on one day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The day.
    pub day: Weekday,
    /// First minute after midnight, 0 to 1439.
    pub from_minute: u16,
    /// The minute after the last, 1 to 1440.
    pub to_minute: u16,
}

impl Hours {
    /// Whether it ends after it begins, on the same day.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.from_minute < self.to_minute && self.to_minute <= 24 * 60
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the days")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Agreement {
    /// SHA-256 of its canonical JSON (RFC 8785): what the parties sign.
    ///
    /// # Errors
    /// [`AgreementError::Malformed`] if it does not serialise.
    pub fn digest(&self) -> Result<[u8; 32], AgreementError> {
        let bytes = serde_json_canonicalizer::to_vec(self).map_err(|_| AgreementError::Malformed)?;
        Ok(sha256(&[&bytes]))
    }

    /// Its id and version.
    #[must_use]
    pub fn reference(&self) -> AgreementRef {
        AgreementRef { id: self.id.clone(), version: self.version }
    }

    fn parties(&self) -> [&MemberId; 2] {
        [&self.asker, &self.holder]
    }

    /// Terms no signature can mend: two different parties, an end after the beginning, hours that are hours.
    fn is_sound(&self) -> bool {
        self.asker != self.holder && self.valid_from <= self.valid_to && self.hours.iter().all(Hours::is_sound)
    }
}

/// An agreement, as others name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRef {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for AgreementRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// A party's word that it agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assent {
    /// The party.
    pub iss: MemberId,
    /// When it signed.
    pub iat: Timestamp,
    /// [`Agreement::digest`], 32 bytes.
    pub agreement: Bytes,
}

impl Envelope for Assent {
    const TYP: &'static str = "ogniwo-assent+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// A party's word that the agreement is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRevocation {
    /// The party.
    pub iss: MemberId,
    /// When it signed; nothing is answered from then on.
    pub iat: Timestamp,
    /// [`Agreement::digest`], 32 bytes.
    pub agreement: Bytes,
}

impl Envelope for AgreementRevocation {
    const TYP: &'static str = "ogniwo-agreement-revocation+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// An agreement as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedAgreement {
    /// What was agreed.
    pub terms: Agreement,
    /// Each party's [`Assent`] as compact JWS.
    pub assents: BTreeMap<MemberId, String>,
    /// A party's [`AgreementRevocation`] as compact JWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
}

/// Why an agreement was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// It does not serialise, or its terms contradict each other.
    #[error("its terms contradict each other")]
    Malformed,
    /// A party's signature is missing or does not verify.
    #[error("not signed by both parties")]
    Unsigned,
    /// The revocation is not a party's.
    #[error("its revocation is not signed by a party")]
    BadRevocation,
}

impl SignedAgreement {
    /// The terms, signed by nobody yet.
    #[must_use]
    pub fn draft(terms: Agreement) -> Self {
        SignedAgreement { terms, assents: BTreeMap::new(), revocation: None }
    }

    /// Adds the assent of `party`, signed with its message key.
    ///
    /// # Errors
    /// [`AgreementError::Malformed`] if the terms do not serialise.
    pub fn assent(&mut self, party: &MemberId, key: &SigningKey, now: Timestamp) -> Result<(), AgreementError> {
        let assent = Assent { iss: party.clone(), iat: now, agreement: Bytes(self.terms.digest()?.to_vec()) };
        let token = jws::sign(key, &assent).map_err(|_| AgreementError::Malformed)?;
        self.assents.insert(party.clone(), token);
        Ok(())
    }

    /// The word of `party`, signed with its message key, that the agreement is over from `now` on.
    ///
    /// # Errors
    /// [`AgreementError::Malformed`] if the terms do not serialise.
    pub fn revoke(&self, party: &MemberId, key: &SigningKey, now: Timestamp) -> Result<String, AgreementError> {
        let digest = Bytes(self.terms.digest()?.to_vec());
        let revocation = AgreementRevocation { iss: party.clone(), iat: now, agreement: digest };
        jws::sign(key, &revocation).map_err(|_| AgreementError::Malformed)
    }

    /// Whether both parties signed these terms with keys of `manifest` that were theirs when they signed, and the
    /// revocation, if there is one, is a party's.
    ///
    /// # Errors
    /// [`AgreementError`].
    pub fn check(&self, manifest: &Manifest) -> Result<(), AgreementError> {
        let digest = self.terms.digest()?;
        let parties = self.terms.parties();
        if !self.terms.is_sound() {
            return Err(AgreementError::Malformed);
        }
        if self.assents.len() != parties.len() {
            return Err(AgreementError::Unsigned);
        }
        for party in parties {
            let token = self.assents.get(party).ok_or(AgreementError::Unsigned)?;
            let assent: Assent = signed_then(manifest, token).map_err(|_| AgreementError::Unsigned)?;
            if &assent.iss != party || assent.agreement.0 != digest {
                return Err(AgreementError::Unsigned);
            }
        }
        match &self.revocation {
            None => Ok(()),
            Some(token) => self.revoked_by(token, manifest).map(|_| ()),
        }
    }

    /// The revocation `token`, if it is a party's and about these terms.
    ///
    /// # Errors
    /// [`AgreementError::BadRevocation`].
    pub fn revoked_by(&self, token: &str, manifest: &Manifest) -> Result<AgreementRevocation, AgreementError> {
        let revocation: AgreementRevocation =
            signed_then(manifest, token).map_err(|_| AgreementError::BadRevocation)?;
        let about_it = revocation.agreement.0 == self.terms.digest()?;
        if about_it && self.terms.parties().contains(&&revocation.iss) {
            Ok(revocation)
        } else {
            Err(AgreementError::BadRevocation)
        }
    }

    /// Whether it serves at `now`: its time has come and is not over, and nobody revoked it.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.terms.valid_from <= now && now <= self.terms.valid_to && self.revocation.is_none()
    }
}

/// Claims whose signer's message key was valid when they say they were signed.
fn signed_then<T: Envelope + Dated>(manifest: &Manifest, token: &str) -> Result<T, JwsError> {
    let mut owner = None;
    let claims: T = jws::verify(token, |kid| {
        let found = manifest.any_key(kid, KeyUse::Message)?;
        owner = Some(found);
        Some((found.0.clone(), found.1.key))
    })?;
    match owner {
        Some((_, key)) if key.valid_at(claims.signed_at()) => Ok(claims),
        _ => Err(JwsError::UnknownKey),
    }
}

trait Dated {
    fn signed_at(&self) -> Timestamp;
}

impl Dated for Assent {
    fn signed_at(&self) -> Timestamp {
        self.iat
    }
}

impl Dated for AgreementRevocation {
    fn signed_at(&self) -> Timestamp {
        self.iat
    }
}

#[cfg(test)]
mod tests;
