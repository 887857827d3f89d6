//! A consent as it is kept: who answered what, and what became of it since.

use crate::receipt::Tongue;
use crate::template::{Permission, Template};
use protocol::consent::{Acting, TemplateRef};
use protocol::encoding::sha256;
use protocol::{ConsentId, FieldId, MemberId, MemberKind, Purpose, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The answer to one module. What is not answered is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Given.
    Given,
    /// Refused.
    Refused,
}

/// Answers to modules, by their ids.
pub type Answers = BTreeMap<String, Answer>;

/// What several guardians of a minor consent to: what each of them gave.
///
/// # Errors
/// [`Reason::GuardiansDisagree`] if one gave what another did not, and nothing is left that all gave.
pub fn jointly(answers: &[Answers]) -> Result<Answers, Reason> {
    let asked: BTreeSet<_> = answers.iter().flat_map(BTreeMap::keys).collect();
    let by_all = |module: &String| answers.iter().all(|given| given.get(module) == Some(&Answer::Given));
    let joint: Answers = asked
        .into_iter()
        .map(|module| (module.clone(), if by_all(module) { Answer::Given } else { Answer::Refused }))
        .collect();
    let given_by_one = answers.iter().any(|own| own.values().any(|answer| *answer == Answer::Given));
    let given_by_all = joint.values().any(|answer| *answer == Answer::Given);
    if given_by_one && !given_by_all { Err(Reason::GuardiansDisagree) } else { Ok(joint) }
}

/// What happened to a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentEvent {
    /// What.
    pub happened: ConsentHappened,
    /// When.
    pub at: Timestamp,
    /// Pseudonymous id of the user who took it down; of what another institution took, only where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How it was said, if the resident said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Where.
    pub place: MemberId,
}

/// A step in the life of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentHappened {
    /// The resident was asked.
    Requested,
    /// Given, in whole or in part.
    Given,
    /// Given again before or after it ended; a new consent that names the old one.
    Renewed,
    /// Refused altogether.
    Refused,
    /// Some modules were withdrawn.
    PartlyWithdrawn(BTreeSet<String>),
    /// All of it was withdrawn.
    Withdrawn,
    /// Given anew, or refused when asked again: the newer consent.
    Superseded(ConsentId),
    /// Ended by somebody else than the resident.
    Revoked(RevocationCause),
}

/// Why a consent ends that nobody withdrew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationCause {
    /// The resident died.
    Death,
    /// A court, or an authority, decided so.
    Court,
    /// Whoever gave it for the resident might not have.
    Representative,
}

impl RevocationCause {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RevocationCause::Death => "death",
            RevocationCause::Court => "court",
            RevocationCause::Representative => "representative",
        }
    }
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// Asked for, not answered.
    Requested,
    /// In force.
    Given,
    /// In force, given again.
    Renewed,
    /// Refused.
    Refused,
    /// Its period is over.
    Expired,
    /// Given anew since, or refused when asked again; final.
    Superseded,
    /// Withdrawn; final.
    Withdrawn,
    /// Ended by somebody else; final.
    Revoked,
}

impl ConsentState {
    /// Its term in the Data Privacy Vocabulary.
    #[must_use]
    pub fn dpv(self) -> &'static str {
        match self {
            ConsentState::Requested => "dpv:ConsentRequested",
            ConsentState::Given => "dpv:ConsentGiven",
            ConsentState::Renewed => "dpv:RenewedConsentGiven",
            ConsentState::Refused => "dpv:ConsentRefused",
            // What replaces it is a record of its own; this one's validity is over.
            ConsentState::Expired | ConsentState::Superseded => "dpv:ConsentExpired",
            ConsentState::Withdrawn => "dpv:ConsentWithdrawn",
            ConsentState::Revoked => "dpv:ConsentRevoked",
        }
    }
}

/// How a consent was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say what they are")]
pub enum Method {
    CounterPaper,
    CounterTablet,
    Portal,
    PhoneRecorded,
    Epuap,
}

impl Method {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::CounterPaper => "counter_paper",
            Method::CounterTablet => "counter_tablet",
            Method::Portal => "portal",
            Method::PhoneRecorded => "phone_recorded",
            Method::Epuap => "epuap",
        }
    }
}

/// An institution, with the name people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party<'a> {
    /// Its id.
    pub id: &'a MemberId,
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a MemberKind,
}

