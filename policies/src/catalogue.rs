//! The rules that are data: fields, query types, mandates, emergencies, agreement templates, purposes, roles, kinds.

use crate::template::{AgreementTemplate, Template};
use protocol::agreement::AnswerMode;
use protocol::consent::TemplateRef;
use protocol::time::DAY_SECONDS;
use protocol::{FieldId, MemberKind, Purpose, QueryType, Role, Timestamp};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
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
    /// Terms for personal data that the Data Privacy Vocabulary does not have.
    pub terms: BTreeMap<String, Term>,
    /// Fields an institution may keep.
    pub fields: BTreeMap<FieldId, Field>,
    /// Query types.
    pub queries: BTreeMap<QueryType, Query>,
    /// Statutory mandates.
    pub mandates: BTreeMap<String, Mandate>,
    /// What opens in danger.
    pub emergencies: BTreeMap<String, Emergency>,
    /// Consent templates with their versions, oldest first.
    pub templates: BTreeMap<String, Vec<Template>>,
    /// What two institutions of some kinds usually agree on.
    pub agreements: BTreeMap<String, AgreementTemplate>,
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

/// What people call something that is printed for residents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrintedName {
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
    /// In Ukrainian; empty in libraries before version 3.
    #[serde(default)]
    pub uk: String,
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
    /// In Ukrainian; empty in libraries before version 2.
    #[serde(default)]
    pub uk: String,
}

/// A term of the library's own for personal data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The term of the Data Privacy Vocabulary's personal data extension it is below.
    pub broader: String,
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
    /// Name in Ukrainian; empty in libraries before version 3.
    #[serde(default)]
    pub uk: String,
    /// How its values are written.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
    /// Its term: of the Data Privacy Vocabulary's personal data extension, or of the library's own.
    #[serde(default)]
    pub dpv: Option<String>,
    /// Stored, never published, never answerable.
    #[serde(default)]
    pub sealed: bool,
    /// Whether a verify query may compare it.
    #[serde(default)]
    pub verifiable: bool,
    /// A narrative or its summary: leaves by a person's decision alone.
    #[serde(default)]
    pub document: bool,
    /// Made by the node from a number it keeps, which itself need not leave.
    #[serde(default)]
    pub buckets: Option<Buckets>,
}

/// How a number is told roughly.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buckets {
    /// The field that holds the number.
    pub of: FieldId,
    /// The least whole number of each bucket, in rising order.
    pub from: Vec<i64>,
}

impl Buckets {
    /// The bucket `value` falls into, as `0`, `3-6` or `7+`; nothing for what is no number or below the first.
    #[must_use]
    pub fn of_value(&self, value: &Value) -> Option<String> {
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return None,
        };
        let whole = crate::verify::hundredths(&text)?.div_euclid(100);
        let position = self.from.iter().rposition(|least| *least <= whole)?;
        let least = self.from.get(position)?;
        Some(match self.from.get(position + 1) {
            None => format!("{least}+"),
            Some(next) if next - least == 1 => least.to_string(),
            Some(next) => format!("{least}-{}", next - 1),
        })
    }
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
    pub mode: AnswerMode,
    /// In which roles a user may ask it.
    pub roles: BTreeSet<Role>,
    /// The recipient deletes what it got after this many days.
    pub delete_after_days: u32,
    /// Verify queries: how many values of one field an asker may compare for one resident in 30 days.
    #[serde(default)]
    pub guesses: Option<u32>,
    /// Verify queries: by how much an amount may differ, in hundredths.
    #[serde(default, deserialize_with = "hundredths")]
    pub tolerance: i64,
}

/// How much an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Known or not known.
    Presence,
    /// Match or mismatch per field, no values.
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

/// A sort of legal basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasisKind {
    /// GDPR art. 6(1)(a).
    Consent,
    /// GDPR art. 6(1)(c) or (e), by a mandate of the library.
    Mandate,
    /// GDPR art. 6(1)(d), reviewed afterwards.
    Emergency,
}

impl BasisKind {
    /// Its name, also that of its Cedar entity.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BasisKind::Consent => "consent",
            BasisKind::Mandate => "mandate",
            BasisKind::Emergency => "emergency",
        }
    }
}

