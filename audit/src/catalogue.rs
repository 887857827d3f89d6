//! What a log can say happened, and who may see how much of it: the event catalogue, version 1 of the entry's schema.
//!
//! An entry is a JSON object with `event` (a name from here), `time` (seconds since 1970, with the milliseconds behind
//! them in `ms` where the clock gives them) and, of [`FIELDS`], what applies. Fields hold names, ids, digests, codes and numbers, and never a resident's data. Version 1 has no field for
//! the version; a later one says `schema`.
//!
//! Three *streams* leave the log: the data-protection officer's, the operators' and a security monitor's (SIEM). What of
//! an entry goes into which is an allow-list: [`project`] copies the fields listed here for its event, and there is no
//! other way out. An event or field that nobody listed is in no stream.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The schema's version.
pub const SCHEMA: u32 = 1;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The institution's data-protection officer.
    Dpo,
    /// Those who keep the machines running: no residents, users, cases or words.
    Operations,
    /// A security monitor: users, but no residents, cases or words.
    Siem,
}

/// How long what an entry says stays readable at a node; its hash stays in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// For good: it says nothing of a person. A registry's entries are all kept.
    Kept,
    /// For the log's term, and as long as the resident is on file: it bears on what may be answered.
    OnFile,
    /// For the log's term (`log_retention_days`).
    Term,
}

/// Whether the resident an entry is about is told of it in the resident's own list (reports R1 and R2). Nothing is hidden
/// from a resident for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// It is a line of the list.
    Resident,
    /// It is the institution's own.
    Institution,
}

/// The activity of the record of processing (GDPR art. 30) that an entry comes of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Keeping the machines, keys of connections, rules and agreements in order.
    Operation,
    /// Taking in records and making clients known to the registry.
    Records,
    /// The pseudonyms' shared key.
    Pseudonyms,
    /// Questions, answers and what people decide about them.
    Exchange,
    /// Consents.
    Consents,
    /// Residents' rights: access, restriction, erasure.
    Rights,
    /// Supervision: reading, comparing, reviewing and keeping the log.
    Oversight,
    /// The registry's index.
    Index,
}

impl Retention {
    /// As documents have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::OnFile => "on-file",
            Self::Term => "term",
        }
    }
}

impl Visibility {
    /// As documents have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Institution => "institution",
        }
    }
}

impl Activity {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Operation,
        Self::Records,
        Self::Pseudonyms,
        Self::Exchange,
        Self::Consents,
        Self::Rights,
        Self::Oversight,
        Self::Index,
    ];

    /// Id and version, as documents have it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Operation => "operation@1",
            Self::Records => "records@1",
            Self::Pseudonyms => "pseudonyms@1",
            Self::Exchange => "exchange@1",
            Self::Consents => "consents@1",
            Self::Rights => "rights@1",
            Self::Oversight => "oversight@1",
            Self::Index => "index@1",
        }
    }
}

