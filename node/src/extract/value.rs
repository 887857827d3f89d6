//! One cell to one value. An empty cell is an absent field, never a value.

use super::raw::{DateFormat, DecimalMark};
use super::reject::RejectReason;
use jiff::civil::Date;
use policies::FieldType;
use serde_json::Value;

/// How a file writes its dates, numbers and yes or no.
#[derive(Clone, Debug)]
pub(super) struct Formats {
    pub(super) date: Option<DateFormat>,
    pub(super) decimal: Option<DecimalMark>,
    /// Lower-case words for yes.
    pub(super) yes: Vec<String>,
    /// Lower-case words for no.
    pub(super) no: Vec<String>,
}

impl Formats {
    pub(super) fn new(date: Option<DateFormat>, decimal: Option<DecimalMark>, yes: &[String], no: &[String]) -> Self {
        let lower = |words: &[String]| words.iter().map(|word| word.to_lowercase()).collect();
        Formats { date, decimal, yes: lower(yes), no: lower(no) }
    }

    /// The value of a trimmed cell that is not empty.
    pub(super) fn read(&self, cell: &str, wanted: FieldType) -> Result<Value, RejectReason> {
        match wanted {
            FieldType::Text | FieldType::Code => Ok(Value::String(cell.to_owned())),
            FieldType::Date => self.day(cell).map(|day| Value::String(day.to_string())).ok_or(RejectReason::BadDate),
            FieldType::Decimal => self.decimal(cell).map(Value::String).ok_or(RejectReason::BadDecimal),
            FieldType::Integer => integer(cell).map(Value::from).ok_or(RejectReason::BadInteger),
            FieldType::Boolean => self.boolean(cell).map(Value::Bool).ok_or(RejectReason::BadBoolean),
        }
    }

    fn day(&self, cell: &str) -> Option<Date> {
        let (year, month, day) = match self.date? {
            DateFormat::DayFirst => {
                let (day, rest) = cell.split_once('.')?;
                let (month, year) = rest.split_once('.')?;
                (year, month, day)
            }
            DateFormat::Iso => {
                let (year, rest) = cell.split_once('-')?;
                let (month, day) = rest.split_once('-')?;
                (year, month, day)
            }
        };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        Date::new(digits(year)?, digits(month)?.try_into().ok()?, digits(day)?.try_into().ok()?).ok()
    }

    /// At least two places and no further zeros, so that equal amounts are equal strings.
    fn decimal(&self, cell: &str) -> Option<String> {
        let mark = match self.decimal? {
            DecimalMark::Comma => ',',
            DecimalMark::Point => '.',
        };
        let (sign, unsigned) = sign(cell);
        let (whole, fraction) = match unsigned.split_once(mark) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (unsigned, None),
        };
        let whole = ungroup(whole)?;
        let fraction = fraction.unwrap_or("00");
        if !is_digits(fraction) || fraction.len() > MOST_DIGITS {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole == "0" && fraction.is_empty();
        Some(format!("{}{whole}.{fraction:0<2}", if is_zero { "" } else { sign }))
    }

    fn boolean(&self, cell: &str) -> Option<bool> {
        let word = cell.to_lowercase();
        if self.yes.contains(&word) { Some(true) } else { self.no.contains(&word).then_some(false) }
    }
}

/// More digits than any amount has; keeps a canonical number short.
const MOST_DIGITS: usize = 18;

fn integer(cell: &str) -> Option<i64> {
    let (sign, unsigned) = sign(cell);
    format!("{sign}{}", ungroup(unsigned)?).parse().ok()
}

fn sign(cell: &str) -> (&'static str, &str) {
    match cell.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", cell),
    }
}

