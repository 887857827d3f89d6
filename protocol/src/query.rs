//! A query between two nodes and its signed answer.
//!
//! The answer signs a salted digest per field; values and salts travel beside it as SD-JWT disclosures, so that the
//! evidence kept for years holds no data.

use crate::consent::ConsentRef;
use crate::encoding::{Bytes, b64, push_len8, sha256};
use crate::jws::Envelope;
use crate::manifest::ManifestRef;
use crate::time::DAY_SECONDS;
use crate::{Epoch, FieldId, MemberId, ProviderWord, Purpose, QueryType, Role, SubjectId, Timestamp, Told};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A query request may live this long.
pub const MAX_LIFE_SECONDS: i64 = 60;
/// A person at the holder decides within this time of its arrival, or it lapses.
pub const PENDING_SECONDS: i64 = 7 * DAY_SECONDS;

/// What one member asks another about one resident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// The asker.
    pub iss: MemberId,
    /// The holder.
    pub aud: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// At most [`MAX_LIFE_SECONDS`] after `iat`.
    pub exp: Timestamp,
    /// 16 random bytes, single use.
    pub jti: Bytes,
    /// The holder's own name for the resident.
    pub sub: SubjectId,
    /// Which key `sub` comes from.
    pub epoch: Epoch,
    /// The registry's ticket, a compact JWS.
    pub ticket: String,
    /// Who asks, at the asker.
    pub user: User,
    /// The query type.
    pub query: QueryType,
    /// Fields asked; empty for a presence query.
    pub fields: BTreeSet<FieldId>,
    /// Values to compare with, verify queries only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<FieldId, serde_json::Value>,
    /// What for.
    pub purpose: Purpose,
    /// On what legal basis.
    pub basis: Basis,
    /// HMAC-SHA-256 of the asker's case reference under a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Bytes>,
    /// The manifest it was written under.
    pub manifest: ManifestRef,
    /// Certificate the request is bound to (RFC 8705 §3.1).
    pub cnf: Confirmation,
    /// The asker's log entry "about to ask".
    pub log: LogPosition,
}

impl Envelope for QueryRequest {
    const TYP: &'static str = "ogniwo-query+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

impl QueryRequest {
    /// SHA-256 over the canonical JSON (RFC 8785) of what is asked by whom about whom, why and on which basis: alike in
    /// every request that puts the same question. An approval is of a question, so that it can be asked again, also by
    /// another system.
    ///
    /// # Errors
    /// The serialiser's; never for a request that was read.
    pub fn question(&self) -> Result<[u8; 32], serde_json::Error> {
        let user = User { auth: None, system: None, ..self.user.clone() };
        let question = (
            (&self.iss, &self.aud, &user, &self.sub, self.epoch),
            (&self.query, &self.fields, &self.expected, &self.purpose, &self.basis, &self.case),
        );
        Ok(sha256(&[&serde_json_canonicalizer::to_vec(&question)?]))
    }
}

/// A user of the asking institution, under a pseudonymous id that the institution can resolve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// HMAC of the staff id under a key of the institution.
    pub id: Bytes,
    /// The role in which the user asks.
    pub role: Role,
    /// How surely the institution's identity provider knew the user (OIDC `acr`), if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderWord>,
    /// The application the user asked by (OIDC `azp`, or `client_id`), if the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<ProviderWord>,
}

/// The legal basis claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Basis {
    /// None given.
    None,
    /// GDPR art. 6(1)(a): a consent recorded at any member.
    Consent(ConsentRef),
    /// GDPR art. 6(1)(c) or (e): a mandate of the library.
    Mandate {
        /// Its id.
        id: String,
    },
    /// GDPR art. 6(1)(d): somebody's life or health is in danger.
    Emergency(EmergencyClaim),
}

