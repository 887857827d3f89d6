//! What a draft bundle would change: recorded decisions decided again, by the rules in use and by the draft.
//!
//! Both are asked with everything made valid that is not the rules' — certificate, ticket, grant, quota —, so that what
//! differs is the rules' doing. What was recorded names kinds, fields and bases, and no resident.

use crate::engine::Engine;
use crate::example::{Example, Person, Scenario};
use protocol::consent::TemplateRef;
use protocol::{FieldId, MemberKind, Purpose, QueryType, Reason, Role, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A decision as a holder's log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// When it was made.
    pub at: Timestamp,
    /// Kind of the institution that asked.
    pub asker: MemberKind,
    /// Kind of the institution that was asked.
    pub holder: MemberKind,
    /// The user's role.
    pub role: Role,
    /// The query type.
    pub query: QueryType,
    /// What for.
    pub purpose: Purpose,
    /// On what basis.
    pub basis: RecordedBasis,
    /// Whether an open case was cited.
    pub case: bool,
    /// Fields asked.
    pub fields: BTreeSet<FieldId>,
}

/// The basis of a recorded decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum RecordedBasis {
    /// None was given.
    None,
    /// A mandate.
    Mandate {
        /// Its id.
        id: String,
    },
    /// A consent.
    Consent {
        /// What the resident agreed to.
        template: TemplateRef,
    },
    /// An emergency.
    Emergency {
        /// Its reason.
        reason: String,
    },
}

/// What a draft would change of recorded decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Simulation {
    /// Decisions made again.
    pub decisions: usize,
    /// Decided alike.
    pub unchanged: usize,
    /// Refused now, answered by the draft; or answered with more fields.
    pub wider: Vec<Simulated>,
    /// Answered now, refused by the draft; or answered with fewer fields.
    pub narrower: Vec<Simulated>,
    /// Refused by both, for another reason; or answered with other fields, neither more nor fewer.
    pub other: Vec<Simulated>,
}

/// One sort of decision the draft makes otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Simulated {
    /// The first recorded.
    pub first: Recorded,
    /// How many there were.
    pub times: usize,
    /// By the rules in use.
    pub now: Decided,
    /// By the draft.
    pub draft: Decided,
}

/// What came of one decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// Answered with, or by comparing, these fields.
    Answered(BTreeSet<FieldId>),
    /// Refused so.
    Refused(Reason),
}

impl Engine {
    /// What `draft` would change of `recorded`.
    #[must_use]
    pub fn simulate<'r>(&self, draft: &Engine, recorded: impl IntoIterator<Item = &'r Recorded>) -> Simulation {
        let mut out = Simulation::default();
        for record in recorded {
            out.decisions += 1;
            let (now, then) = (record.decided(self), record.decided(draft));
            if now == then {
                out.unchanged += 1;
                continue;
            }
            let list = match (now.fields(), then.fields()) {
                (None, Some(_)) => &mut out.wider,
                (Some(_), None) => &mut out.narrower,
                (Some(before), Some(after)) if before.is_subset(after) => &mut out.wider,
                (Some(before), Some(after)) if after.is_subset(before) => &mut out.narrower,
                _ => &mut out.other,
            };
            let alike = |change: &&mut Simulated| {
                change.now == now
                    && change.draft == then
                    && Recorded { at: record.at, ..change.first.clone() } == *record
            };
            match list.iter_mut().find(alike) {
                Some(change) => change.times += 1,
                None => list.push(Simulated { first: record.clone(), times: 1, now, draft: then }),
            }
        }
        out
    }
}

impl Recorded {
    /// What the rules of `engine` say of it; a person, where one must, approves.
    fn decided(&self, engine: &Engine) -> Decided {
        // What a library does not have, it refuses.
        let Ok(scenario) = Scenario::new(engine.library(), &self.example(), self.at) else {
            return Decided::Refused(Reason::BasisNotAllowed);
        };
        match scenario.decide(engine) {
            Ok(permit) => Decided::Answered(permit.fields().union(permit.compared()).cloned().collect()),
            Err(denial) => Decided::Refused(denial.reason()),
        }
    }

    fn example(&self) -> Example {
        let mut example = Example {
            name: String::new(),
            asker: self.asker.clone(),
            holder: self.holder.clone(),
            role: self.role.clone(),
            query: self.query.clone(),
            purpose: self.purpose.clone(),
            mandate: None,
            consent: None,
            modules: None,
            agreement: None,
            emergency: None,
            case: self.case,
            fields: self.fields.clone(),
            person: Some(Person::Approved),
            releases: None,
            compares: None,
            refused: None,
        };
        match &self.basis {
            RecordedBasis::None => {}
            RecordedBasis::Mandate { id } => example.mandate = Some(id.clone()),
            RecordedBasis::Consent { template } => example.consent = Some(template.clone()),
            RecordedBasis::Emergency { reason } => example.emergency = Some(reason.clone()),
        }
        example
    }
}

impl Decided {
    fn fields(&self) -> Option<&BTreeSet<FieldId>> {
        match self {
            Decided::Answered(fields) => Some(fields),
            Decided::Refused(_) => None,
        }
    }
}
