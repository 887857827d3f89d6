//! The search index: what finds one resident's entries among millions without opening every payload.
//!
//! **What it keeps.** `index/NNNNNNNNNN`, one file for each full segment, fixed in length: thirteen columns of 4096
//! numbers of 8 bytes (big-endian), a row an entry, each column sealed by itself like a payload (nonce ‖ column ‖ tag,
//! with origin ‖ 0x01 ‖ segment ‖ column as additional data), then the first 16 bytes of SHA-256 over all of them.
//! Column 0 is the time, 1 the record's place in its segment file, the others one for each [`Column`]: a word in which
//! every value the entry has there sets 8 of 64 bits. A row whose word lacks a bit of what is looked for cannot match;
//! one that lacks none is opened and looked at, so that what the index says is only ever a hint.
//!
//! **How an update is atomic.** A file is written once its segment is full, replaced by rename, and removed before its
//! segment is rewritten (`erase.rs`). Searching the last segment, and any other without a file, reads the records.
//!
//! **What a crash leaves.** A segment without its file: it is built again, as is one with other columns. Nothing is lost
//! with the whole directory.

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use ring::{
    aead::NONCE_LEN,
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    commit::{lock, reason},
    disk::replace,
    entry::{Opened, Sealer},
    fault::Fault,
    log::Core,
    search::{Column, Facts},
    segment::{self, ENTRIES, Segment},
    tree::sha256,
};

/// Columns that are not words.
const TIME: u8 = 0;
const PLACE: u8 = 1;
/// All columns.
const COLUMNS: usize = 2 + Column::ALL.len();
/// A sealed column in bytes.
const SEALED: u64 = NONCE_LEN as u64 + 8 * ENTRIES + 16;
const CHECK: usize = 16;
/// A file in bytes.
const FILE: u64 = SEALED * COLUMNS as u64 + CHECK as u64;

/// The time of an entry that has none, or none any more.
pub(crate) const NO_TIME: i64 = i64::MIN;

fn directory(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// The file of segment `number`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    directory(dir).join(name(number))
}

fn name(number: u64) -> String {
    format!("{number:010}")
}

/// The bits of one value.
pub(crate) fn bits(column: Column, value: &str) -> u64 {
    let hash = sha256(&[&[column as u8], value.as_bytes()].concat());
    hash.iter().take(8).fold(0, |word, place| word | 1 << (place % 64))
}

/// A segment's rows, by column.
pub(crate) struct Rows(Vec<Vec<u64>>);

impl Default for Rows {
    fn default() -> Self {
        Self(vec![Vec::new(); COLUMNS])
    }
}

impl Rows {
    /// Takes the next record: its place in the file, and its payload unless that is erased.
    pub(crate) fn push(&mut self, place: u64, payload: Option<&Opened>) {
        let facts = payload.map(|payload| Facts::read(payload.json())).unwrap_or_default();
        let word = |column| facts.values(column).iter().fold(0, |word, value| word | bits(column, value));
        let words = Column::ALL.into_iter().map(word);
        let row = [facts.time.unwrap_or(NO_TIME).cast_unsigned(), place].into_iter().chain(words);
        self.0.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }

    /// Whether there is one for each entry of a segment.
    pub(crate) fn whole(&self) -> bool {
        self.0.iter().all(|column| column.len() as u64 == ENTRIES)
    }

    fn seal(&self, sealer: &Sealer, number: u64, random: &SystemRandom) -> Result<Vec<u8>, Fault> {
        let mut file = Vec::new();
        for (column, values) in (0..).zip(&self.0) {
            let mut nonce = [0; NONCE_LEN];
            random.fill(&mut nonce).map_err(|_| Fault::io("randomness")(ErrorKind::Other.into()))?;
            let mut sealed = nonce.to_vec();
            sealed.extend(values.iter().flat_map(|value| value.to_be_bytes()));
            sealer.close(&mut sealed, &sealer.column_aad(number, column)).map_err(Fault::io("index"))?;
            file.extend(sealed);
        }
        let check = sha256(&file);
        file.extend(check.iter().take(CHECK));
        Ok(file)
    }
}

