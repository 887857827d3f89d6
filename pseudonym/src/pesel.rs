//! The Polish national identification number: parsed once, never printed.

use std::fmt;

use jiff::civil::Date;
use zeroize::Zeroizing;

const LENGTH: usize = 11;

/// A PESEL that passed every check: eleven digits, control digit, a real birth date that is not in the future.
///
/// The checks are those of the act on population register (format `YYMMDDPPPPK`). A valid number need not have been
/// assigned to anybody. Has no `Display`, a redacting `Debug`, and is wiped on drop.
#[derive(Clone)]
pub struct Pesel {
    digits: Zeroizing<String>,
    birth: Date,
}

/// The sex a PESEL encodes: an odd tenth digit is male, an even one female.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    /// The tenth digit is even.
    Female,
    /// The tenth digit is odd.
    Male,
}

/// Why a text is not a PESEL; never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeselError {
    /// Nothing is left once separators are removed.
    #[error("no PESEL given")]
    Empty,
    /// Something other than an ASCII digit or a separator.
    #[error("a PESEL consists of digits only")]
    BadCharacter,
    /// Not eleven digits.
    #[error("a PESEL has 11 digits")]
    Length,
    /// The control digit does not match.
    #[error("the control digit of the PESEL is wrong")]
    Checksum,
    /// The first six digits are no day of the calendar.
    #[error("the PESEL encodes an impossible date")]
    Date,
    /// The encoded birth date is after today.
    #[error("the PESEL encodes a birth date in the future")]
    FutureBirth,
}

impl Pesel {
    /// Reads a PESEL as people write it: space, no-break space, tab, `-` and `.` are removed, everything else must be
    /// an ASCII digit. A birth date equal to `today` is accepted.
    ///
    /// # Errors
    /// [`PeselError`], by the first rule broken in the order of its variants. Nothing is ever repaired.
    pub fn parse(raw: &str, today: Date) -> Result<Self, PeselError> {
        let digits = normalise(raw)?;
        let birth = check(&digits)?;
        if birth > today {
            return Err(PeselError::FutureBirth);
        }
        Ok(Self { digits, birth })
    }

    /// The eleven digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.digits
    }

    /// The birth date the number encodes, 1800 to 2299.
    #[must_use]
    pub fn birth_date(&self) -> Date {
        self.birth
    }

    /// The sex the number encodes.
    #[must_use]
    pub fn sex(&self) -> Sex {
        match self.digits.bytes().nth(9) {
            Some(digit) if digit % 2 == 1 => Sex::Male,
            _ => Sex::Female,
        }
    }
}

impl fmt::Debug for Pesel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pesel(redacted)")
    }
}

impl Drop for Pesel {
    fn drop(&mut self) {
        // The birth date is six of the eleven digits; `Date` cannot be zeroised by itself.
        self.birth = Date::ZERO;
        zeroize::optimization_barrier(&self.birth);
    }
}

impl PeselError {
    /// Every error.
    pub const ALL: &'static [PeselError] = &[
        PeselError::Empty,
        PeselError::BadCharacter,
        PeselError::Length,
        PeselError::Checksum,
        PeselError::Date,
        PeselError::FutureBirth,
    ];

    /// A stable code for APIs and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "pesel_empty",
            Self::BadCharacter => "pesel_bad_character",
            Self::Length => "pesel_length",
            Self::Checksum => "pesel_checksum",
            Self::Date => "pesel_date",
            Self::FutureBirth => "pesel_future_birth",
        }
    }
}

/// Characters people put into numbers for the eye, which never carry meaning.
pub(crate) fn is_separator(character: char) -> bool {
    matches!(character, ' ' | '\u{a0}' | '\t' | '-' | '.')
}

/// Whether `digits` is already normalised and passes every check that needs no clock.
pub(crate) fn is_well_formed(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && check(digits).is_ok()
}

fn normalise(raw: &str) -> Result<Zeroizing<String>, PeselError> {
    // Full capacity up front: a growing string would leave copies behind.
    let mut digits = Zeroizing::new(String::with_capacity(LENGTH));
    let mut count = 0_usize;
    for character in raw.chars().filter(|&character| !is_separator(character)) {
        if !character.is_ascii_digit() {
            return Err(PeselError::BadCharacter);
        }
        count += 1;
        if count <= LENGTH {
            digits.push(character);
        }
    }
    match count {
        0 => Err(PeselError::Empty),
        LENGTH => Ok(digits),
        _ => Err(PeselError::Length),
    }
}

