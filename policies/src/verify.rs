//! Comparing a value with the one a file holds: match or mismatch, no values.
//!
//! Both sides are normalised by the field's type. Text is compared without case, spacing, punctuation and Polish
//! diacritics; of a double-barrelled surname the order of the halves does not count.

use crate::catalogue::FieldType;
use jiff::civil::Date;
use protocol::query::Match;
use serde_json::Value;

/// Whether one of the records' values `held` is the one `expected`, amounts within `tolerance` hundredths.
///
/// `held` is a field's column: an array with one element per record, or a single value; null is no value.
#[must_use]
pub fn compare(kind: FieldType, tolerance: i64, held: &Value, expected: &Value) -> Match {
    let Some(expected) = Comparable::read(kind, expected) else { return Match::NotComparable };
    let column = match held {
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut values = column.iter().filter_map(|value| Comparable::read(kind, value)).peekable();
    if values.peek().is_none() {
        return Match::NotComparable;
    }
    if values.any(|value| value.is(&expected, tolerance)) { Match::Match } else { Match::Mismatch }
}

/// A value in the form in which its type is compared.
#[derive(Debug, PartialEq)]
enum Comparable {
    /// Folded words in alphabetical order, and folded letters as they stand.
    Text {
        words: Vec<String>,
        letters: String,
    },
    Date(Date),
    Hundredths(i64),
    Integer(i64),
}

impl Comparable {
    fn read(kind: FieldType, value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        match kind {
            FieldType::Text => {
                let mut words = words(&text.to_lowercase());
                let letters = words.concat();
                words.sort_unstable();
                (!words.is_empty()).then_some(Comparable::Text { words, letters })
            }
            FieldType::Date => text.parse().ok().or_else(|| polish_date(&text)).map(Comparable::Date),
            FieldType::Decimal => hundredths(&text).map(Comparable::Hundredths),
            FieldType::Integer => text.parse().ok().map(Comparable::Integer),
            // Too easily guessed; no such field is verifiable.
            FieldType::Boolean | FieldType::Code => None,
        }
    }

    fn is(&self, other: &Self, tolerance: i64) -> bool {
        match (self, other) {
            (Comparable::Text { words: a, letters: x }, Comparable::Text { words: b, letters: y }) => a == b || x == y,
            (Comparable::Hundredths(a), Comparable::Hundredths(b)) => a.abs_diff(*b) <= tolerance.unsigned_abs(),
            (a, b) => a == b,
        }
    }
}

/// The words of a text in small letters without Polish diacritics: by these, texts are the same however they are written.
#[must_use]
pub fn plain_words(text: &str) -> Vec<String> {
    words(&text.to_lowercase())
}

/// Its letters and digits, in words and folded.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(fold).collect()
}

/// Without Polish diacritics; `ł` has no decomposition, so the map is written out.
fn fold(word: &str) -> String {
    let plain = |c| match c {
        'ą' => 'a',
        'ć' => 'c',
        'ę' => 'e',
        'ł' => 'l',
        'ń' => 'n',
        'ó' => 'o',
        'ś' => 's',
        'ź' | 'ż' => 'z',
        other => other,
    };
    word.chars().map(plain).collect()
}

/// A day as it is written in Poland: `3.02.2001`.
fn polish_date(text: &str) -> Option<Date> {
    let mut parts = text.split('.');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || !digits(day, 2) || !digits(month, 2) || !digits(year, 4) || year.len() != 4 {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// An amount in hundredths: digits, and after a comma or point at most two more. Spaces between thousands do not count.
pub(crate) fn hundredths(text: &str) -> Option<i64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (whole, part) = text.split_once([',', '.']).unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty() || !digits(unsigned) || !digits(part) || part.len() > 2 {
        return None;
    }
    let value: i64 = format!("{unsigned}{part:0<2}").parse().ok()?;
    Some(if whole.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "reads better below")]
    fn check(kind: FieldType, held: Value, expected: Value, result: Match) {
        assert_eq!(compare(kind, 100, &held, &expected), result, "{held} and {expected}");
    }

    #[test]
    fn values_match_after_normalisation() {
        use FieldType::{Boolean, Code, Date, Decimal, Integer, Text};
        use Match::{Match as Same, Mismatch, NotComparable};
        check(Text, json!("Żółć"), json!("ŻÓŁĆ "), Same);
        check(Text, json!("Łukasz"), json!("Lukasz"), Same);
        check(Text, json!("Kowalska-Nowak"), json!("NOWAK KOWALSKA"), Same);
        check(Text, json!(["Długa", "Krótka"]), json!("ul-krótka"), Mismatch);
        check(Text, json!(["Długa", "Krótka"]), json!("krotka"), Same);
        check(Text, json!("5A"), json!("5 a"), Same);
        check(Text, json!("Kowalski"), json!("Kowalska"), Mismatch);
        check(Date, json!("2001-02-03"), json!("2001-02-03"), Same);
        check(Date, json!("2001-02-03"), json!("2001-03-02"), Mismatch);
        check(Date, json!("2001-02-03"), json!("3.2.2001"), Same);
        check(Date, json!("2001-02-03"), json!(" 03.02.2001"), Same);
        check(Date, json!("2001-02-03"), json!("02.03.2001"), Mismatch);
        for wrong in ["3.2.01", "3.2", "3.2.2001.", "+3.2.2001", "30.02.2001", "3 lutego 2001"] {
            check(Date, json!("2001-02-03"), json!(wrong), NotComparable);
        }
        check(Decimal, json!("1 234,50"), json!("1234.5"), Same);
        check(Decimal, json!("700.00"), json!(701), Same);
        check(Decimal, json!("700.00"), json!("701.01"), Mismatch);
        check(Integer, json!(3), json!("3"), Same);
        check(Text, json!([null, ""]), json!("x"), NotComparable);
        check(Text, json!("x"), json!(" - "), NotComparable);
        check(Boolean, json!(true), json!(true), NotComparable);
        check(Code, json!("a"), json!("a"), NotComparable);
        check(Text, json!({"a": 1}), json!("x"), NotComparable);
    }

    proptest! {
        #[test]
        fn every_amount_reads_back(value in -1_000_000_000i64..1_000_000_000) {
            let sign = if value < 0 { "-" } else { "" };
            let text = format!("{sign}{},{:02}", value.abs() / 100, value.abs() % 100);
            prop_assert_eq!(hundredths(&text), Some(value));
        }

        #[test]
        fn anything_can_be_compared(held in ".{0,20}", expected in ".{0,20}") {
            for kind in [FieldType::Text, FieldType::Date, FieldType::Decimal, FieldType::Integer] {
                let straight = compare(kind, 0, &json!(held), &json!(expected));
                prop_assert_eq!(straight, compare(kind, 0, &json!([expected]), &json!(held)));
            }
        }
    }
}
