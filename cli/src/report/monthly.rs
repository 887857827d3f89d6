//! R8: use by month, without persons.

use super::{Context, Report, Section, Words, count, outcomes, str_of, time_of};
use audit::EventKind;
use policies::calendar;
use protocol::Timestamp;
use protocol::time::DAY_SECONDS;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Months shown.
const MONTHS: usize = 6;
/// Days without a trace.
const IDLE: [i64; 3] = [30, 90, 180];
/// Entries whose `user` is a peer's; every other with a `user` is a trace of one of this institution's.
const OF_PEERS: [EventKind; 4] =
    [EventKind::QueryAnswered, EventKind::QueryDenied, EventKind::QueryNoMatch, EventKind::ApprovalWaiting];

#[derive(Default)]
pub(crate) struct Monthly {
    months: BTreeMap<String, Month>,
    /// When each user of this institution left a trace last.
    seen: BTreeMap<String, i64>,
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
        let user = str_of(entry, "user");
        let own = EventKind::find(event).is_some_and(|event| !OF_PEERS.contains(&event));
        if own && !user.is_empty() {
            let last = self.seen.entry(user.to_owned()).or_insert(time);
            *last = time.max(*last);
        }
        if !matches!(event, "query.asking" | "query.outcome" | "query.answered" | "query.denied" | "query.no_match") {
            return;
        }
        let month = self.months.entry(super::month(time)).or_default();
        match event {
            "query.asking" => {
                month.asked += 1;
                month.users.insert(user.to_owned());
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
        let idle = idle(&self.seen, context.exported.exported_at, words);
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
        (title, [table, idle].into_iter().chain(plots).collect())
    }
}

/// How many users have not been seen for how long.
fn idle(seen: &BTreeMap<String, i64>, now: i64, words: &Words) -> Section {
    let row = |days: i64| {
        let idle = seen.values().filter(|last| now - **last >= days * DAY_SECONDS).count();
        vec![days.to_string(), idle.to_string(), seen.len().to_string()]
    };
    Section::Table {
        title: words.say("Konta nieużywane", "Idle accounts").to_owned(),
        columns: words.columns(&[
            ("dni bez śladu", "days without a trace"),
            ("użytkownicy", "users"),
            ("z tylu widzianych", "of so many seen"),
        ]),
        rows: IDLE.map(row).to_vec(),
    }
}

fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or_else(|| "–".to_owned(), |percent| format!("{percent}%"))
}
