//! R8: use by month, without persons.

use super::{Context, Report, Section, Words, count, outcomes, str_of, time_of};
use policies::calendar;
use protocol::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Months shown.
const MONTHS: usize = 6;

#[derive(Default)]
pub(crate) struct Monthly {
    months: BTreeMap<String, Month>,
}

#[derive(Default)]
struct Month {
    asked: u64,
    /// Of our own questions: what a holder refused us.
    refused: u64,
    answered: u64,
    denied: u64,
    out_of_hours: u64,
    without_pesel: u64,
    users: BTreeSet<String>,
    roles: BTreeMap<String, u64>,
}

impl Report for Monthly {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        let time = time_of(entry);
        let event = str_of(entry, "event");
        if !matches!(event, "query.asking" | "query.outcome" | "query.answered" | "query.denied" | "query.no_match") {
            return;
        }
        let month = self.months.entry(super::month(time)).or_default();
        match event {
            "query.asking" => {
                month.asked += 1;
                month.users.insert(str_of(entry, "user").to_owned());
                month.without_pesel += u64::from(str_of(entry, "search_key") != "pesel");
                month.out_of_hours += u64::from(calendar::out_of_hours(Timestamp(time)));
            }
            "query.outcome" => {
                let refused = outcomes(entry).filter(|outcome| str_of(outcome, "outcome") == "denied").count();
                month.refused += refused as u64;
            }
            "query.answered" => month.answered += 1,
            _ => month.denied += 1,
        }
        let role = str_of(entry, "role");
        if !role.is_empty() && !matches!(event, "query.asking" | "query.outcome") {
            count(&mut month.roles, role.to_owned());
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let skipped = self.months.len().saturating_sub(MONTHS);
        let months: Vec<(String, Month)> = self.months.into_iter().skip(skipped).collect();
        let rows = months.iter().map(|(name, month)| {
            let roles: Vec<String> = month.roles.iter().map(|(role, times)| format!("{role} {times}")).collect();
            vec![
                name.clone(),
                month.asked.to_string(),
                month.refused.to_string(),
                month.answered.to_string(),
                month.denied.to_string(),
                percent(month.out_of_hours, month.asked),
                percent(month.without_pesel, month.asked),
                month.users.len().to_string(),
                roles.join(", "),
            ]
        });
        let columns = words.columns(&[
            ("miesiąc", "month"),
            ("pytania własne", "questions of our own"),
            ("w tym odmowy innych", "refused to us"),
            ("odpowiedzi dla innych", "answers to others"),
            ("odmowy", "denials"),
            ("poza godzinami", "out of hours"),
            ("bez numeru PESEL", "without a PESEL"),
            ("liczba pytających", "users who asked"),
            ("role pytających nas", "roles that asked us"),
        ]);
        let series = |pl: &str, en: &str, of: fn(&Month) -> u64| Section::Series {
            title: words.say(pl, en).to_owned(),
            points: months.iter().map(|(name, month)| (name.clone(), of(month))).collect(),
        };
        let plots = [
            series("Pytania własne", "Questions of our own", |month| month.asked),
            series("Odpowiedzi dla innych", "Answers to others", |month| month.answered),
            series("Odmowy", "Denials", |month| month.denied),
        ];
        let table =
            Section::Table { title: words.say("Miesiące", "Months").to_owned(), columns, rows: rows.collect() };
        let title = words.say("Użycie miesięczne", "Use by month").to_owned();
        (title, [table].into_iter().chain(plots).collect())
    }
}

fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or_else(|| "–".to_owned(), |percent| format!("{percent}%"))
}
