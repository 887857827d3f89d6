//! Bytes of one cell to text, or the refusal to guess.

use super::raw::Encoding;
use super::reject::RejectReason;
use encoding_rs::WINDOWS_1250;
use std::borrow::Cow;

/// The cell as text without white space at its ends.
///
/// Refused rather than mangled: bytes the encoding does not have, UTF-8 inside a Windows-1250 file, replacement
/// characters that an earlier conversion left behind, and control characters.
pub(super) fn decode(bytes: &[u8], encoding: Encoding) -> Result<Cow<'_, str>, RejectReason> {
    let text = match encoding {
        Encoding::Utf8 => Cow::Borrowed(str::from_utf8(bytes).map_err(|_| RejectReason::Undecodable)?),
        Encoding::Windows1250 if holds_utf8_polish(bytes) => return Err(RejectReason::Undecodable),
        Encoding::Windows1250 => {
            WINDOWS_1250.decode_without_bom_handling_and_without_replacement(bytes).ok_or(RejectReason::Undecodable)?
        }
    };
    // The five bytes that Windows-1250 leaves unused decode to C1 controls instead of failing.
    if text.contains(|c| matches!(c, '\u{fffd}' | '\u{80}'..='\u{9f}')) {
        return Err(RejectReason::Undecodable);
    }
    if text.contains(|c: char| c.is_ascii_control() && !matches!(c, '\t' | '\r' | '\n')) {
        return Err(RejectReason::ControlCharacter);
    }
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    })
}

/// Whether the bytes hold a Polish letter in UTF-8. In Windows-1250 the same two bytes are Ă, Ä or Ĺ with a mark or a
/// letter that no name puts after it, whereas testing for any valid UTF-8 would refuse STRÓŻ.
fn holds_utf8_polish(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        matches!(
            pair,
            [0xc3, 0x93 | 0xb3]
                | [0xc4, 0x84..=0x87 | 0x98 | 0x99]
                | [0xc5, 0x81..=0x84 | 0x9a | 0x9b | 0xb9..=0xbc]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLISH: &str = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ";

    fn windows(text: &str) -> Vec<u8> {
        WINDOWS_1250.encode(text).0.into_owned()
    }

    #[test]
    fn each_encoding_reads_its_own_letters() {
        assert_eq!(decode(POLISH.as_bytes(), Encoding::Utf8).unwrap(), POLISH);
        assert_eq!(decode(&windows(POLISH), Encoding::Windows1250).unwrap(), POLISH);
    }

    #[test]
    fn neither_reads_the_other() {
        for letter in POLISH.chars().map(String::from) {
            assert_eq!(decode(letter.as_bytes(), Encoding::Windows1250), Err(RejectReason::Undecodable), "{letter}");
            assert_eq!(decode(&windows(&letter), Encoding::Utf8), Err(RejectReason::Undecodable), "{letter}");
        }
    }

    /// Every pair of Polish letters, and German and Czech neighbours: none may look like UTF-8.
    #[test]
    fn no_pair_of_polish_letters_is_taken_for_utf8() {
        for first in POLISH.chars().chain("ÄÖÜäöüßÝčřšž".chars()) {
            for second in POLISH.chars().chain('a'..='z').chain('A'..='Z') {
                let pair = format!("{first}{second}");
                // Ä before ł or ą exists in no language; the rest must pass.
                if first != 'Ä' {
                    assert_eq!(decode(&windows(&pair), Encoding::Windows1250).unwrap(), pair);
                }
            }
        }
    }

    #[test]
    fn unused_bytes_and_old_damage_are_refused() {
        for unused in [0x81, 0x83, 0x88, 0x90, 0x98] {
            assert_eq!(decode(&[b'a', unused], Encoding::Windows1250), Err(RejectReason::Undecodable));
        }
        assert_eq!(decode("Pi\u{fffd}tek".as_bytes(), Encoding::Utf8), Err(RejectReason::Undecodable));
        for control in [b"a\0b", b"a\x1bb", b"a\x7fb"] {
            assert_eq!(decode(control, Encoding::Utf8), Err(RejectReason::ControlCharacter));
        }
    }

    #[test]
    fn white_space_at_the_ends_goes() {
        for encoding in Encoding::ALL {
            assert_eq!(decode(b" \t Anna Maria\r\n ", encoding).unwrap(), "Anna Maria");
        }
        assert_eq!(decode(b"\xa0\xa3\xf3d\x9f\xa0", Encoding::Windows1250).unwrap(), "Łódź");
    }
}
