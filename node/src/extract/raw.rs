//! A mapping file as it is written, before it is checked against the catalogue.

use policies::FieldType;
use protocol::FieldId;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMapping {
    pub(super) source: String,
    pub(super) delimiter: Delimiter,
    pub(super) encoding: Encoding,
    #[serde(default = "default_quote")]
    pub(super) quote: char,
    pub(super) date_format: Option<DateFormat>,
    pub(super) decimal: Option<DecimalMark>,
    #[serde(default)]
    pub(super) true_values: Vec<String>,
    #[serde(default)]
    pub(super) false_values: Vec<String>,
    #[serde(default)]
    pub(super) ignore: BTreeSet<String>,
    #[serde(default)]
    pub(super) without_identifier: WithoutIdentifier,
    pub(super) columns: BTreeMap<String, RawColumn>,
}

/// One line of `[columns]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "keys of the file; that one of them is set is checked")]
pub(super) struct RawColumn {
    #[serde(default)]
    pub(super) pesel: bool,
    #[serde(default)]
    pub(super) local_number: bool,
    #[serde(default)]
    pub(super) former_pesel: bool,
    pub(super) document: Option<DocumentPart>,
    pub(super) name: Option<NameOrder>,
    pub(super) address: Option<AddressForm>,
    pub(super) field: Option<FieldId>,
    #[serde(rename = "type")]
    pub(super) value: Option<FieldType>,
    #[serde(default)]
    pub(super) sealed: bool,
}

/// What becomes of a row with neither PESEL nor document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WithoutIdentifier {
    /// It is refused.
    #[default]
    Reject,
    /// It is kept under the unit's own number, and never enrolled.
    Keep,
}

/// Which part of an identity document a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DocumentPart {
    Type,
    Country,
    Number,
}

/// What stands between two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Delimiter {
    #[serde(rename = ";")]
    Semicolon,
    #[serde(rename = ",")]
    Comma,
    #[serde(rename = "tab")]
    Tab,
}

impl Delimiter {
    pub(super) const ALL: [Delimiter; 3] = [Delimiter::Semicolon, Delimiter::Comma, Delimiter::Tab];

    pub(super) fn byte(self) -> u8 {
        match self {
            Delimiter::Semicolon => b';',
            Delimiter::Comma => b',',
            Delimiter::Tab => b'\t',
        }
    }

    /// As a mapping file writes it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Delimiter::Semicolon => ";",
            Delimiter::Comma => ",",
            Delimiter::Tab => "tab",
        }
    }
}

/// How the file's bytes stand for letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "windows-1250")]
    Windows1250,
}

impl Encoding {
    pub(super) const ALL: [Encoding; 2] = [Encoding::Utf8, Encoding::Windows1250];

    /// As a mapping file writes it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Windows1250 => "windows-1250",
        }
    }
}

/// How the file writes dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum DateFormat {
    #[serde(rename = "dd.mm.yyyy")]
    DayFirst,
    #[serde(rename = "yyyy-mm-dd")]
    Iso,
}

/// What the file puts before the decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DecimalMark {
    Comma,
    Point,
}

/// How a one-column name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NameOrder {
    SurnameFirst,
}

/// How a one-column house and flat number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum AddressForm {
    /// The flat stands after the last slash: `98/15/20` is flat 20 of house 98/15.
    #[serde(rename = "house/flat")]
    HouseSlashFlat,
}

fn default_quote() -> char {
    '"'
}
