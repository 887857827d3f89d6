//! The daily look for accesses that want an explanation (docs/AUDIT.md). Pure: entries in, findings out.
//!
//! **Explanations first.** What an access was for is looked for in the log itself, in the resident's own case numbers and
//! in the agreements: [`explain`] says which [`Explanation`]s an access has. Only then the rules: each is a row of `RULES`,
//! which says what clears it, and sees nothing but the accesses that are left. Nobody is rated, residents least of all:
//! a finding is a list of entries with a reason to look at them.
//!
//! An own question counts by its `query.outcome`, a peer's by our `query.answered` or `query.denied`. Days and months are
//! Warsaw's, so that a rerun over any period judges the same days and finds the same again.

mod access;
mod explain;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub use rules::Rule;
pub(super) use run::on_demand;
pub use run::{Anomalies, AnomaliesBody};

use crate::config::ConfigError;
use access::{Access, Log, Surroundings};
use explain::Grounds;
use jiff::civil::Date;
use protocol::saying::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What the rules go by; each may be set in `[anomalies]` of `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Days before the period that are read for what is usual. 1 to 366.
    pub look_back_days: u16,
    /// Residents one case reference may stand for and still explain anything: a large household.
    pub case_residents: u64,
    /// Earlier days on which others asked the same about the same resident, from which on it is a pattern.
    pub pattern_days: u64,
    /// A6: residents a user may look up in a day, whatever is usual.
    pub volume_residents: u64,
    /// A6: how many times more than usual is too many.
    pub volume_factor: u64,
    /// A7: searches in a month by something else than a PESEL that are too many if they are more than half.
    pub other_keys: u64,
    /// A9: refusals of one user in a day.
    pub refusals: u64,
    /// A10: users who look up one resident in a day.
    pub users: u64,
    /// A11: emergencies of one user in a month.
    pub emergencies: u64,
    /// A12: seconds in which an asker may not know of a withdrawal yet.
    pub withdrawal_seconds: i64,
    /// A13: hours in which a member's old certificate may still be in use beside the new one.
    pub certificate_hours: i64,
    /// A13: days on which a user worked from other terminals, from which on another one is new.
    pub terminal_days: u64,
    /// A15: comparisons of one member with one resident's data in a month.
    pub comparisons: u64,
    /// A16: days without any trace of a user after which the next is a return.
    pub absence_days: i64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            look_back_days: 90,
            case_residents: 8,
            pattern_days: 2,
            volume_residents: 20,
            volume_factor: 3,
            other_keys: 10,
            refusals: 5,
            users: 4,
            emergencies: 3,
            withdrawal_seconds: 120,
            certificate_hours: 24,
            terminal_days: 5,
            comparisons: 4,
            absence_days: 45,
        }
    }
}

impl Parameters {
    /// Refuses what cannot be read.
    pub(crate) fn checked(self) -> Result<Self, ConfigError> {
        let good = (1..=366).contains(&self.look_back_days);
        let wrong = ConfigError::Value { key: "anomalies.look_back_days".into(), expected: "between 1 and 366" };
        if good { Ok(self) } else { Err(wrong) }
    }
}

/// What an access may have been for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// An open case: the resident's own number on file here, or a reference that others gave for the resident before, or
    /// an officer found explained.
    Case,
    /// A consent of the resident that was in force.
    Consent,
    /// A person at the holder approved the question.
    Approval,
    /// An emergency, which has a review of its own.
    Emergency,
    /// A pattern under an agreement: others asked the same about the resident on earlier days.
    Pattern,
    /// A refused question that was answered to the same user within a day: a slip put right.
    Retried,
    /// An emergency whose review found it justified.
    Justified,
    /// A newer consent of the resident than the one withdrawn.
    Renewed,
}

/// A reason to look at entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anomaly {
    pub(super) rule: Rule,
    /// What makes it the same one when it is found again, with the rule.
    pub(super) key: String,
    pub(super) why: Message,
    /// Places in our log, lowest first.
    pub(super) entries: Vec<u64>,
    /// When the first of them was recorded.
    pub(super) time: i64,
    pub(super) member: String,
    pub(super) user: Option<String>,
    pub(super) file: Option<String>,
}

/// What a review came to.
#[derive(Default)]
struct Reviewed {
    /// Accesses in the period.
    examined: u64,
    /// How many of them had each explanation; one with several counts for the first.
    explained: BTreeMap<Explanation, u64>,
    anomalies: Vec<Anomaly>,
}

/// Judges every day from the first to the last of `days` by what stands in `log`.
fn review(log: &Log, parameters: &Parameters, surroundings: &Surroundings<'_>, days: (Date, Date)) -> Reviewed {
    let grounds = Grounds::new(log, parameters, surroundings, days);
    let explained: Vec<(&Access, Vec<Explanation>)> =
        log.accesses.iter().map(|access| (access, grounds.explain(access))).collect();
    let mut reviewed = Reviewed::default();
    let judged = |access: &Access| access.is_question() && grounds.judged(access);
    for (_, explanations) in explained.iter().filter(|(access, _)| judged(access)) {
        reviewed.examined += 1;
        if let Some(explanation) = explanations.iter().find(|explanation| rules::ORDINARY.contains(explanation)) {
            *reviewed.explained.entry(*explanation).or_default() += 1;
        }
    }
    for row in rules::RULES {
        let left = explained
            .iter()
            .filter(|(_, explanations)| !explanations.iter().any(|one| row.cleared_by.contains(one)))
            .map(|(access, _)| *access)
            .collect::<Vec<_>>();
        reviewed.anomalies.extend((row.check)(row.rule, &grounds, &left));
    }
    reviewed
}