/// Every field there is: name, and what it holds.
pub const FIELDS: &[(&str, &str)] = &[
    ("about", "pseudonymous id of the member of staff whose name was read"),
    ("agreement", "id@version of the agreement relied on"),
    ("approval", "id of the question a person has to approve"),
    ("as_of", "when the oldest of the records released from were imported, in seconds since 1970"),
    ("asker", "member that asks"),
    ("audience", "members an entry of the registry is for"),
    ("auth", "how surely the identity provider knew the user: its `acr`"),
    ("basis", "`none`, `consent:ID…`, `mandate:ID…`, `emergency:REASON`; of a permit `emergency:ID@VERSION`"),
    ("bytes", "length of what the answer says with its values, the same on both sides"),
    ("case", "HMAC of the case reference"),
    ("certificate", "SHA-256 of a certificate"),
    ("clock", "`agrees` with the registry's, or `unchecked` for five minutes and more"),
    ("confirmed_by", "pseudonymous id of who confirmed"),
    ("consent", "id of the consent"),
    ("counts", "numbers of bulk work, by name"),
    ("decision", "one of `DECISIONS`"),
    ("delete", "registry: HMACs of indexes removed"),
    ("detail", "free of identifiers: a step, a fingerprint, a fault, the reason an emergency was opened for"),
    ("emergency", "id of an emergency access"),
    ("epoch", "key epoch"),
    ("event", "name of the event"),
    ("evidence", "SHA-256 of what a consent is proved by"),
    ("fields_requested", "names of fields"),
    ("fields_returned", "names of fields"),
    ("file", "the resident's file id at this institution"),
    ("filter", "names of the criteria of a search, never their values"),
    ("finding", "id of a finding of the review"),
    ("found", "registry: others' entries shown"),
    ("holder", "member that is asked"),
    ("honeypots", "registry: indexes among them that the officers had planted"),
    ("indexes", "registry: HMACs of indexes asked about"),
    ("items", "registry: items of a review queue read"),
    ("key", "id of the key a request was signed with"),
    ("known", "checkpoint that others have: signed note"),
    ("latency_ms", "milliseconds from a request's arrival to its entry"),
    ("library", "digest of the policy library"),
    ("lost_from", "first index missing"),
    ("lost_until", "index after the last missing"),
    ("manifest", "registry: version and digest of the manifest"),
    ("member", "registry: member that called"),
    ("met", "registry: of its new entries, those that met another member's"),
    ("ms", "milliseconds behind `time`"),
    ("never_converted", "registry: of the rows removed, provisional ones that never became ordinary"),
    ("obligations", "delete_after, do_not_contact, onward_transfer, review_by"),
    ("old_ticket", "a ticket past its time was served because the registry was away"),
    ("on_behalf_of", "HMAC of the staff id of the one the user acts for"),
    ("origin", "a log's origin"),
    (
        "outcomes",
        "per holder and question, at the asker: agreement, bytes, fields, holder, obligations, outcome, peer_log, query, reason, request, response",
    ),
    ("own", "registry: indexes over which the asker had a live entry"),
    ("peer_log", "the other side's entry: origin, index, entry hash"),
    ("planted", "registry: indexes planted"),
    ("policies", "digest of the institution's own policies"),
    ("posted", "registry: new entries of a member in a period"),
    ("previous_origin", "origin of the log before"),
    ("previous_root", "root of the log before"),
    ("previous_size", "entries of the log before"),
    ("provisional", "registry: why entries are provisional"),
    ("purpose", "purpose"),
    ("put", "registry: HMACs of indexes put"),
    ("query", "query type"),
    ("reason", "code"),
    ("reason_text", "the caseworker's own words"),
    ("removed", "registry: planted indexes removed"),
    ("replay", "single-use id of a request, for the replay guard"),
    ("report", "kind of a report"),
    ("request", "SHA-256 of the request as signed, the same on both sides"),
    ("response", "SHA-256 of what the signed answer says, the same on both sides"),
    ("retention", "category of retention"),
    ("role", "role"),
    ("rows", "registry: rows removed"),
    ("search_key", "`pesel`, `document` or `local_number`"),
    ("steps", "steps of the decision that were passed, each with what it saw"),
    ("system", "application the user acted by: the token's `azp`, or `client_id`"),
    ("template", "id@version of the template of the consent relied on"),
    ("terminal", "HMAC of the name of the terminal the user acted from"),
    ("tickets", "registry: tickets issued"),
    ("time", "seconds since 1970"),
    ("trace", "W3C trace id"),
    ("user", "HMAC of the staff id"),
    ("valid_until", "when a consent ends by itself, in seconds since 1970"),
];

/// What `decision` may be: of a question, of a restriction, of a finding. `mixed` stands at the asker, where some answered
/// and some refused.
pub const DECISIONS: &[&str] = &["permit", "deny", "mixed", "restricted", "lifted", "open", "explained", "confirmed"];

