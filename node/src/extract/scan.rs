//! Cuts a byte stream into records of cells (RFC 4180 quoting), knowing each record's physical line.
//!
//! Not the `csv` crate: its reader mends what it cannot parse. After one stray quote it glues the following lines into a
//! cell, however many, and says nothing; here such a record is refused by the line it starts on and reading resumes on
//! the next line. Nor does it bound a record: here one longer than [`MAX_RECORD_BYTES`] is refused and skipped. On
//! well-formed input the two agree, which a property test holds.
//!
//! Works on bytes: delimiter, quote and line end are ASCII, which both encodings keep.

use super::reject::RejectReason;
use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::Range;
use zeroize::Zeroizing;

/// The most bytes one record may have, line ends inside its quotes included.
pub(super) const MAX_RECORD_BYTES: usize = 256 * 1024;

const CHUNK: usize = 64 * 1024;

/// What the scanner finds next. The cells are read from the scanner until it moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A record that starts on this line.
    Record { line: u64 },
    /// A line that begins no readable record, and why.
    Fault { line: u64, reason: RejectReason },
}

/// The scanner and its window on the stream: never more than one record and one chunk.
pub(super) struct Scanner<R> {
    source: R,
    delimiter: u8,
    quote: u8,
    window: Zeroizing<Vec<u8>>,
    /// Offset in the window where the record in hand starts.
    start: usize,
    /// Bytes of the record in hand, its line end included.
    length: usize,
    /// Where its cells are, from its start.
    cells: Vec<Cell>,
    /// Line of the record that comes next.
    line: u64,
    /// Bytes of the stream before the window.
    passed: u64,
    ended: bool,
}

#[derive(Debug)]
struct Cell {
    range: Range<usize>,
    quoted: bool,
}

#[derive(Clone, Copy)]
enum At {
    CellStart,
    Plain,
    Quoted,
    /// Behind a quote inside quotes: the cell's end, or the first half of a doubled quote.
    QuoteInQuoted,
    /// Behind a carriage return that follows a closing quote.
    ReturnAfterQuote,
}

enum Step {
    Complete(usize),
    Fault(RejectReason),
}

const TOO_LONG: Step = Step::Fault(RejectReason::RecordTooLong);

impl<R: Read> Scanner<R> {
    pub(super) fn new(source: R, delimiter: u8, quote: u8) -> Self {
        // Never grows: a growing vector would leave copies of records behind.
        let window = Zeroizing::new(Vec::with_capacity(MAX_RECORD_BYTES + 2 * CHUNK));
        Scanner {
            source,
            delimiter,
            quote,
            window,
            start: 0,
            length: 0,
            cells: Vec::new(),
            line: 1,
            passed: 0,
            ended: false,
        }
    }

    /// The first three bytes of the stream, or fewer if it is shorter.
    pub(super) fn opening(&mut self) -> io::Result<&[u8]> {
        while self.window.len() < 3 && self.fill()? {}
        Ok(self.window.get(..3).unwrap_or(&self.window))
    }

    /// Whether the first chunk of the stream, read by [`Scanner::opening`], has text behind a carriage return, and no
    /// newline: all of it would be one record.
    pub(super) fn ends_lines_by_return_alone(&self) -> bool {
        let returned = self.rest().windows(2).any(|pair| matches!(pair, [b'\r', after] if *after != b'\r'));
        returned && !self.rest().contains(&b'\n')
    }

