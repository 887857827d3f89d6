//! The data-protection officer's reports (docs/AUDIT.md): pure functions over the entries of a verified export.
//!
//! A report takes one entry after the other and gives a `Document` at the end; what it keeps meanwhile are counts and
//! rows, never whole entries. A document says nothing about its form: `text`, `csv`, `html` and JSON say the same.
//! Nobody is rated: numbers about staff or residents are counts of what stands in the log.

mod compliance;
mod consents;
mod disclosures;
mod integrity;
mod monthly;
mod processing;
mod render;
mod scope;
mod told;
mod words;

pub(crate) mod exchange;

pub(crate) use render::{csv, html, text};
pub use words::Lang;
pub(crate) use words::{Words, day, moment, month};

use audit::Exported;
use clap::ValueEnum;
use node::ResidentData;
use protocol::Manifest;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The reports there are, by their names in docs/AUDIT.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Kind {
    /// Access package of a resident (GDPR art. 15).
    R1,
    /// Who looked at a resident's data, with reasons in plain words.
    R2,
    /// Record of processing activities (GDPR art. 30).
    R3,
    /// Scope of a breach: whose data were seen in a period (GDPR art. 33).
    R4,
    /// Emergency accesses and their reviews.
    R7,
    /// Use by month, without persons.
    R8,
    /// Use by single persons; live only, and only with a second officer.
    R9,
    /// Consents.
    R10,
    /// Use of each agreement, and what of it nobody used.
    R11,
    /// Integrity of the log.
    R14,
}

impl Kind {
    /// The name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::R1 => "R1",
            Kind::R2 => "R2",
            Kind::R3 => "R3",
            Kind::R4 => "R4",
            Kind::R7 => "R7",
            Kind::R8 => "R8",
            Kind::R9 => "R9",
            Kind::R10 => "R10",
            Kind::R11 => "R11",
            Kind::R14 => "R14",
        }
    }

    /// Whether it is about one resident.
    pub(crate) fn of_one_resident(self) -> bool {
        matches!(self, Kind::R1 | Kind::R2)
    }

    /// Whether it says nothing without the federation's manifest.
    pub(crate) fn of_agreements(self) -> bool {
        matches!(self, Kind::R3 | Kind::R11)
    }

    /// Whether it is about single accesses to residents' data.
    pub(crate) fn of_accesses(self) -> bool {
        matches!(self, Kind::R1 | Kind::R2 | Kind::R4 | Kind::R7 | Kind::R9)
    }
}

/// What a report knows besides the entries.
pub(crate) struct Context<'a> {
    pub(crate) words: &'a Words,
    /// What was verified.
    pub(crate) exported: &'a Exported,
    /// Whether the witnesses' keys are the federation's, and not those that came with the entries.
    pub(crate) witnesses_checked: bool,
    /// The federation, where it is given.
    pub(crate) manifest: Option<&'a Manifest>,
    /// The fingerprint of its manifest.
    pub(crate) fingerprint: Option<&'a str>,
    /// R3: an earlier manifest to hold it against, and its fingerprint.
    pub(crate) against: Option<(&'a Manifest, &'a str)>,
    /// What is on file of the resident a report is about, where it was asked for.
    pub(crate) held: Option<&'a ResidentData>,
}

/// What a report is asked about, where more than the entries' filter follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The member on either side.
    pub(crate) peer: Option<String>,
    /// The request.
    pub(crate) request: Option<String>,
    /// R4: when the institution became aware of the breach.
    pub(crate) aware: Option<i64>,
}

impl Asked {
    /// Leaves of an entry's outcomes those asked about: an entry is found by any of them.
    pub(crate) fn narrow(&self, entry: &mut Value) {
        let own = self.peer.as_deref() == Some(str_of(entry, "asker"));
        let peer = self.peer.as_deref().filter(|_| !own);
        let request = self.request.as_deref().filter(|request| *request != str_of(entry, "request"));
        let wanted = |outcome: &Value| {
            let of = |field: &str, value: Option<&str>| value.is_none_or(|value| str_of(outcome, field) == value);
            of("holder", peer) && of("request", request)
        };
        if let Some(outcomes) = entry.get_mut("outcomes").and_then(Value::as_array_mut) {
            outcomes.retain(wanted);
        }
    }
}

/// A report, ready to be written in any form.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    /// `R2`.
    pub(crate) report: &'static str,
    pub(crate) title: String,
    /// BCP 47.
    pub(crate) lang: &'static str,
    pub(crate) sections: Vec<Section>,
}

/// A part of a report.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Section {
    /// A paragraph.
    Text(String),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// A table.
    Table { title: String, columns: Vec<String>, rows: Vec<Vec<String>> },
    /// Numbers over time.
    Series { title: String, points: Vec<(String, u64)> },
}

/// A report being made.
pub(crate) trait Report {
    /// Takes the next entry.
    fn take(&mut self, index: u64, entry: &Value, words: &Words);
    /// What it comes to.
    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>);
}

/// A report about nothing yet.
pub(crate) fn begin(kind: Kind, asked: Asked) -> Box<dyn Report> {
    match kind {
        Kind::R1 => Box::new(disclosures::Disclosures::package()),
        Kind::R2 => Box::new(disclosures::Disclosures::list()),
        Kind::R3 => Box::new(processing::Register::default()),
        Kind::R4 => Box::new(scope::Scope::of(asked)),
        Kind::R7 => Box::new(scope::Emergencies::default()),
        Kind::R8 => Box::new(monthly::Monthly::default()),
        Kind::R9 => Box::new(scope::Specific::default()),
        Kind::R10 => Box::new(consents::Consents::default()),
        Kind::R11 => Box::new(compliance::Compliance::default()),
        Kind::R14 => Box::new(integrity::Integrity::default()),
    }
}

/// The document of a report that took all entries.
pub(crate) fn finish(kind: Kind, report: Box<dyn Report>, context: &Context<'_>) -> Document {
    let (title, mut sections) = report.sections(context);
    sections.insert(0, Section::Facts(context.words.provenance(context)));
    Document { report: kind.name(), title, lang: context.words.lang.tag(), sections }
}

fn str_of<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn time_of(entry: &Value) -> i64 {
    entry.get("time").and_then(Value::as_i64).unwrap_or_default()
}

fn list_of<'a>(entry: &'a Value, field: &str) -> Vec<&'a str> {
    entry.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn outcomes(entry: &Value) -> impl Iterator<Item = &Value> {
    entry.get("outcomes").and_then(Value::as_array).into_iter().flatten()
}

/// Whether a holder refused, and not this institution's own node before it asked anybody.
fn refused_there(outcome: &Value) -> bool {
    let decided = outcome.get("peer_log").is_some_and(Value::is_object) && !str_of(outcome, "holder").is_empty();
    decided && str_of(outcome, "outcome") == "denied"
}

/// One more of `key`.
fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    *counts.entry(key).or_default() += 1;
}

#[cfg(test)]
mod tests;
