//! The extract as a stream of rows.

use super::header::{Column, HeaderError, Layout};
use super::mapping::{Mapping, Target};
use super::name::{house_flat, surname_first};
use super::raw::{DocumentPart, Encoding, WithoutIdentifier};
use super::reject::{Reject, RejectReason};
use super::scan::{Found, Scanner};
use super::text::decode;
use super::value::Formats;
use jiff::civil::Date;
use protocol::FieldId;
use pseudonym::{Pesel, PeselError, document};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What the export says of one resident in one record. Empty cells are absent fields.
pub struct Row {
    /// Physical line of the file on which the record starts, from 1.
    pub line: u64,
    /// The resident's PESEL.
    pub pesel: Option<Pesel>,
    /// The PESEL the resident had before this one.
    pub former_pesel: Option<Pesel>,
    /// The resident's identity document, `TYPE|ISO3166|NUMBER`.
    pub document: Option<Zeroizing<String>>,
    /// The unit's own number of the case; residents may share one.
    pub local_number: Option<String>,
    /// Catalogue fields and their values, as their type is written: text and codes as they stand, dates `2026-11-21`,
    /// decimals as strings with a point and at least two places (`863.31`), integers and booleans as JSON has them.
    pub fields: BTreeMap<FieldId, Value>,
    /// The same for sealed fields: to be stored, never published, never answered.
    pub sealed: BTreeMap<FieldId, Value>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("line", &self.line).finish_non_exhaustive()
    }
}

/// One record of the file.
#[derive(Debug)]
pub enum Entry {
    /// It can be imported, whole.
    Row(Row),
    /// It cannot; nothing of it may be.
    Reject(Reject),
}

/// Why a file cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The file cannot be opened.
    #[error("cannot open the extract {}: check the path and its permissions", path.display())]
    Open {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file broke off while it was read.
    #[error("cannot read on in the extract behind byte {at}: check the disk or network share, then import again")]
    Read {
        /// How many bytes were read before.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// No line holds anything.
    #[error("the extract is empty, without so much as a header: export it again")]
    Empty,
    /// UTF-16, as "Unicode" exports write it.
    #[error("the extract is UTF-16: export it again as UTF-8 or Windows-1250")]
    Utf16,
    /// A UTF-8 byte order mark in a file that the mapping takes for something else.
    #[error("the extract begins with a UTF-8 mark but the mapping says another encoding: set encoding = \"utf-8\"")]
    Utf8Mark,
    /// No line of it ends as lines do.
    #[error("the extract's lines end in carriage returns alone (CR): export it again with line ends CRLF or LF")]
    LineEnds,
    /// The first line cannot be cut into cells.
    #[error("the header on line {line} cannot be read ({reason}): check the export and the mapping's `quote`")]
    HeaderRecord {
        /// Its line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: RejectReason,
    },
    /// The header is not what the mapping describes.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl ExtractError {
    /// A stable code for APIs and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ExtractError::Open { .. } => "extract_unreadable",
            ExtractError::Read { .. } => "extract_broke_off",
            ExtractError::Empty => "extract_empty",
            ExtractError::Utf16 => "extract_utf16",
            ExtractError::Utf8Mark => "extract_utf8_mark",
            ExtractError::LineEnds => "extract_line_ends",
            ExtractError::HeaderRecord { .. } => "header_unreadable",
            ExtractError::Header(error) => error.code(),
        }
    }
}

/// An extract being read: an iterator over its records, in the order of the file.
///
/// After an [`ExtractError`] it ends. Holds one record at a time; its buffer is wiped when it is dropped.
pub struct Extract<R = File> {
    scanner: Scanner<R>,
    columns: Vec<Column>,
    pesel: Option<usize>,
    document: Option<[usize; 3]>,
    without_identifier: WithoutIdentifier,
    width: usize,
    encoding: Encoding,
    formats: Formats,
    today: Date,
    bytes_total: Option<u64>,
    birth_dates_differ: u64,
    failed: bool,
}

impl Extract<File> {
    /// Opens the file at `path` and finds the mapped columns in its header. `today` bounds birth dates.
    ///
    /// # Errors
    /// [`ExtractError`]; no row has been read then.
    pub fn open(path: &Path, mapping: &Mapping, today: Date) -> Result<Self, ExtractError> {
        let fault = |source| ExtractError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        if metadata.is_dir() {
            return Err(fault(io::ErrorKind::IsADirectory.into()));
        }
        let mut extract = Self::new(file, mapping, today)?;
        extract.bytes_total = metadata.is_file().then_some(metadata.len());
        Ok(extract)
    }
}

