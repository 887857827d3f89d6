//! The rules that are data: fields, query types, mandates, consent templates, purposes, roles, kinds.

use protocol::consent::TemplateRef;
use protocol::{FieldId, MemberKind, Purpose, QueryType, Role, Timestamp};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the library lists, by id.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// Sorts of institutions.
    pub kinds: BTreeMap<MemberKind, Name>,
    /// Roles of users.
    pub roles: BTreeMap<Role, Name>,
    /// Purposes.
    pub purposes: BTreeMap<Purpose, PurposeTerm>,
    /// Fields an institution may keep.
    pub fields: BTreeMap<FieldId, Field>,
    /// Query types.
    pub queries: BTreeMap<QueryType, Query>,
    /// Statutory mandates.
    pub mandates: BTreeMap<String, Mandate>,
    /// Consent templates with their versions, oldest first.
    pub templates: BTreeMap<String, Vec<Template>>,
}

/// What people call something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
}

/// A purpose of processing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurposeTerm {
    /// Its term in the Data Privacy Vocabulary.
    pub iri: String,
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
}

/// A field of a resident's file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name in Polish.
    pub pl: String,
    /// Name in English.
    pub en: String,
    /// How its values are written.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
    /// Stored, never published, never answerable.
    #[serde(default)]
    pub sealed: bool,
    /// Whether a verify query may compare it.
    #[serde(default)]
    pub verifiable: bool,
}

/// How a field's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Free text.
    Text,
    /// A calendar day.
    Date,
    /// An amount with two decimal places.
    Decimal,
    /// A whole number.
    Integer,
    /// Yes or no.
    Boolean,
    /// One of a few words.
    Code,
}

/// How sensitive a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Sensitivity {
    /// Normal.
    #[serde(rename = "N")]
    Normal,
    /// Confidential.
    #[serde(rename = "C")]
    Confidential,
    /// A special category, GDPR art. 9.
    #[serde(rename = "S")]
    Special,
    /// Criminal convictions and offences, GDPR art. 10.
    #[serde(rename = "X")]
    Criminal,
}

/// What one member may ask another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The question in Polish.
    pub pl: String,
    /// The question in English.
    pub en: String,
    /// Who may answer.
    pub holder_kinds: BTreeSet<MemberKind>,
    /// Who may ask.
    pub asker_kinds: BTreeSet<MemberKind>,
    /// How much an answer says.
    pub tier: Tier,
    /// Fields it is about; none for a presence query.
    pub fields: BTreeSet<FieldId>,
    /// The basis offered first.
    pub basis: BasisKind,
    /// Every basis that may carry it.
    pub bases: BTreeSet<BasisKind>,
    /// Who decides at the holder.
    pub mode: Mode,
    /// In which roles a user may ask it.
    pub roles: BTreeSet<Role>,
    /// The recipient deletes what it got after this many days.
    pub delete_after_days: u32,
}

/// How much an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Known or not known.
    Presence,
    /// Match or mismatch per field, no values. Not answered by this version: a library that lists one does not load.
    Verify,
    /// Values.
    Share,
}

impl Tier {
    /// Its name, also that of its Cedar action.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Presence => "presence",
            Tier::Verify => "verify",
            Tier::Share => "share",
        }
    }
}

/// Who decides at the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The node, by these rules.
    Automatic,
    /// A person. Not answered by this version: a library that lists one does not load.
    Human,
}

/// A sort of legal basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasisKind {
    /// GDPR art. 6(1)(a).
    Consent,
    /// GDPR art. 6(1)(c) or (e), by a mandate of the library.
    Mandate,
}

impl BasisKind {
    /// Its name, also that of its Cedar entity.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BasisKind::Consent => "consent",
            BasisKind::Mandate => "mandate",
        }
    }
}

/// What a statute lets one sort of institution ask another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mandate {
    /// Raised with every change.
    pub version: u32,
    /// The statute, as cited.
    pub statute: String,
    /// The article.
    pub article: String,
    /// What it is for, in Polish.
    pub pl: String,
    /// What it is for, in English.
    pub en: String,
    /// Who may rely on it.
    pub asker_kinds: BTreeSet<MemberKind>,
    /// Who must answer.
    pub holder_kinds: BTreeSet<MemberKind>,
    /// Purposes it covers.
    pub purposes: BTreeSet<Purpose>,
    /// Fields it covers.
    pub fields: BTreeSet<FieldId>,
    /// Whether an open case must be cited.
    pub requires_case: bool,
    /// First moment of force.
    #[serde(deserialize_with = "moment")]
    pub valid_from: Timestamp,
    /// Last moment of force, if it has one.
    #[serde(default, deserialize_with = "optional_moment")]
    pub valid_to: Option<Timestamp>,
}

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
    /// Purposes a consent to it may name.
    pub purposes: BTreeSet<Purpose>,
    /// Longest a consent to it lasts.
    pub max_days: u32,
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

impl Catalogue {
    /// The version of a template that `reference` names.
    #[must_use]
    pub fn template(&self, reference: &TemplateRef) -> Option<&Template> {
        self.templates.get(&reference.id)?.iter().find(|template| template.version == reference.version)
    }
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let written = toml::value::Datetime::deserialize(deserializer)?.to_string();
    let instant: jiff::Timestamp =
        written.parse().map_err(|_| D::Error::custom(format!("{written} is not a date and time with an offset")))?;
    Ok(Timestamp(instant.as_second()))
}

fn optional_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    moment(deserializer).map(Some)
}

/// The moment the examples of a library are judged at.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Moment(#[serde(deserialize_with = "moment")] pub(crate) Timestamp);
