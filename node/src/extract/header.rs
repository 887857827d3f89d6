//! Finds the mapped columns in the first line, and says what to change when they are not there.

use super::mapping::{Mapping, Target};
use super::raw::{Delimiter, Encoding};
use super::text::decode;
use std::collections::BTreeSet;

/// Where the columns of a file stand.
pub(super) struct Layout {
    /// The mapped columns by their position in the file.
    pub(super) columns: Vec<Column>,
    /// The number of cells every row must have.
    pub(super) width: usize,
}

/// A mapped column of the file.
pub(super) struct Column {
    pub(super) position: usize,
    pub(super) name: String,
    pub(super) target: Target,
}

/// Why the first line is not the header that the mapping describes.
///
/// No cell of it is ever shown, only names that stand in the mapping: a file without a header begins with a person.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The first line holds too few of the mapped columns to be their header.
    #[error("header not found: of {wanted} mapped columns line {line} holds {found}{hint}")]
    NotFound {
        /// Where it was looked for, from 1.
        line: u64,
        /// How many columns the mapping maps.
        wanted: usize,
        /// How many of them the first line has.
        found: usize,
        /// What to change.
        hint: String,
    },
    /// Mapped columns that the header lacks.
    #[error(
        "the extract lacks mapped columns {missing}; its header on line {line} has {width} columns, {found} of them mapped{hint}"
    )]
    Missing {
        /// The columns that are not there.
        missing: String,
        /// The header's line, from 1.
        line: u64,
        /// How many columns it has.
        width: usize,
        /// How many of the mapped columns are there.
        found: usize,
        /// What to change.
        hint: String,
    },
    /// Columns that are neither mapped nor ignored.
    #[error(
        "the mapping says nothing of columns that stand in places {places} of the header on line {line}: map each to a field or list it under `ignore`"
    )]
    Unknown {
        /// Their places, from 1.
        places: String,
        /// The header's line, from 1.
        line: u64,
    },
    /// Two columns of one name.
    #[error("column {column} stands twice in the header: rename one in the export")]
    Twice {
        /// The column in question, as the mapping names it.
        column: String,
    },
}

impl HeaderError {
    /// A stable code for APIs and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            HeaderError::NotFound { .. } => "header_not_found",
            HeaderError::Missing { .. } => "column_missing",
            HeaderError::Unknown { .. } => "column_unknown",
            HeaderError::Twice { .. } => "column_twice",
        }
    }
}

impl Layout {
    /// Lays `cells`, the unquoted cells of the first record, over the mapping; `record` is its line, from 1, and its bytes.
    pub(super) fn find(
        cells: &[Option<String>],
        (line, record): (u64, &[u8]),
        mapping: &Mapping,
    ) -> Result<Self, HeaderError> {
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.as_deref().unwrap_or("\u{fffd}")).collect();
        while names.last() == Some(&"") {
            names.pop();
        }
        let present: BTreeSet<&str> = names.iter().copied().collect();
        let missing: Vec<String> = mapping
            .columns
            .keys()
            .filter(|name| !present.contains(name.as_str()))
            .map(|name| format!("{name:?}"))
            .collect();
        if !missing.is_empty() {
            let (wanted, width) = (mapping.columns.len(), names.len());
            let found = wanted - missing.len();
            let hint = hint(record, found, mapping);
            return Err(if found * 2 < wanted {
                HeaderError::NotFound { line, wanted, found, hint }
            } else {
                HeaderError::Missing { missing: list(&missing), line, width, found, hint }
            });
        }
        let is_unknown = |name: &str| !mapping.columns.contains_key(name) && !mapping.ignore.contains(name);
        let unknown = names.iter().zip(1..).filter(|&(name, _)| is_unknown(name));
        let unknown: Vec<String> = unknown.map(|(_, place): (_, usize)| place.to_string()).collect();
        if !unknown.is_empty() {
            return Err(HeaderError::Unknown { places: list(&unknown), line });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|&&name| !seen.insert(name)) {
            return Err(HeaderError::Twice { column: format!("{twice:?}") });
        }
        let columns = names.iter().enumerate().filter_map(|(position, &name)| {
            let target = mapping.columns.get(name)?.clone();
            Some(Column { position, name: name.to_owned(), target })
        });
        Ok(Layout { columns: columns.collect(), width: names.len() })
    }
}

/// The delimiter and encoding under which the line would hold more of the mapped columns, as advice.
fn hint(line: &[u8], found: usize, mapping: &Mapping) -> String {
    let combinations = Delimiter::ALL.into_iter().flat_map(|d| Encoding::ALL.into_iter().map(move |e| (d, e)));
    let best = combinations.map(|(d, e)| (matches(line, d, e, mapping), d, e)).max_by_key(|&(count, ..)| count);
    match best {
        Some((count, delimiter, encoding)) if count > found => format!(
            "; with delimiter = \"{}\" and encoding = \"{}\" it would hold {count}: correct the mapping",
            delimiter.key(),
            encoding.key()
        ),
        _ if found == 0 => format!(
            "; the first line must be the header: check that the export writes one, and the mapping's delimiter (\"{}\") and encoding (\"{}\")",
            mapping.delimiter.key(),
            mapping.encoding.key()
        ),
        _ => "; correct the mapping or the export".to_owned(),
    }
}

fn matches(line: &[u8], delimiter: Delimiter, encoding: Encoding, mapping: &Mapping) -> usize {
    let is_mapped = |cell: &&[u8]| {
        let bare = cell.strip_suffix(b"\n").unwrap_or(cell).trim_ascii();
        let bare = bare.strip_prefix(&[mapping.quote]).and_then(|b| b.strip_suffix(&[mapping.quote])).unwrap_or(bare);
        decode(bare, encoding).is_ok_and(|name| mapping.columns.contains_key(name.as_ref()))
    };
    line.split(|&byte| byte == delimiter.byte()).filter(is_mapped).count()
}

/// Columns for a message, and not endless.
fn list(columns: &[String]) -> String {
    const SHOWN: usize = 40;
    match columns.get(..SHOWN) {
        Some(shown) if columns.len() > SHOWN => format!("{}, …", shown.join(", ")),
        _ => columns.join(", "),
    }
}