/// What a statute lets one sort of institution ask another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mandate {
    /// Raised with every change.
    pub version: u32,
    /// The GDPR's own bases it falls under, terms of `https://w3id.org/dpv/legal/eu/gdpr#`.
    pub gdpr: BTreeSet<String>,
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
    /// The most an answer on it may say.
    #[serde(default = "share")]
    pub max_tier: Tier,
    /// What must be shown.
    pub requires: BTreeSet<Evidence>,
    /// First moment of force.
    #[serde(deserialize_with = "moment")]
    pub valid_from: Timestamp,
    /// Last moment of force, if it has one.
    #[serde(default, deserialize_with = "optional_moment")]
    pub valid_to: Option<Timestamp>,
}

/// What a mandate wants to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The reference of an open case.
    Case,
}

impl Mandate {
    /// Whether a resident may object to it (GDPR art. 21): a public task, not a legal obligation.
    #[must_use]
    pub fn may_be_objected_to(&self) -> bool {
        self.gdpr.contains(PUBLIC_TASK)
    }
}

/// What may be opened when somebody's life or health is in danger, to whom and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// Raised with every change.
    pub version: u32,
    /// What it is for, in Polish.
    pub pl: String,
    /// What it is for, in English.
    pub en: String,
    /// The GDPR's own bases it falls under.
    pub gdpr: BTreeSet<String>,
    /// Who may rely on it.
    pub asker_kinds: BTreeSet<MemberKind>,
    /// Who answers.
    pub holder_kinds: BTreeSet<MemberKind>,
    /// Purposes it covers.
    pub purposes: BTreeSet<Purpose>,
    /// Fields it opens; these alone.
    pub fields: BTreeSet<FieldId>,
    /// What a user may give as reason.
    pub reasons: BTreeMap<String, PrintedName>,
    /// How long it lasts.
    pub minutes: u32,
    /// How many a holder takes from one member in a day.
    pub per_member_per_day: u32,
    /// Within how many days it must be reviewed.
    pub review_days: u32,
}

impl Emergency {
    /// When one that was opened at `at` is over.
    #[must_use]
    pub fn expires(&self, at: Timestamp) -> Timestamp {
        at + i64::from(self.minutes) * 60
    }

    /// When the review of one that was opened or answered at `at` is due.
    #[must_use]
    pub fn review_by(&self, at: Timestamp) -> Timestamp {
        at + i64::from(self.review_days) * DAY_SECONDS
    }
}

impl Catalogue {
    /// The emergency that `reason` belongs to, with its id.
    #[must_use]
    pub fn emergency_for(&self, reason: &str) -> Option<(&str, &Emergency)> {
        let found = self.emergencies.iter().find(|(_, emergency)| emergency.reasons.contains_key(reason));
        found.map(|(id, emergency)| (id.as_str(), emergency))
    }

    /// The query types that an institution of kind `asker` may put in `emergency`.
    pub fn in_danger<'c>(
        &'c self,
        emergency: &'c Emergency,
        asker: &'c MemberKind,
    ) -> impl Iterator<Item = &'c QueryType> + 'c {
        let serves = move |query: &Query| {
            emergency.asker_kinds.contains(asker)
                && query.asker_kinds.contains(asker)
                && query.bases.contains(&BasisKind::Emergency)
                && !query.holder_kinds.is_disjoint(&emergency.holder_kinds)
        };
        self.queries.iter().filter(move |(_, query)| serves(query)).map(|(id, _)| id)
    }

    /// The version of a template that `reference` names.
    #[must_use]
    pub fn template(&self, reference: &TemplateRef) -> Option<&Template> {
        self.templates.get(&reference.id)?.iter().find(|template| template.version == reference.version)
    }
}

/// Art. 6(1)(e) among the terms of `https://w3id.org/dpv/legal/eu/gdpr#`.
const PUBLIC_TASK: &str = "A6-1-e";

fn share() -> Tier {
    Tier::Share
}

fn hundredths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let written = String::deserialize(deserializer)?;
    crate::verify::hundredths(&written).ok_or_else(|| D::Error::custom(format!("{written} is not an amount")))
}

pub(crate) fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let written = toml::value::Datetime::deserialize(deserializer)?.to_string();
    let instant: jiff::Timestamp =
        written.parse().map_err(|_| D::Error::custom(format!("{written} is not a date and time with an offset")))?;
    Ok(Timestamp(instant.as_second()))
}

pub(crate) fn optional_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    moment(deserializer).map(Some)
}

/// The moment the examples of a library are judged at.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Moment(#[serde(deserialize_with = "moment")] pub(crate) Timestamp);
