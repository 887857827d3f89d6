//! What the node's log says. Names of fields, never values; a resident only as file id.
//! A field or event that is new here comes into `audit::FIELDS` and the event's streams first.

use crate::node::Node;
use crate::staff::Hand;
use crate::tokens::Caller;
use crate::trace::Trace;
use policies::Seen;
use protocol::encoding::{Bytes, b64};
use protocol::query::{LogPosition, Obligations};
use protocol::{ConsentId, Epoch, FieldId, FileId, KeyId, MemberId, ProviderWord, Purpose, QueryType, Role, Timestamp};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use transport::Clock;

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
    /// When the oldest of the records released from were imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asker: Option<MemberId>,
    /// How surely the identity provider knew the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth: Option<ProviderWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basis: Option<String>,
    /// Length of what the answer says with its values, the same on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<Bytes>,
    /// SHA-256 of the certificate a request came under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<Bytes>,
    /// Whether the clock agrees with the registry's, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consent: Option<ConsentId>,
    /// Numbers of a bulk operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    /// Free of identifiers: a step's name, a fingerprint, a holder's fault, the reason an emergency was opened for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The emergency access relied on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emergency: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Epoch>,
    pub(crate) event: Happened,
    /// SHA-256 of what a consent is proved by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<Bytes>,
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
    /// From the arrival of what is answered to this entry; at the asker, from the first entry to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) library: Option<Bytes>,
    /// Milliseconds behind `time`.
    pub(crate) ms: u16,
    /// What the recipient has to do with what was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) obligations: Option<Duties>,
    /// A ticket of more than its ordinary age was accepted because the registry is away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) old_ticket: bool,
    /// Pseudonymous id of the one the user acts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_behalf_of: Option<Bytes>,
    /// Outcome per holder and query, at the asker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outcomes: Vec<OutcomeLine>,
    /// The other side's entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
    /// Digest of the institution's own policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policies: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<Purpose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<QueryType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The caller's own words; only in the asker's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_text: Option<String>,
    /// The request's single-use id with its issue time, for the replay guard after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replay>,
    /// SHA-256 of the request's compact JWS: joins both sides' entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
    /// SHA-256 of what the signed answer says, the same on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    /// `pesel`, `document` or `local_number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_key: Option<&'static str>,
    /// The steps of the decision that were passed, each with what it saw.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "lines")]
    pub(crate) steps: Vec<Seen>,
    /// The application the user acted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<ProviderWord>,
    /// id@version of the template of the consent relied on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// HMAC of the name of the terminal the user acted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminal: Option<Bytes>,
    pub(crate) time: Timestamp,
    /// Of what question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Trace>,
    /// Pseudonymous id of the user, resolvable by its institution alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Bytes>,
    /// When a consent ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) valid_until: Option<Timestamp>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields: BTreeSet<FieldId>,
    pub(crate) holder: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) obligations: Option<Duties>,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
    pub(crate) query: QueryType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<Bytes>,
}

/// [`Obligations`], in the order of their names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Duties {
    delete_after: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    do_not_contact: bool,
    onward_transfer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    review_by: Option<Timestamp>,
}

impl From<&Obligations> for Duties {
    fn from(obligations: &Obligations) -> Self {
        let Obligations { delete_after, onward_transfer, do_not_contact, review_by } = *obligations;
        Duties { delete_after, do_not_contact, onward_transfer, review_by }
    }
}

impl Event {
    /// An entry that says only what happened, now.
    pub(crate) fn new(event: Happened, clock: &Clock) -> Self {
        Event::at(event, clock.now_ms())
    }

    /// The same of the moment `at_ms` (milliseconds since 1970).
    pub(crate) fn at(event: Happened, at_ms: i64) -> Self {
        let (time, ms) = Timestamp::of_ms(at_ms);
        Event {
            agreement: None,
            approval: None,
            as_of: None,
            asker: None,
            auth: None,
            basis: None,
            bytes: None,
            case: None,
            certificate: None,
            clock: None,
            consent: None,
            counts: BTreeMap::new(),
            decision: None,
            detail: None,
            emergency: None,
            epoch: None,
            event,
            evidence: None,
            fields_requested: BTreeSet::new(),
            fields_returned: BTreeSet::new(),
            file: None,
            holder: None,
            key: None,
            latency_ms: None,
            library: None,
            ms,
            obligations: None,
            old_ticket: false,
            on_behalf_of: None,
            outcomes: Vec::new(),
            peer_log: None,
            policies: None,
            purpose: None,
            query: None,
            reason: None,
            reason_text: None,
            replay: None,
            request: None,
            response: None,
            role: None,
            search_key: None,
            steps: Vec::new(),
            system: None,
            template: None,
            terminal: None,
            time,
            trace: None,
            user: None,
            valid_until: None,
        }
    }

