//! R4, R7 and R9: single accesses. Whose data were seen; what was opened in an emergency; what single persons did.

use super::{Context, Report, Section, Words, count, list_of, outcomes, str_of, time_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Files whose data left or came, with what of them. Which user, peer, key or period: the export's filter says.
#[derive(Default)]
pub(crate) struct Scope {
    files: BTreeMap<String, Seen>,
    fields: BTreeMap<String, u64>,
    channels: BTreeMap<(String, String), u64>,
    /// By member, message key and certificate.
    keys: BTreeMap<[String; 3], u64>,
    period: Option<(i64, i64)>,
}

#[derive(Default)]
struct Seen {
    times: u64,
    fields: BTreeSet<String>,
}

impl Report for Scope {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        let (event, file, time) = (str_of(entry, "event"), str_of(entry, "file"), time_of(entry));
        let got: Vec<(String, Vec<&str>)> = match event {
            "query.answered" => vec![(str_of(entry, "holder").to_owned(), list_of(entry, "fields_returned"))],
            "query.outcome" => outcomes(entry)
                .filter(|outcome| str_of(outcome, "outcome") == "answered")
                .map(|outcome| (str_of(outcome, "holder").to_owned(), list_of(outcome, "fields")))
                .collect(),
            _ => return,
        };
        if event == "query.answered" && entry.get("key").is_some() {
            count(&mut self.keys, ["asker", "key", "certificate"].map(|field| str_of(entry, field).to_owned()));
        }
        for (holder, fields) in got {
            let seen = self.files.entry(file.to_owned()).or_default();
            seen.times += 1;
            seen.fields.extend(fields.iter().map(|&field| field.to_owned()));
            for &field in &fields {
                count(&mut self.fields, field.to_owned());
            }
            count(&mut self.channels, (str_of(entry, "asker").to_owned(), holder));
            let (first, last) = self.period.unwrap_or((time, time));
            self.period = Some((first.min(time), last.max(time)));
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let special = |seen: &&Seen| seen.fields.iter().any(|field| words.special(field));
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let (first, last) = self.period.unwrap_or_default();
        let facts = vec![
            (say("Liczba osób", "Persons"), self.files.len().to_string()),
            (
                say("w tym dane szczególnych kategorii (art. 9, 10)", "of them with special categories (art. 9, 10)"),
                self.files.values().filter(special).count().to_string(),
            ),
            (say("Pierwszy dostęp", "First access"), super::moment(first)),
            (say("Ostatni dostęp", "Last access"), super::moment(last)),
            (
                say("Termin zgłoszenia do UODO", "Deadline of the notification"),
                say(
                    "72 godziny od stwierdzenia naruszenia (art. 33 RODO)",
                    "72 hours from becoming aware (GDPR art. 33)",
                ),
            ),
        ];
        let channels = Section::Table {
            title: say("Kanały", "Channels"),
            columns: words.columns(&[("kto pytał", "asker"), ("kto odpowiadał", "holder"), ("ile razy", "times")]),
            rows: self
                .channels
                .iter()
                .map(|((asker, holder), times)| vec![words.member(asker), words.member(holder), times.to_string()])
                .collect(),
        };
        let keys = Section::Table {
            title: say("Klucze i certyfikaty", "Keys and certificates"),
            columns: words.columns(&[
                ("kto pytał", "asker"),
                ("klucz", "key"),
                ("certyfikat (SHA-256)", "certificate (SHA-256)"),
                ("ile razy", "times"),
            ]),
            rows: self
                .keys
                .iter()
                .map(|([asker, key, certificate], times)| {
                    vec![words.member(asker), key.clone(), certificate.clone(), times.to_string()]
                })
                .collect(),
        };
        let categories = Section::Table {
            title: say("Kategorie danych", "Categories of data"),
            columns: words.columns(&[("dane", "data"), ("szczególne", "special"), ("ile razy", "times")]),
            rows: self
                .fields
                .iter()
                .map(|(field, times)| {
                    let special = if words.special(field) { say("tak", "yes") } else { String::new() };
                    vec![words.field(field), special, times.to_string()]
                })
                .collect(),
        };
        let persons = Section::Table {
            title: say("Osoby, według numeru akt w dzienniku", "Persons, by file id of the log"),
            columns: words.columns(&[("akta", "file"), ("ile razy", "times"), ("dane", "data")]),
            rows: self
                .files
                .iter()
                .map(|(file, seen)| {
                    vec![file.clone(), seen.times.to_string(), words.released(seen.fields.iter().map(String::as_str))]
                })
                .collect(),
        };
        (
            say("Zakres naruszenia (art. 33 RODO)", "Scope of a breach (GDPR art. 33)"),
            vec![Section::Facts(facts), channels, keys, categories, persons],
        )
    }
}

/// Emergency accesses with their reviews.
#[derive(Default)]
pub(crate) struct Emergencies {
    opened: Vec<(i64, String, Vec<String>)>,
    reviewed: BTreeMap<String, Review>,
}

struct Review {
    at: i64,
    /// What it came to: `justified` or `unjustified`.
    outcome: String,
    /// Who reviewed it here; empty when the other side did.
    by: String,
    /// What the reviewer says.
    text: String,
}

/// An emergency must be reviewed in this time.
const REVIEW_SECONDS: i64 = 72 * 60 * 60;

impl Report for Emergencies {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        let (event, id) = (str_of(entry, "event"), str_of(entry, "emergency").to_owned());
        let emergency = str_of(entry, "basis").strip_prefix("emergency:");
        match event {
            "emergency.reviewed" => {
                let [outcome, by, text] =
                    ["detail", "user", "reason_text"].map(|field| str_of(entry, field).to_owned());
                self.reviewed.insert(id, Review { at: time_of(entry), outcome, by, text });
            }
            "emergency.opened" | "query.answered" if event == "emergency.opened" || emergency.is_some() => {
                let opened = event == "emergency.opened";
                let fields = if opened { String::new() } else { words.released(list_of(entry, "fields_returned")) };
                let (user, asker) = (str_of(entry, "user").to_owned(), words.member(str_of(entry, "asker")));
                let why = [emergency.unwrap_or_default(), str_of(entry, "reason_text")];
                let why = why.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
                self.opened.push((time_of(entry), id, vec![asker, user, why, fields]));
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let rows = self.opened.into_iter().map(|(time, id, mut row)| {
            let overdue = context.exported.exported_at - time > REVIEW_SECONDS;
            let (state, by, text) = match self.reviewed.get(&id) {
                Some(Review { at, outcome, by, text }) => {
                    let outcome = match outcome.as_str() {
                        "justified" => words.say("uzasadniony", "justified"),
                        "unjustified" => words.say("nieuzasadniony", "not justified"),
                        other => other,
                    };
                    (format!("{} {outcome}", super::moment(*at)), by.clone(), text.clone())
                }
                None if overdue => (words.say("po terminie", "overdue").to_owned(), String::new(), String::new()),
                None => (words.say("czeka", "waiting").to_owned(), String::new(), String::new()),
            };
            row.insert(0, super::moment(time));
            row.extend([state, by, text]);
            row
        });
        let table = Section::Table {
            title: words.say("Dostępy", "Accesses").to_owned(),
            columns: words.columns(&[
                ("kiedy", "when"),
                ("instytucja", "institution"),
                ("osoba (pseudonim)", "user (pseudonym)"),
                ("powód", "reason"),
                ("dane", "data"),
                ("przegląd", "review"),
                ("kto przejrzał (pseudonim)", "reviewer (pseudonym)"),
                ("ustalenia", "finding"),
            ]),
            rows: rows.collect(),
        };
        (words.say("Przegląd dostępów nagłych", "Emergency accesses").to_owned(), vec![table])
    }
}

/// Every access, by user and person.
#[derive(Default)]
pub(crate) struct Specific {
    rows: Vec<Vec<String>>,
}

impl Report for Specific {
    fn take(&mut self, index: u64, entry: &Value, words: &Words) {
        let event = str_of(entry, "event");
        if !event.starts_with("query.") && !event.starts_with("emergency.") {
            return;
        }
        let asked = outcomes(entry).map(|outcome| str_of(outcome, "query"));
        let mut queries: BTreeSet<&str> = asked.chain([str_of(entry, "query")]).collect();
        queries.remove("");
        self.rows.push(vec![
            index.to_string(),
            super::moment(time_of(entry)),
            event.to_owned(),
            words.member(str_of(entry, "asker")),
            str_of(entry, "user").to_owned(),
            str_of(entry, "file").to_owned(),
            queries.into_iter().map(|query| words.query(query)).collect::<Vec<_>>().join("; "),
            words.purpose(str_of(entry, "purpose")),
            words.basis(str_of(entry, "basis")),
            str_of(entry, "reason_text").to_owned(),
        ]);
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let columns = words.columns(&[
            ("wpis", "entry"),
            ("kiedy", "when"),
            ("zdarzenie", "event"),
            ("instytucja", "institution"),
            ("osoba (pseudonim)", "user (pseudonym)"),
            ("akta", "file"),
            ("pytanie", "question"),
            ("cel", "purpose"),
            ("podstawa", "basis"),
            ("uzasadnienie", "reason"),
        ]);
        let table = Section::Table { title: words.say("Dostępy", "Accesses").to_owned(), columns, rows: self.rows };
        (words.say("Użycie przez wskazane osoby", "Use by single persons").to_owned(), vec![table])
    }
}