    /// Leaves out the next `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.start += count;
    }

    /// The next record or fault; lines without a character in any cell are passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            let line = self.line_after_record();
            if self.rest().is_empty() && !self.fill()? {
                return Ok(None);
            }
            match self.scan()? {
                Step::Complete(length) => {
                    self.length = length;
                    if !self.is_blank() {
                        return Ok(Some(Found::Record { line }));
                    }
                }
                Step::Fault(reason) => {
                    let reason = self.give_up_line(reason)?;
                    return Ok(Some(Found::Fault { line, reason }));
                }
            }
        }
    }

    /// Number of cells of the record in hand.
    pub(super) fn width(&self) -> usize {
        self.cells.len()
    }

    /// One cell of the record in hand, unquoted; `None` behind the last.
    pub(super) fn cell(&self, position: usize) -> Option<Cow<'_, [u8]>> {
        let cell = self.cells.get(position)?;
        let bytes = self.record().get(cell.range.clone())?;
        if !cell.quoted || !bytes.contains(&self.quote) {
            return Some(Cow::Borrowed(bytes));
        }
        let mut keep = true;
        let undoubled = bytes.iter().copied().filter(|&byte| {
            keep = byte != self.quote || !keep;
            keep
        });
        Some(Cow::Owned(undoubled.collect()))
    }

    /// Every byte of the record in hand, its line end included.
    pub(super) fn record(&self) -> &[u8] {
        self.rest().get(..self.length).unwrap_or_default()
    }

    /// Bytes of the stream up to the end of the record in hand.
    pub(super) fn consumed(&self) -> u64 {
        self.passed + (self.start + self.length) as u64
    }

    fn rest(&self) -> &[u8] {
        self.window.get(self.start..).unwrap_or_default()
    }

    /// Moves behind the record in hand, counting its lines.
    fn line_after_record(&mut self) -> u64 {
        self.line += count_newlines(self.record());
        self.start += self.length;
        self.length = 0;
        self.cells.clear();
        self.line
    }

    fn scan(&mut self) -> io::Result<Step> {
        let (mut at, mut position, mut cell_start) = (At::CellStart, 0, 0);
        loop {
            for &byte in self.window.get(self.start + position..).unwrap_or_default() {
                let ends_cell = byte == self.delimiter || byte == b'\n';
                at = match at {
                    At::CellStart | At::QuoteInQuoted if byte == self.quote => At::Quoted,
                    At::Quoted if byte == self.quote => At::QuoteInQuoted,
                    At::Quoted => At::Quoted,
                    At::QuoteInQuoted if byte == b'\r' => At::ReturnAfterQuote,
                    At::QuoteInQuoted if !ends_cell => return Ok(Step::Fault(RejectReason::BadQuoting)),
                    At::ReturnAfterQuote if byte != b'\n' => return Ok(Step::Fault(RejectReason::BadQuoting)),
                    _ if !ends_cell => At::Plain,
                    _ => {
                        let cell = self.cell_between(at, cell_start, position);
                        self.cells.push(cell);
                        cell_start = position + 1;
                        At::CellStart
                    }
                };
                position += 1;
                if byte == b'\n' && matches!(at, At::CellStart) {
                    return Ok(if position > MAX_RECORD_BYTES { TOO_LONG } else { Step::Complete(position) });
                }
            }
            if position > MAX_RECORD_BYTES {
                return Ok(TOO_LONG);
            }
            if !self.fill()? {
                if matches!(at, At::Quoted) {
                    return Ok(Step::Fault(RejectReason::QuoteNotClosed));
                }
                let cell = self.cell_between(at, cell_start, position);
                self.cells.push(cell);
                return Ok(Step::Complete(position));
            }
        }
    }

    /// The cell from `start` to its delimiter, line end or the end of the file at `end`, without quotes and without the
    /// carriage return of a line end.
    fn cell_between(&self, at: At, start: usize, end: usize) -> Cell {
        match at {
            At::CellStart | At::Quoted => Cell { range: start..end, quoted: false },
            At::QuoteInQuoted => Cell { range: start + 1..end.saturating_sub(1), quoted: true },
            At::ReturnAfterQuote => Cell { range: start + 1..end.saturating_sub(2), quoted: true },
            At::Plain => {
                let is_line_end = self.rest().get(end).is_none_or(|&byte| byte == b'\n');
                let has_return = is_line_end && end > start && self.rest().get(end - 1) == Some(&b'\r');
                Cell { range: start..end - usize::from(has_return), quoted: false }
            }
        }
    }

    fn is_blank(&self) -> bool {
        self.cells.iter().all(|cell| {
            self.record().get(cell.range.clone()).is_none_or(|bytes| bytes.iter().all(u8::is_ascii_whitespace))
        })
    }

    /// Leaves the line that the faulty record starts on: what follows is read as if that line were not there.
    fn give_up_line(&mut self, reason: RejectReason) -> io::Result<RejectReason> {
        self.cells.clear();
        let line_end = self.rest().iter().position(|&byte| byte == b'\n');
        if let Some(end) = line_end {
            self.length = end + 1;
            // More than one line in hand means that quotes held the others: the record was long for want of a quote.
            let unclosed = reason == RejectReason::RecordTooLong;
            return Ok(if unclosed { RejectReason::QuoteNotClosed } else { reason });
        }
        loop {
            self.start = self.window.len();
            if !self.fill()? {
                return Ok(reason);
            }
            if let Some(end) = self.rest().iter().position(|&byte| byte == b'\n') {
                self.length = end + 1;
                return Ok(reason);
            }
        }
    }

    /// Reads one chunk more behind the window, dropping what lies before the record in hand; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let done = self.start.min(self.window.len());
        self.window.drain(..done);
        self.passed += self.start as u64;
        self.start = 0;
        let before = self.window.len();
        self.source.by_ref().take(CHUNK as u64).read_to_end(&mut self.window)?;
        self.ended = self.window.len() == before;
        Ok(!self.ended)
    }
}

fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.split(|&byte| byte == b'\n').skip(1).count() as u64
}
