//! Rows that are refused: where and why, never what stood there.

use pseudonym::{DocumentError, PeselError};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One refused row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Physical line of the file on which the row starts, from 1; the header is line 1 of a file without blank lines.
    pub line: u64,
    /// The column at fault as the mapping names it; `None` if it is the row as a whole.
    pub column: Option<String>,
    /// What is wrong there.
    pub reason: RejectReason,
}

/// Why a row is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The cell is no PESEL.
    Pesel(PeselError),
    /// The cells are no identity document.
    Document(DocumentError),
    /// Not a day of the calendar in the mapping's `date_format`.
    BadDate,
    /// Not a number with the mapping's `decimal` mark.
    BadDecimal,
    /// Not a whole number of at most 64 bits.
    BadInteger,
    /// None of the mapping's `true_values` and `false_values`.
    BadBoolean,
    /// Bytes that the mapping's `encoding` does not have, or text that an earlier conversion damaged.
    Undecodable,
    /// A NUL or another control character.
    ControlCharacter,
    /// Fewer cells than the header has columns.
    TooFewColumns,
    /// More cells than the header has columns.
    TooManyColumns,
    /// Something other than a delimiter follows a closing quote.
    BadQuoting,
    /// A quote opens and nothing within reach closes it.
    QuoteNotClosed,
    /// More than 256 KiB.
    RecordTooLong,
    /// Its PESEL has a file here, and the one before it has another.
    TwoFiles,
}

impl RejectReason {
    /// A stable code for the rejects file and reports.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            RejectReason::Pesel(error) => error.code(),
            RejectReason::Document(error) => error.code(),
            RejectReason::BadDate => "bad_date",
            RejectReason::BadDecimal => "bad_decimal",
            RejectReason::BadInteger => "bad_integer",
            RejectReason::BadBoolean => "bad_boolean",
            RejectReason::Undecodable => "undecodable",
            RejectReason::ControlCharacter => "control_character",
            RejectReason::TooFewColumns => "too_few_columns",
            RejectReason::TooManyColumns => "too_many_columns",
            RejectReason::BadQuoting => "bad_quoting",
            RejectReason::QuoteNotClosed => "quote_not_closed",
            RejectReason::RecordTooLong => "record_too_long",
            RejectReason::TwoFiles => "two_files",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The rejects file: CSV with the header `line,column,reason`, readable by its owner alone.
///
/// It is written beside its place under the name `….partial` and takes its name in [`RejectsFile::finish`], so that a
/// file of that name is always whole. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct RejectsFile {
    writer: csv::Writer<BufWriter<File>>,
    partial: PathBuf,
    place: PathBuf,
    finished: bool,
}

/// Why there is no rejects file.
#[derive(Debug, thiserror::Error)]
pub enum RejectsError {
    /// It cannot be written.
    #[error("cannot write the rejects file {}: check the folder's permissions and free space", path.display())]
    Write {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else stands where it is to be, the extract for instance.
    #[error("{} is no list of refused rows and stays as it is: give --rejects another place", path.display())]
    Foreign {
        /// What stands there.
        path: PathBuf,
    },
}

impl RejectsFile {
    /// Begins a rejects file that will stand at `place`, replacing one that stands there.
    ///
    /// # Errors
    /// [`RejectsError`] if the folder cannot be written, or what stands there is no rejects file; it is left as it is then.
    pub fn create(place: &Path) -> Result<Self, RejectsError> {
        let fault = |source| RejectsError::Write { path: place.to_owned(), source };
        let mut name = place.file_name().ok_or_else(|| fault(io::ErrorKind::InvalidFilename.into()))?.to_owned();
        name.push(".partial");
        let partial = place.with_file_name(name);
        for path in [place, &partial] {
            if !may_go(path).map_err(fault)? {
                return Err(RejectsError::Foreign { path: path.to_owned() });
            }
        }
        // A partial file is what a killed import left; create_new then refuses to follow a link put in its place.
        remove(&partial).map_err(fault)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).map_err(fault)?;
        let writer = csv::Writer::from_writer(BufWriter::new(file));
        let mut rejects = RejectsFile { writer, partial, place: place.to_owned(), finished: false };
        rejects.record(HEADER)?;
        Ok(rejects)
    }

