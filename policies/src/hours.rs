//! Whether an agreement's hours are open.

use crate::calendar;
use protocol::Timestamp;
use protocol::agreement::{Hours, Weekday};
use std::collections::BTreeSet;

/// Whether `now` lies in one of `hours`; always, if there are none.
#[must_use]
pub fn open(hours: &BTreeSet<Hours>, now: Timestamp) -> bool {
    if hours.is_empty() {
        return true;
    }
    let Some(local) = calendar::local(now) else { return false };
    let (Ok(hour), Ok(minute)) = (u16::try_from(local.hour()), u16::try_from(local.minute())) else { return false };
    let (day, minute) = (weekday(local.weekday()), hour * 60 + minute);
    hours.iter().any(|span| span.day == day && (span.from_minute..span.to_minute).contains(&minute))
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