    /// The same, done by `caller`: by whom, for whom, by what system, how surely known and from where.
    pub(crate) fn by(self, node: &Node, caller: &Caller) -> Self {
        let Hand { auth, on_behalf_of, system, terminal, user } = Hand::of(node, caller);
        Event { auth, on_behalf_of, system, terminal, user: Some(user), ..self }
    }

    /// The same with numbers.
    pub(crate) fn counting<const N: usize>(mut self, counts: [(&'static str, u64); N]) -> Self {
        self.counts.extend(counts);
        self
    }
}

fn lines<S: Serializer>(steps: &[Seen], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(steps.iter().map(Line))
}

/// A step as `STEP: WHAT IT SAW`.
struct Line<'s>(&'s Seen);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}: {}", self.0.step, self.0.saw))
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
    use policies::Step;
    use protocol::{Reason, Told};

    /// Everything at once.
    fn full() -> Event {
        let log = LogPosition { entry: Bytes(vec![1; 32]), index: 7, origin: "pup".into() };
        let duties = Duties {
            delete_after: Timestamp(1),
            do_not_contact: true,
            onward_transfer: false,
            review_by: Some(Timestamp(2)),
        };
        let line = OutcomeLine {
            agreement: Some("a@1".into()),
            bytes: Some(12),
            fields: ["pup.status".parse().unwrap()].into(),
            holder: Some("pup".parse().unwrap()),
            obligations: Some(duties.clone()),
            outcome: "answered",
            peer_log: Some(log.clone()),
            query: "q02".parse().unwrap(),
            reason: Some(Told::NotAvailable.code().into()),
            request: Some(Bytes(vec![2; 32])),
            response: Some(Bytes(vec![13; 32])),
        };
        Event {
            agreement: Some("a".into()),
            approval: Some(Bytes(vec![10; 32])),
            as_of: Some(Timestamp(3)),
            asker: Some("mops".parse().unwrap()),
            auth: Some("urn:two-factors".parse().unwrap()),
            basis: Some("none".into()),
            bytes: Some(12),
            case: Some(Bytes(vec![3; 32])),
            certificate: Some(Bytes(vec![12; 32])),
            clock: Some("agrees"),
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
            latency_ms: Some(5),
            library: Some(Bytes(vec![6; 32])),
            obligations: Some(duties),
            old_ticket: true,
            on_behalf_of: Some(Bytes(vec![17; 32])),
            outcomes: vec![line],
            peer_log: Some(log),
            policies: Some(Bytes(vec![14; 32])),
            purpose: Some("p".parse().unwrap()),
            query: Some("q02".parse().unwrap()),
            reason: Some(Reason::NotServed.code()),
            reason_text: Some("r".into()),
            replay: Some(Replay { jti: Bytes(vec![7; 16]), until: Timestamp(9) }),
            request: Some(Bytes(vec![8; 32])),
            response: Some(Bytes(vec![15; 32])),
            role: Some("caseworker".parse().unwrap()),
            search_key: Some("pesel"),
            steps: vec![Seen { step: Step::Node, saw: "manifest 1".into() }],
            system: Some("pomost".parse().unwrap()),
            template: Some("t@1".into()),
            terminal: Some(Bytes(vec![18; 32])),
            trace: Some(Trace::new().unwrap()),
            user: Some(Bytes(vec![9; 32])),
            evidence: Some(Bytes(vec![16; 32])),
            valid_until: Some(Timestamp(4)),
            ..Event::at(Happened::QueryOutcome, 1_007).counting([("z", 1), ("a", 2)])
        }
    }

    #[test]
    fn an_event_is_written_in_the_order_of_its_names() {
        let written = serde_json::to_string(&full()).unwrap();
        // A `Value` keeps its keys in order.
        let ordered: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, ordered.to_string());
        let mut consent = ordered.clone();
        consent["event"] = Happened::ConsentRecorded.name().into();
        let seen = [&ordered, &consent].map(|entry| audit::project(entry, audit::Stream::Dpo).unwrap());
        for field in ordered.as_object().unwrap().keys().filter(|field| *field != "replay") {
            assert!(seen.iter().any(|seen| seen.get(field).is_some()), "{field} is the officer's to see");
        }
    }
}