/// What a user says to break the glass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyClaim {
    /// One of the library's reasons.
    pub reason: String,
    /// SHA-256 (32 bytes) of what the user wrote; the text stays in the asker's own log.
    pub note: Bytes,
    /// When it was opened. It closes by itself.
    pub opened: Timestamp,
    /// When the user confirmed it a second time.
    pub confirmed: Timestamp,
}

impl EmergencyClaim {
    /// How both sides name it: the first 16 bytes of SHA-256("ogniwo/v1/emergency" ‖ len8 asker ‖ note ‖ opened, 8 bytes
    /// big-endian).
    #[must_use]
    pub fn id(&self, asker: &MemberId) -> [u8; 16] {
        let mut message = b"ogniwo/v1/emergency".to_vec();
        push_len8(&mut message, asker.as_str());
        let digest = sha256(&[&message, &self.note.0, &self.opened.0.to_be_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(digest.split_at(16).0);
        id
    }
}

/// `x5t#S256` confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// SHA-256 of the client certificate.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: Bytes,
}

/// Where a member's own log records its side. Fields in the order of their names: it stands in the other's log too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// The entry's hash.
    pub entry: Bytes,
    /// Index of the entry.
    pub index: u64,
    /// The log's origin.
    pub origin: String,
}

/// The signed part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryAnswer {
    /// The holder.
    pub iss: MemberId,
    /// The asker.
    pub aud: MemberId,
    /// When it was written.
    pub iat: Timestamp,
    /// SHA-256 of the request's compact JWS.
    pub request: Bytes,
    /// What was decided.
    pub outcome: AnswerOutcome,
    /// The holder's log entry.
    pub log: LogPosition,
}

impl Envelope for QueryAnswer {
    const TYP: &'static str = "ogniwo-answer+jwt";
    fn issuer(&self) -> &MemberId {
        &self.iss
    }
}

/// What the holder decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum AnswerOutcome {
    /// Released: digests of the disclosures, in their order.
    Answered {
        /// Presence queries: whether the resident has an active file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        present: Option<bool>,
        /// SHA-256 of each disclosure.
        digests: Vec<Bytes>,
        /// Verify queries: whether each field's value is the one expected.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        matches: BTreeMap<FieldId, Match>,
        /// What the recipient must do.
        obligations: Obligations,
    },
    /// Refused.
    Denied {
        /// As much as the peer may know.
        told: Told,
    },
    /// A person at the holder decides; put the same question again until then.
    Pending {
        /// After this there will be no answer.
        until: Timestamp,
    },
}

/// What comparing one field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// A record has the value expected.
    Match,
    /// No record has it.
    Mismatch,
    /// The holder has no value to compare with, or the one expected is not one of this field's.
    NotComparable,
}

/// Duties that travel with released data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obligations {
    /// The recipient deletes the values after this moment.
    pub delete_after: Timestamp,
    /// Whether the recipient may pass the values on.
    pub onward_transfer: bool,
    /// The recipient must not contact the resident on its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub do_not_contact: bool,
    /// An emergency: its review is due by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<Timestamp>,
}

/// An answer as it travels.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerMessage {
    /// [`QueryAnswer`] as compact JWS.
    pub answer: String,
    /// Values with their salts.
    pub disclosures: Vec<Disclosure>,
}

/// One field's value with its salt, base64url of the JSON array `[salt, field, value]` (SD-JWT §4.2.1).
///
/// A value is an array: one element per record of the resident's file, aligned across fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Disclosure(String);

impl std::fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disclosure(…)")
    }
}

impl Disclosure {
    /// A disclosure of `value` under a 16-byte random `salt`.
    #[must_use]
    pub fn new(salt: &[u8; 16], field: &FieldId, value: &serde_json::Value) -> Self {
        let array = serde_json::json!([b64(salt), field.as_str(), value]);
        Disclosure(b64(array.to_string().as_bytes()))
    }

