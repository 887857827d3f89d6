//! Why a request was allowed or refused: every step in its order, with what it saw. Names of fields and rules, nothing of
//! the resident.

use crate::permit::{Denial, Permit, Step};
use protocol::{FieldId, Reason, Told};
use serde::Serialize;
use std::collections::BTreeSet;

/// A decision, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The steps passed, in their order.
    pub passed: Vec<Seen>,
    /// What came of it.
    pub outcome: Outcome,
}

/// A step that was passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The step.
    pub step: Step,
    /// What it saw.
    pub saw: String,
}

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "decision")]
pub enum Outcome {
    /// Permitted.
    Permit {
        /// Fields whose values leave.
        fields: BTreeSet<FieldId>,
        /// Fields that are compared.
        compared: BTreeSet<FieldId>,
        /// The legal basis relied on.
        basis: String,
        /// The Cedar policies that permitted it.
        policies: Vec<String>,
    },
    /// Refused, or a person must decide.
    Deny {
        /// The step that stopped it.
        step: Step,
        /// The code for the institution's own log.
        reason: Reason,
        /// The code for the peer.
        told: Told,
        /// What was found.
        detail: String,
    },
}

impl Explanation {
    pub(crate) fn new(passed: Vec<Seen>, outcome: &Result<Permit, Denial>) -> Self {
        let outcome = match outcome {
            Ok(permit) => Outcome::Permit {
                fields: permit.fields().clone(),
                compared: permit.compared().clone(),
                basis: permit.basis().to_string(),
                policies: permit.policies().to_vec(),
            },
            Err(denial) => Outcome::Deny {
                step: denial.step(),
                reason: denial.reason(),
                told: denial.told(),
                detail: denial.detail().to_owned(),
            },
        };
        Explanation { passed, outcome }
    }
}

/// Is told of every step passed. A decision nobody watches pays nothing for it.
pub(crate) trait Observer {
    fn passed(&mut self, step: Step, saw: impl FnOnce() -> String);
}

impl Observer for () {
    fn passed(&mut self, _: Step, _: impl FnOnce() -> String) {}
}

impl Observer for Vec<Seen> {
    fn passed(&mut self, step: Step, saw: impl FnOnce() -> String) {
        self.push(Seen { step, saw: saw() });
    }
}
