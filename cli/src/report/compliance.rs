//! R11: how each agreement is kept, as the holder that answers and as the asker that is answered. Needs the manifest.

use super::processing::agreements;
use super::told::Told;
use super::{Context, Report, Section, Words, count, outcomes, refused_there, str_of, time_of};
use policies::{calendar, hours};
use protocol::Timestamp;
use protocol::agreement::Agreement;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Compliance {
    /// Answers given and got, by the agreement relied on, id@version.
    used: BTreeMap<String, Use>,
    /// Denials by who asked whom what, and why.
    denials: BTreeMap<[String; 4], u64>,
}

#[derive(Default)]
struct Use {
    answers: u64,
    queries: BTreeSet<String>,
    fields: BTreeSet<String>,
    purposes: BTreeSet<String>,
    /// Answers by day.
    days: BTreeMap<String, u64>,
    /// Answers by minute of the week, with a time in that minute.
    minutes: BTreeMap<(i8, u16), (i64, u64)>,
}

impl Use {
    fn answer(&mut self, time: i64, query: &str, purpose: &str, told: &Told) {
        self.answers += 1;
        self.queries.insert(query.to_owned());
        self.purposes.insert(purpose.to_owned());
        // What was compared was used.
        self.fields.extend(told.fields().map(str::to_owned));
        count(&mut self.days, super::day(time));
        if let Some(local) = calendar::local(Timestamp(time)) {
            let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
            let day = local.weekday().to_monday_one_offset();
            self.minutes.entry((day, minute)).or_insert((time, 0)).1 += 1;
        }
    }

    /// Answers outside the agreement's hours.
    fn outside(&self, terms: &Agreement) -> u64 {
        let outside = self.minutes.values().filter(|(time, _)| !hours::open(&terms.hours, Timestamp(*time)));
        outside.map(|(_, answers)| answers).sum()
    }
}

impl Report for Compliance {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        let of = |value: &Value, field: &str| str_of(value, field).to_owned();
        let (time, purpose) = (time_of(entry), str_of(entry, "purpose"));
        match str_of(entry, "event") {
            "query.answered" => {
                let used = self.used.entry(of(entry, "agreement")).or_default();
                used.answer(time, str_of(entry, "query"), purpose, &Told::here(entry, words));
            }
            "query.denied" | "query.no_match" => {
                count(&mut self.denials, ["asker", "holder", "query", "reason"].map(|field| of(entry, field)));
            }
            "query.outcome" => {
                for outcome in outcomes(entry) {
                    match str_of(outcome, "outcome") {
                        "answered" => {
                            let used = self.used.entry(of(outcome, "agreement")).or_default();
                            used.answer(time, str_of(outcome, "query"), purpose, &Told::there(entry, outcome, words));
                        }
                        "denied" => {
                            // A holder that was named may never have been asked.
                            let holder = if refused_there(outcome) { of(outcome, "holder") } else { String::new() };
                            let [query, reason] = ["query", "reason"].map(|field| of(outcome, field));
                            count(&mut self.denials, [of(entry, "asker"), holder, query, reason]);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let mut used = self.used;
        let mut rows: Vec<Vec<String>> = agreements(context)
            .map(|terms| {
                let name = terms.reference().to_string();
                let used = used.remove(&name).unwrap_or_default();
                row(terms, name, &used, words)
            })
            .collect();
        // Of versions that the manifest has no more.
        for (name, used) in used {
            let name =
                if name.is_empty() { words.say("(bez porozumienia)", "(no agreement)").to_owned() } else { name };
            let mut row = vec![name, String::new(), String::new(), used.answers.to_string()];
            row.resize(COLUMNS.len(), String::new());
            rows.push(row);
        }
        let table = Section::Table {
            title: words.say("Porozumienia", "Agreements").to_owned(),
            columns: words.columns(COLUMNS),
            rows,
        };
        let denials = Section::Table {
            title: words.say("Odmowy", "Denials").to_owned(),
            columns: words.columns(&[
                ("kto pytał", "asker"),
                ("kto odmówił", "holder"),
                ("pytanie", "query"),
                ("powód", "reason"),
                ("ile razy", "times"),
            ]),
            rows: self
                .denials
                .iter()
                .map(|([asker, holder, query, reason], times)| {
                    let own = || words.say("ten węzeł", "this node").to_owned();
                    let holder = if holder.is_empty() { own() } else { words.member(holder) };
                    let asker = words.member(asker);
                    vec![asker, holder, words.query(query), reason.clone(), times.to_string()]
                })
                .collect(),
        };
        let title = words.say("Zgodność z porozumieniami", "Use of agreements").to_owned();
        (title, vec![table, denials])
    }
}

const COLUMNS: &[(&str, &str)] = &[
    ("porozumienie", "agreement"),
    ("kto pyta", "asker"),
    ("kto odpowiada", "holder"),
    ("odpowiedzi", "answers"),
    ("najwięcej w dniu / limit", "most in a day / quota"),
    ("poza godzinami porozumienia", "outside its hours"),
    ("nieużyte pytania", "queries never used"),
    ("nieużyte dane", "fields never used"),
    ("nieużyte cele", "purposes never used"),
];

fn row(terms: &Agreement, name: String, used: &Use, words: &Words) -> Vec<String> {
    let unused = |all: Vec<String>, used: &BTreeSet<String>| -> Vec<String> {
        all.into_iter().filter(|one| !used.contains(one)).collect()
    };
    let fields = unused(terms.fields.iter().map(ToString::to_string).collect(), &used.fields);
    let queries = unused(terms.queries.iter().map(ToString::to_string).collect(), &used.queries);
    let purposes = unused(terms.purposes.iter().map(ToString::to_string).collect(), &used.purposes);
    let most = used.days.values().max().copied().unwrap_or_default();
    vec![
        name,
        words.member(terms.asker.as_str()),
        words.member(terms.holder.as_str()),
        used.answers.to_string(),
        format!("{most} / {}", terms.queries_per_day),
        used.outside(terms).to_string(),
        queries.join(", "),
        words.fields(fields.iter().map(String::as_str)),
        purposes.iter().map(|purpose| words.purpose(purpose)).collect::<Vec<_>>().join("; "),
    ]
}