    /// Adds one refused row; the column is `-` if it is the row as a whole.
    ///
    /// # Errors
    /// [`RejectsError`] if the disk refuses it.
    pub fn write(&mut self, reject: &Reject) -> Result<(), RejectsError> {
        let line = reject.line.to_string();
        self.record([&line, reject.column.as_deref().unwrap_or("-"), reject.reason.code()])
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`RejectsError`] if the disk refuses it; the file then does not stand at its place.
    pub fn finish(mut self) -> Result<(), RejectsError> {
        let done = self.writer.flush().and_then(|()| self.writer.get_ref().get_ref().sync_all());
        let done = done.and_then(|()| fs::rename(&self.partial, &self.place));
        self.finished = done.is_ok();
        done.map_err(|source| self.fault(source))
    }

    /// Leaves no file, not even that of an earlier import.
    ///
    /// # Errors
    /// [`RejectsError`] if the folder cannot be written.
    pub fn withdraw(self) -> Result<(), RejectsError> {
        remove(&self.place).map_err(|source| self.fault(source))
    }

    fn record(&mut self, cells: [&str; 3]) -> Result<(), RejectsError> {
        self.writer.write_record(cells).map_err(|error| self.fault(error.into()))
    }

    fn fault(&self, source: io::Error) -> RejectsError {
        RejectsError::Write { path: self.place.clone(), source }
    }
}

impl Drop for RejectsFile {
    fn drop(&mut self) {
        if !self.finished {
            // The import has failed and says so; a leftover is replaced by the next one.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

const HEADER: [&str; 3] = ["line", "column", "reason"];

/// Whether nothing is lost with what stands at `path`: nothing does, or it is empty, or a rejects file.
fn may_go(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        // Opening anything else may wait for somebody.
        Ok(metadata) if !metadata.is_file() => return Ok(false),
        Ok(_) => {}
    }
    let header = format!("{}\n", HEADER.join(","));
    let mut begins = Vec::new();
    File::open(path)?.take(header.len() as u64).read_to_end(&mut begins)?;
    Ok(begins.is_empty() || begins == header.as_bytes())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> Reject {
        Reject { line: 7, column: Some("decyzja, do".to_owned()), reason: RejectReason::BadDate }
    }

    #[test]
    fn the_file_is_whole_private_and_says_where_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("mops.rejects.csv");
        let mut rejects = RejectsFile::create(&place).unwrap();
        rejects.write(&sample()).unwrap();
        rejects.write(&Reject { line: 9, column: None, reason: RejectReason::TooFewColumns }).unwrap();
        assert!(!place.exists(), "no file of that name before it is whole");
        rejects.finish().unwrap();
        let text = fs::read_to_string(&place).unwrap();
        assert_eq!(text, "line,column,reason\n7,\"decyzja, do\",bad_date\n9,-,too_few_columns\n");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_file_leaves_nothing_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("rejects.csv");
        let earlier = "line,column,reason\n2,-,too_few_columns\n";
        fs::write(folder.path().join("rejects.csv.partial"), earlier).unwrap();
        fs::write(&place, earlier).unwrap();
        let mut rejects = RejectsFile::create(&place).unwrap();
        rejects.write(&sample()).unwrap();
        drop(rejects);
        assert_eq!(fs::read_to_string(&place).unwrap(), earlier);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        RejectsFile::create(&place).unwrap().finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "line,column,reason\n");
        RejectsFile::create(&place).unwrap().withdraw().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_rejects_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (place, partial) = (folder.path().join("mops.csv"), folder.path().join("mops.csv.partial"));
        for path in [&place, &partial] {
            fs::write(path, "Nr sprawy;PESEL\n").unwrap();
            let error = RejectsFile::create(&place).unwrap_err();
            assert!(matches!(&error, RejectsError::Foreign { path: kept } if kept == path), "{error}");
            assert_eq!(fs::read_to_string(path).unwrap(), "Nr sprawy;PESEL\n");
            fs::write(path, "").unwrap();
        }
        assert!(RejectsFile::create(folder.path()).is_err(), "a folder");
        RejectsFile::create(&place).unwrap().finish().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = RejectsFile::create(Path::new("/nonexistent/rejects.csv")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/rejects.csv"));
    }
}
