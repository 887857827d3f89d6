//! Templates: what a resident reads and consents to, part by part; what two institutions usually agree on.

use crate::catalogue::optional_moment;
use protocol::agreement::{Agreement, AnswerMode, Hours};
use protocol::{FieldId, MemberId, MemberKind, Purpose, QueryType, Timestamp};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One version of a text a resident can consent to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its version.
    pub version: String,
    /// In Polish.
    pub pl: TemplateText,
    /// In English.
    pub en: TemplateText,
    /// In Ukrainian.
    pub uk: TemplateText,
    /// Purposes a consent to it may name.
    pub purposes: BTreeSet<Purpose>,
    /// The GDPR's own bases it falls under, terms of `https://w3id.org/dpv/legal/eu/gdpr#`.
    pub gdpr: BTreeSet<String>,
    /// Longest a consent to it lasts.
    pub max_days: u32,
    /// After this a consent to this version serves no more, if it has an end.
    #[serde(default, deserialize_with = "optional_moment")]
    pub valid_to: Option<Timestamp>,
    /// What the resident answers one by one.
    pub modules: BTreeMap<String, Module>,
}

/// What the resident reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateText {
    /// The heading.
    pub title: String,
    /// The declaration.
    pub text: String,
}

/// A part of a template that is given or refused by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
    /// In Ukrainian.
    pub uk: String,
    /// What it permits.
    pub permissions: Vec<Permission>,
}

/// What a module permits at one sort of holder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// Who may answer.
    pub holder_kind: MemberKind,
    /// Which query type.
    pub query: QueryType,
    /// Which of its fields.
    pub fields: BTreeSet<FieldId>,
}

impl Template {
    /// What the modules in `given` permit; a module not given is refused.
    pub fn permissions<'a>(&'a self, given: &'a BTreeSet<String>) -> impl Iterator<Item = &'a Permission> {
        self.modules.iter().filter(|(id, _)| given.contains(*id)).flat_map(|(_, module)| &module.permissions)
    }

    /// Every permission of every module.
    pub fn all_permissions(&self) -> impl Iterator<Item = &Permission> {
        self.modules.values().flat_map(|module| &module.permissions)
    }
}

/// What institutions of two kinds usually agree on. Opens nothing: the parties sign terms made of it, or others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementTemplate {
    /// What it is for, in Polish.
    pub pl: String,
    /// What it is for, in English.
    pub en: String,
    /// Who may ask.
    pub asker_kind: MemberKind,
    /// Who answers.
    pub holder_kind: MemberKind,
    /// Query types covered.
    pub queries: BTreeSet<QueryType>,
    /// Fields that may leave.
    pub fields: BTreeSet<FieldId>,
    /// Purposes covered.
    pub purposes: BTreeSet<Purpose>,
    /// Queries a day.
    pub queries_per_day: u64,
    /// Queries a day by one user of the asker.
    pub queries_per_user_per_day: u64,
    /// When queries are answered; at any time if empty.
    #[serde(default)]
    pub hours: BTreeSet<Hours>,
    /// Who decides at the holder.
    #[serde(default)]
    pub mode: AnswerMode,
    /// For how many days it holds.
    pub days: u32,
}

impl AgreementTemplate {
    /// Terms of it between two members, in force from `now` on.
    #[must_use]
    pub fn terms(&self, id: &str, asker: &MemberId, holder: &MemberId, now: Timestamp) -> Agreement {
        Agreement {
            id: id.to_owned(),
            version: 1,
            asker: asker.clone(),
            holder: holder.clone(),
            queries: self.queries.clone(),
            fields: self.fields.clone(),
            purposes: self.purposes.clone(),
            queries_per_day: self.queries_per_day,
            queries_per_user_per_day: Some(self.queries_per_user_per_day),
            hours: self.hours.clone(),
            mode: self.mode,
            valid_from: now,
            valid_to: now + i64::from(self.days) * protocol::time::DAY_SECONDS,
        }
    }
}
