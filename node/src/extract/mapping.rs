//! What a mapping file says once every word of it is checked: which column of the export means what.

use super::raw::{Delimiter, DocumentPart, Encoding, RawMapping, WithoutIdentifier};
use super::resolve::{check_settings, resolve};
use super::value::Formats;
use policies::{Field, FieldType};
use protocol::FieldId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the catalogue says of a field, as far as reading it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// What its values are.
    pub value: FieldType,
    /// Stored, never published, never answerable. A mapping can add the seal, never take it off.
    pub sealed: bool,
}

impl From<&Field> for FieldRule {
    fn from(field: &Field) -> Self {
        FieldRule { value: field.kind, sealed: field.sealed }
    }
}

/// How one system's export is read. Made from a TOML file:
///
/// ```toml
#[doc = include_str!("example.toml")]
/// ```
#[derive(Clone, Debug)]
pub struct Mapping {
    source: String,
    pub(super) delimiter: Delimiter,
    pub(super) encoding: Encoding,
    pub(super) quote: u8,
    pub(super) formats: Formats,
    pub(super) ignore: BTreeSet<String>,
    pub(super) without_identifier: WithoutIdentifier,
    pub(super) columns: BTreeMap<String, Target>,
}

/// What a column becomes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Pesel,
    FormerPesel,
    Document(DocumentPart),
    LocalNumber,
    Name { surname: FieldId, given_names: FieldId },
    HouseFlat { house: FieldId, flat: FieldId },
    Field { field: FieldId, rule: FieldRule },
}

/// Why a mapping cannot be used; names the key and what it expects.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The file cannot be read.
    #[error("cannot read the mapping {}: check the path and its permissions", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value that the key does not take.
    #[error("mapping, line {line}: {message}")]
    Syntax {
        /// Line of the mapping file, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A setting is missing or out of its range.
    #[error("mapping key `{key}` must be {expects}")]
    Key {
        /// The key at the top of the file.
        key: &'static str,
        /// What it takes.
        expects: &'static str,
    },
    /// A column does not say one thing that it becomes.
    #[error("mapping column {column:?}: {expects}")]
    Column {
        /// The column as the mapping names it.
        column: String,
        /// What it takes.
        expects: &'static str,
    },
    /// A field that the catalogue does not have.
    #[error(
        "mapping column {column:?}: the catalogue has no field `{field}`; take one of fields.toml or list the column under `ignore`"
    )]
    UnknownField {
        /// The column as the mapping names it.
        column: String,
        /// The field it asks for.
        field: FieldId,
    },
    /// The mapping and the catalogue differ about a field's type.
    #[error("mapping column {column:?}: the catalogue gives `{field}` another type ({catalogue:?}); leave `type` out")]
    TypeDiffers {
        /// The column as the mapping names it.
        column: String,
        /// The field in question.
        field: FieldId,
        /// Its type in the catalogue.
        catalogue: FieldType,
    },
    /// Two columns become one field.
    #[error(
        "mapping column {column:?}: another column already becomes `{field}`; keep one and list the other under `ignore`"
    )]
    FieldTwice {
        /// The later of the two columns.
        column: String,
        /// The field both name.
        field: FieldId,
    },
}

impl MappingError {
    /// A stable code for APIs and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            MappingError::Read { .. } => "mapping_unreadable",
            MappingError::Syntax { .. } => "mapping_syntax",
            MappingError::Key { .. } => "mapping_key",
            MappingError::Column { .. } => "mapping_column",
            MappingError::UnknownField { .. } => "mapping_unknown_field",
            MappingError::TypeDiffers { .. } => "mapping_type_differs",
            MappingError::FieldTwice { .. } => "mapping_field_twice",
        }
    }
}

/// The catalogue as a mapping sees it: the rule of a field, or that there is none.
pub(super) type Catalogue<'a> = &'a dyn Fn(&FieldId) -> Option<FieldRule>;

impl Mapping {
    /// Reads the mapping file at `path`.
    ///
    /// # Errors
    /// As [`Mapping::parse`], and [`MappingError::Read`].
    pub fn load(path: &Path, catalogue: Catalogue<'_>) -> Result<Self, MappingError> {
        let text = fs::read_to_string(path).map_err(|source| MappingError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, catalogue)
    }

    /// Reads a mapping from the text of its file; `catalogue` tells the rule of each field that exists.
    ///
    /// # Errors
    /// [`MappingError`], by the first fault found.
    pub fn parse(text: &str, catalogue: Catalogue<'_>) -> Result<Self, MappingError> {
        let raw: RawMapping = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let is_slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if raw.source.is_empty() || raw.source.len() > 32 || !raw.source.bytes().all(is_slug) {
            return Err(MappingError::Key { key: "source", expects: "1 to 32 of a-z 0-9 -" });
        }
        let quote = u8::try_from(raw.quote)
            .ok()
            .filter(|&quote| quote.is_ascii_punctuation() && quote != raw.delimiter.byte())
            .ok_or(MappingError::Key { key: "quote", expects: "an ASCII punctuation mark other than the delimiter" })?;
        let columns = resolve(raw.columns, &raw.ignore, catalogue)?;
        let formats = Formats::new(raw.date_format, raw.decimal, &raw.true_values, &raw.false_values);
        check_settings(&columns, &formats)?;
        Ok(Mapping {
            source: raw.source,
            delimiter: raw.delimiter,
            encoding: raw.encoding,
            quote,
            formats,
            ignore: raw.ignore,
            without_identifier: raw.without_identifier,
            columns,
        })
    }

    /// The exporting system's name, 1 to 32 of a-z 0-9 -.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Every field a row of this mapping can carry, sealed ones too.
    pub fn fields(&self) -> impl Iterator<Item = &FieldId> {
        self.columns.values().flat_map(Target::fields)
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> MappingError {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
    MappingError::Syntax { line, message: error.message().to_owned() }
}
