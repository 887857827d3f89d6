//! A segment file read from its beginning, record by record, as far as it reached when it was opened.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    fault::Fault,
    record::{HEADER, Header, Record},
};

/// Entries per segment: 16 full tiles of C2SP `tlog-tiles`; few enough that finding one by walking headers is quick.
pub(crate) const ENTRIES: u64 = 4096;

/// The directory of the segments.
pub(crate) fn directory(dir: &Path) -> PathBuf {
    dir.join("records")
}

/// The file of segment `number`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    directory(dir).join(format!("{number:010}"))
}

/// One more than the highest segment number there is; whether the lower ones exist shows when they are opened.
pub(crate) fn count(dir: &Path) -> Result<u64, Fault> {
    let records = directory(dir);
    let mut count = 0;
    for file in fs::read_dir(&records).map_err(Fault::io(&records))? {
        let name = file.map_err(Fault::io(&records))?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            count = count.max(number.saturating_add(1));
        }
    }
    Ok(count)
}

/// A reader of one segment.
pub(crate) struct Segment {
    path: PathBuf,
    input: BufReader<File>,
    buffer: Vec<u8>,
    /// The entry that stands at `offset`, if one does.
    index: u64,
    /// The entry after the segment's last.
    end: u64,
    offset: u64,
    length: u64,
}

impl Segment {
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Self, Fault> {
        let path = path(dir, number);
        let file = File::open(&path).map_err(Fault::io(&path))?;
        let length = file.metadata().map_err(Fault::io(&path))?.len();
        let (index, end) = (number.saturating_mul(ENTRIES), number.saturating_add(1).saturating_mul(ENTRIES));
        Ok(Self {
            path,
            input: BufReader::with_capacity(1 << 16, file),
            buffer: Vec::new(),
            index,
            end,
            offset: 0,
            length,
        })
    }

    /// The next record; `None` at the first byte that does not begin a whole record in its place, see [`Self::rest`].
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, Fault> {
        match self.read() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(Fault::io(&self.path)(error)),
        }
        let Some(record) = Record::parse(&self.buffer) else { return Ok(None) };
        self.index += 1;
        self.offset += self.buffer.len() as u64;
        Ok(Some(record))
    }

    /// Steps to entry `index` of this segment by its records' headers alone.
    pub(crate) fn skip_to(&mut self, index: u64) -> Result<(), Fault> {
        while self.index < index {
            let header = self.header().map_err(Fault::io(&self.path))?.ok_or_else(|| self.damage())?;
            self.index += 1;
            self.offset += header.whole() as u64;
            let behind = (header.whole() - HEADER).try_into().unwrap_or(i64::MAX);
            self.input.seek_relative(behind).map_err(Fault::io(&self.path))?;
        }
        Ok(())
    }

    /// Reads the header of the record due here; the rest of it is in the file when one is returned.
    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.index == self.end || self.rest() < HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        self.input.read_exact(&mut header)?;
        self.buffer.clear();
        self.buffer.extend(header);
        let (index, rest) = (self.index, self.rest());
        Ok(Header::parse(&header).filter(|header| header.index == index && header.whole() as u64 <= rest))
    }

    /// Reads the record due here into the buffer.
    fn read(&mut self) -> io::Result<bool> {
        let Some(header) = self.header()? else { return Ok(false) };
        self.buffer.resize(header.whole(), 0);
        self.input.read_exact(self.buffer.get_mut(HEADER..).unwrap_or_default())?;
        Ok(true)
    }

    /// The entry due next.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Whether all entries of the segment were read.
    pub(crate) fn full(&self) -> bool {
        self.index == self.end
    }

    /// Bytes read so far: whole records.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes not read yet.
    pub(crate) fn rest(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    /// Bytes behind the whole records that are not the zeros a last file ends with: once `next` gave `None`, what is
    /// torn or damaged.
    pub(crate) fn torn(&self) -> Result<u64, Fault> {
        self.last_written().map(|end| end.saturating_sub(self.offset)).map_err(Fault::io(&self.path))
    }

    /// The end of what is not zero.
    fn last_written(&self) -> io::Result<u64> {
        let (mut end, mut start, mut piece) = (self.offset, self.offset, vec![0; 1 << 16]);
        loop {
            let length = self.input.get_ref().read_at(&mut piece, start)?;
            let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { return Ok(end) };
            if let Some(last) = read.iter().rposition(|byte| *byte != 0) {
                end = start + last as u64 + 1;
            }
            start += length as u64;
        }
    }

    /// The fault of a record that should stand here and does not.
    pub(crate) fn damage(&self) -> Fault {
        Fault::Record { path: self.path.clone(), index: self.index, offset: self.offset }
    }

    /// Whether a whole record of a later batch lies behind the entry due here. Then that entry was acknowledged, so
    /// what stands here is damage and not a torn append. Its length cannot be trusted, so every byte is tried as a
    /// beginning.
    pub(crate) fn acknowledged(&mut self) -> Result<bool, Fault> {
        self.find_later_batch().map_err(Fault::io(&self.path))
    }

    /// Reads the entry due here once more from the file.
    pub(crate) fn rewind(&mut self) -> Result<(), Fault> {
        self.input.seek(SeekFrom::Start(self.offset)).map(drop).map_err(Fault::io(&self.path))
    }

    fn find_later_batch(&mut self) -> io::Result<bool> {
        let mut candidate = 0_u64;
        let mut start = self.offset;
        self.input.seek(SeekFrom::Start(start))?;
        while start < self.length {
            let Some(&byte) = self.input.fill_buf()?.first() else { break };
            self.input.consume(1);
            start += 1;
            candidate = candidate << 8 | u64::from(byte);
            let record = start.saturating_sub(size_of::<u64>() as u64);
            if (self.index + 1..self.end).contains(&candidate) && self.batch_at(record)? > Some(self.index) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The batch of the whole record that begins at `offset`, if one does.
    fn batch_at(&self, offset: u64) -> io::Result<Option<u64>> {
        let (file, mut header) = (self.input.get_ref(), [0; HEADER]);
        if offset + HEADER as u64 > self.length {
            return Ok(None);
        }
        file.read_exact_at(&mut header, offset)?;
        let Some(parsed) = Header::parse(&header) else { return Ok(None) };
        let mut bytes = vec![0; parsed.whole()];
        if offset + bytes.len() as u64 > self.length {
            return Ok(None);
        }
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Record::parse(&bytes).and_then(|record| record.batch()))
    }
}
