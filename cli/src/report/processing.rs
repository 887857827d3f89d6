//! R3 and R11: what was agreed, and what of it was used. Both need the manifest.

use super::{Context, Report, Section, Words, count, list_of, str_of};
use protocol::agreement::Agreement;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn agreements<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Agreement> {
    let mine = context.exported.vkey.name().split('/').nth(1).unwrap_or_default();
    let all = context.manifest.into_iter().flat_map(|manifest| &manifest.agreements).map(|signed| &signed.terms);
    all.filter(move |terms| terms.asker.as_str() == mine || terms.holder.as_str() == mine)
}

/// The record of processing activities.
pub(crate) struct Register;

impl Report for Register {
    fn take(&mut self, _: u64, _: &Value, _: &Words) {}

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let catalogue = words.library.catalogue();
        let rows = agreements(context).map(|terms| {
            let purposes: Vec<String> = terms.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
            let queries = || terms.queries.iter().filter_map(|query| catalogue.queries.get(query));
            let bases: BTreeSet<String> =
                queries().flat_map(|query| &query.bases).map(|basis| format!("{basis:?}").to_lowercase()).collect();
            let longest = queries().map(|query| query.delete_after_days).max().unwrap_or_default();
            let special = terms.fields.iter().any(|field| words.special(field.as_str()));
            vec![
                terms.reference().to_string(),
                words.member(terms.holder.as_str()),
                words.member(terms.asker.as_str()),
                purposes.join("; "),
                words.fields(terms.fields.iter().map(protocol::FieldId::as_str)),
                words.say(if special { "tak" } else { "nie" }, if special { "yes" } else { "no" }).to_owned(),
                bases.into_iter().collect::<Vec<_>>().join(", "),
                longest.to_string(),
                words.say("brak", "none").to_owned(),
            ]
        });
        let columns = words.columns(&[
            ("porozumienie", "agreement"),
            ("administrator", "controller"),
            ("odbiorca", "recipient"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("szczególne kategorie", "special categories"),
            ("podstawy", "bases"),
            ("usunięcie u odbiorcy po dniach", "deleted by the recipient after days"),
            ("przekazania poza EOG", "transfers outside the EEA"),
        ]);
        let table =
            Section::Table { title: words.say("Czynności", "Activities").to_owned(), columns, rows: rows.collect() };
        let measures = words.say(
            "Środki: szyfrowanie i uwierzytelnianie obustronne TLS 1.3, pseudonimy z kluczem dzielonym między jednostki, \
             decyzja i trwały wpis przed każdym udostępnieniem, dziennik poświadczany przez inne jednostki.",
            "Measures: mutual TLS 1.3, pseudonyms under a key split between units, a decision and a durable entry before \
             every release, a log that other units vouch for.",
        );
        let title = words.say("Rejestr czynności przetwarzania (art. 30 RODO)", "Record of processing (GDPR art. 30)");
        let without = "Bez manifestu: podaj --manifest.";
        let mut sections = vec![table, Section::Text(measures.to_owned())];
        if context.manifest.is_none() {
            sections.insert(0, Section::Text(words.say(without, "Without a manifest: give --manifest.").to_owned()));
        }
        (title.to_owned(), sections)
    }
}

/// How each agreement is kept.
#[derive(Default)]
pub(crate) struct Agreements {
    used: BTreeMap<String, Use>,
    /// Denials by who asked whom, and why.
    denials: BTreeMap<(String, String, String), u64>,
}

#[derive(Default)]
struct Use {
    answers: u64,
    queries: BTreeSet<String>,
    fields: BTreeSet<String>,
    purposes: BTreeSet<String>,
}

impl Report for Agreements {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        match str_of(entry, "event") {
            "query.answered" => {
                let used = self.used.entry(str_of(entry, "agreement").to_owned()).or_default();
                used.answers += 1;
                used.queries.insert(str_of(entry, "query").to_owned());
                used.purposes.insert(str_of(entry, "purpose").to_owned());
                used.fields.extend(list_of(entry, "fields_returned").into_iter().map(str::to_owned));
            }
            "query.denied" | "query.no_match" => {
                let of = |field| str_of(entry, field).to_owned();
                count(&mut self.denials, (of("asker"), of("query"), of("reason")));
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let mut rows = Vec::new();
        let mut known = BTreeSet::new();
        let mine = context.exported.vkey.name().split('/').nth(1).unwrap_or_default();
        for terms in agreements(context).filter(|terms| terms.holder.as_str() == mine) {
            let name = terms.reference().to_string();
            let nothing = Use::default();
            let used = self.used.get(&name).unwrap_or(&nothing);
            let unused = |all: Vec<String>, used: &BTreeSet<String>| -> Vec<String> {
                all.into_iter().filter(|one| !used.contains(one)).collect()
            };
            let fields = unused(terms.fields.iter().map(ToString::to_string).collect(), &used.fields);
            let queries = unused(terms.queries.iter().map(ToString::to_string).collect(), &used.queries);
            let purposes = unused(terms.purposes.iter().map(ToString::to_string).collect(), &used.purposes);
            rows.push(vec![
                name.clone(),
                words.member(terms.asker.as_str()),
                used.answers.to_string(),
                queries.join(", "),
                words.fields(fields.iter().map(String::as_str)),
                purposes.iter().map(|purpose| words.purpose(purpose)).collect::<Vec<_>>().join("; "),
            ]);
            known.insert(name);
        }
        for (name, used) in self.used.iter().filter(|(name, _)| !known.contains(*name)) {
            rows.push(vec![
                name.clone(),
                String::new(),
                used.answers.to_string(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
        let table = Section::Table {
            title: words.say("Porozumienia", "Agreements").to_owned(),
            columns: words.columns(&[
                ("porozumienie", "agreement"),
                ("kto pyta", "asker"),
                ("odpowiedzi", "answers"),
                ("nieużyte pytania", "queries never used"),
                ("nieużyte dane", "fields never used"),
                ("nieużyte cele", "purposes never used"),
            ]),
            rows,
        };
        let denials = Section::Table {
            title: words.say("Odmowy", "Denials").to_owned(),
            columns: words.columns(&[
                ("kto pytał", "asker"),
                ("pytanie", "query"),
                ("powód", "reason"),
                ("ile razy", "times"),
            ]),
            rows: self
                .denials
                .iter()
                .map(|((asker, query, reason), times)| {
                    vec![words.member(asker), words.query(query), reason.clone(), times.to_string()]
                })
                .collect(),
        };
        let title = words.say("Zgodność z porozumieniami", "Use of agreements").to_owned();
        (title, vec![table, denials])
    }
}