    /// SHA-256 of the text as it travels.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[self.0.as_bytes()])
    }

    /// Field and value, or nothing if it is not of this shape.
    #[must_use]
    pub fn open(&self) -> Option<(FieldId, serde_json::Value)> {
        let bytes = data_encoding::BASE64URL_NOPAD.decode(self.0.as_bytes()).ok()?;
        let (_salt, field, value): (String, String, serde_json::Value) = serde_json::from_slice(&bytes).ok()?;
        Some((field.parse().ok()?, value))
    }
}

impl AnswerMessage {
    /// Fields and values, if every disclosure is one the signed answer vouches for and none is missing.
    #[must_use]
    pub fn open(&self, answer: &QueryAnswer) -> Option<BTreeMap<FieldId, serde_json::Value>> {
        let digests: &[Bytes] = match &answer.outcome {
            AnswerOutcome::Answered { digests, .. } => digests,
            AnswerOutcome::Denied { .. } | AnswerOutcome::Pending { .. } => &[],
        };
        let vouched = digests.len() == self.disclosures.len()
            && digests.iter().zip(&self.disclosures).all(|(digest, d)| digest.0 == d.digest());
        if !vouched {
            return None;
        }
        self.disclosures.iter().map(Disclosure::open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_the_same_by_another_system_and_another_of_another_user() {
        let digest = b64(&[1; 32]);
        let request: QueryRequest = serde_json::from_value(serde_json::json!({
            "iss": "mops", "aud": "pup", "iat": 0, "exp": 60, "jti": b64(&[1; 16]), "sub": digest, "epoch": 1,
            "ticket": "", "user": { "id": digest, "role": "caseworker" }, "query": "q02", "fields": ["pup.status"],
            "purpose": "p", "basis": { "kind": "none" }, "manifest": { "version": 1, "hash": digest },
            "cnf": { "x5t#S256": digest }, "log": { "entry": digest, "index": 0, "origin": "o" },
        }))
        .unwrap();
        let by = |user: User| QueryRequest { user, ..request.clone() }.question().unwrap();
        let same = User { system: "pomost".parse().ok(), auth: "2".parse().ok(), ..request.user.clone() };
        assert_eq!(by(same), request.question().unwrap());
        assert_ne!(by(User { id: Bytes(vec![2; 32]), ..request.user.clone() }), request.question().unwrap());
    }

    #[test]
    fn a_disclosure_opens_only_under_its_digest() {
        let field: FieldId = "pup.status".parse().unwrap();
        let disclosure = Disclosure::new(&[3; 16], &field, &serde_json::json!(["bezrobotny"]));
        assert_eq!(disclosure.open().unwrap(), (field.clone(), serde_json::json!(["bezrobotny"])));
        let mut answer = QueryAnswer {
            iss: "pup".parse().unwrap(),
            aud: "mops".parse().unwrap(),
            iat: Timestamp(0),
            request: Bytes(vec![0; 32]),
            outcome: AnswerOutcome::Answered {
                present: None,
                digests: vec![Bytes(disclosure.digest().to_vec())],
                matches: BTreeMap::new(),
                obligations: Obligations {
                    delete_after: Timestamp(1),
                    onward_transfer: false,
                    do_not_contact: false,
                    review_by: None,
                },
            },
            log: LogPosition { origin: "x".into(), index: 0, entry: Bytes(vec![]) },
        };
        let message = |d: Vec<Disclosure>| AnswerMessage { answer: String::new(), disclosures: d };
        assert_eq!(message(vec![disclosure.clone()]).open(&answer).unwrap().len(), 1);
        let forged = Disclosure::new(&[3; 16], &field, &serde_json::json!(["niezarejestrowany"]));
        assert!(message(vec![forged]).open(&answer).is_none());
        assert!(message(vec![]).open(&answer).is_none());
        answer.outcome = AnswerOutcome::Denied { told: Told::NotAvailable };
        assert!(message(vec![disclosure]).open(&answer).is_none());
    }
}