/// Digits, or digits in threes parted by a space as Polish writes thousands; without the spaces and leading zeros.
fn ungroup(whole: &str) -> Option<String> {
    let is_space = |c: char| matches!(c, ' ' | '\u{a0}' | '\u{202f}');
    let grouped = whole.contains(is_space);
    for (position, group) in whole.split(is_space).enumerate() {
        let fits = if position == 0 { !grouped || group.len() <= 3 } else { group.len() == 3 };
        if !fits || !is_digits(group) {
            return None;
        }
    }
    let digits: String = whole.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0');
    (significant.len() <= MOST_DIGITS).then(|| if significant.is_empty() { "0" } else { significant }.to_owned())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn digits(text: &str) -> Option<i16> {
    if is_digits(text) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn formats(date: DateFormat, decimal: DecimalMark) -> Formats {
        let words = |list: [&str; 2]| list.map(str::to_owned);
        Formats::new(Some(date), Some(decimal), &words(["T", "tak"]), &words(["N", "nie"]))
    }

    fn polish() -> Formats {
        formats(DateFormat::DayFirst, DecimalMark::Comma)
    }

    #[test]
    fn dates_become_iso_and_must_exist() {
        assert_eq!(polish().read("29.02.2024", FieldType::Date), Ok(json!("2024-02-29")));
        let iso = formats(DateFormat::Iso, DecimalMark::Point);
        assert_eq!(iso.read("2024-02-29", FieldType::Date), Ok(json!("2024-02-29")));
        for bad in
            ["29.02.2023", "2024-02-29", "1.2.2024", "31.12.24", "00.00.0000", "+1.01.2024", "01.01.2024 r.", "wczoraj"]
        {
            assert_eq!(polish().read(bad, FieldType::Date), Err(RejectReason::BadDate), "{bad}");
        }
        assert_eq!(iso.read("29.02.2024", FieldType::Date), Err(RejectReason::BadDate));
    }

    #[test]
    fn decimals_keep_their_digits_and_get_a_point() {
        for (cell, value) in [
            ("863,31", "863.31"),
            ("5", "5.00"),
            ("-12,5", "-12.50"),
            ("007,10", "7.10"),
            ("-0,00", "0.00"),
            ("0,1250", "0.125"),
            ("1 234 567,89", "1234567.89"),
            ("1\u{a0}234,5", "1234.50"),
            ("12\u{202f}345", "12345.00"),
        ] {
            assert_eq!(polish().read(cell, FieldType::Decimal), Ok(json!(value)), "{cell}");
        }
        for bad in [
            "863.31",
            "1.234,56",
            "12 34,5",
            "1234 567",
            " ,5",
            "5,",
            ",5",
            "--5",
            "5 zł",
            "1e3",
            "1,2,3",
            "9999999999999999999",
        ] {
            assert_eq!(polish().read(bad, FieldType::Decimal), Err(RejectReason::BadDecimal), "{bad}");
        }
        let point = formats(DateFormat::Iso, DecimalMark::Point);
        assert_eq!(point.read("1662.00", FieldType::Decimal), Ok(json!("1662.00")));
        assert_eq!(point.read("1662,00", FieldType::Decimal), Err(RejectReason::BadDecimal));
    }

    #[test]
    fn integers_are_whole_numbers_of_64_bits() {
        for (cell, value) in [("0", 0), ("-3", -3), ("007", 7), ("1 000", 1000)] {
            assert_eq!(polish().read(cell, FieldType::Integer), Ok(json!(value)), "{cell}");
        }
        for bad in ["1,0", "3 os.", "", "-", "99999999999999999999"] {
            assert_eq!(polish().read(bad, FieldType::Integer), Err(RejectReason::BadInteger), "{bad}");
        }
    }

    #[test]
    fn booleans_are_the_listed_words_in_any_case() {
        for (cell, value) in [("T", true), ("TAK", true), ("n", false), ("nie", false)] {
            assert_eq!(polish().read(cell, FieldType::Boolean), Ok(json!(value)), "{cell}");
        }
        for bad in ["true", "1", "?", "tak!"] {
            assert_eq!(polish().read(bad, FieldType::Boolean), Err(RejectReason::BadBoolean), "{bad}");
        }
    }
}
