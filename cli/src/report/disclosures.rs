//! R1 and R2: who looked at one resident's data, when, what for, on what basis. One day's equal lines are one line.

use super::{Context, Report, Section, Words, list_of, outcomes, str_of, time_of};
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

pub(crate) struct Disclosures {
    package: bool,
    lines: BTreeMap<Line, u64>,
}

impl Disclosures {
    pub(crate) fn list() -> Self {
        Disclosures { package: false, lines: BTreeMap::new() }
    }

    pub(crate) fn package() -> Self {
        Disclosures { package: true, lines: BTreeMap::new() }
    }
}

/// What an entry says to the resident it is about.
pub(crate) fn lines(entry: &Value, words: &Words) -> Vec<Line> {
    let day = words.day(time_of(entry));
    let line = |institution: String, what: String| Line {
        day: day.clone(),
        institution,
        what,
        purpose: words.purpose(str_of(entry, "purpose")),
        basis: words.basis(str_of(entry, "basis")),
    };
    let presence = || words.say("czy jest znana lub znany w tej jednostce", "whether known to this unit").to_owned();
    let released = |fields: Vec<&str>| {
        if fields.is_empty() { presence() } else { words.fields(fields) }
    };
    let asker = words.member(str_of(entry, "asker"));
    match str_of(entry, "event") {
        "query.answered" => vec![line(asker, released(list_of(entry, "fields_returned")))],
        "query.denied" | "query.no_match" => {
            vec![line(asker, words.say("nic: odmówiono", "nothing: refused").to_owned())]
        }
        // What this institution got of others.
        "query.outcome" => outcomes(entry)
            .filter(|outcome| str_of(outcome, "outcome") == "answered")
            .map(|outcome| {
                let from = words.member(str_of(outcome, "holder"));
                let got = released(list_of(outcome, "fields"));
                line(asker.clone(), format!("{got} ({} {from})", words.say("źródło:", "from")))
            })
            .collect(),
        "consent.recorded" => vec![line(asker, words.say("zapisano zgodę", "a consent was recorded").to_owned())],
        "consent.withdrawn" => vec![line(asker, words.say("wycofano zgodę", "a consent was withdrawn").to_owned())],
        "dpo.searched" | "dpo.reported" | "dpo.exported" | "resident.shown" => {
            let officer = words.say("inspektor ochrony danych", "data-protection officer").to_owned();
            let looked = words.say("zapisy w dzienniku", "entries of the log").to_owned();
            let duty = words.say("zadania inspektora (art. 39 RODO)", "the officer's tasks (GDPR art. 39)").to_owned();
            vec![Line { day, institution: officer, what: looked, purpose: duty, basis: String::new() }]
        }
        _ => Vec::new(),
    }
}

impl Report for Disclosures {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        for line in lines(entry, words) {
            *self.lines.entry(line).or_default() += 1;
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
            "Wykaz obejmuje dziennik tej instytucji: każdy dostęp innych do jej danych i każde jej pytanie do innych. Same \
             dane znajdują się w aktach instytucji i są wydawane osobno. Dane osób trzecich i pola chronione nie są \
             częścią wykazu.",
            "This covers the log of this institution: every access of others to its data, and its every question to others. \
             The data themselves are in the institution's files and are handed over separately. Third persons' data and \
             sealed fields are no part of it.",
        );
        let title = words.say("Informacja dla osoby (art. 15 RODO)", "Access package (GDPR art. 15)").to_owned();
        (title, vec![Section::Text(scope.to_owned()), table, Section::Text(rights.to_owned())])
    }
}
