//! What ids are called, in Polish or English, and when things were in Warsaw.

use super::Context;
use clap::ValueEnum;
use policies::{Catalogue, Emergency, Library, Query, calendar};
use protocol::{Manifest, Timestamp};
use std::collections::BTreeMap;

/// In which language a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    /// Polish.
    Pl,
    /// English.
    En,
}

impl Lang {
    /// BCP 47.
    pub(crate) fn tag(self) -> &'static str {
        self.pick("pl", "en")
    }

    /// The words of this language.
    pub(crate) fn pick<'a>(self, pl: &'a str, en: &'a str) -> &'a str {
        match self {
            Lang::Pl => pl,
            Lang::En => en,
        }
    }
}

/// Names for people.
pub(crate) struct Words {
    pub(crate) lang: Lang,
    pub(crate) library: Library,
    members: BTreeMap<String, String>,
}

impl Words {
    /// Names out of the policy library and, where it is given, the manifest.
    pub(crate) fn new(lang: Lang, library: Library, manifest: Option<&Manifest>) -> Self {
        let members = manifest.into_iter().flat_map(|manifest| &manifest.members);
        let members = members.map(|member| (member.id.to_string(), member.name.clone())).collect();
        Words { lang, library, members }
    }

    pub(crate) fn say<'a>(&self, pl: &'a str, en: &'a str) -> &'a str {
        self.lang.pick(pl, en)
    }

    pub(crate) fn columns(&self, columns: &[(&str, &str)]) -> Vec<String> {
        columns.iter().map(|(pl, en)| self.say(pl, en).to_owned()).collect()
    }

    fn catalogue(&self) -> &Catalogue {
        self.library.catalogue()
    }

    pub(crate) fn member(&self, id: &str) -> String {
        self.members.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    pub(crate) fn purpose(&self, id: &str) -> String {
        let term = id.parse().ok().and_then(|purpose| self.catalogue().purposes.get(&purpose));
        term.map_or_else(|| id.to_owned(), |term| self.say(&term.pl, &term.en).to_owned())
    }

    pub(crate) fn field(&self, id: &str) -> String {
        let field = id.parse().ok().and_then(|field| self.catalogue().fields.get(&field));
        field.map_or_else(|| id.to_owned(), |field| self.say(&field.pl, &field.en).to_owned())
    }

    /// Whether a field is of a special category (GDPR art. 9) or about offences (art. 10).
    pub(crate) fn special(&self, id: &str) -> bool {
        let field = id.parse().ok().and_then(|field| self.catalogue().fields.get(&field));
        field.is_some_and(|field| {
            matches!(field.sensitivity, policies::Sensitivity::Special | policies::Sensitivity::Criminal)
        })
    }

    pub(crate) fn fields<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> String {
        let names: Vec<String> = ids.into_iter().map(|id| self.field(id)).collect();
        names.join(", ")
    }

    /// The query type of this id.
    pub(crate) fn query_type(&self, id: &str) -> Option<&Query> {
        self.catalogue().queries.get(&id.parse::<protocol::QueryType>().ok()?)
    }

    pub(crate) fn query(&self, id: &str) -> String {
        self.query_type(id).map_or_else(|| id.to_owned(), |query| self.say(&query.pl, &query.en).to_owned())
    }

    /// Why the glass was broken: a reason of the library's or, where the log has no more, the emergency it belongs to.
    pub(crate) fn emergency(&self, code: &str) -> String {
        let known = self.catalogue().emergencies.get(code.split('@').next().unwrap_or_default());
        let reason = self.catalogue().emergency_for(code).and_then(|(_, emergency)| emergency.reasons.get(code));
        match (reason, known) {
            (Some(name), _) => self.say(&name.pl, &name.en).to_owned(),
            (None, Some(known)) => self.say(&known.pl, &known.en).to_owned(),
            (None, None) => code.to_owned(),
        }
    }

    /// When the review of an emergency is due that was opened at `at`; of one the library does not know, as of the
    /// shortest it has.
    pub(crate) fn review_by(&self, code: &str, at: i64) -> Option<i64> {
        let emergencies = &self.catalogue().emergencies;
        let known = emergencies.get(code.split('@').next().unwrap_or_default());
        let known = known.or_else(|| self.catalogue().emergency_for(code).map(|(_, emergency)| emergency));
        let due = |emergency: &Emergency| emergency.review_by(Timestamp(at)).0;
        known.map(due).or_else(|| emergencies.values().map(due).min())
    }

    /// A basis as it stands in the log.
    pub(crate) fn basis(&self, basis: &str) -> String {
        let (kind, id) = basis.split_once(':').unwrap_or((basis, ""));
        match kind {
            "consent" => self.say("zgoda", "consent").to_owned(),
            "mandate" => {
                let id = id.split('@').next().unwrap_or_default();
                let mandate = self.catalogue().mandates.get(id);
                mandate.map_or_else(
                    || format!("{} {id}", self.say("przepis", "statute")),
                    |mandate| format!("{}, {}", mandate.statute, mandate.article),
                )
            }
            "emergency" => self.say("nagłe zagrożenie", "emergency").to_owned(),
            _ => self.say("brak", "none").to_owned(),
        }
    }

    /// What a report rests on.
    pub(crate) fn provenance(&self, context: &Context<'_>) -> Vec<(String, String)> {
        let exported = context.exported;
        let names: Vec<&str> = exported.witnesses.iter().map(|(key, _)| key.name()).collect();
        let say = |pl: &str, en: &str| self.say(pl, en).to_owned();
        let unchecked = self.say(
            " (niesprawdzone: klucze z samego eksportu; podaj --manifest)",
            " (unchecked: by keys of the export itself; give --manifest)",
        );
        let unchecked = if names.is_empty() || context.witnesses_checked { "" } else { unchecked };
        let witnesses = format!("{}{unchecked}", names.join(", "));
        let mut facts = vec![
            (say("Dziennik", "Log"), exported.vkey.name().to_owned()),
            (say("Stan na", "As of"), moment(exported.exported_at)),
            (say("Wpisy w dzienniku", "Entries of the log"), exported.size.to_string()),
            (say("Wpisy w tym eksporcie", "Entries exported"), exported.entries.to_string()),
            (say("Poświadczone przez innych", "Vouched for by others"), exported.cosigned.to_string()),
            (say("Świadkowie", "Witnesses"), witnesses),
        ];
        let named = |manifest: &Manifest, fingerprint: &str| {
            format!("{}, {} {}, {fingerprint}", manifest.realm, self.say("wersja", "version"), manifest.version)
        };
        if let Some((manifest, fingerprint)) = context.manifest.zip(context.fingerprint) {
            facts.push((say("Manifest (odcisk)", "Manifest (fingerprint)"), named(manifest, fingerprint)));
        }
        if let Some((manifest, fingerprint)) = context.against {
            facts.push((say("Porównany z manifestem", "Held against the manifest"), named(manifest, fingerprint)));
        }
        facts
    }
}

/// The day in Warsaw, `2026-11-21`.
pub(crate) fn day(time: i64) -> String {
    calendar::day(Timestamp(time))
}

/// The month in Warsaw, `2026-11`.
pub(crate) fn month(time: i64) -> String {
    day(time).get(..7).unwrap_or_default().to_owned()
}

/// The moment in Warsaw.
pub(crate) fn moment(time: i64) -> String {
    let local = calendar::local(Timestamp(time));
    local.map_or_else(String::new, |local| local.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