/// One segment's index file, open.
pub(crate) struct Index<'a> {
    file: File,
    sealer: &'a Sealer,
    number: u64,
}

impl<'a> Index<'a> {
    /// `None` when there is none.
    pub(crate) fn open(dir: &Path, sealer: &'a Sealer, number: u64) -> Option<Self> {
        Some(Self { file: File::open(path(dir, number)).ok()?, sealer, number })
    }

    pub(crate) fn times(&self) -> Option<Vec<i64>> {
        Some(self.column(TIME)?.into_iter().map(u64::cast_signed).collect())
    }

    pub(crate) fn places(&self) -> Option<Vec<u64>> {
        self.column(PLACE)
    }

    pub(crate) fn words(&self, column: Column) -> Option<Vec<u64>> {
        self.column(2 + column as u8)
    }

    /// `None` when it is damaged.
    fn column(&self, column: u8) -> Option<Vec<u64>> {
        let mut sealed = vec![0; usize::try_from(SEALED).ok()?];
        self.file.read_exact_at(&mut sealed, SEALED * u64::from(column)).ok()?;
        let plain = self.sealer.disclose(&mut sealed, &self.sealer.column_aad(self.number, column))?;
        Some(plain.as_chunks().0.iter().map(|value| u64::from_be_bytes(*value)).collect())
    }
}

/// Builds the file of a full segment unless there is one with all columns; whether there is one now.
pub(crate) fn fill(core: &Core, number: u64) -> bool {
    if std::fs::metadata(path(&core.dir, number)).is_ok_and(|file| file.len() == FILE) {
        return true;
    }
    let _alone = lock(&core.rewriting);
    build(core, number).inspect_err(|fault| tracing::warn!(reason = reason(fault), "no index was built")).is_ok()
}

/// Builds the file of a full segment, whose records hold still meanwhile.
pub(crate) fn build(core: &Core, number: u64) -> Result<(), Fault> {
    let mut records = Segment::open(&core.dir, number)?;
    let mut rows = Rows::default();
    for index in number * ENTRIES..(number + 1) * ENTRIES {
        let (place, damage) = (records.offset(), records.damage());
        let record = records.next()?.ok_or(damage)?;
        rows.push(place, core.sealer.open(index, &record.entry, record.sealed)?.as_ref());
    }
    let (file, directory) = (rows.seal(&core.sealer, number, &core.random)?, directory(&core.dir));
    std::fs::create_dir_all(&directory).map_err(Fault::io(&directory))?;
    replace(&*core.disk, &directory, &name(number), &file).map_err(Fault::io(path(&core.dir, number)))
}

/// Removes the file of a segment that is about to be rewritten.
pub(crate) fn remove(dir: &Path, number: u64) -> Result<(), Fault> {
    let path = path(dir, number);
    match std::fs::remove_file(&path) {
        Ok(()) => crate::disk::sync_names(&directory(dir)).map_err(Fault::io(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io(path)(error)),
    }
}

/// Holds the file of segment `number`, if there is one, against its own check and, with the payload key, against the
/// rows that follow from the records.
pub(crate) fn check(dir: &Path, number: u64, rows: Option<(&Rows, &Sealer)>) -> Result<(), Fault> {
    let path = path(dir, number);
    let file = match std::fs::read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Fault::io(path)(error)),
    };
    let whole = file.split_last_chunk::<CHECK>().is_some_and(|(columns, check)| sha256(columns).starts_with(check));
    let agrees = |rows: &Rows, sealer| {
        Index::open(dir, sealer, number).is_some_and(|index| {
            (0..).zip(&rows.0).all(|(column, values)| index.column(column).as_ref() == Some(values))
        })
    };
    let true_to = rows.is_none_or(|(rows, sealer)| agrees(rows, sealer));
    if whole && true_to { Ok(()) } else { Err(Fault::Index { path }) }
}

/// Whether segment `number` is one that gets a file in a log of `size` entries.
pub(crate) fn due(number: u64, size: u64) -> bool {
    (number + 1) * segment::ENTRIES <= size
}
