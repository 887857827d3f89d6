//! Why a request was refused. One enum for API, command line and log.
//!
//! Two codes leave a decision: [`Reason`] for the institution's own log, and [`Told`] for the peer, which must not
//! learn from the difference between unknown, restricted, unlisted and deceased.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $told:ident;)+) => {
        /// Why a request was refused, one code per step of the decision order (ADR 0008). What a person reads of it
        /// stands in [`Reason::saying`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name,)+
        }

        impl Reason {
            /// Every reason, in the decision's order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// Stable `snake_case` code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code),+ }
            }

            /// What the peer is told.
            #[must_use]
            pub fn told(self) -> Told {
                match self { $(Reason::$name => Told::$told),+ }
            }
        }
    };
}

reasons! {
    /// The node is closed: clock, manifest, CRL or log do not permit any answer.
    NodeClosed = "node_closed", Closed;
    /// The local clock is below the persisted floor or ahead of its peers.
    ClockWrong = "clock_wrong", Closed;
    /// No record could be written.
    LogUnavailable = "log_unavailable", Closed;
    /// The manifest held here has expired.
    ManifestExpired = "manifest_expired", Closed;
    /// The peer's manifest has the same version but another hash.
    ManifestMismatch = "manifest_mismatch", Closed;
    /// The peer is not an active member.
    PeerUnknown = "peer_unknown", Refused;
    /// The certificate presented is not the one the request is bound to.
    CertificateMismatch = "certificate_mismatch", Refused;
    /// The request cannot be read.
    RequestMalformed = "request_malformed", Refused;
    /// The request's signature does not verify under a valid key of its issuer.
    SignatureInvalid = "signature_invalid", Refused;
    /// The request is for another member.
    AudienceWrong = "audience_wrong", Refused;
    /// The request is too old, or lives too long.
    RequestStale = "request_stale", Refused;
    /// The same request was seen before.
    RequestReplayed = "request_replayed", Refused;
    /// No ticket came with the request.
    TicketMissing = "ticket_missing", Refused;
    /// The ticket is not the registry's.
    TicketInvalid = "ticket_invalid", Refused;
    /// The ticket is too old.
    TicketExpired = "ticket_expired", Refused;
    /// The ticket was given to another member.
    TicketWrongAsker = "ticket_wrong_asker", Refused;
    /// The ticket is for another resident.
    TicketWrongSubject = "ticket_wrong_subject", NotAvailable;
    /// The pseudonym epoch is not one in use.
    EpochUnknown = "epoch_unknown", Refused;
    /// No agreement covers this asker, holder, query and purpose.
    AgreementMissing = "agreement_missing", NotAgreed;
    /// The agreement is not in force today.
    AgreementExpired = "agreement_expired", NotAgreed;
    /// The agreement was revoked by one of its parties.
    AgreementRevoked = "agreement_revoked", NotAgreed;
    /// The query type is not in the catalogue, or not one this holder answers.
    QueryUnknown = "query_unknown", NotAgreed;
    /// The user's role may not ask this.
    RoleNotAllowed = "role_not_allowed", RoleNotAllowed;
    /// No legal basis was given.
    BasisMissing = "basis_missing", BasisMissing;
    /// The basis given may not carry this query.
    BasisNotAllowed = "basis_not_allowed", BasisMissing;
    /// No such mandate, or not for these institutions.
    MandateUnknown = "mandate_unknown", BasisMissing;
    /// The mandate needs a case reference.
    CaseMissing = "case_missing", BasisMissing;
    /// The emergency names no reason of the library, or says nothing of it.
    EmergencyReason = "emergency_reason", BasisMissing;
    /// The emergency was not confirmed a second time.
    EmergencyUnconfirmed = "emergency_unconfirmed", BasisMissing;
    /// The emergency is over: its time ran out.
    EmergencyExpired = "emergency_expired", BasisMissing;
    /// The user opened no emergency of this id for this resident.
    EmergencyUnknown = "emergency_unknown", BasisMissing;
    /// Nothing of what was asked opens in an emergency.
    EmergencyClosed = "emergency_closed", NotAvailable;
    /// The member has declared as many emergencies here as it may in a day.
    EmergencyLimit = "emergency_limit", QuotaExceeded;
    /// An earlier emergency of this user was not reviewed in time.
    EmergencyReviewOverdue = "emergency_review_overdue", ReviewOverdue;
    /// The agreement's quota is used up.
    QuotaExceeded = "quota_exceeded", QuotaExceeded;
    /// The user's own quota is used up: under the agreement, or that of the role at the institution that asks.
    UserQuotaExceeded = "user_quota_exceeded", QuotaExceeded;
    /// As many values of a field were compared for this resident as may be.
    GuessLimit = "guess_limit", QuotaExceeded;
    /// The agreement, or the institution that asks, does not let this be asked at this hour.
    OutsideHours = "outside_hours", OutsideHours;
    /// The resident is not known here.
    SubjectUnknown = "subject_unknown", NotAvailable;
    /// Processing is restricted (GDPR art. 18).
    SubjectRestricted = "subject_restricted", NotAvailable;
    /// The resident is not listed.
    SubjectUnlisted = "subject_unlisted", NotAvailable;
    /// The resident has died.
    SubjectDeceased = "subject_deceased", NotAvailable;
    /// The resident objected (GDPR art. 21).
    SubjectObjected = "subject_objected", NotAvailable;
    /// No consent with this id is held for this resident.
    ConsentUnknown = "consent_unknown", ConsentMissing;
    /// The consent was withdrawn.
    ConsentWithdrawn = "consent_withdrawn", ConsentWithdrawn;
    /// A newer answer took the consent's place; said where it was recorded.
    ConsentSuperseded = "consent_superseded", ConsentWithdrawn;
    /// The consent's period is over or has not begun.
    ConsentExpired = "consent_expired", ConsentMissing;
    /// The consent is for another recipient.
    ConsentOtherRecipient = "consent_other_recipient", ConsentMissing;
    /// The consent is for another purpose.
    ConsentOtherPurpose = "consent_other_purpose", ConsentMissing;
    /// The consent does not cover this query: its module was not given, or its template has none.
    ConsentOtherQuery = "consent_other_query", ConsentMissing;
    /// The consent is another resident's.
    ConsentOtherSubject = "consent_other_subject", ConsentMissing;
    /// The resident refused this.
    ConsentRefused = "consent_refused", ConsentMissing;
    /// The consent's template is no longer in force.
    ConsentTemplateExpired = "consent_template_expired", ConsentMissing;
    /// Whoever gave the consent may not give it for this resident, or not any more.
    ConsentRepresentative = "consent_representative", ConsentMissing;
    /// The consent was recorded by the user who asks.
    ConsentSameUser = "consent_same_user", ConsentMissing;
    /// The consent's status is older than permitted.
    ConsentStatusStale = "consent_status_stale", StatusUnknown;
    /// The policies forbid this.
    PolicyDenied = "policy_denied", Refused;
    /// The policies could not be evaluated.
    PolicyError = "policy_error", Refused;
    /// No field remains that was asked, allowed and needed.
    NoFields = "no_fields", NotAgreed;
    /// A person at the holder has not decided yet.
    ApprovalPending = "approval_pending", Pending;
    /// A person at the holder refused.
    ApprovalRefused = "approval_refused", Declined;
    /// Nobody at the holder decided in time, or what was approved was not collected in time.
    ApprovalExpired = "approval_expired", Declined;
    /// The approval is not one: of another request, or by nobody.
    ApprovalInvalid = "approval_invalid", Refused;
    /// The local caller's token is missing or not valid.
    TokenInvalid = "token_invalid", Refused;
    /// The resident is not an enrolled client of the asking institution.
    NotServed = "not_served", Refused;
    /// The parents or guardians of a minor do not agree.
    GuardiansDisagree = "guardians_disagree", ConsentMissing;
    /// No holder that could answer knows the resident.
    NoHolder = "no_holder", NotAvailable;
    /// The peer could not be reached in time.
    PeerUnavailable = "peer_unavailable", Closed;
    /// The peer's answer is not its own, not to this question, or says more than was asked.
    AnswerInvalid = "answer_invalid", Closed;
    /// The registry could not be reached.
    RegistryUnavailable = "registry_unavailable", Closed;
    /// Too few key holders answered.
    KeyHoldersUnavailable = "key_holders_unavailable", Closed;
}

