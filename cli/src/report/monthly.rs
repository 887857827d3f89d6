//! R8: use by month, without persons.

use super::{Context, Report, Section, Words, count, str_of, time_of};
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
    answered: u64,
    denied: u64,
    out_of_hours: u64,
    without_pesel: u64,
    users: BTreeSet<String>,
    roles: BTreeMap<String, u64>,
}

impl Report for Monthly {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        let time = time_of(entry);
        let event = str_of(entry, "event");
        if !matches!(event, "query.asking" | "query.answered" | "query.denied" | "query.no_match") {
            return;
        }
        let month = self.months.entry(words.month(time)).or_default();
        match event {
            "query.asking" => {
                month.asked += 1;
                month.users.insert(str_of(entry, "user").to_owned());
                month.without_pesel += u64::from(str_of(entry, "search_key") != "pesel");
                month.out_of_hours += u64::from(words.local(time).is_some_and(out_of_hours));
            }
            "query.answered" => month.answered += 1,
            _ => month.denied += 1,
        }
        let role = str_of(entry, "role");
        if !role.is_empty() && event != "query.asking" {
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

/// Before 7, from 18 on, at a weekend or on a public holiday.
fn out_of_hours(local: jiff::civil::DateTime) -> bool {
    use jiff::civil::Weekday::{Saturday, Sunday};
    matches!(local.weekday(), Saturday | Sunday) || !(7..18).contains(&local.hour()) || holiday(local.date())
}

/// Public holidays (Act of 18 January 1951 on days free of work, with Christmas Eve since 2025).
pub(crate) fn holiday(day: jiff::civil::Date) -> bool {
    const FIXED: [(i8, i8); 9] = [(1, 1), (1, 6), (5, 1), (5, 3), (8, 15), (11, 1), (11, 11), (12, 25), (12, 26)];
    let fixed =
        FIXED.contains(&(day.month(), day.day())) || (day.year() >= 2025 && (day.month(), day.day()) == (12, 24));
    // Easter Sunday and Monday, Pentecost, Corpus Christi.
    let moving = easter(day.year()).is_some_and(|easter| {
        [0, 1, 49, 60].iter().any(|after| easter.checked_add(jiff::Span::new().days(*after)).is_ok_and(|d| d == day))
    });
    fixed || moving
}

/// Easter Sunday in the Gregorian calendar (the anonymous algorithm, Meeus, Astronomical Algorithms, ch. 8).
#[expect(clippy::many_single_char_names, reason = "as the source writes it")]
fn easter(year: i16) -> Option<jiff::civil::Date> {
    let y = i32::from(year);
    let (a, b, c) = (y % 19, y / 100, y % 100);
    let (d, e, f) = (b / 4, b % 4, (b + 8) / 25);
    let g = (b - f + 1) / 3;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    jiff::civil::Date::new(year, i8::try_from(n / 31).ok()?, i8::try_from(n % 31 + 1).ok()?).ok()
}

fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or_else(|| "–".to_owned(), |percent| format!("{percent}%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn holidays_are_polands() {
        for day in [date(2026, 4, 5), date(2026, 4, 6), date(2026, 6, 4), date(2026, 5, 24), date(2026, 11, 11)] {
            assert!(holiday(day), "{day}");
        }
        assert!(holiday(date(2025, 4, 20)) && holiday(date(2025, 12, 24)) && !holiday(date(2024, 12, 24)));
        assert!(!holiday(date(2026, 4, 7)) && !holiday(date(2026, 11, 12)));
    }
}