impl<R: Read> Extract<R> {
    /// Like [`Extract::open`] for any stream; it need not be buffered.
    ///
    /// # Errors
    /// [`ExtractError`]; no row has been read then.
    pub fn new(source: R, mapping: &Mapping, today: Date) -> Result<Self, ExtractError> {
        let mut scanner = Scanner::new(source, mapping.delimiter.byte(), mapping.quote);
        let layout = find_header(&mut scanner, mapping)?;
        let part = |part| layout.columns.iter().position(|c| matches!(c.target, Target::Document(p) if p == part));
        let parts = [part(DocumentPart::Type), part(DocumentPart::Country), part(DocumentPart::Number)];
        let document =
            if let [Some(kind), Some(country), Some(number)] = parts { Some([kind, country, number]) } else { None };
        Ok(Extract {
            document,
            without_identifier: mapping.without_identifier,
            pesel: layout.columns.iter().position(|column| matches!(column.target, Target::Pesel)),
            scanner,
            columns: layout.columns,
            width: layout.width,
            encoding: mapping.encoding,
            formats: mapping.formats.clone(),
            today,
            bytes_total: None,
            birth_dates_differ: 0,
            failed: false,
        })
    }

    /// Bytes of the file behind the records given so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.scanner.consumed()
    }

    /// Bytes of the whole file when it was opened; `None` for a stream.
    #[must_use]
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Rows given so far whose stated birth date is not the one their PESEL encodes. They are not refused: which of
    /// the two is wrong is the institution's to find out.
    #[must_use]
    pub fn birth_dates_differ(&self) -> u64 {
        self.birth_dates_differ
    }

    fn row(&self, line: u64) -> Result<Row, Reject> {
        let whole = |reason| Reject { line, column: None, reason };
        let extra =
            (self.width..self.scanner.width()).any(|at| self.scanner.cell(at).is_some_and(|cell| !cell.is_empty()));
        if extra {
            return Err(whole(RejectReason::TooManyColumns));
        }
        if self.scanner.width() < self.width {
            return Err(whole(RejectReason::TooFewColumns));
        }
        // A NUL in any column, ignored ones too, is a damaged file and not somebody's spelling.
        if self.scanner.record().contains(&0) {
            return Err(whole(RejectReason::ControlCharacter));
        }

        let document = self.document(line)?;
        let at = self.pesel.and_then(|at| self.columns.get(at)).ok_or_else(|| whole(RejectReason::TooFewColumns))?;
        let pesel = self.read(at, line, |cell| match Pesel::parse(cell, self.today) {
            Ok(pesel) => Ok(Some(pesel)),
            Err(PeselError::Empty) if document.is_some() || self.without_identifier == WithoutIdentifier::Keep => {
                Ok(None)
            }
            Err(error) => Err(RejectReason::Pesel(error)),
        })?;
        let mut row = Row {
            line,
            pesel,
            former_pesel: None,
            document,
            local_number: None,
            fields: BTreeMap::new(),
            sealed: BTreeMap::new(),
        };
        for column in &self.columns {
            self.read(
                column,
                line,
                |cell| if cell.is_empty() { Ok(()) } else { self.take(&mut row, &column.target, cell) },
            )?;
        }
        if row.pesel.is_none() && row.document.is_none() && row.local_number.is_none() {
            // Nothing by which the same resident could be found again.
            return Err(Reject { line, column: Some(at.name.clone()), reason: RejectReason::Pesel(PeselError::Empty) });
        }
        Ok(row)
    }

    /// The identity document of a row, if its number is filled in.
    fn document(&self, line: u64) -> Result<Option<Zeroizing<String>>, Reject> {
        let Some(parts) = self.document else { return Ok(None) };
        let [Some(kind), Some(country), Some(number)] = parts.map(|at| self.columns.get(at)) else { return Ok(None) };
        let text = |column| self.read(column, line, |cell| Ok(Zeroizing::new(cell.to_owned())));
        let value = text(number)?;
        if value.trim().is_empty() {
            return Ok(None);
        }
        let document = document(&text(kind)?, &text(country)?, &value);
        document.map(Some).map_err(|error| {
            let column = match error {
                pseudonym::DocumentError::Type => kind,
                pseudonym::DocumentError::Country => country,
                pseudonym::DocumentError::Number => number,
            };
            Reject { line, column: Some(column.name.clone()), reason: RejectReason::Document(error) }
        })
    }

    /// Reads the cell of a column, and puts line and column to what is wrong with it.
    fn read<T>(
        &self,
        column: &Column,
        line: u64,
        parse: impl FnOnce(&str) -> Result<T, RejectReason>,
    ) -> Result<T, Reject> {
        let cell = self.scanner.cell(column.position).unwrap_or(Cow::Borrowed(&[]));
        let value = decode(&cell, self.encoding).and_then(|text| parse(&text));
        value.map_err(|reason| Reject { line, column: Some(column.name.clone()), reason })
    }

    fn take(&self, row: &mut Row, target: &Target, cell: &str) -> Result<(), RejectReason> {
        let mut put = |field: &FieldId, text: &str| row.fields.insert(field.clone(), Value::String(text.to_owned()));
        match target {
            Target::Pesel | Target::Document(_) => {}
            Target::FormerPesel => {
                row.former_pesel = Some(Pesel::parse(cell, self.today).map_err(RejectReason::Pesel)?);
            }
            Target::LocalNumber => row.local_number = Some(cell.to_owned()),
            Target::Name { surname, given_names } => {
                let (first, rest) = surname_first(cell);
                put(surname, &first);
                rest.map(|rest| put(given_names, &rest));
            }
            Target::HouseFlat { house, flat } => {
                let (number, rest) = house_flat(cell);
                put(house, number);
                rest.map(|rest| put(flat, rest));
            }
            Target::Field { field, rule } => {
                let value = self.formats.read(cell, rule.value)?;
                let fields = if rule.sealed { &mut row.sealed } else { &mut row.fields };
                fields.insert(field.clone(), value);
            }
        }
        Ok(())
    }

    fn count_birth_date(&mut self, row: &Row) {
        let stated = row.fields.iter().find(|(field, _)| field.as_str() == "person.birth_date").map(|(_, value)| value);
        let Some(pesel) = &row.pesel else { return };
        let differs = stated.and_then(Value::as_str).is_some_and(|day| day != pesel.birth_date().to_string());
        self.birth_dates_differ += u64::from(differs);
    }
}

