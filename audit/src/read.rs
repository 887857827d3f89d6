//! Reading entries back, for the node that wrote them: payloads are opened and held against their entry hashes.

use std::fmt;

use serde_json::Value;

use crate::{
    fault::Fault,
    log::Log,
    segment::{self, Segment},
    tree::Hash,
};

/// An entry of the log.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// Its index, from 0.
    pub index: u64,
    /// Its entry hash, SHA-256(salt ‖ canonical JSON).
    pub hash: Hash,
    /// What was appended; `None` once it is erased.
    pub payload: Option<Value>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Log {
    /// Entry `index`; `None` when the log is not that long. Blocks: it walks the headers of at most 4095 records.
    ///
    /// # Errors
    /// A [`Fault`] when the record is damaged or its payload does not open.
    pub fn read(&self, index: u64) -> Result<Option<Entry>, Fault> {
        self.iter(index).next().transpose()
    }

    /// The entries from `index` to the last acknowledged now, in order. Blocks; holds one entry at a time. Ends after
    /// an error.
    #[must_use]
    pub fn iter(&self, index: u64) -> Entries<'_> {
        Entries { log: self, index, end: self.size(), segment: None }
    }
}

/// The iterator of [`Log::iter`].
pub struct Entries<'a> {
    log: &'a Log,
    index: u64,
    end: u64,
    segment: Option<Segment>,
}

impl Entries<'_> {
    fn entry(&mut self) -> Result<Entry, Fault> {
        match self.attempt() {
            // The segment's file may have been replaced by one with fewer payloads (`erase.rs`).
            Err(Fault::Record { .. }) if self.segment.take().is_some() => self.attempt(),
            outcome => outcome,
        }
    }

    fn attempt(&mut self) -> Result<Entry, Fault> {
        let index = self.index;
        let segment = match self.segment.take().filter(|segment| !segment.full()) {
            Some(segment) => self.segment.insert(segment),
            None => self.segment.insert(Segment::open(self.log.dir(), index / segment::ENTRIES)?),
        };
        segment.skip_to(index)?;
        let damage = segment.damage();
        let record = segment.next()?.ok_or(damage)?;
        let opened = self.log.sealer().open(index, &record.entry, record.sealed)?;
        let payload = opened.map(|opened| opened.value(index)).transpose()?;
        Ok(Entry { index, hash: record.entry, payload })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.end {
            return None;
        }
        let entry = self.entry();
        self.index = if entry.is_ok() { self.index + 1 } else { self.end };
        Some(entry)
    }
}
