//! Consent templates: what a resident reads, and what each part of it permits.

use crate::catalogue::optional_moment;
use protocol::{FieldId, MemberKind, Purpose, QueryType, Timestamp};
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
