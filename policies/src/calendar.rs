//! The local time of Warsaw and Poland's days free of work.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use protocol::Timestamp;
use std::sync::LazyLock;

/// Poland's rule (Directive 2000/84/EC) as POSIX writes it, the last line of the time-zone database's `Europe/Warsaw`:
/// no database is read, and none can be missing or old. It is right for every moment since 1996.
const WARSAW: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

static ZONE: LazyLock<Option<TimeZone>> = LazyLock::new(|| TimeZone::posix(WARSAW).ok());

/// The moment as clocks in Warsaw show it; nothing for one no calendar has.
#[must_use]
pub fn local(at: Timestamp) -> Option<DateTime> {
    Some(ZONE.as_ref()?.to_datetime(jiff::Timestamp::from_second(at.0).ok()?))
}

/// The first moment of a day in Warsaw; nothing for a day no clock can show.
#[must_use]
pub fn begins(day: Date) -> Option<Timestamp> {
    Some(Timestamp(day.to_zoned(ZONE.clone()?).ok()?.timestamp().as_second()))
}

/// The day `at` lies in, `YYYY-MM-DD`; nothing for a moment no calendar has.
#[must_use]
pub fn day(at: Timestamp) -> String {
    local(at).map_or_else(String::new, |local| local.date().to_string())
}

/// Before 7, from 18 on, at a weekend or on a public holiday.
#[must_use]
pub fn out_of_hours(at: Timestamp) -> bool {
    use jiff::civil::Weekday::{Saturday, Sunday};
    local(at).is_some_and(|local| {
        matches!(local.weekday(), Saturday | Sunday) || !(7..18).contains(&local.hour()) || holiday(local.date())
    })
}

/// Public holidays (Act of 18 January 1951 on days free of work, with Christmas Eve since 2025).
fn holiday(day: Date) -> bool {
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
fn easter(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (a, b, c) = (y % 19, y / 100, y % 100);
    let (d, e, f) = (b / 4, b % 4, (b + 8) / 25);
    let g = (b - f + 1) / 3;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    Date::new(year, i8::try_from(n / 31).ok()?, i8::try_from(n % 31 + 1).ok()?).ok()
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

    #[test]
    fn offices_are_closed_at_night_and_on_days_free_of_work() {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second());
        for (moment, closed) in [
            ("2026-11-20T06:00:00Z", false),
            ("2026-11-20T05:59:59Z", true),
            ("2026-11-20T17:00:00Z", true),
            ("2026-11-21T12:00:00Z", true),
            ("2026-11-11T12:00:00Z", true),
        ] {
            assert_eq!(out_of_hours(at(moment)), closed, "{moment}");
        }
        assert_eq!(begins(date(2026, 7, 1)), Some(at("2026-06-30T22:00:00Z")));
    }
}
