//! Erasing payloads, for retention or one resident, and leaving the tree as it is.
//!
//! A segment is rewritten without the salts and payloads that are to go: their records keep index and entry hash, so
//! that every leaf, tile, root and proof stays. The new file takes the old one's place by rename; then what is left of
//! the old one is overwritten with zeros where the payloads stood, and synced. Without salt nobody can test a guess
//! against the entry hash. The segment's index is removed first and built again from what is left.
//!
//! **What a crash leaves.** The old file, or the new one, whole; perhaps no index, which is built again; perhaps the
//! old file's blocks, freed but not overwritten.
//!
//! **What this cannot reach.** Copies: backups and exports. And old blocks where the medium does not write in place:
//! on SSDs and copy-on-write file systems a sealed payload may stay readable to who takes the medium apart, until the
//! blocks are reused. It is sealed: without the log's payload key it says nothing.

use std::{collections::BTreeSet, fs::File, ops::Range};

use crate::{
    commit::lock,
    disk::replace,
    fault::Fault,
    index,
    log::{Log, Receipt},
    read::Entry,
    record::{self, HEADER},
    search::Filter,
    segment::{self, ENTRIES, Segment},
};

/// Entries taken at a time when a period ends.
const PAGE: usize = 4096;

impl Log {
    /// Erases the payloads of `entries`, as the entry that `cause` is the receipt of says: that one stands for good, so
    /// it cannot be among them. Indexes of no entry are passed over. Returns how many payloads there were to erase.
    /// Blocks; appends wait while the last segment is rewritten.
    ///
    /// # Errors
    /// [`Fault::Identity`] when `cause` is another log's; [`Fault::Io`] and damage: then some may be erased and some not,
    /// and it may be called again.
    pub fn erase(&self, cause: &Receipt, entries: &BTreeSet<u64>) -> Result<u64, Fault> {
        if cause.origin() != self.origin() {
            let (found, wanted) = (cause.origin().to_owned(), self.origin().to_owned());
            return Err(Fault::Identity { found, wanted });
        }
        let (mut erased, size) = (0, self.size());
        let mut rest = entries.range(..size).copied().filter(|index| *index != cause.index()).peekable();
        while let Some(first) = rest.peek().copied() {
            let number = first / ENTRIES;
            let doomed = std::iter::from_fn(|| rest.next_if(|index| index / ENTRIES == number)).collect();
            erased += self.erase_in(number, &doomed)?;
        }
        Ok(erased)
    }

    /// Erases the payloads of all entries before the second `before` but those `keep` keeps: an entry's own retention
    /// is for the caller to know. As [`Self::erase`] otherwise.
    ///
    /// # Errors
    /// As [`Self::erase`].
    pub fn expire(&self, cause: &Receipt, before: i64, mut keep: impl FnMut(&Entry) -> bool) -> Result<u64, Fault> {
        let (filter, mut erased, mut start) = (Filter { until: Some(before), ..Filter::default() }, 0, Some(0));
        while let Some(at) = start {
            let page = self.search(&filter, at, PAGE)?;
            let doomed = page.entries.iter().filter(|entry| !keep(entry)).map(|entry| entry.index).collect();
            erased += self.erase(cause, &doomed)?;
            start = page.next;
        }
        Ok(erased)
    }

    fn erase_in(&self, number: u64, doomed: &BTreeSet<u64>) -> Result<u64, Fault> {
        let core = self.core();
        let _alone = lock(&core.rewriting);
        let mut store = lock(&core.commit.store);
        store.repair()?;
        let end = store.tree().size().min((number + 1) * ENTRIES);
        let last = number == store.number();
        // A segment that is not the last never becomes it again: appends need not wait.
        let mut held = last.then_some(store);
        let (bytes, gaps) = self.without(number, number * ENTRIES..end, doomed)?;
        if gaps.is_empty() {
            return Ok(0);
        }
        index::remove(&core.dir, number)?;
        let path = segment::path(&core.dir, number);
        let old = File::options().write(true).open(&path).map_err(Fault::io(&path))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        replace(&*core.disk, &segment::directory(&core.dir), &name, &bytes).map_err(Fault::io(&path))?;
        if let Some(store) = &mut held {
            store.reopen()?;
        }
        let wipe = |gap: &Range<u64>| {
            let zeros = vec![0; usize::try_from(gap.end - gap.start).unwrap_or_default()];
            core.disk.write(&old, &zeros, gap.start)
        };
        gaps.iter().try_for_each(wipe).and_then(|()| core.disk.sync(&old)).map_err(Fault::io(&path))?;
        drop(held);
        if index::due(number, end) {
            index::build(core, number)?;
        }
        Ok(gaps.len() as u64)
    }

    /// The segment's bytes without the doomed payloads, and where those stood.
    fn without(
        &self,
        number: u64,
        entries: Range<u64>,
        doomed: &BTreeSet<u64>,
    ) -> Result<(Vec<u8>, Vec<Range<u64>>), Fault> {
        let mut records = Segment::open(self.dir(), number)?;
        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        for index in entries {
            let (place, damage) = (records.offset(), records.damage());
            let record = records.next()?.ok_or(damage)?;
            let goes = doomed.contains(&index) && !record.sealed.is_empty();
            if goes {
                let start = place + HEADER as u64;
                gaps.push(start..start + record.sealed.len() as u64);
            }
            let kept = if goes { &[] } else { record.sealed };
            record::encode(&mut bytes, index, record.place, &record.entry, kept, record::begin(kept));
        }
        Ok((bytes, gaps))
    }
}
