//! R1 and R2: who looked at one resident's data, when, what for, on what basis. One day's equal lines are one line.

use super::told::Told;
use super::{Context, Report, Section, Words, outcomes, str_of, time_of};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a resident is told of one access.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) day: String,
    pub(crate) institution: String,
    pub(crate) what: String,
    pub(crate) purpose: String,
    pub(crate) basis: String,
}

#[derive(Default)]
pub(crate) struct Disclosures {
    package: bool,
    lines: BTreeMap<Line, u64>,
    recipients: BTreeMap<String, Recipient>,
}

/// What one institution got of this one's data.
#[derive(Default)]
struct Recipient {
    told: Told,
    /// The first day and the last.
    days: Option<(String, String)>,
    times: u64,
}

impl Disclosures {
    pub(crate) fn list() -> Self {
        Disclosures::default()
    }

    pub(crate) fn package() -> Self {
        Disclosures { package: true, ..Disclosures::default() }
    }
}

/// What an entry says to the resident it is about.
pub(crate) fn lines(entry: &Value, words: &Words) -> Vec<Line> {
    let day = super::day(time_of(entry));
    let line = |institution: String, what: String| Line {
        day: day.clone(),
        institution,
        what,
        purpose: words.purpose(str_of(entry, "purpose")),
        basis: words.basis(str_of(entry, "basis")),
    };
    let asker = words.member(str_of(entry, "asker"));
    // What a resident does about a consent rests on nothing else.
    let own_act = |pl: &str, en: &str| {
        let what = words.say(pl, en).to_owned();
        vec![Line { basis: String::new(), ..line(asker.clone(), what) }]
    };
    let officers = |pl: &str, en: &str| {
        let duty = words.say("zadania inspektora (art. 39 RODO)", "the officer's tasks (GDPR art. 39)").to_owned();
        let officer = words.say("inspektor ochrony danych", "data-protection officer").to_owned();
        let what = words.say(pl, en).to_owned();
        vec![Line { day: day.clone(), institution: officer, what, purpose: duty, basis: String::new() }]
    };
    match str_of(entry, "event") {
        "query.answered" => vec![line(asker.clone(), Told::here(entry, words).words(words))],
        "query.denied" | "query.no_match" => {
            vec![line(asker.clone(), words.say("nic: odmówiono", "nothing: refused").to_owned())]
        }
        // What this institution got of others.
        "query.outcome" => outcomes(entry)
            .filter(|outcome| str_of(outcome, "outcome") == "answered")
            .map(|outcome| {
                let from = words.member(str_of(outcome, "holder"));
                let got = Told::there(entry, outcome, words).words(words);
                line(asker.clone(), format!("{got} ({} {from})", words.say("źródło:", "from")))
            })
            .collect(),
        "consent.recorded" => own_act("zapisano zgodę", "a consent was recorded"),
        "consent.withdrawn" => own_act("wycofano zgodę", "a consent was withdrawn"),
        "consent.superseded" => own_act("zastąpiono zgodę nowszą", "a newer consent took a consent's place"),
        "dpo.searched" | "dpo.reported" | "dpo.exported" => officers("zapisy w dzienniku", "entries of the log"),
        "resident.shown" => officers("dane w aktach", "the data on file"),
        _ => Vec::new(),
    }
}

