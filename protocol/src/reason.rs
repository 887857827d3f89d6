//! Why a request was refused. One enum for API, command line and log (design §5).
//!
//! Two codes leave a decision: [`Reason`] for the institution's own log, and [`Told`] for the peer, which must not
//! learn from the difference between unknown, restricted, unlisted and deceased.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $told:ident, $next:literal;)+) => {
        /// Why a request was refused, one code per step of the decision order (design §5).
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

            /// What the person asking can do next.
            #[must_use]
            pub fn next_step(self) -> &'static str {
                match self { $(Reason::$name => $next),+ }
            }
        }
    };
}

reasons! {
    /// The node is closed: clock, manifest, CRL or log do not permit any answer.
    NodeClosed = "node_closed", Closed, "Ask the holder's IT; nothing is released until the node is ready again.";
    /// The local clock is below the persisted floor or ahead of its peers.
    ClockWrong = "clock_wrong", Closed, "Correct the clock (NTP) and restart the node.";
    /// No record could be written.
    LogUnavailable = "log_unavailable", Closed, "Ask the holder's IT: its log cannot be written.";
    /// The manifest held here has expired.
    ManifestExpired = "manifest_expired", Closed, "Fetch a current manifest from the registry.";
    /// The peer's manifest has the same version but another hash.
    ManifestMismatch = "manifest_mismatch", Closed, "Compare the manifest fingerprint with the officers at once.";
    /// The peer is not an active member.
    PeerUnknown = "peer_unknown", Refused, "Only active members of the federation may ask.";
    /// The certificate presented is not the one the request is bound to.
    CertificateMismatch = "certificate_mismatch", Refused, "Send the request over the connection of the member that signed it.";
    /// The request cannot be read.
    RequestMalformed = "request_malformed", Refused, "Compare the request with docs/PROTOCOL.md.";
    /// The request's signature does not verify under a valid key of its issuer.
    SignatureInvalid = "signature_invalid", Refused, "Check the member's signing key in the manifest.";
    /// The request is for another member.
    AudienceWrong = "audience_wrong", Refused, "Address the request to this member.";
    /// The request is too old, or lives too long.
    RequestStale = "request_stale", Refused, "Send a fresh request; check both clocks.";
    /// The same request was seen before.
    RequestReplayed = "request_replayed", Refused, "Send a fresh request.";
    /// No ticket came with the request.
    TicketMissing = "ticket_missing", Refused, "Locate the resident at the registry first.";
    /// The ticket is not the registry's.
    TicketInvalid = "ticket_invalid", Refused, "Locate the resident again.";
    /// The ticket is too old.
    TicketExpired = "ticket_expired", Refused, "Locate the resident again.";
    /// The ticket was given to another member.
    TicketWrongAsker = "ticket_wrong_asker", Refused, "Locate the resident yourself.";
    /// The ticket is for another resident.
    TicketWrongSubject = "ticket_wrong_subject", NotAvailable, "Nothing is available.";
    /// The pseudonym epoch is not one in use.
    EpochUnknown = "epoch_unknown", Refused, "Fetch the current manifest.";
    /// No agreement covers this asker, holder, query and purpose.
    AgreementMissing = "agreement_missing", NotAgreed, "Conclude an agreement that covers this query and purpose.";
    /// The agreement is not in force today.
    AgreementExpired = "agreement_expired", NotAgreed, "Renew the agreement.";
    /// The query type is not in the catalogue, or not one this holder answers.
    QueryUnknown = "query_unknown", NotAgreed, "Choose a query type of the catalogue.";
    /// The user's role may not ask this.
    RoleNotAllowed = "role_not_allowed", RoleNotAllowed, "Ask somebody whose role permits this query.";
    /// No legal basis was given.
    BasisMissing = "basis_missing", BasisMissing, "Name the mandate or record the resident's consent.";
    /// The basis given may not carry this query.
    BasisNotAllowed = "basis_not_allowed", BasisMissing, "Use a basis the agreement permits for this query.";
    /// No consent with this id is held for this resident.
    ConsentUnknown = "consent_unknown", ConsentMissing, "Record the resident's consent first.";
    /// The consent was withdrawn.
    ConsentWithdrawn = "consent_withdrawn", ConsentWithdrawn, "The resident withdrew; ask the resident for the paper instead.";
    /// The consent's period is over or has not begun.
    ConsentExpired = "consent_expired", ConsentMissing, "Ask the resident to renew the consent.";
    /// The consent is for another recipient.
    ConsentOtherRecipient = "consent_other_recipient", ConsentMissing, "Record a consent that names your institution.";
    /// The consent is for another purpose.
    ConsentOtherPurpose = "consent_other_purpose", ConsentMissing, "Record a consent for this purpose.";
    /// The consent was recorded by the user who asks.
    ConsentSameUser = "consent_same_user", ConsentMissing, "Somebody other than the user who took the consent must ask.";
    /// The consent's status is older than permitted.
    ConsentStatusStale = "consent_status_stale", StatusUnknown, "Try again when the consent's recorder can be reached.";
    /// No such mandate, or not for these institutions.
    MandateUnknown = "mandate_unknown", BasisMissing, "Cite a mandate of the library.";
    /// The mandate needs a case reference.
    CaseMissing = "case_missing", BasisMissing, "Give the reference of the open case.";
    /// The resident is not known here.
    SubjectUnknown = "subject_unknown", NotAvailable, "Nothing is available.";
    /// Processing is restricted (GDPR art. 18).
    SubjectRestricted = "subject_restricted", NotAvailable, "Nothing is available.";
    /// The resident is not listed.
    SubjectUnlisted = "subject_unlisted", NotAvailable, "Nothing is available.";
    /// The agreement's quota is used up.
    QuotaExceeded = "quota_exceeded", QuotaExceeded, "Wait until the quota is renewed.";
    /// The policies forbid this.
    PolicyDenied = "policy_denied", Refused, "Ask the data-protection officer which rule forbids this.";
    /// The policies could not be evaluated.
    PolicyError = "policy_error", Refused, "Ask the holder's IT: its policies do not evaluate.";
    /// No field remains that was asked, allowed and needed.
    NoFields = "no_fields", NotAgreed, "Ask for fields that the agreement and the basis cover.";
    /// The local caller's token is missing or not valid.
    TokenInvalid = "token_invalid", Refused, "Sign in again at your institution.";
    /// The resident is not an enrolled client of the asking institution.
    NotServed = "not_served", Refused, "You may only ask about residents your institution serves.";
    /// No holder that could answer knows the resident.
    NoHolder = "no_holder", NotAvailable, "No institution that may answer holds a file.";
    /// The peer could not be reached in time.
    PeerUnavailable = "peer_unavailable", Closed, "Try again later.";
    /// The registry could not be reached.
    RegistryUnavailable = "registry_unavailable", Closed, "Try again when the registry can be reached.";
    /// Too few key holders answered.
    KeyHoldersUnavailable = "key_holders_unavailable", Closed, "Try again when enough key holders can be reached.";
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
    /// Unknown, restricted, unlisted and deceased alike.
    NotAvailable,
}

impl Told {
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
            Told::NotAvailable => "not_available",
        }
    }

    /// What the person asking can do next.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Told::Closed => "Try again later; if it lasts, ask the holder's IT.",
            Told::Refused => "Ask your IT: the holder did not accept the request; its log says why.",
            Told::NotAgreed => "Conclude an agreement with the holder that covers this query and purpose.",
            Told::RoleNotAllowed => "Ask somebody whose role permits this query.",
            Told::BasisMissing => "Name a mandate that covers this, with the case, or record the resident's consent.",
            Told::ConsentMissing => {
                "Record the resident's consent for your institution, this purpose and these fields."
            }
            Told::ConsentWithdrawn => "The resident withdrew the consent; ask the resident for the paper instead.",
            Told::StatusUnknown => "Try again when the institution that recorded the consent can be reached.",
            Told::QuotaExceeded => "Wait until the agreement's quota is renewed.",
            Told::NotAvailable => "Nothing is available there.",
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
        for reason in
            [Reason::SubjectUnknown, Reason::SubjectRestricted, Reason::SubjectUnlisted, Reason::TicketWrongSubject]
        {
            assert_eq!(reason.told(), Told::NotAvailable);
        }
    }
}