/// Fields by who may see them. A dotted name is a member of what an array or object field holds.
const QUERY: &[&str] = &[
    "file",
    "asker",
    "holder",
    "user",
    "role",
    "on_behalf_of",
    "system",
    "auth",
    "terminal",
    "search_key",
    "query",
    "purpose",
    "basis",
    "case",
    "reason_text",
    "agreement",
    "library",
    "policies",
    "consent",
    "template",
    "approval",
    "emergency",
    "fields_requested",
    "fields_returned",
    "decision",
    "reason",
    "detail",
    "steps",
    "old_ticket",
    "request",
    "certificate",
    "key",
    "peer_log",
    "epoch",
    "outcomes",
    "obligations",
    "response",
    "latency_ms",
    "counts",
    "bytes",
    "as_of",
    "clock",
    "trace",
];
const QUERY_OPERATIONS: &[&str] = &[
    "asker",
    "holder",
    "query",
    "decision",
    "reason",
    "detail",
    "old_ticket",
    "epoch",
    "outcomes.holder",
    "outcomes.query",
    "outcomes.outcome",
    "outcomes.reason",
    "latency_ms",
    "bytes",
    "clock",
    "trace",
];
const QUERY_SIEM: &[&str] = &[
    "asker",
    "holder",
    "user",
    "role",
    "system",
    "auth",
    "terminal",
    "search_key",
    "query",
    "purpose",
    "decision",
    "reason",
    "old_ticket",
    "request",
    "certificate",
    "key",
    "emergency",
    "outcomes.holder",
    "outcomes.query",
    "outcomes.outcome",
    "outcomes.reason",
    "bytes",
    "clock",
    "trace",
];
const CONSENT: &[&str] = &[
    "file",
    "asker",
    "holder",
    "user",
    "role",
    "on_behalf_of",
    "system",
    "auth",
    "terminal",
    "consent",
    "template",
    "purpose",
    "basis",
    "case",
    "detail",
    "peer_log",
    "request",
    "counts",
    "evidence",
    "valid_until",
];
const CONSENT_SIEM: &[&str] = &["asker", "holder", "user", "role", "system", "auth", "terminal", "purpose"];
const MEMBERS: &[&str] = &["asker", "holder"];
const BULK: &[&str] = &["counts", "epoch", "detail", "user", "role", "asker", "holder"];
const BULK_OPERATIONS: &[&str] = &["counts", "epoch", "detail", "asker", "holder"];
const CHANGE: &[&str] =
    &["user", "role", "agreement", "library", "policies", "certificate", "manifest", "detail", "counts", "holder"];
const CHANGE_OPERATIONS: &[&str] =
    &["agreement", "library", "policies", "certificate", "manifest", "detail", "counts", "holder"];
const REVIEW: &[&str] = &[
    "file",
    "user",
    "role",
    "on_behalf_of",
    "system",
    "auth",
    "terminal",
    "case",
    "filter",
    "report",
    "finding",
    "retention",
    "reason",
    "reason_text",
    "decision",
    "detail",
    "counts",
    "confirmed_by",
    "peer_log",
    "holder",
    "asker",
    "about",
];
const REVIEW_SIEM: &[&str] =
    &["user", "role", "system", "auth", "terminal", "filter", "report", "counts", "decision", "reason", "confirmed_by"];
const COUNTS: &[&str] = &["counts"];
const REGISTRY: &[&str] = &[
    "member",
    "epoch",
    "manifest",
    "request",
    "audience",
    "purpose",
    "put",
    "delete",
    "indexes",
    "own",
    "found",
    "tickets",
    "rows",
    "provisional",
    "honeypots",
    "items",
    "planted",
    "removed",
    "posted",
    "met",
    "never_converted",
    "counts",
    "certificate",
    "confirmed_by",
];
const REGISTRY_OPERATIONS: &[&str] = &[
    "member",
    "epoch",
    "manifest",
    "audience",
    "own",
    "found",
    "tickets",
    "rows",
    "provisional",
    "items",
    "planted",
    "removed",
    "posted",
    "met",
    "never_converted",
    "counts",
    "certificate",
    "confirmed_by",
];
const REGISTRY_SIEM: &[&str] = &[
    "member",
    "purpose",
    "request",
    "own",
    "found",
    "tickets",
    "provisional",
    "honeypots",
    "items",
    "planted",
    "removed",
    "posted",
    "met",
    "confirmed_by",
];
const LOG: &[&str] = &[
    "origin",
    "detail",
    "counts",
    "known",
    "lost_from",
    "lost_until",
    "previous_origin",
    "previous_root",
    "previous_size",
    "confirmed_by",
    "holder",
    "peer_log",
];
const NOTHING: &[&str] = &[];