/// Control digit (weights 1 3 7 9 …) and calendar date of eleven ASCII digits.
fn check(digits: &str) -> Result<Date, PeselError> {
    let digits: &[u8; LENGTH] = digits.as_bytes().try_into().map_err(|_| PeselError::Length)?;
    let values = Zeroizing::new(digits.map(|digit| digit.wrapping_sub(b'0')));
    let sum: u16 =
        values.iter().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).map(|(&value, weight)| u16::from(value) * weight).sum();
    if !sum.is_multiple_of(10) {
        return Err(PeselError::Checksum);
    }
    let [y1, y0, m1, m0, d1, d0, ..] = *values;
    let (century, month) = match m1 * 10 + m0 {
        month @ 1..=12 => (1900, month),
        month @ 21..=32 => (2000, month - 20),
        month @ 41..=52 => (2100, month - 40),
        month @ 61..=72 => (2200, month - 60),
        month @ 81..=92 => (1800, month - 80),
        _ => return Err(PeselError::Date),
    };
    let (year, month, day) = (century + i16::from(y1 * 10 + y0), month.cast_signed(), (d1 * 10 + d0).cast_signed());
    Date::new(year, month, day).map_err(|_| PeselError::Date)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    const TODAY: Date = date(2026, 11, 21);

    #[track_caller]
    fn accepted(raw: &str, birth: Date, sex: Sex) {
        let pesel = Pesel::parse(raw, TODAY).unwrap();
        assert_eq!((pesel.as_str(), pesel.birth_date(), pesel.sex()), (raw, birth, sex));
    }

    #[track_caller]
    fn refused(raw: &str, error: PeselError) {
        assert_eq!(Pesel::parse(raw, TODAY).unwrap_err(), error);
    }

    #[test]
    fn accepts_the_valid_vectors() {
        accepted("99923100014", date(1899, 12, 31), Sex::Male);
        accepted("00010100008", date(1900, 1, 1), Sex::Female);
        accepted("99123199993", date(1999, 12, 31), Sex::Male);
        accepted("00222900023", date(2000, 2, 29), Sex::Female);
        accepted("04222912347", date(2004, 2, 29), Sex::Female);
        accepted("44051401359", date(1944, 5, 14), Sex::Male);
        accepted("44051401458", date(1944, 5, 14), Sex::Male);
        accepted("02070803628", date(1902, 7, 8), Sex::Female);
        accepted("22222222222", date(2022, 2, 22), Sex::Female);
        accepted("64010100000", date(1964, 1, 1), Sex::Female);
    }

    #[test]
    fn refuses_the_invalid_vectors() {
        for same_digit in ["00000000000", "44444444444", "66666666666", "88888888888"] {
            refused(same_digit, PeselError::Date);
        }
        // The swap of two digits differing by five that the control digit misses.
        for future in ["00410100000", "99723199984", "44501401359"] {
            refused(future, PeselError::FutureBirth);
        }
        for press_example in ["87061302072", "11302845081"] {
            refused(press_example, PeselError::Checksum);
        }
    }

    #[test]
    fn refuses_what_is_not_eleven_ascii_digits() {
        for empty in ["", " \t\u{a0}-."] {
            refused(empty, PeselError::Empty);
        }
        for bad in ["4405140135X", "44051401359\n", "44051401359/", "٤٤٠٥١٤٠١٣٥٩", "44051401359\u{2007}"] {
            refused(bad, PeselError::BadCharacter);
        }
        for length in ["4405140135", "440514013590", "4"] {
            refused(length, PeselError::Length);
        }
    }

    #[test]
    fn accepts_a_birth_today_and_refuses_tomorrow() {
        accepted("22222222222", date(2022, 2, 22), Sex::Female);
        assert!(Pesel::parse("22222222222", date(2022, 2, 22)).is_ok());
        assert_eq!(Pesel::parse("22222222222", date(2022, 2, 21)).unwrap_err(), PeselError::FutureBirth);
    }

    #[test]
    fn leap_years_follow_the_century() {
        // 29 February of 1900 and 2100 do not exist; control digits computed so that only the date is wrong.
        for (stem, month) in [("00", "02"), ("00", "42")] {
            let number = (0..10)
                .map(|last| format!("{stem}{month}290000{last}"))
                .find(|text| check(text) != Err(PeselError::Checksum));
            refused(&number.unwrap(), PeselError::Date);
        }
    }

    #[test]
    fn never_prints_the_number() {
        let pesel = Pesel::parse("44051401359", TODAY).unwrap();
        assert_eq!(format!("{pesel:?}"), "Pesel(redacted)");
    }

    proptest! {
        #[test]
        fn never_panics(raw in "\\PC*") {
            let _ = Pesel::parse(&raw, TODAY);
        }

        #[test]
        fn never_panics_on_digits(raw in "[0-9 .\u{a0}-]{0,16}") {
            if let Ok(pesel) = Pesel::parse(&raw, TODAY) {
                prop_assert!(pesel.birth_date() <= TODAY && is_well_formed(pesel.as_str()));
            }
        }

        #[test]
        fn separators_change_nothing(gaps in prop::collection::vec("[ \t\u{a0}.-]{0,3}", 12)) {
            let mut raw = String::new();
            for (gap, digit) in gaps.iter().zip("44051401359 ".chars()) {
                raw.push_str(gap);
                raw.push(digit);
            }
            let parsed = Pesel::parse(&raw, TODAY).unwrap();
            prop_assert_eq!(parsed.as_str(), "44051401359");
        }

        #[test]
        fn one_wrong_digit_is_always_caught(position in 0_usize..11, shift in 1_u8..10) {
            let mut digits = *b"44051401359";
            digits[position] = b'0' + (digits[position] - b'0' + shift) % 10;
            let raw = str::from_utf8(&digits).unwrap();
            prop_assert_eq!(Pesel::parse(raw, TODAY).unwrap_err(), PeselError::Checksum);
        }
    }
}
