//! What is hashed: an identifier framed with realm, kind and epoch, so that no two meanings share bytes.

use std::fmt;

use zeroize::Zeroizing;

use crate::{document, pesel};

/// The kinds of identifier that become pseudonyms. Match keys of people without an identifier come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A PESEL: eleven digits.
    Pesel,
    /// An identity document: `TYPE|ISO3166|NUMBER`, see [`document`](crate::document()).
    Document,
}

/// A framed identifier: the private input `x` of the OPRF. Wiped on drop; redacting `Debug`.
///
/// Layout (docs/PROTOCOL.md): `"ogniwo" 01 | len8 realm | len8 kind | epoch u32be | len16 id | id`, where each `len` stands
/// before the bytes it counts. At most 347 bytes.
#[derive(Clone)]
pub struct Input(Zeroizing<Vec<u8>>);

/// Why an identifier was not framed; never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The realm is not 1 to 255 visible ASCII characters.
    #[error("the realm must be 1 to 255 visible ASCII characters")]
    Realm,
    /// The identifier is not in the canonical form of its kind: validate it first, nothing doubtful is hashed.
    #[error("the identifier is not in canonical form")]
    NotCanonical,
}

/// Frames `id` for one realm (the federation's name, 1 to 255 visible ASCII characters) and key epoch.
///
/// `id` is the canonical text of its kind: [`Pesel::as_str`](crate::Pesel::as_str) or what
/// [`document`](crate::document()) returns.
///
/// # Errors
/// [`InputError`] if the realm is malformed or `id` is not canonical (for a PESEL: digits, control digit, real date).
pub fn frame(realm: &str, kind: Kind, epoch: u32, id: &str) -> Result<Input, InputError> {
    let realm_length = match u8::try_from(realm.len()) {
        Ok(length @ 1..) if realm.bytes().all(|byte| byte.is_ascii_graphic()) => length,
        _ => return Err(InputError::Realm),
    };
    let (label, canonical): (&[u8], bool) = match kind {
        Kind::Pesel => (b"\x05pesel", pesel::is_well_formed(id)),
        Kind::Document => (b"\x08document", document::is_canonical(id)),
    };
    let id_length = match u16::try_from(id.len()) {
        Ok(length) if canonical => length,
        _ => return Err(InputError::NotCanonical),
    };
    Ok(Input::concat(&[
        b"ogniwo\x01",
        &[realm_length],
        realm.as_bytes(),
        label,
        &epoch.to_be_bytes(),
        &id_length.to_be_bytes(),
        id.as_bytes(),
    ]))
}

impl Kind {
    /// The kind's name in the framing and in files: `pesel`, `document`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pesel => "pesel",
            Self::Document => "document",
        }
    }
}

impl Input {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Joins parts into a buffer of exactly their length: a growing buffer would leave copies behind.
    pub(crate) fn concat(parts: &[&[u8]]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_published_one() {
        let input = frame("lodz", Kind::Pesel, 7, "44051401359").unwrap();
        assert_eq!(input.as_bytes(), b"ogniwo\x01\x04lodz\x05pesel\0\0\0\x07\0\x0b44051401359");
        let input = frame("lodz", Kind::Document, 0x0102_0304, "PASSPORT|UKR|FA123456").unwrap();
        assert_eq!(input.as_bytes(), b"ogniwo\x01\x04lodz\x08document\x01\x02\x03\x04\0\x15PASSPORT|UKR|FA123456");
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for (kind, id) in [
            (Kind::Pesel, "44051401358"),
            (Kind::Pesel, "440514 01359"),
            (Kind::Pesel, "00000000000"),
            (Kind::Pesel, ""),
            (Kind::Document, "PASSPORT|UKR|fa123456"),
            (Kind::Document, "PASSPORT|UKR|FA 123456"),
            (Kind::Document, "PASSPORT|UA|FA123456"),
            (Kind::Document, "PASZPORT|UKR|FA123456"),
            (Kind::Document, "PASSPORT|UKR"),
            (Kind::Document, "PASSPORT|UKR|FA123456|"),
            (Kind::Document, "44051401359"),
        ] {
            assert_eq!(frame("lodz", kind, 1, id).unwrap_err(), InputError::NotCanonical, "{id}");
        }
    }

    #[test]
    fn refuses_a_malformed_realm() {
        for realm in ["", "łódź", "a b", &"x".repeat(256)] {
            assert_eq!(frame(realm, Kind::Pesel, 1, "44051401359").unwrap_err(), InputError::Realm);
        }
        assert!(frame(&"x".repeat(255), Kind::Pesel, 1, "44051401359").is_ok());
    }

    #[test]
    fn never_prints_the_identifier() {
        assert_eq!(format!("{:?}", frame("lodz", Kind::Pesel, 7, "44051401359").unwrap()), "Input(redacted)");
    }
}
