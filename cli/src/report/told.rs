//! What an answer told of a resident. The log names what was released; of a comparison it names what was asked, since no
//! value of that leaves, and yet whoever typed one knows it afterwards.

use super::{Words, list_of, str_of};
use policies::Tier;
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields released, fields compared, and whether anything else was told than that there is nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) released: BTreeSet<String>,
    pub(crate) compared: BTreeSet<String>,
    presence: bool,
}

impl Told {
    /// By this institution, in its `query.answered`.
    pub(crate) fn here(entry: &Value, words: &Words) -> Self {
        let requested = list_of(entry, "fields_requested");
        Told::of(str_of(entry, "query"), &list_of(entry, "fields_returned"), &requested, words)
    }

    /// By one holder, in an `outcome` of the asker's `query.outcome`.
    pub(crate) fn there(entry: &Value, outcome: &Value, words: &Words) -> Self {
        let requested = list_of(entry, "fields_requested");
        Told::of(str_of(outcome, "query"), &list_of(outcome, "fields"), &requested, words)
    }

    /// `requested` may have fields of other questions too: the asker's entry has those of all together.
    fn of(query: &str, released: &[&str], requested: &[&str], words: &Words) -> Self {
        let mut told = Told { released: owned(released.iter().copied()), ..Told::default() };
        match words.query_type(query) {
            Some(query) if query.tier == Tier::Verify => {
                let all = || query.fields.iter().map(protocol::FieldId::as_str);
                told.compared = owned(all().filter(|field| requested.contains(field)));
                if told.compared.is_empty() {
                    told.compared = owned(all());
                }
            }
            Some(query) if query.tier == Tier::Share => {}
            _ => told.presence = released.is_empty(),
        }
        told
    }

    /// The same with what another answer told.
    pub(crate) fn add(&mut self, other: &Told) {
        self.released.extend(other.released.iter().cloned());
        self.compared.extend(other.compared.iter().cloned());
        self.presence |= other.presence;
    }

    /// Every field about which something was told.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.released.union(&self.compared).map(String::as_str)
    }

    /// In words.
    pub(crate) fn words(&self, words: &Words) -> String {
        let names = |fields: &BTreeSet<String>| words.fields(fields.iter().map(String::as_str));
        let mut parts = Vec::new();
        if !self.released.is_empty() {
            parts.push(names(&self.released));
        }
        if !self.compared.is_empty() {
            parts.push(format!("{} {}", words.say("porównano:", "compared:"), names(&self.compared)));
        }
        if !parts.is_empty() {
            return parts.join("; ");
        }
        let presence = words.say("czy jest znana lub znany w tej jednostce", "whether known to this unit");
        if self.presence { presence.to_owned() } else { words.say("nic do wydania", "nothing to give").to_owned() }
    }
}

fn owned<'a>(fields: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    fields.map(str::to_owned).collect()
}
