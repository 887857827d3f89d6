//! What may leave. A [`Released`] is made from a permit and records alone, an answer from a decision and a receipt
//! alone: an unfiltered or unlogged release does not compile.

use crate::events::position;
use crate::records::Records;
use audit::Receipt;
use keyring::fill_random;
use policies::{Engine, Permit, Tier};
use protocol::encoding::{Bytes, sha256};
use protocol::jws::{self, JwsError};
use protocol::query::{AnswerMessage, AnswerOutcome, Disclosure, Match, Obligations, QueryAnswer};
use protocol::{FieldId, MemberId, SigningKey, Timestamp, Told};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The permitted part of a resident's records.
pub(crate) struct Released {
    present: Option<bool>,
    records: u64,
    as_of: Option<Timestamp>,
    fields: BTreeSet<FieldId>,
    disclosures: Vec<Disclosure>,
    matches: BTreeMap<FieldId, Match>,
    obligations: Obligations,
}

/// Keeps of `records` what `permit` names, each value under a fresh salt; of what may only be compared with `expected`,
/// whether it is the same.
pub(crate) fn minimise(
    permit: &Permit,
    records: &Records,
    engine: &Engine,
    expected: Option<&BTreeMap<FieldId, Value>>,
) -> std::io::Result<Released> {
    let mut released = Released {
        present: (permit.tier() == Tier::Presence).then(|| !records.is_empty()),
        records: records.count(),
        as_of: records.as_of(),
        fields: BTreeSet::new(),
        disclosures: Vec::new(),
        matches: compared(permit, records, engine, expected),
        obligations: permit.obligations().clone(),
    };
    if permit.tier() == Tier::Share {
        let mut salts = vec![[0; 16]; permit.fields().len()];
        fill_random(salts.as_flattened_mut())?;
        for (field, salt) in permit.fields().iter().zip(&salts) {
            let buckets = engine.field(field).and_then(|field| field.buckets.as_ref());
            if let Some(value) = records.column(field, buckets) {
                released.disclosures.push(Disclosure::new(salt, field, &value));
                released.fields.insert(field.clone());
            }
        }
    }
    Ok(released)
}

fn compared(
    permit: &Permit,
    records: &Records,
    engine: &Engine,
    expected: Option<&BTreeMap<FieldId, Value>>,
) -> BTreeMap<FieldId, Match> {
    let tolerance = engine.query(permit.query()).map_or(0, |query| query.tolerance);
    let of = |id: &FieldId| {
        let (field, expected) = (engine.field(id)?, expected?.get(id)?);
        let held = records.column(id, field.buckets.as_ref())?;
        Some(policies::compare(field.kind, tolerance, &held, expected))
    };
    permit.compared().iter().map(|id| (id.clone(), of(id).unwrap_or(Match::NotComparable))).collect()
}

impl Released {
    /// Names of the fields that leave.
    pub(crate) fn fields(&self) -> &BTreeSet<FieldId> {
        &self.fields
    }

    /// How many rows it was read from.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// When the oldest of them were imported.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    /// Duties of who gets it.
    pub(crate) fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// What comparing found.
    pub(crate) fn matches(&self) -> &BTreeMap<FieldId, Match> {
        &self.matches
    }
}

/// What an answer says.
pub(crate) enum Answer {
    Released(Released),
    /// A person decides until then.
    Pending(Timestamp),
    Denied(Told),
}

/// What an answer says as it is signed, before there is a receipt for it.
pub(crate) struct Written {
    outcome: AnswerOutcome,
    disclosures: Vec<Disclosure>,
}

impl Answer {
    /// Writes it down.
    pub(crate) fn written(self) -> Written {
        let (outcome, disclosures) = match self {
            Answer::Released(released) => {
                let digests = released.disclosures.iter().map(|d| Bytes(d.digest().to_vec())).collect();
                let Released { present, obligations, disclosures, matches, .. } = released;
                (AnswerOutcome::Answered { present, digests, matches, obligations }, disclosures)
            }
            Answer::Pending(until) => (AnswerOutcome::Pending { until }, Vec::new()),
            Answer::Denied(told) => (AnswerOutcome::Denied { told }, Vec::new()),
        };
        Written { outcome, disclosures }
    }
}

impl Written {
    /// What both sides' logs say of it.
    pub(crate) fn response(&self) -> Response {
        Response::of(&self.outcome, &self.disclosures)
    }
}

/// What both sides' logs say of an answer: by it their entries are about the same one.
pub(crate) struct Response {
    /// SHA-256 of what is signed, as canonical JSON.
    pub(crate) digest: Bytes,
    /// Length of that and of the values beside it, as JSON.
    pub(crate) bytes: u64,
}

impl Response {
    pub(crate) fn of(outcome: &AnswerOutcome, disclosures: &[Disclosure]) -> Self {
        // A `Value` keeps its keys in order.
        let canonical = serde_json::to_value(outcome).map(|value| value.to_string()).unwrap_or_default();
        let beside = serde_json::to_vec(disclosures).unwrap_or_default();
        let bytes = (canonical.len() + beside.len()) as u64;
        Response { digest: Bytes(sha256(&[canonical.as_bytes()]).to_vec()), bytes }
    }
}

/// Both ends of an answer.
pub(crate) struct Parties<'a> {
    pub(crate) holder: &'a MemberId,
    pub(crate) asker: &'a MemberId,
    pub(crate) request: [u8; 32],
    pub(crate) now: Timestamp,
}

/// Writes the signed answer of a decision that is in the log.
pub(crate) fn answer(
    parties: &Parties<'_>,
    written: Written,
    receipt: &Receipt,
    key: &SigningKey,
) -> Result<AnswerMessage, JwsError> {
    let Written { outcome, disclosures } = written;
    let claims = QueryAnswer {
        iss: parties.holder.clone(),
        aud: parties.asker.clone(),
        iat: parties.now,
        request: Bytes(parties.request.to_vec()),
        outcome,
        log: position(receipt),
    };
    Ok(AnswerMessage { answer: jws::sign(key, &claims)?, disclosures })
}
