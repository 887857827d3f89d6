//! R8: use by month, without persons.

use super::{Context, Report, Section, Words, count, outcomes, refused_there, str_of, time_of};
use audit::EventKind;
use policies::calendar;
use protocol::Timestamp;
use protocol::query::PENDING_SECONDS;
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
    /// The first entry's time and the last's, of whatever sort.
    period: Option<(i64, i64)>,
    /// Since when questions wait for a person at their holder: they are put again, and are the same.
    waiting: BTreeMap<Waiting, i64>,
    /// When each user of this institution left a trace last.
    seen: BTreeMap<String, i64>,
}

/// User, resident, query and holder of a question.
type Waiting = [String; 4];

/// The questions of an entry.
fn questions(entry: &Value) -> impl Iterator<Item = (&Value, Waiting)> {
    outcomes(entry).map(move |outcome| {
        let [user, file] = ["user", "file"].map(|field| str_of(entry, field).to_owned());
        let [query, holder] = ["query", "holder"].map(|field| str_of(outcome, field).to_owned());
        (outcome, [user, file, query, holder])
    })
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
        let (first, last) = self.period.unwrap_or((time, time));
        self.period = Some((first.min(time), last.max(time)));
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
        if event == "query.asking" && self.again(entry, time) {
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
                month.refused += outcomes(entry).filter(|outcome| refused_there(outcome)).count() as u64;
                for (outcome, question) in questions(entry) {
                    if str_of(outcome, "outcome") == "pending" {
                        self.waiting.entry(question).or_insert(time);
                    } else {
                        self.waiting.remove(&question);
                    }
                }
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
        let mut entries = self.months;
        let months = self.period.map(|(first, last)| names(first, last)).unwrap_or_default().into_iter();
        let months: Vec<(String, Month)> = months
            .map(|name| {
                let month = entries.remove(&name).unwrap_or_default();
                (name, month)
            })
            .collect();
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

impl Monthly {
    /// Whether all that is asked waits for a person already.
    fn again(&self, entry: &Value, time: i64) -> bool {
        let waits = |question: &Waiting| {
            self.waiting.get(question).is_some_and(|since| time.saturating_sub(*since) <= PENDING_SECONDS)
        };
        let mut asked = questions(entry).peekable();
        asked.peek().is_some() && asked.all(|(_, question)| waits(&question))
    }
}

/// The months up to the last, at most so many as are shown; also those of which there is nothing.
fn names(first: i64, last: i64) -> Vec<String> {
    let month = |time: i64| calendar::local(Timestamp(time)).map(|local| local.date().first_of_month());
    let (first, mut at) = (month(first), month(last));
    let mut names = Vec::new();
    while let Some(month) = at.filter(|month| Some(*month) >= first && names.len() < MONTHS) {
        names.push(month.strftime("%Y-%m").to_string());
        at = month.yesterday().ok().map(jiff::civil::Date::first_of_month);
    }
    names.reverse();
    names
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