/// What a peer is told of a refusal. Carried in the signed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The node gives no answers at present.
    Closed,
    /// The request is not acceptable.
    Refused,
    /// No agreement covers it.
    NotAgreed,
    /// The user's role does not permit it.
    RoleNotAllowed,
    /// A legal basis is missing.
    BasisMissing,
    /// A valid consent is missing.
    ConsentMissing,
    /// The consent was withdrawn.
    ConsentWithdrawn,
    /// The consent's status cannot be checked.
    StatusUnknown,
    /// The quota is used up.
    QuotaExceeded,
    /// The agreement names other hours.
    OutsideHours,
    /// The user owes a review of an emergency.
    ReviewOverdue,
    /// A person at the holder decides.
    Pending,
    /// A person at the holder refused, or nobody decided in time.
    Declined,
    /// Unknown, restricted, unlisted and deceased alike.
    NotAvailable,
}

impl Told {
    /// Every code.
    pub const ALL: &'static [Told] = &[
        Told::Closed,
        Told::Refused,
        Told::NotAgreed,
        Told::RoleNotAllowed,
        Told::BasisMissing,
        Told::ConsentMissing,
        Told::ConsentWithdrawn,
        Told::StatusUnknown,
        Told::QuotaExceeded,
        Told::OutsideHours,
        Told::ReviewOverdue,
        Told::Pending,
        Told::Declined,
        Told::NotAvailable,
    ];

    /// Stable `snake_case` code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Told::Closed => "closed",
            Told::Refused => "refused",
            Told::NotAgreed => "not_agreed",
            Told::RoleNotAllowed => "role_not_allowed",
            Told::BasisMissing => "basis_missing",
            Told::ConsentMissing => "consent_missing",
            Told::ConsentWithdrawn => "consent_withdrawn",
            Told::StatusUnknown => "status_unknown",
            Told::QuotaExceeded => "quota_exceeded",
            Told::OutsideHours => "outside_hours",
            Told::ReviewOverdue => "review_overdue",
            Told::Pending => "pending",
            Told::Declined => "declined",
            Told::NotAvailable => "not_available",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_match_their_json() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }

    #[test]
    fn what_a_resident_is_here_is_told_alike() {
        let states = [
            Reason::SubjectUnknown,
            Reason::SubjectRestricted,
            Reason::SubjectUnlisted,
            Reason::SubjectDeceased,
            Reason::SubjectObjected,
            Reason::TicketWrongSubject,
            Reason::EmergencyClosed,
        ];
        for reason in states {
            assert_eq!(reason.told(), Told::NotAvailable);
        }
    }
}