impl Report for Disclosures {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        for line in lines(entry, words) {
            *self.lines.entry(line).or_default() += 1;
        }
        if str_of(entry, "event") == "query.answered" {
            let day = super::day(time_of(entry));
            let recipient = self.recipients.entry(str_of(entry, "asker").to_owned()).or_default();
            recipient.told.add(&Told::here(entry, words));
            recipient.times += 1;
            let (first, last) = recipient.days.take().unwrap_or_else(|| (day.clone(), day.clone()));
            recipient.days = Some((first.min(day.clone()), last.max(day)));
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let rows = self.lines.iter().map(|(line, times)| {
            let Line { day, institution, what, purpose, basis } = line.clone();
            vec![day, institution, what, purpose, basis, times.to_string()]
        });
        let table = Section::Table {
            title: words.say("Kto sprawdzał dane", "Who looked at the data").to_owned(),
            columns: words.columns(&[
                ("dzień", "day"),
                ("instytucja", "institution"),
                ("co", "what"),
                ("w jakim celu", "purpose"),
                ("na jakiej podstawie", "basis"),
                ("ile razy", "times"),
            ]),
            rows: rows.collect(),
        };
        if !self.package {
            let title = words.say("Kto sprawdzał moje dane", "Who looked at my data").to_owned();
            return (title, vec![table]);
        }
        let rights = words.say(
            "Mają Państwo prawo do: sprostowania danych (art. 16 RODO), usunięcia (art. 17), ograniczenia przetwarzania \
             (art. 18), sprzeciwu (art. 21), wycofania każdej zgody w dowolnej chwili w każdej jednostce oraz skargi do \
             Prezesa Urzędu Ochrony Danych Osobowych, ul. Stawki 2, 00-193 Warszawa.",
            "You have the right to: rectification (GDPR art. 16), erasure (art. 17), restriction (art. 18), objection (art. \
             21), withdrawal of any consent at any time at any unit, and a complaint to the President of the Personal Data \
             Protection Office (UODO), ul. Stawki 2, 00-193 Warszawa.",
        );
        let scope = words.say(
            "Wykaz obejmuje dziennik tej instytucji: każdy dostęp innych do jej danych i każde jej pytanie do innych. Dane \
             osób trzecich nie są częścią wykazu.",
            "This covers the log of this institution: every access of others to its data, and its every question to others. \
             Third persons' data are no part of it.",
        );
        let mut sections = vec![Section::Text(scope.to_owned())];
        sections.extend(on_file(context));
        sections.extend([self.recipients(words), table, Section::Text(rights.to_owned())]);
        let title = words.say("Informacja dla osoby (art. 15 RODO)", "Access package (GDPR art. 15)").to_owned();
        (title, sections)
    }
}

impl Disclosures {
    fn recipients(&self, words: &Words) -> Section {
        let row = |(member, recipient): (&String, &Recipient)| {
            let (first, last) = recipient.days.clone().unwrap_or_default();
            let fields = recipient.told.words(words);
            vec![words.member(member), fields, first, last, recipient.times.to_string()]
        };
        Section::Table {
            title: words.say("Odbiorcy danych", "Recipients of the data").to_owned(),
            columns: words.columns(&[
                ("instytucja", "institution"),
                ("dane", "data"),
                ("pierwszy raz", "first"),
                ("ostatni raz", "last"),
                ("ile razy", "times"),
            ]),
            rows: self.recipients.iter().map(row).collect(),
        }
    }
}

/// The copy of the data (art. 15(3)), where the node gave it.
fn on_file(context: &Context<'_>) -> Vec<Section> {
    let words = context.words;
    let Some(data) = context.held else {
        let apart = words.say(
            "Same dane znajdują się w aktach instytucji i są wydawane osobno.",
            "The data themselves are in the institution's files and are handed over separately.",
        );
        return vec![Section::Text(apart.to_owned())];
    };
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = data.rows.iter().flat_map(|row| {
        let (number, until) =
            (row.local_number.clone().unwrap_or_default(), row.kept_until.clone().unwrap_or_default());
        let field = move |(field, value): (&protocol::FieldId, &Value)| {
            vec![row.source.clone(), number.clone(), words.field(field.as_str()), shown(value), until.clone()]
        };
        row.fields.iter().map(field)
    });
    let table = Section::Table {
        title: words.say("Dane w aktach tej instytucji", "Data on file at this institution").to_owned(),
        columns: words.columns(&[
            ("źródło", "source"),
            ("numer", "number"),
            ("dane", "data"),
            ("wartość", "value"),
            ("przechowywane do", "kept until"),
        ]),
        rows: rows.collect(),
    };
    let sealed = data.sealed.then(|| {
        let handed = words.say(
            "W aktach są także pola chronione; wydaje się je tylko osobiście.",
            "There are sealed fields too; they are handed over in person only.",
        );
        Section::Text(handed.to_owned())
    });
    std::iter::once(table).chain(sealed).collect()
}
