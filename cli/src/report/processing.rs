//! R3: what was agreed, what statutes and consents open, as a record of processing. Needs the manifest.

use super::{Context, Report, Section, Words};
use audit::{Activity, EventKind};
use protocol::Manifest;
use protocol::agreement::Agreement;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Whose log it is.
pub(super) fn mine<'a>(context: &'a Context<'_>) -> &'a str {
    context.exported.vkey.name().split('/').nth(1).unwrap_or_default()
}

/// The agreements in which this institution is a party.
pub(super) fn agreements<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Agreement> {
    let mine = mine(context);
    context.manifest.into_iter().flat_map(move |manifest| agreements_in(manifest, mine))
}

fn agreements_in<'a>(manifest: &'a Manifest, mine: &'a str) -> impl Iterator<Item = &'a Agreement> {
    let all = manifest.agreements.iter().map(|signed| &signed.terms);
    all.filter(move |terms| terms.asker.as_str() == mine || terms.holder.as_str() == mine)
}

/// The record of processing activities.
#[derive(Default)]
pub(crate) struct Register {
    /// Entries of each activity.
    entries: BTreeMap<Activity, u64>,
}

/// An agreement as a line of the record.
fn line(terms: &Agreement, words: &Words) -> Vec<String> {
    let catalogue = words.library.catalogue();
    let purposes: Vec<String> = terms.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
    let queries = || terms.queries.iter().filter_map(|query| catalogue.queries.get(query));
    let bases: BTreeSet<&str> = queries().flat_map(|query| &query.bases).map(|basis| basis.as_str()).collect();
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
}

const COLUMNS: [(&str, &str); 9] = [
    ("porozumienie", "agreement"),
    ("administrator", "controller"),
    ("odbiorca", "recipient"),
    ("cele", "purposes"),
    ("kategorie danych", "categories of data"),
    ("szczególne kategorie", "special categories"),
    ("podstawy", "bases"),
    ("usunięcie u odbiorcy po dniach", "deleted by the recipient after days"),
    ("przekazania poza EOG", "transfers outside the EEA"),
];

/// What the record has more, and what less, than by an earlier manifest: the terms of an agreement's version never change.
fn changes(context: &Context<'_>, before: &Manifest) -> Section {
    let (words, mine) = (context.words, mine(context));
    let references = |all: &mut dyn Iterator<Item = &Agreement>| -> BTreeSet<String> {
        all.map(|terms| terms.reference().to_string()).collect()
    };
    let (now, then) = (references(&mut agreements(context)), references(&mut agreements_in(before, mine)));
    let with = |what: (&str, &str), terms: &Agreement| {
        let mut row = vec![words.say(what.0, what.1).to_owned()];
        row.extend(line(terms, words));
        row
    };
    let gone = agreements_in(before, mine).filter(|terms| !now.contains(&terms.reference().to_string()));
    let new = agreements(context).filter(|terms| !then.contains(&terms.reference().to_string()));
    let gone = gone.map(|terms| with(("ubyło", "removed"), terms));
    let rows = gone.chain(new.map(|terms| with(("przybyło", "added"), terms))).collect();
    let title = words.say("Zmiany od manifestu w wersji", "Changes since the manifest of version");
    let columns: Vec<_> = [("zmiana", "change")].into_iter().chain(COLUMNS).collect();
    Section::Table { title: format!("{title} {}", before.version), columns: words.columns(&columns), rows }
}

/// What an activity of the log's catalogue is called.
fn named(activity: Activity) -> (&'static str, &'static str) {
    match activity {
        Activity::Operation => (
            "prowadzenie węzła: certyfikaty, zasady, porozumienia",
            "running the node: certificates, rules, agreements",
        ),
        Activity::Records => (
            "wczytywanie kartotek i zgłaszanie klientów do rejestru",
            "taking in records and making clients known to the registry",
        ),
        Activity::Pseudonyms => {
            ("obliczanie pseudonimów wspólnym kluczem", "computing pseudonyms under the shared key")
        }
        Activity::Exchange => ("zapytania i odpowiedzi", "questions and answers"),
        Activity::Consents => ("zgody mieszkańców", "residents' consents"),
        Activity::Rights => {
            ("prawa osób: dostęp, ograniczenie, usunięcie", "residents' rights: access, restriction, erasure")
        }
        Activity::Oversight => ("nadzór nad dziennikiem", "supervision of the log"),
        Activity::Index => ("ślepy indeks rejestru", "the registry's blind index"),
    }
}

