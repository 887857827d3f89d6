//! What the node's log says. Names of fields, never values; a resident only as file id (domain §5.1).
//! A field or event that is new here comes into `audit::FIELDS` and the event's streams first.

use protocol::encoding::{Bytes, b64};
use protocol::query::LogPosition;
use protocol::{ConsentId, Epoch, FieldId, FileId, KeyId, MemberId, Purpose, QueryType, Reason, Role, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What happened, as the catalogue of the log has it.
pub(crate) use audit::EventKind as Happened;

/// One log entry; what does not apply stays out. Fields stand in the order of their names, here and in what they hold,
/// so that what is written is canonical already (RFC 8785).
#[expect(clippy::struct_field_names, reason = "`event` is the field's name in the log")]
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<String>,
    /// The question a person decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approval: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asker: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basis: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<Bytes>,
    /// SHA-256 of the certificate a request came under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consent: Option<ConsentId>,
    /// Numbers of a bulk operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    /// Free of identifiers: a step's name, a fingerprint, a holder's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The emergency access relied on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emergency: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Epoch>,
    pub(crate) event: Happened,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields_requested: BTreeSet<FieldId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields_returned: BTreeSet<FieldId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<MemberId>,
    /// The key a request was signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) library: Option<Bytes>,
    /// A ticket of more than its ordinary age was accepted because the registry is away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) old_ticket: bool,
    /// Outcome per holder and query, at the asker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outcomes: Vec<OutcomeLine>,
    /// The other side's entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<Purpose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<QueryType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    /// The caller's own words; only in the asker's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_text: Option<String>,
    /// The request's single-use id with its issue time, for the replay guard after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replay>,
    /// SHA-256 of the request's compact JWS: joins both sides' entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    /// `pesel`, `document` or `local_number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_key: Option<&'static str>,
    pub(crate) time: Timestamp,
    /// Pseudonymous id of the user, resolvable by its institution alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Bytes>,
}

/// What a restart needs to refuse a replay.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub(crate) struct Replay {
    pub(crate) jti: Bytes,
    pub(crate) until: Timestamp,
}

/// One holder's outcome in the asker's log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OutcomeLine {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields: BTreeSet<FieldId>,
    pub(crate) holder: Option<MemberId>,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
    pub(crate) query: QueryType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
}

impl Event {
    /// An entry that says only what happened and when.
    pub(crate) fn new(event: Happened, time: Timestamp) -> Self {
        Event {
            agreement: None,
            approval: None,
            asker: None,
            basis: None,
            case: None,
            certificate: None,
            consent: None,
            counts: BTreeMap::new(),
            decision: None,
            detail: None,
            emergency: None,
            epoch: None,
            event,
            fields_requested: BTreeSet::new(),
            fields_returned: BTreeSet::new(),
            file: None,
            holder: None,
            key: None,
            library: None,
            old_ticket: false,
            outcomes: Vec::new(),
            peer_log: None,
            purpose: None,
            query: None,
            reason: None,
            reason_text: None,
            replay: None,
            request: None,
            role: None,
            search_key: None,
            time,
            user: None,
        }
    }

    /// The same with numbers.
    pub(crate) fn counting<const N: usize>(mut self, counts: [(&'static str, u64); N]) -> Self {
        self.counts.extend(counts);
        self
    }
}

/// A receipt as a position others can cite.
pub(crate) fn position(receipt: &audit::Receipt) -> LogPosition {
    LogPosition {
        origin: receipt.origin().to_owned(),
        index: receipt.index(),
        entry: Bytes::from(receipt.entry_hash().as_slice()),
    }
}

/// A fingerprint for people.
pub(crate) fn fingerprint(hash: &[u8; 32]) -> String {
    b64(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Told;

    /// Everything at once.
    fn full() -> Event {
        let log = LogPosition { entry: Bytes(vec![1; 32]), index: 7, origin: "pup".into() };
        let line = OutcomeLine {
            fields: ["pup.status".parse().unwrap()].into(),
            holder: Some("pup".parse().unwrap()),
            outcome: "answered",
            peer_log: Some(log.clone()),
            query: "q02".parse().unwrap(),
            reason: Some(Told::NotAvailable.code().into()),
            request: Some(Bytes(vec![2; 32])),
        };
        Event {
            agreement: Some("a".into()),
            approval: Some(Bytes(vec![10; 32])),
            asker: Some("mops".parse().unwrap()),
            basis: Some("none".into()),
            case: Some(Bytes(vec![3; 32])),
            certificate: Some(Bytes(vec![12; 32])),
            consent: Some(ConsentId([4; 16])),
            decision: Some("permit"),
            detail: Some("quoted \"ą\"\n".into()),
            emergency: Some(Bytes(vec![11; 16])),
            epoch: Some(Epoch(1)),
            fields_requested: ["pup.status".parse().unwrap()].into(),
            fields_returned: ["pup.status".parse().unwrap()].into(),
            file: Some(FileId([5; 16])),
            holder: Some("pup".parse().unwrap()),
            key: Some(KeyId("k".into())),
            library: Some(Bytes(vec![6; 32])),
            old_ticket: true,
            outcomes: vec![line],
            peer_log: Some(log),
            purpose: Some("p".parse().unwrap()),
            query: Some("q02".parse().unwrap()),
            reason: Some(Reason::NotServed),
            reason_text: Some("r".into()),
            replay: Some(Replay { jti: Bytes(vec![7; 16]), until: Timestamp(9) }),
            request: Some(Bytes(vec![8; 32])),
            role: Some("caseworker".parse().unwrap()),
            search_key: Some("pesel"),
            user: Some(Bytes(vec![9; 32])),
            ..Event::new(Happened::QueryOutcome, Timestamp(1)).counting([("z", 1), ("a", 2)])
        }
    }

    #[test]
    fn an_event_is_written_in_the_order_of_its_names() {
        let written = serde_json::to_string(&full()).unwrap();
        // A `Value` keeps its keys in order.
        let ordered: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, ordered.to_string());
    }
}
