//! What the node's log says. Names of fields, never values; a resident only as file id (domain §5.1).

use protocol::encoding::{Bytes, b64};
use protocol::query::LogPosition;
use protocol::{ConsentId, Epoch, FieldId, FileId, MemberId, Purpose, QueryType, Reason, Role, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What happened. Stable names: reports and reconciliations are written against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Happened {
    #[serde(rename = "node.started")]
    NodeStarted,
    #[serde(rename = "manifest.accepted")]
    ManifestAccepted,
    #[serde(rename = "import.started")]
    ImportStarted,
    #[serde(rename = "import.finished")]
    ImportFinished,
    #[serde(rename = "enrol.finished")]
    EnrolFinished,
    #[serde(rename = "shared.finished")]
    SharedFinished,
    #[serde(rename = "key.born")]
    KeyBorn,
    #[serde(rename = "key.compared")]
    KeyCompared,
    #[serde(rename = "key.renewed")]
    KeyRenewed,
    #[serde(rename = "key.ceremony_failed")]
    KeyCeremonyFailed,
    #[serde(rename = "key.share_stale")]
    KeyShareStale,
    #[serde(rename = "epoch.closed")]
    EpochClosed,
    #[serde(rename = "key.share_destroyed")]
    KeyShareDestroyed,
    #[serde(rename = "key.evaluated")]
    KeyEvaluated,
    #[serde(rename = "key.holder_fault")]
    KeyHolderFault,
    #[serde(rename = "query.asking")]
    QueryAsking,
    #[serde(rename = "query.outcome")]
    QueryOutcome,
    #[serde(rename = "query.answered")]
    QueryAnswered,
    #[serde(rename = "query.denied")]
    QueryDenied,
    #[serde(rename = "consent.recorded")]
    ConsentRecorded,
    #[serde(rename = "consent.granted")]
    ConsentGranted,
    #[serde(rename = "consent.withdrawn")]
    ConsentWithdrawn,
    #[serde(rename = "consent.withdrawal_received")]
    WithdrawalReceived,
}

/// One log entry; what does not apply stays out.
#[expect(clippy::struct_field_names, reason = "`event` is the field's name in the log")]
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) event: Happened,
    pub(crate) time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asker: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<MemberId>,
    /// Pseudonymous id of the user, resolvable by its institution alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    /// `pesel`, `document` or `local_number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) search_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<QueryType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<Purpose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basis: Option<String>,
    /// The caller's own words; only in the asker's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) library: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consent: Option<ConsentId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields_requested: BTreeSet<FieldId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields_returned: BTreeSet<FieldId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    /// A ticket of more than its ordinary age was accepted because the registry is away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) old_ticket: bool,
    /// SHA-256 of the request's compact JWS: joins both sides' entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
    /// The request's single-use id with its issue time, for the replay guard after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replay>,
    /// The other side's entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Epoch>,
    /// Outcome per holder and query, at the asker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outcomes: Vec<OutcomeLine>,
    /// Numbers of a bulk operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Free of identifiers: a step's name, a fingerprint, a holder's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
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
    pub(crate) holder: Option<MemberId>,
    pub(crate) query: QueryType,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fields: BTreeSet<FieldId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_log: Option<LogPosition>,
}

impl Event {
    /// An entry that says only what happened and when.
    pub(crate) fn new(event: Happened, time: Timestamp) -> Self {
        Event {
            event,
            time,
            file: None,
            asker: None,
            holder: None,
            user: None,
            role: None,
            search_key: None,
            query: None,
            purpose: None,
            basis: None,
            reason_text: None,
            case: None,
            agreement: None,
            library: None,
            consent: None,
            fields_requested: BTreeSet::new(),
            fields_returned: BTreeSet::new(),
            decision: None,
            reason: None,
            old_ticket: false,
            request: None,
            replay: None,
            peer_log: None,
            epoch: None,
            outcomes: Vec::new(),
            counts: BTreeMap::new(),
            detail: None,
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