impl<R: Read> Iterator for Extract<R> {
    type Item = Result<Entry, ExtractError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.scanner.next() {
            Ok(None) => None,
            Ok(Some(Found::Fault { line, reason })) => Some(Ok(Entry::Reject(Reject { line, column: None, reason }))),
            Ok(Some(Found::Record { line })) => Some(Ok(match self.row(line) {
                Ok(row) => {
                    self.count_birth_date(&row);
                    Entry::Row(row)
                }
                Err(reject) => Entry::Reject(reject),
            })),
            Err(source) => {
                self.failed = true;
                Some(Err(ExtractError::Read { at: self.bytes_read(), source }))
            }
        }
    }
}

impl<R> fmt::Debug for Extract<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extract").finish_non_exhaustive()
    }
}

fn find_header<R: Read>(scanner: &mut Scanner<R>, mapping: &Mapping) -> Result<Layout, ExtractError> {
    let fault = |source| ExtractError::Read { at: 0, source };
    match (scanner.opening().map_err(fault)?, mapping.encoding) {
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => return Err(ExtractError::Utf16),
        ([0xef, 0xbb, 0xbf], Encoding::Utf8) => scanner.skip(3),
        ([0xef, 0xbb, 0xbf], Encoding::Windows1250) => return Err(ExtractError::Utf8Mark),
        _ => {}
    }
    if scanner.ends_lines_by_return_alone() {
        return Err(ExtractError::LineEnds);
    }
    match scanner.next().map_err(fault)? {
        None => Err(ExtractError::Empty),
        Some(Found::Fault { line, reason }) => Err(ExtractError::HeaderRecord { line, reason }),
        Some(Found::Record { line }) => {
            let cell = |at| scanner.cell(at).and_then(|cell| decode(&cell, mapping.encoding).ok().map(Cow::into_owned));
            let cells: Vec<Option<String>> = (0..scanner.width()).map(cell).collect();
            Ok(Layout::find(&cells, (line, scanner.record()), mapping)?)
        }
    }
}