/// One table: the variant, its number, its name, and its fields in the three streams besides `event`, `time` and `ms`.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident = $id:literal $name:literal, $dpo:ident $operations:ident $siem:ident;)+) => {
        /// What happened. Numbers and names are stable: reports and reconciliations are written against them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum EventKind {
            $($(#[doc = $doc])+ $variant = $id,)+
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name, as in `event`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The event of this name.
            #[must_use]
            pub fn find(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// What of it `stream` sees besides `event`, `time` and `ms`; `None` when it does not see it at all.
            #[must_use]
            pub fn fields(self, stream: Stream) -> Option<&'static [&'static str]> {
                let [dpo, operations, siem] = match self {
                    $(Self::$variant => [$dpo, $operations, $siem],)+
                };
                let fields = match stream {
                    Stream::Dpo => dpo,
                    Stream::Operations => operations,
                    Stream::Siem => siem,
                };
                (!fields.is_empty()).then_some(fields)
            }
        }
    };
}

events! {
    /// The node was opened.
    NodeStarted = 101 "node.started", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// The node was closed: by hand, or by what failed.
    NodeClosed = 102 "node.closed", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// Something was done over the administrator's socket: what, under which user of the machine.
    AdminActed = 110 "admin.acted", CHANGE CHANGE_OPERATIONS CHANGE;

    /// An extract is about to be imported.
    ImportStarted = 201 "import.started", BULK BULK_OPERATIONS COUNTS;
    /// An extract was imported, or its import failed.
    ImportFinished = 202 "import.finished", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// Clients were enrolled.
    EnrolFinished = 203 "enrol.finished", BULK BULK_OPERATIONS COUNTS;
    /// Shared clients were counted.
    SharedFinished = 204 "shared.finished", BULK BULK_OPERATIONS COUNTS;

    /// A resident of whom there are no records yet was registered.
    NewcomerEntered = 205 "newcomer.entered", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A newcomer of whom no records came was removed.
    NewcomerLapsed = 206 "newcomer.lapsed", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Everybody was taken back from the registry.
    UnenrolFinished = 207 "unenrol.finished", BULK BULK_OPERATIONS COUNTS;

    /// A key birth ended.
    KeyBorn = 301 "key.born", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// A key holder evaluated for a member.
    KeyEvaluated = 302 "key.evaluated", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// A key holder's answer did not verify.
    KeyHolderFault = 303 "key.holder_fault", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// All holders received the same packages of a ceremony.
    KeyCompared = 304 "key.compared", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// New shares of an old key.
    KeyRenewed = 305 "key.renewed", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// A ceremony ended without a result.
    KeyCeremonyFailed = 306 "key.ceremony_failed", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// A share of an earlier generation than the manifest's was found here.
    KeyShareStale = 307 "key.share_stale", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// A share was destroyed.
    KeyShareDestroyed = 308 "key.share_destroyed", BULK BULK_OPERATIONS BULK_OPERATIONS;
    /// Names and entries under an old key were deleted.
    EpochClosed = 309 "epoch.closed", BULK BULK_OPERATIONS BULK_OPERATIONS;

    /// Before anything is asked.
    QueryAsking = 401 "query.asking", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// After: each holder's outcome.
    QueryOutcome = 402 "query.outcome", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A holder answered.
    QueryAnswered = 403 "query.answered", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A holder denied.
    QueryDenied = 404 "query.denied", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A holder does not know the resident; the asker is told what it is told of every refusal.
    QueryNoMatch = 405 "query.no_match", QUERY QUERY_OPERATIONS QUERY_SIEM;

    /// A consent was recorded.
    ConsentRecorded = 501 "consent.recorded", CONSENT MEMBERS CONSENT_SIEM;
    /// A holder received a consent.
    ConsentGranted = 502 "consent.granted", CONSENT MEMBERS CONSENT_SIEM;
    /// A consent was withdrawn where it was recorded.
    ConsentWithdrawn = 503 "consent.withdrawn", CONSENT MEMBERS CONSENT_SIEM;
    /// A holder heard of a withdrawal.
    WithdrawalReceived = 504 "consent.withdrawal_received", CONSENT MEMBERS CONSENT_SIEM;
    /// A resident was asked for consent.
    ConsentRequested = 505 "consent.requested", CONSENT MEMBERS CONSENT_SIEM;
    /// A resident refused, here or at a member that says so.
    ConsentRefused = 506 "consent.refused", CONSENT MEMBERS CONSENT_SIEM;
    /// A holder acknowledged a withdrawal.
    WithdrawalTaken = 507 "consent.withdrawal_taken", CONSENT MEMBERS CONSENT_SIEM;
    /// A newer consent took the place of one that was recorded here.
    ConsentSuperseded = 508 "consent.superseded", CONSENT MEMBERS CONSENT_SIEM;
    /// A consent recorded here was granted to a holder that serves the resident only since.
    ConsentGrantAdded = 509 "consent.grant_added", CONSENT MEMBERS CONSENT_SIEM;

    /// A question waits for a person.
    ApprovalWaiting = 601 "approval.waiting", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A person approved.
    ApprovalGranted = 602 "approval.granted", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A person refused.
    ApprovalRefused = 603 "approval.refused", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Nobody decided in time.
    ApprovalLapsed = 604 "approval.lapsed", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Danger was declared; nothing is open yet.
    EmergencyDeclared = 610 "emergency.declared", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Emergency access was taken: confirmed a second time.
    EmergencyOpened = 611 "emergency.opened", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Emergency access was reviewed.
    EmergencyReviewed = 612 "emergency.reviewed", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// Whether the resident is told of an emergency access was decided, or the letter printed.
    EmergencyNotice = 613 "emergency.notice", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A flag was put on a file.
    FlagSet = 621 "flag.set", QUERY QUERY_OPERATIONS QUERY_SIEM;
    /// A flag was taken off a file.
    FlagCleared = 622 "flag.cleared", QUERY QUERY_OPERATIONS QUERY_SIEM;

    /// A manifest came into force.
    ManifestAccepted = 701 "manifest.accepted", CHANGE CHANGE_OPERATIONS CHANGE_OPERATIONS;
    /// The policy library or the institution's own policies in use changed.
    PolicyChanged = 702 "policy.changed", CHANGE CHANGE_OPERATIONS CHANGE;
    /// An agreement changed.
    AgreementChanged = 703 "agreement.changed", CHANGE CHANGE_OPERATIONS CHANGE;
    /// A certificate was put in use, at first or in the place of another.
    CertificateChanged = 704 "certificate.changed", CHANGE CHANGE_OPERATIONS CHANGE;
    /// Another revocation list came into force.
    CrlChanged = 705 "crl.changed", CHANGE CHANGE_OPERATIONS CHANGE_OPERATIONS;

    /// The log was searched.
    DpoSearched = 801 "dpo.searched", REVIEW NOTHING REVIEW_SIEM;
    /// A report was made.
    DpoReported = 802 "dpo.reported", REVIEW NOTHING REVIEW_SIEM;
    /// Entries were exported.
    DpoExported = 803 "dpo.exported", REVIEW NOTHING REVIEW_SIEM;
    /// A finding was reviewed.
    FindingReviewed = 804 "finding.reviewed", REVIEW NOTHING REVIEW_SIEM;
    /// Both sides' logs were compared.
    Reconciled = 805 "log.reconciled", REVIEW COUNTS REVIEW_SIEM;
    /// Accesses were looked through for those that nothing explains.
    AnomaliesReviewed = 806 "log.reviewed", REVIEW COUNTS REVIEW_SIEM;
    /// The registry told what it noticed.
    ReviewNoticed = 807 "review.noticed", REVIEW BULK_OPERATIONS BULK_OPERATIONS;
    /// Entries were given to the peer that took part in them, or decisions were read back at the desk.
    LogRead = 808 "log.read", REVIEW COUNTS REVIEW_SIEM;
    /// A pseudonymous id of the log was turned into whom it stands for.
    IdentityRead = 809 "dpo.resolved", REVIEW NOTHING REVIEW_SIEM;
    /// A resident's data were shown to the DPO.
    ResidentShown = 811 "resident.shown", REVIEW NOTHING REVIEW_SIEM;
    /// Processing of a resident's data was restricted.
    ResidentRestricted = 812 "resident.restricted", REVIEW NOTHING REVIEW_SIEM;
    /// A resident's data were erased.
    ResidentErased = 813 "resident.erased", REVIEW NOTHING REVIEW_SIEM;
    /// Records past their time were removed.
    RetentionApplied = 814 "retention.applied", REVIEW COUNTS COUNTS;
    /// Payloads of this log are erased.
    PayloadsErased = 815 "log.payloads_erased", REVIEW COUNTS COUNTS;

    /// Registry: a member changes its entries.
    RegistryEntries = 901 "entries", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: a member locates residents.
    RegistryLocate = 902 "locate", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: a manifest came into force.
    RegistryManifest = 903 "manifest", REGISTRY REGISTRY_OPERATIONS REGISTRY_OPERATIONS;
    /// Registry: lapsed rows were removed.
    RegistrySwept = 904 "swept", REGISTRY REGISTRY_OPERATIONS NOTHING;
    /// Registry: a member reads what was noticed for it.
    RegistryReview = 905 "review", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: the officers planted indexes that stand for nobody, or removed some.
    RegistryHoneypots = 906 "honeypots", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: a member's new entries met hardly anybody's.
    RegistrySeldomMet = 907 "seldom_met", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: members confirmed what a restored registry knows, and it opened again.
    RegistryReopened = 908 "reopened", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: its log was exported for review.
    RegistryExported = 909 "exported", REGISTRY REGISTRY_OPERATIONS REGISTRY_SIEM;
    /// Registry: a revocation list came into force.
    RegistryCrl = 910 "crl", REGISTRY REGISTRY_OPERATIONS REGISTRY_OPERATIONS;
    /// Registry: a certificate took the place of another.
    RegistryCertificate = 911 "certificate", REGISTRY REGISTRY_OPERATIONS REGISTRY_OPERATIONS;

    /// This log goes on for one that lost entries.
    LogContinued = 1001 "log.continued", LOG LOG LOG;
    /// A witness saw another log roll back or fork.
    WitnessAlarm = 1002 "witness.alarm", LOG LOG LOG;
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl EventKind {
    /// The stable number.
    #[must_use]
    pub fn id(self) -> u16 {
        self as u16
    }

    /// How long an entry of it stays readable.
    #[must_use]
    pub fn retention(self) -> Retention {
        match (self, self.id() / 100) {
            (Self::PayloadsErased | Self::RetentionApplied, _) | (_, 3 | 7 | 9 | 10) => Retention::Kept,
            (
                Self::ConsentRecorded
                | Self::ConsentGranted
                | Self::ConsentGrantAdded
                | Self::ConsentWithdrawn
                | Self::WithdrawalReceived
                | Self::ConsentSuperseded
                | Self::FlagSet
                | Self::FlagCleared
                | Self::ResidentRestricted,
                _,
            ) => Retention::OnFile,
            _ => Retention::Term,
        }
    }

    /// Whether the resident is told of it.
    #[must_use]
    pub fn visibility(self) -> Visibility {
        match self {
            Self::QueryAnswered
            | Self::QueryDenied
            | Self::QueryNoMatch
            | Self::QueryOutcome
            | Self::ConsentRecorded
            | Self::ConsentWithdrawn
            | Self::ConsentSuperseded
            | Self::DpoSearched
            | Self::DpoReported
            | Self::DpoExported
            | Self::ResidentShown => Visibility::Resident,
            _ => Visibility::Institution,
        }
    }

    /// What activity it comes of.
    #[must_use]
    pub fn activity(self) -> Activity {
        match (self, self.id() / 100) {
            (Self::ResidentShown | Self::ResidentRestricted | Self::ResidentErased, _) => Activity::Rights,
            (_, 2) => Activity::Records,
            (_, 3) => Activity::Pseudonyms,
            (_, 4 | 6) => Activity::Exchange,
            (_, 5) => Activity::Consents,
            (_, 8) => Activity::Oversight,
            (_, 9) => Activity::Index,
            _ => Activity::Operation,
        }
    }
}

/// The catalogue as an export has it: a line for each event, with number, name, activity, retention and visibility.
pub(crate) fn table() -> String {
    let line = |event: &EventKind| {
        let (activity, retention, visibility) = (event.activity(), event.retention(), event.visibility());
        format!("{} {} {} {} {}\n", event.id(), event.name(), activity.id(), retention.name(), visibility.name())
    };
    EventKind::ALL.iter().map(line).collect()
}

/// What `stream` sees of an entry's payload: an object with `schema`, `event_id`, `event`, `time`, `ms` and the fields
/// listed for the event, for the officer also what the catalogue says of the event: `activity`, `retention_class`,
/// `visibility`; `None` when it does not see the event at all.
#[must_use]
pub fn project(payload: &Value, stream: Stream) -> Option<Value> {
    let event = EventKind::find(payload.get("event")?.as_str()?)?;
    let allowed = event.fields(stream)?;
    let mut seen = Map::new();
    seen.insert("schema".to_owned(), SCHEMA.into());
    seen.insert("event_id".to_owned(), event.id().into());
    seen.insert("event".to_owned(), event.name().into());
    if stream == Stream::Dpo {
        seen.insert("activity".to_owned(), event.activity().id().into());
        seen.insert("retention_class".to_owned(), event.retention().name().into());
        seen.insert("visibility".to_owned(), event.visibility().name().into());
    }
    for moment in ["time", "ms"] {
        seen.extend(payload.get(moment).filter(|at| at.is_i64()).map(|at| (moment.to_owned(), at.clone())));
    }
    for name in allowed {
        let (field, member) = name.split_once('.').map_or((*name, None), |(field, member)| (field, Some(member)));
        let Some(value) = payload.get(field) else { continue };
        match member {
            None => _ = seen.insert(field.to_owned(), value.clone()),
            Some(member) => copy_members(&mut seen, field, member, value),
        }
    }
    Some(Value::Object(seen))
}

/// Copies one member of each object in an array.
fn copy_members(seen: &mut Map<String, Value>, field: &str, member: &str, value: &Value) {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let copies = seen.entry(field.to_owned()).or_insert_with(|| vec![Value::Object(Map::new()); items.len()].into());
    for (copy, item) in copies.as_array_mut().into_iter().flatten().zip(items) {
        if let (Some(copy), Some(value)) = (copy.as_object_mut(), item.get(member)) {
            copy.insert(member.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const STREAMS: [Stream; 3] = [Stream::Dpo, Stream::Operations, Stream::Siem];

    #[test]
    fn numbers_and_names_are_distinct_and_find_each_other() {
        let ids: BTreeSet<_> = EventKind::ALL.iter().map(|event| event.id()).collect();
        assert_eq!(ids.len(), EventKind::ALL.len());
        assert!(EventKind::ALL.is_sorted());
        for event in EventKind::ALL {
            assert_eq!(EventKind::find(event.name()), Some(*event));
            assert_eq!(json!(event), json!(event.name()));
            assert!(event.fields(Stream::Dpo).is_some(), "{event:?}: the DPO sees every event");
        }
    }

    #[test]
    fn every_event_stands_in_the_documentation_with_its_number_and_every_field() {
        let document = include_str!("../../docs/AUDIT.md");
        for event in EventKind::ALL {
            let row = format!("| {} | `{}` |", event.id(), event.name());
            assert!(document.contains(&row), "docs/AUDIT.md has no row that begins {row}");
        }
        for (field, _) in FIELDS {
            assert!(document.contains(&format!("`{field}`")), "docs/AUDIT.md does not say what `{field}` is");
        }
    }

    #[test]
    fn what_the_catalogue_says_of_an_event_stands_in_the_documentation_and_in_no_entry() {
        let document = include_str!("../../docs/AUDIT.md");
        for activity in Activity::ALL {
            assert!(document.contains(&format!("| `{}` |", activity.id())), "{activity:?}");
            assert!(EventKind::ALL.iter().any(|event| event.activity() == activity), "{activity:?} is of no event");
        }
        for (field, named) in [
            ("activity", ""),
            ("retention_class", "`kept`, `on-file`, `term`"),
            ("visibility", "`resident`, `institution`"),
        ] {
            assert!(document.contains(&format!("`{field}`")) && document.contains(named), "{field}");
            assert!(FIELDS.iter().all(|(name, _)| *name != field), "{field} follows from the event");
        }
        // Whatever is told to a resident or outlives the term because of one says whose it is.
        for event in EventKind::ALL {
            let of_resident = event.visibility() == Visibility::Resident || event.retention() == Retention::OnFile;
            assert!(!of_resident || event.fields(Stream::Dpo).unwrap().contains(&"file"), "{event:?}");
        }
        assert!(table().contains("\n403 query.answered exchange@1 term resident\n"), "{}", table());
        assert_eq!(table().lines().count(), EventKind::ALL.len());
    }

    #[test]
    fn every_listed_field_is_in_the_schema_and_residents_words_and_cases_stay_with_the_dpo() {
        assert!(FIELDS.is_sorted_by_key(|(name, _)| *name));
        let known: BTreeSet<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        for event in EventKind::ALL {
            for stream in STREAMS {
                for field in event.fields(stream).unwrap_or_default() {
                    let name = field.split('.').next().unwrap();
                    assert!(known.contains(name), "{event:?}: {field}");
                    let personal = ["file", "case", "reason_text", "indexes", "put", "delete", "consent", "outcomes"];
                    assert!(stream == Stream::Dpo || !personal.contains(field), "{event:?}: {stream:?} sees {field}");
                    let of_users = ["user", "on_behalf_of", "system", "auth", "terminal"];
                    assert!(
                        stream != Stream::Operations || !of_users.contains(field),
                        "{event:?}: operations see users"
                    );
                    assert!(stream != Stream::Siem || *field != "on_behalf_of", "{event:?}: {field}");
                    assert_ne!(*field, "replay");
                }
            }
        }
    }

    #[test]
    fn a_stream_gets_what_is_listed_and_nothing_else() {
        let payload = json!({
            "event": "query.outcome", "time": 7, "ms": 41, "file": "F", "user": "U", "asker": "mops", "case": "C", "replay": 1,
            "unlisted": "X", "reason_text": "R", "system": "S", "auth": "2", "terminal": "T", "on_behalf_of": "B",
            "outcomes": [{ "holder": "pup", "outcome": "answered", "request": "Q", "peer_log": {} }, { "holder": "cs" }],
        });
        let seen = |stream| project(&payload, stream).unwrap();
        let base =
            json!({ "schema": 1, "event_id": 402, "event": "query.outcome", "time": 7, "ms": 41, "asker": "mops" });
        let with = |more: Value| {
            let mut all = base.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let short = json!([{ "holder": "pup", "outcome": "answered" }, { "holder": "cs" }]);
        assert_eq!(seen(Stream::Operations), with(json!({ "outcomes": short })));
        let siem = json!({ "outcomes": short, "user": "U", "system": "S", "auth": "2", "terminal": "T" });
        assert_eq!(seen(Stream::Siem), with(siem.clone()));
        let whole = payload["outcomes"].clone();
        let dpo = json!({ "outcomes": whole, "user": "U", "file": "F", "case": "C", "reason_text": "R" });
        let of_event = [
            ("on_behalf_of", json!("B")),
            ("activity", json!("exchange@1")),
            ("retention_class", json!("term")),
            ("visibility", json!("resident")),
        ];
        let of_event = of_event.map(|(field, value)| (field.to_owned(), value));
        let dpo = dpo.as_object().unwrap().clone().into_iter().chain(of_event);
        let siem = siem.as_object().unwrap().clone().into_iter();
        assert_eq!(seen(Stream::Dpo), with(Value::Object(siem.chain(dpo).collect())));
        for nobody in [json!({ "event": "made.up" }), json!({ "time": 7 }), json!("query.outcome")] {
            assert!(STREAMS.iter().all(|stream| project(&nobody, *stream).is_none()));
        }
        assert_eq!(project(&json!({ "event": "dpo.searched", "file": "F" }), Stream::Operations), None);
        assert_eq!(project(&json!({ "event": "node.started", "time": "F" }), Stream::Siem).unwrap().get("time"), None);
    }
}
