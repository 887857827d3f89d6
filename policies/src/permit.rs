//! What a decision gives: a permit that code past the gate needs, or a denial that says why.

use crate::catalogue::Tier;
use protocol::agreement::AgreementRef;
use protocol::consent::TemplateRef;
use protocol::query::Obligations;
use protocol::{ConsentId, FieldId, MemberId, QueryType, Reason, Timestamp, Told};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Leave to answer one request. Only [`Engine::decide`](crate::Engine::decide) makes one: every [`Step`] was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub(crate) query: QueryType,
    pub(crate) tier: Tier,
    pub(crate) fields: BTreeSet<FieldId>,
    pub(crate) obligations: Obligations,
    pub(crate) agreement: AgreementRef,
    pub(crate) basis: BasisRef,
    pub(crate) used_old_ticket: bool,
    pub(crate) policies: Vec<String>,
}

impl Permit {
    /// The query type to be answered.
    #[must_use]
    pub fn query(&self) -> &QueryType {
        &self.query
    }

    /// How much the answer may say.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The fields whose values may leave: at least one for a share query, none for any other.
    #[must_use]
    pub fn fields(&self) -> &BTreeSet<FieldId> {
        const NONE: &BTreeSet<FieldId> = &BTreeSet::new();
        if self.tier == Tier::Share { &self.fields } else { NONE }
    }

    /// The fields that may be compared: at least one for a verify query, none for any other.
    #[must_use]
    pub fn compared(&self) -> &BTreeSet<FieldId> {
        const NONE: &BTreeSet<FieldId> = &BTreeSet::new();
        if self.tier == Tier::Verify { &self.fields } else { NONE }
    }

    /// What the recipient must do.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The agreement relied on.
    #[must_use]
    pub fn agreement(&self) -> &AgreementRef {
        &self.agreement
    }

    /// The legal basis relied on.
    #[must_use]
    pub fn basis(&self) -> &BasisRef {
        &self.basis
    }

    /// Whether the ticket was past its time and served only because the registry is away.
    #[must_use]
    pub fn used_old_ticket(&self) -> bool {
        self.used_old_ticket
    }

    /// Ids of the Cedar policies that permitted it.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
}

/// A legal basis, as a log names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasisRef {
    /// A consent.
    Consent {
        /// Its id.
        id: ConsentId,
        /// Who recorded it.
        recorder: MemberId,
        /// What the resident agreed to.
        template: TemplateRef,
    },
    /// A mandate of the library.
    Mandate {
        /// Its id.
        id: String,
        /// Its version.
        version: u32,
    },
    /// An emergency of the library.
    Emergency {
        /// Its id.
        id: String,
        /// Its version.
        version: u32,
    },
}

impl fmt::Display for BasisRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BasisRef::Consent { id, template, .. } => write!(f, "consent:{id} ({}@{})", template.id, template.version),
            BasisRef::Mandate { id, version } => write!(f, "mandate:{id}@{version}"),
            BasisRef::Emergency { id, version } => write!(f, "emergency:{id}@{version}"),
        }
    }
}

/// What a person at the holder is asked to approve: everything else permits it. Opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub(crate) permit: Permit,
    pub(crate) until: Timestamp,
}

impl Proposal {
    /// The fields that would leave or be compared.
    #[must_use]
    pub fn fields(&self) -> &BTreeSet<FieldId> {
        &self.permit.fields
    }

    /// The agreement relied on.
    #[must_use]
    pub fn agreement(&self) -> &AgreementRef {
        &self.permit.agreement
    }

    /// The legal basis relied on.
    #[must_use]
    pub fn basis(&self) -> &BasisRef {
        &self.permit.basis
    }

    /// Until when somebody must decide.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at {step}: {detail}", .reason.code())]
pub struct Denial {
    reason: Reason,
    step: Step,
    detail: Cow<'static, str>,
    proposal: Option<Box<Proposal>>,
}

impl Denial {
    pub(crate) fn new(step: Step, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Denial { reason, step, detail: detail.into(), proposal: None }
    }

    pub(crate) fn pending(proposal: Proposal) -> Self {
        let mut denial = Denial::new(Step::Mode, Reason::ApprovalPending, "a person here must decide");
        denial.proposal = Some(Box::new(proposal));
        denial
    }

    /// What there is to decide, if the reason is [`Reason::ApprovalPending`].
    #[must_use]
    pub fn proposal(&self) -> Option<&Proposal> {
        self.proposal.as_deref()
    }

    /// The code for the institution's own log and users.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The code for the peer.
    #[must_use]
    pub fn told(&self) -> Told {
        self.reason.told()
    }

    /// Where the decision stopped.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// What was found, for the institution's own log. Never says anything of a resident.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// The steps of a decision, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// This node's own manifest and library.
    Node,
    /// The peer's certificate and membership.
    Peer,
    /// The request's signature, shape, audience, freshness and single use.
    Request,
    /// The registry's ticket, as far as it does not depend on the resident.
    Ticket,
    /// The agreement between the two members.
    Agreement,
    /// The query type, its kinds of institutions and roles.
    Query,
    /// The legal basis, as far as it does not depend on the resident.
    Basis,
    /// Quotas, guesses, emergencies and the hour.
    Quota,
    /// Whether the resident is known here, is the ticket's, and may be answered on.
    Subject,
    /// The resident's consent.
    Consent,
    /// The Cedar policies.
    Policy,
    /// Whether any field is left.
    Fields,
    /// Whether a person must decide, and what was decided.
    Mode,
}

impl Step {
    /// Stable `snake_case` name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Node => "node",
            Step::Peer => "peer",
            Step::Request => "request",
            Step::Ticket => "ticket",
            Step::Agreement => "agreement",
            Step::Query => "query",
            Step::Basis => "basis",
            Step::Quota => "quota",
            Step::Subject => "subject",
            Step::Consent => "consent",
            Step::Policy => "policy",
            Step::Fields => "fields",
            Step::Mode => "mode",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
