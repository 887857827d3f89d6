//! The local time of Warsaw: whether an agreement's hours are open, and the day on a receipt.

use jiff::tz::TimeZone;
use protocol::Timestamp;
use protocol::agreement::{Hours, Weekday};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Poland's rule (Directive 2000/84/EC) as POSIX writes it, the last line of the time-zone database's `Europe/Warsaw`:
/// no database is read, and none can be missing or old. It is right for every moment since 1996.
const WARSAW: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

static ZONE: LazyLock<Option<TimeZone>> = LazyLock::new(|| TimeZone::posix(WARSAW).ok());

/// Whether `now` lies in one of `hours`; always, if there are none.
pub(crate) fn open(hours: &BTreeSet<Hours>, now: Timestamp) -> bool {
    if hours.is_empty() {
        return true;
    }
    let (Some(zone), Ok(instant)) = (ZONE.as_ref(), jiff::Timestamp::from_second(now.0)) else { return false };
    let local = zone.to_datetime(instant);
    let (Ok(hour), Ok(minute)) = (u16::try_from(local.hour()), u16::try_from(local.minute())) else { return false };
    let (day, minute) = (weekday(local.weekday()), hour * 60 + minute);
    hours.iter().any(|span| span.day == day && (span.from_minute..span.to_minute).contains(&minute))
}

/// The day `at` lies in, `YYYY-MM-DD`; nothing for a moment no calendar has.
pub(crate) fn day(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_second(at.0).ok();
    let local = ZONE.as_ref().zip(instant).map(|(zone, instant)| zone.to_datetime(instant));
    local.map_or_else(String::new, |local| local.date().to_string())
}

fn weekday(day: jiff::civil::Weekday) -> Weekday {
    match day {
        jiff::civil::Weekday::Monday => Weekday::Monday,
        jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
        jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
        jiff::civil::Weekday::Thursday => Weekday::Thursday,
        jiff::civil::Weekday::Friday => Weekday::Friday,
        jiff::civil::Weekday::Saturday => Weekday::Saturday,
        jiff::civil::Weekday::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second())
    }

    #[test]
    fn hours_are_warsaws_in_winter_and_summer() {
        let office = BTreeSet::from([Hours { day: Weekday::Monday, from_minute: 7 * 60, to_minute: 19 * 60 }]);
        for (moment, expected) in [
            ("2026-01-05T06:00:00Z", true),
            ("2026-01-05T05:59:59Z", false),
            ("2026-01-05T17:59:59Z", true),
            ("2026-01-05T18:00:00Z", false),
            ("2026-07-06T05:00:00Z", true),
            ("2026-07-06T04:59:59Z", false),
            ("2026-07-06T17:00:00Z", false),
            ("2026-07-07T10:00:00Z", false),
            // The clocks changed the day before.
            ("2026-03-30T05:00:00Z", true),
            ("2026-10-26T05:59:59Z", false),
        ] {
            assert_eq!(open(&office, at(moment)), expected, "{moment}");
        }
        assert!(open(&BTreeSet::new(), at("2026-01-04T03:00:00Z")));
    }

    #[test]
    fn midnight_belongs_to_the_day_it_begins() {
        let sunday = BTreeSet::from([Hours { day: Weekday::Sunday, from_minute: 0, to_minute: 1440 }]);
        assert!(open(&sunday, at("2026-01-03T23:00:00Z")) && open(&sunday, at("2026-01-04T22:59:59Z")));
        assert!(!open(&sunday, at("2026-01-03T22:59:59Z")) && !open(&sunday, at("2026-01-04T23:00:00Z")));
    }
}