/// A consent with everything a receipt or an export says of it.
#[derive(Clone, Debug)]
pub struct ConsentRecord<'a> {
    /// Its id.
    pub id: ConsentId,
    /// The template's version that the resident read.
    pub template: &'a Template,
    /// Its id and version.
    pub reference: &'a TemplateRef,
    /// Who answered.
    pub acting: Acting,
    /// The answers.
    pub answers: &'a Answers,
    /// Who recorded it.
    pub recorder: Party<'a>,
    /// Who may receive.
    pub recipient: Party<'a>,
    /// Who may answer.
    pub holders: &'a [Party<'a>],
    /// What for.
    pub purposes: &'a BTreeSet<Purpose>,
    /// First moment of validity.
    pub valid_from: Timestamp,
    /// Last moment of validity.
    pub valid_to: Timestamp,
    /// How it was taken.
    pub method: Method,
    /// In which language the resident read it.
    pub language: Tongue,
    /// SHA-256 of the evidence.
    pub evidence: &'a [u8],
    /// What happened to it, oldest first.
    pub events: &'a [ConsentEvent],
}

impl ConsentRecord<'_> {
    /// Where it stands at `now`. A withdrawal is final, whatever is said after it.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ConsentState {
        let mut state = ConsentState::Requested;
        for event in self.events.iter().filter(|event| event.at <= now) {
            state = match (state, &event.happened) {
                (ConsentState::Withdrawn | ConsentState::Revoked | ConsentState::Superseded, _) => state,
                (_, ConsentHappened::Withdrawn) => ConsentState::Withdrawn,
                (_, ConsentHappened::Revoked(_)) => ConsentState::Revoked,
                (_, ConsentHappened::Superseded(_)) => ConsentState::Superseded,
                (_, ConsentHappened::PartlyWithdrawn(_)) if self.standing(now).is_empty() => ConsentState::Withdrawn,
                (_, ConsentHappened::PartlyWithdrawn(_)) => state,
                (_, ConsentHappened::Requested) => ConsentState::Requested,
                (_, ConsentHappened::Given) => ConsentState::Given,
                (_, ConsentHappened::Renewed) => ConsentState::Renewed,
                (_, ConsentHappened::Refused) => ConsentState::Refused,
            };
        }
        match state {
            ConsentState::Given | ConsentState::Renewed if now > self.valid_to => ConsentState::Expired,
            state => state,
        }
    }

    /// The modules given and not withdrawn at `now`, of those the template has.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> BTreeSet<String> {
        let withdrawn = |module: &String| {
            self.events.iter().filter(|event| event.at <= now).any(|event| match &event.happened {
                ConsentHappened::PartlyWithdrawn(modules) => modules.contains(module),
                ConsentHappened::Withdrawn | ConsentHappened::Revoked(_) | ConsentHappened::Superseded(_) => true,
                _ => false,
            })
        };
        let given = self.answers.iter().filter(|(_, answer)| **answer == Answer::Given).map(|(module, _)| module);
        given.filter(|module| self.template.modules.contains_key(*module) && !withdrawn(module)).cloned().collect()
    }

    /// When the resident answered last.
    #[must_use]
    pub fn answered_at(&self) -> Option<Timestamp> {
        let answered = |event: &&ConsentEvent| {
            use ConsentHappened::{Given, Refused, Renewed};
            matches!(event.happened, Given | Renewed | Refused)
        };
        self.events.iter().rev().find(answered).map(|event| event.at)
    }

    /// SHA-256 of what the resident read: heading, declaration and the modules' texts, each with a zero byte behind it.
    #[must_use]
    pub fn notice_digest(&self) -> [u8; 32] {
        let text = self.language.template(self.template);
        let modules = self.template.modules.values().map(|module| self.language.module(module));
        let read: Vec<&str> = [text.title.as_str(), text.text.as_str()].into_iter().chain(modules).collect();
        let parts: Vec<&[u8]> = read.iter().flat_map(|part| [part.as_bytes(), &[0][..]]).collect();
        sha256(&parts)
    }

    /// The fields that `holder` may release by `modules`.
    pub(crate) fn fields<'s>(&'s self, holder: &Party<'_>, modules: &'s BTreeSet<String>) -> BTreeSet<&'s FieldId> {
        let permitted = self.template.permissions(modules).filter(|permission| &permission.holder_kind == holder.kind);
        permitted.flat_map(|permission| &permission.fields).collect()
    }

    /// What the resident permits at `holder`.
    pub(crate) fn permissions<'s>(&'s self, holder: &'s Party<'_>) -> impl Iterator<Item = &'s Permission> {
        let given = self.answers.iter().filter(|(_, answer)| **answer == Answer::Given);
        given
            .filter_map(|(module, _)| self.template.modules.get(module))
            .flat_map(|module| &module.permissions)
            .filter(move |permission| &permission.holder_kind == holder.kind)
    }
}