impl Register {
    /// What entries say they come of; the index is the registry's alone.
    fn activities(&self, words: &Words) -> Section {
        let here = Activity::ALL.into_iter().filter(|activity| *activity != Activity::Index || self.has(*activity));
        let rows = here.map(|activity| {
            let (pl, en) = named(activity);
            let entries = self.entries.get(&activity).copied().unwrap_or_default();
            vec![activity.id().to_owned(), words.say(pl, en).to_owned(), entries.to_string()]
        });
        Section::Table {
            title: words.say("Czynności według dziennika", "Activities by the log").to_owned(),
            columns: words.columns(&[("czynność", "activity"), ("co", "what"), ("wpisy", "entries")]),
            rows: rows.collect(),
        }
    }

    fn has(&self, activity: Activity) -> bool {
        self.entries.contains_key(&activity)
    }
}

impl Report for Register {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        if let Some(event) = EventKind::find(super::str_of(entry, "event")) {
            super::count(&mut self.entries, event.activity());
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let rows = agreements(context).map(|terms| line(terms, words)).collect();
        let title = words.say("Czynności", "Activities").to_owned();
        let table = Section::Table { title, columns: words.columns(&COLUMNS), rows };
        let measures = words.say(
            "Środki: szyfrowanie i uwierzytelnianie obustronne TLS 1.3, pseudonimy z kluczem dzielonym między jednostki, \
             decyzja i trwały wpis przed każdym udostępnieniem, dziennik poświadczany przez inne jednostki.",
            "Measures: mutual TLS 1.3, pseudonyms under a key split between units, a decision and a durable entry before \
             every release, a log that other units vouch for.",
        );
        let title = words.say("Rejestr czynności przetwarzania (art. 30 RODO)", "Record of processing (GDPR art. 30)");
        let mut sections = vec![table];
        sections.extend(context.against.map(|(before, _)| changes(context, before)));
        sections.extend([mandates(context), templates(words), self.activities(words)]);
        sections.push(Section::Text(measures.to_owned()));
        (title.to_owned(), sections)
    }
}

/// The statutes this institution may rely on, or has to answer under.
fn mandates(context: &Context<'_>) -> Section {
    let words = context.words;
    let mine = context.manifest.and_then(|manifest| manifest.members.iter().find(|m| m.id.as_str() == mine(context)));
    let all = words.library.catalogue().mandates.iter();
    let rows = all.filter_map(|(id, mandate)| {
        let kind = &mine?.kind;
        let (asks, answers) = (mandate.asker_kinds.contains(kind), mandate.holder_kinds.contains(kind));
        let side = match (asks, answers) {
            (true, true) => words.say("pyta i odpowiada", "asks and answers"),
            (true, false) => words.say("pyta", "asks"),
            (false, true) => words.say("odpowiada", "answers"),
            (false, false) => return None,
        };
        let purposes: Vec<String> = mandate.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
        Some(vec![
            format!("{id}@{}", mandate.version),
            format!("{}, {}", mandate.statute, mandate.article),
            side.to_owned(),
            purposes.join("; "),
            words.fields(mandate.fields.iter().map(protocol::FieldId::as_str)),
            mandate.gdpr.iter().cloned().collect::<Vec<_>>().join(", "),
        ])
    });
    Section::Table {
        title: words.say("Przepisy", "Mandates").to_owned(),
        columns: words.columns(&[
            ("upoważnienie", "mandate"),
            ("przepis", "statute"),
            ("ta jednostka", "this institution"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("podstawa w RODO", "GDPR basis"),
        ]),
        rows: rows.collect(),
    }
}

/// What residents may consent to, in the newest version of each template.
fn templates(words: &Words) -> Section {
    let newest = words.library.catalogue().templates.iter().filter_map(|(id, all)| Some((id, all.last()?)));
    let rows = newest.map(|(id, template)| {
        let fields: BTreeSet<&str> = template
            .all_permissions()
            .flat_map(|permission| &permission.fields)
            .map(protocol::FieldId::as_str)
            .collect();
        let purposes: Vec<String> = template.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
        vec![
            format!("{id}@{}", template.version),
            words.say(&template.pl.title, &template.en.title).to_owned(),
            purposes.join("; "),
            words.fields(fields),
            template.gdpr.iter().cloned().collect::<Vec<_>>().join(", "),
            template.max_days.to_string(),
        ]
    });
    Section::Table {
        title: words.say("Wzory zgód", "Consent templates").to_owned(),
        columns: words.columns(&[
            ("wzór", "template"),
            ("tytuł", "title"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("podstawa w RODO", "GDPR basis"),
            ("najwyżej dni", "days at most"),
        ]),
        rows: rows.collect(),
    }
}
