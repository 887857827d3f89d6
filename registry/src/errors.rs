//! Every way the registry refuses, and what it tells: one enum, one mapping to problem documents (RFC 9457).
//!
//! The caller reads code, title and the next step. What the operator may know besides (which file, which system error)
//! goes to the program's own log, once, here. Neither text ever holds an index.

use crate::store::StoreError;
use audit::AppendError;
use axum::response::{IntoResponse, Response};
use protocol::jws::JwsError;
use protocol::manifest::ManifestError;
use protocol::{MemberId, Problem};
use transport::ProblemResponse;

/// Why the registry refused, or is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No manifest was published yet.
    #[error("no manifest has been published")]
    ManifestMissing,
    /// The manifest held has expired.
    #[error("the manifest has expired")]
    ManifestExpired,
    /// Our clock is behind the manifest or our own log.
    #[error("the clock is behind what this registry has already recorded")]
    ClockWrong,
    /// The peer is not a member in the manifest.
    #[error("{0} is not a member")]
    PeerUnknown(MemberId),
    /// The body cannot be read, or one field of it is out of form.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// The body is larger than the limit.
    #[error("the body is too large")]
    BodyTooLarge,
    /// The envelope does not verify.
    #[error("the signature was refused")]
    Signature(#[source] JwsError),
    /// Signed by one member, sent by another.
    #[error("sent by {0}, who did not sign it")]
    IssuerNotPeer(MemberId),
    /// Too old or from the future.
    #[error("the request is not fresh")]
    Stale,
    /// Written before.
    #[error("the request was replayed")]
    Replayed,
    /// Our manifest has the same version and another hash.
    #[error("a manifest of the same version and another content is in use at a member")]
    ManifestMismatch,
    /// The sender's manifest is older than ours.
    #[error("the sender's manifest is behind")]
    ManifestBehind,
    /// The sender's manifest is newer than ours.
    #[error("the sender's manifest is not known here yet")]
    ManifestUnknown,
    /// No such key epoch in the manifest.
    #[error("the epoch is unknown")]
    EpochUnknown,
    /// More entries or indexes than a batch holds.
    #[error("the batch is too large")]
    BatchTooLarge,
    /// An index comes twice in one batch.
    #[error("an index is repeated")]
    IndexRepeated,
    /// Too many readers, or one who is no member.
    #[error("the audience is not valid")]
    AudienceInvalid,
    /// Entry number `.0` has a value of the wrong length.
    #[error("entry {0} has a sealed value of the wrong length")]
    SealedLength(usize),
    /// Entry number `.0` lapses in the past or too far off.
    #[error("entry {0} has an expiry out of range")]
    ExpiryInvalid(usize),
    /// Entry number `.0` names its user by something that is no pseudonym.
    #[error("entry {0} has a user of the wrong length")]
    ProvisionalUser(usize),
    /// Entry number `.0` is provisional where there is an entry, or a provisional one was.
    #[error("entry {0} would renew a provisional entry")]
    ProvisionalRenewed(usize),
    /// Others have the member's tasks.
    #[error("the member was succeeded")]
    Succeeded,
    /// A user made too many provisional entries today.
    #[error("the quota of provisional entries is spent")]
    ProvisionalQuota {
        /// Seconds.
        retry_after: u64,
    },
    /// The member located too many residents today whom it does not serve.
    #[error("the budget of misses is spent")]
    MissBudget {
        /// Seconds.
        retry_after: u64,
    },
    /// The member sends more than its share.
    #[error("the member sends more than its share")]
    RateExceeded {
        /// Seconds.
        retry_after: u64,
    },
    /// As many requests of the member are running as may.
    #[error("too many requests of the member at once")]
    MemberBusy,
    /// The data came from a backup, and members have not confirmed yet what the registry knows.
    #[error("restored from a backup and not confirmed yet")]
    Restored,
    /// Only the registry's own certificate may ask this.
    #[error("asked with another certificate than the registry's")]
    NotOurselves,
    /// No such manifest was ever held.
    #[error("no manifest of that version or fingerprint")]
    VersionUnknown,
    /// A manifest was offered and not accepted.
    #[error("the manifest offered was refused")]
    ManifestRefused(#[source] ManifestError),
    /// A first manifest was offered and the configuration pins none.
    #[error("no manifest fingerprint is pinned in the configuration")]
    ManifestNotPinned,
    /// A manifest was offered that does not name this registry with its keys.
    #[error("the manifest does not name this registry with its keys")]
    ManifestNotOurs,
    /// No revocation list is held.
    #[error("no revocation list is held")]
    CrlMissing,
    /// The log cannot be written.
    #[error("the audit log cannot be written")]
    LogUnavailable(#[from] AppendError),
    /// The index cannot be used.
    #[error("the index cannot be used")]
    IndexUnavailable(#[from] StoreError),
    /// A file of the data directory cannot be written, or the system gives no randomness.
    #[error("the data directory cannot be used")]
    Io(#[from] std::io::Error),
    /// The program failed: a fault of ours.
    #[error("internal failure: {0}")]
    Internal(&'static str),
}

/// A caller that waits this long may find a full disk or a failed engine healed.
const RETRY_SECONDS: u64 = 5;

impl Refusal {
    /// What the caller is told.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: one arm for every refusal, and none for the rest")]
    pub fn problem(&self) -> Problem {
        match self {
            Refusal::ManifestMissing => problem(
                503,
                "manifest_missing",
                "The registry has no manifest",
                "Publish the signed manifest to the registry.",
            ),
            Refusal::ManifestExpired => problem(
                503,
                "manifest_expired",
                "The registry's manifest has expired",
                "Publish a current manifest, signed by the officers.",
            ),
            Refusal::ClockWrong => {
                problem(503, "clock_wrong", "The registry's clock is wrong", "Correct the registry's clock (NTP).")
            }
            Refusal::PeerUnknown(_) => problem(
                403,
                "peer_unknown",
                "Not a member of the federation",
                "Only members named in the manifest may use the index.",
            ),
            Refusal::Malformed(field) => problem(
                400,
                "request_malformed",
                "The request cannot be read",
                "Compare the request with docs/PROTOCOL.md.",
            )
            .field(*field),
            Refusal::BodyTooLarge => {
                problem(413, "body_too_large", "The request body is too large", "Send smaller batches.")
            }
            Refusal::Signature(JwsError::Malformed | JwsError::WrongKind) => problem(
                400,
                "request_malformed",
                "The request is not a signed message of this kind",
                "Compare the request with docs/PROTOCOL.md.",
            ),
            Refusal::Signature(JwsError::UnknownKey | JwsError::BadSignature | JwsError::WrongIssuer) => problem(
                403,
                "signature_invalid",
                "The signature is not valid",
                "Check the member's message key in the manifest.",
            ),
            Refusal::Signature(JwsError::Signing) | Refusal::Internal(_) => {
                problem(500, "internal", "The registry failed", "Ask the registry's operator; its log says more.")
            }
            Refusal::IssuerNotPeer(_) => problem(
                403,
                "certificate_mismatch",
                "Signed by another member than the one connected",
                "Send the request over the connection of the member that signed it.",
            ),
            Refusal::Stale => problem(
                403,
                "request_stale",
                "The request is too old or from the future",
                "Send a fresh request; check both clocks.",
            ),
            Refusal::Replayed => {
                problem(409, "request_replayed", "The request was seen before", "Send a fresh request.")
            }
            Refusal::ManifestMismatch => problem(
                409,
                "manifest_mismatch",
                "The manifests differ under one version",
                "Compare the manifest fingerprint with the officers at once.",
            ),
            Refusal::ManifestBehind => problem(
                409,
                "manifest_behind",
                "The manifest is older than the registry's",
                "Fetch GET /v1/manifest and send the request again.",
            ),
            Refusal::ManifestUnknown => problem(
                409,
                "manifest_unknown",
                "The manifest is newer than the registry's",
                "Publish the newer manifest to the registry.",
            ),
            Refusal::EpochUnknown => {
                problem(422, "epoch_unknown", "No such key epoch", "Use an epoch of the current manifest.")
                    .field("epoch")
            }
            Refusal::BatchTooLarge => problem(
                413,
                "batch_too_large",
                "The batch is too large",
                "Send at most 1000 entries or indexes in one batch.",
            ),
            Refusal::IndexRepeated => {
                problem(422, "index_repeated", "An index comes twice in the batch", "Send every index once.")
            }
            Refusal::AudienceInvalid => problem(
                422,
                "audience_invalid",
                "The audience is not valid",
                "Name at most 16 members of the manifest.",
            )
            .field("audience"),
            Refusal::SealedLength(entry) => problem(
                422,
                "sealed_length",
                "A sealed value has the wrong length",
                "A sealed value is 284 bytes long.",
            )
            .field(format!("put[{entry}].sealed")),
            Refusal::ExpiryInvalid(entry) => problem(
                422,
                "expiry_invalid",
                "An expiry is out of range",
                "Entries lapse in the future, at most 400 days off; provisional ones at most 14 days off.",
            )
            .field(format!("put[{entry}].expires")),
            Refusal::ProvisionalUser(entry) => problem(
                422,
                "provisional_user",
                "A provisional entry names its user in another way",
                "The user stands as a pseudonym of 16 to 32 bytes.",
            )
            .field(format!("put[{entry}].provisional.user")),
            Refusal::ProvisionalRenewed(entry) => problem(
                409,
                "provisional_renewed",
                "A provisional entry is not renewed",
                "Put an ordinary entry once the case is opened.",
            )
            .field(format!("put[{entry}].provisional")),
            Refusal::Succeeded => problem(
                403,
                "member_succeeded",
                "Others have the tasks of this member",
                "Their nodes put the entries; this one may still remove its own.",
            ),
            Refusal::ProvisionalQuota { retry_after } => problem(
                429,
                "provisional_quota",
                "The user's provisional entries of today are used up",
                "Open the case, or wait until tomorrow.",
            )
            .retry_after(*retry_after),
            Refusal::MissBudget { retry_after } => problem(
                429,
                "miss_budget_spent",
                "Too many residents located without an own entry",
                "Locate residents whom the member serves and has published. The officers were told.",
            )
            .retry_after(*retry_after),
            Refusal::RateExceeded { retry_after } => problem(
                429,
                "rate_exceeded",
                "The member sends more than its share",
                "Send the request again after the time told.",
            )
            .retry_after(*retry_after),
            Refusal::MemberBusy => problem(
                503,
                "busy",
                "Too many requests of this member at once",
                "Wait for answers before sending more.",
            )
            .retry_after(1),
            Refusal::Restored => problem(
                503,
                "registry_restored",
                "The registry was restored from a backup and waits for members to confirm its manifest",
                "Send the request again; if a newer manifest is known, publish it to the registry.",
            )
            .retry_after(RETRY_SECONDS),
            Refusal::NotOurselves => problem(
                403,
                "own_certificate_required",
                "Only the registry's operator may ask this",
                "Use `ogniwo registry status` on the registry's machine.",
            ),
            Refusal::VersionUnknown => problem(
                404,
                "manifest_unknown",
                "No manifest of that version or fingerprint",
                "Compare the fingerprint with the officers.",
            ),
            Refusal::ManifestRefused(error) => refused_manifest(error),
            Refusal::ManifestNotPinned => problem(
                409,
                "manifest_not_pinned",
                "The registry pins no manifest",
                "Put the fingerprint compared with the officers into the registry's configuration: manifest_fingerprint.",
            ),
            Refusal::ManifestNotOurs => problem(
                422,
                "manifest_not_ours",
                "The manifest does not name this registry with its keys",
                "Draw up a manifest with the keys `ogniwo registry init` printed.",
            ),
            Refusal::CrlMissing => problem(
                503,
                "crl_missing",
                "The registry holds no revocation list",
                "Place the authority's current CRL at the registry.",
            ),
            Refusal::LogUnavailable(_) => problem(
                503,
                "log_unavailable",
                "The registry cannot record",
                "Ask the registry's operator: its log cannot be written.",
            )
            .retry_after(RETRY_SECONDS),
            Refusal::IndexUnavailable(_) => problem(
                503,
                "index_unavailable",
                "The registry's index cannot be used",
                "Ask the registry's operator; then try again.",
            )
            .retry_after(RETRY_SECONDS),
            Refusal::Io(_) => problem(
                503,
                "data_unavailable",
                "The registry cannot store",
                "Ask the registry's operator: its data directory cannot be written.",
            )
            .retry_after(RETRY_SECONDS),
        }
    }
}

fn refused_manifest(error: &ManifestError) -> Problem {
    const TITLE: &str = "The manifest was refused";
    match error {
        ManifestError::Malformed => problem(400, "request_malformed", TITLE, "Send the signed manifest as JSON."),
        ManifestError::Inconsistent => problem(
            422,
            "manifest_inconsistent",
            TITLE,
            "Its ids, keys or thresholds contradict each other: draw it up again.",
        ),
        ManifestError::Unsigned { found, needed } => problem(
            403,
            "manifest_unsigned",
            TITLE,
            &format!(
                "{found} of the {needed} officers needed have signed, under the thresholds of the manifest held and of this one."
            ),
        ),
        ManifestError::EpochUnsigned(_) => {
            problem(422, "manifest_epoch_unsigned", TITLE, "Every key holder must sign the key epoch.")
        }
        ManifestError::EpochDropped(_) => problem(
            422,
            "manifest_epoch_dropped",
            TITLE,
            "List the newest key epoch, and every other until it is destroyed: whoever signs the next key stands there.",
        ),
        ManifestError::TooFewOperators(_) => problem(
            422,
            "manifest_operators",
            TITLE,
            "Fewer operators than the threshold would control the key: let others hold its shares.",
        ),
        ManifestError::Agreement(..) => {
            problem(422, "manifest_agreement_unsigned", TITLE, "Both parties must sign every agreement as it stands.")
        }
        ManifestError::AgreementChanged(_) => problem(
            409,
            "manifest_agreement_changed",
            TITLE,
            "A signed agreement never changes and a revocation stays: give a changed one a new version.",
        ),
        ManifestError::SuccessionChanged(_) => problem(
            409,
            "manifest_succession_changed",
            TITLE,
            "A succession is history: repeat those of the manifest held as they are.",
        ),
        ManifestError::LibraryBack { .. } => problem(
            409,
            "manifest_library_back",
            TITLE,
            "Raise the library's version: it never goes back, and another content is another version.",
        ),
        ManifestError::WrongFingerprint => problem(
            403,
            "manifest_wrong_fingerprint",
            TITLE,
            "The first manifest must be the one pinned in the registry's configuration.",
        ),
        ManifestError::OtherRealm => {
            problem(422, "manifest_other_realm", TITLE, "It is another federation's manifest.")
        }
        ManifestError::Older { .. } => {
            problem(409, "manifest_older", TITLE, "The registry holds a newer manifest: fetch GET /v1/manifest.")
        }
        ManifestError::Fork(_) => problem(
            409,
            "manifest_fork",
            TITLE,
            "The registry holds this version with another content: compare the fingerprints with the officers at once.",
        ),
        ManifestError::Expired => problem(422, "manifest_expired", TITLE, "Its time is over: draw up a new one."),
    }
}

fn problem(status: u16, code: &str, title: &str, next_step: &str) -> Problem {
    Problem::new(status, code, title).detail(next_step)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if problem.status >= 500 {
            let reason = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(code = problem.code, reason, "{self}");
        } else {
            tracing::info!(code = problem.code, "a request was refused: {self}");
        }
        ProblemResponse(problem).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::registry::{MAX_AUDIENCE, MAX_BATCH, SEALED_BYTES};

    #[test]
    fn the_numbers_told_are_the_numbers_kept() {
        let told = |refusal: Refusal, number: usize| refusal.problem().detail.unwrap().contains(&format!(" {number} "));
        assert!(told(Refusal::BatchTooLarge, MAX_BATCH));
        assert!(told(Refusal::AudienceInvalid, MAX_AUDIENCE));
        assert!(told(Refusal::SealedLength(3), SEALED_BYTES));
        assert!(told(Refusal::ExpiryInvalid(3), usize::try_from(crate::entries::LONGEST_DAYS).unwrap()));
        assert!(told(Refusal::ExpiryInvalid(3), usize::try_from(protocol::registry::PROVISIONAL_DAYS).unwrap()));
    }

    #[test]
    fn a_field_is_named_by_its_place() {
        assert_eq!(Refusal::SealedLength(3).problem().field.unwrap(), "put[3].sealed");
        assert_eq!(Refusal::Malformed("jti").problem().field.unwrap(), "jti");
    }
}
