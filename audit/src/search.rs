//! Finding entries: by resident, user, terminal, peer, purpose, basis, case, decision, event, request, key and
//! time.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

use serde::Deserialize;

use crate::{
    entry::Opened,
    fault::Fault,
    index::{self, Index, bits},
    log::Log,
    read::Entry,
    record::{HEADER, Header, Record},
    segment::{self, ENTRIES, Segment},
    tree::Hash,
};

/// Entries in memory at a time when all are looked at.
const PAGE: usize = 1_000;

/// What an entry can be found by, besides its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Column {
    Event,
    File,
    User,
    Peer,
    Purpose,
    Basis,
    Case,
    Decision,
    Request,
    Key,
    Terminal,
}

impl Column {
    /// All of them, in the order of the index's columns.
    pub(crate) const ALL: [Self; 11] = [
        Self::Event,
        Self::File,
        Self::User,
        Self::Peer,
        Self::Purpose,
        Self::Basis,
        Self::Case,
        Self::Decision,
        Self::Request,
        Self::Key,
        Self::Terminal,
    ];
}

/// What is looked for: entries with every value that is given, in the form they have in the entry. `Default` finds
/// all. Names of fields: `docs/AUDIT.md`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The event's name.
    pub event: Option<String>,
    /// The resident: `file`; in the registry's log one of `indexes`, `put` and `delete`.
    pub file: Option<String>,
    /// The pseudonymous id of the user, or of the one a user acts for.
    pub user: Option<String>,
    /// A member on either side: `asker`, `holder`, `member`, one of `audience` or of the holders in `outcomes`.
    pub peer: Option<String>,
    /// The purpose.
    pub purpose: Option<String>,
    /// The whole `basis`, or its kind, which is what stands before the colon, or the id of the `consent`.
    pub basis: Option<String>,
    /// The case reference, as recorded.
    pub case: Option<String>,
    /// `permit` or `deny`: the `decision`, also of one holder in `outcomes`; or `mixed`, which has both.
    pub decision: Option<String>,
    /// The digest of a request: `request`, also in `outcomes`.
    pub request: Option<String>,
    /// The key or certificate a request came under: `key` or `certificate`.
    pub key: Option<String>,
    /// The HMAC of the terminal's name.
    pub terminal: Option<String>,
    /// The first second of the period.
    pub from: Option<i64>,
    /// The second after its last.
    pub until: Option<i64>,
}

impl Filter {
    fn terms(&self) -> Vec<(Column, &str)> {
        let all = [
            &self.event,
            &self.file,
            &self.user,
            &self.peer,
            &self.purpose,
            &self.basis,
            &self.case,
            &self.decision,
            &self.request,
            &self.key,
            &self.terminal,
        ];
        Column::ALL.into_iter().zip(all).filter_map(|(column, term)| Some((column, term.as_deref()?))).collect()
    }

    /// Whether a payload in canonical JSON is one that is looked for.
    #[must_use]
    pub fn matches(&self, json: &[u8]) -> bool {
        let facts = Facts::read(json);
        let found = |(column, term)| facts.values(column).contains(&term);
        self.in_period(facts.time.unwrap_or(index::NO_TIME)) && self.terms().into_iter().all(found)
    }

    fn in_period(&self, time: i64) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// What an entry says that it can be found by. One that is no object, or says one of these in another type, can be
/// found by nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub(crate) time: Option<i64>,
    event: Option<String>,
    file: Option<String>,
    user: Option<String>,
    on_behalf_of: Option<String>,
    terminal: Option<String>,
    asker: Option<String>,
    holder: Option<String>,
    member: Option<String>,
    audience: Vec<String>,
    purpose: Option<String>,
    basis: Option<String>,
    consent: Option<String>,
    case: Option<String>,
    decision: Option<String>,
    request: Option<String>,
    key: Option<String>,
    certificate: Option<String>,
    outcomes: Vec<Outcome>,
    indexes: Vec<String>,
    put: Vec<String>,
    delete: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    holder: Option<String>,
    #[serde(rename = "outcome")]
    came: Option<String>,
    request: Option<String>,
}

impl Outcome {
    /// What its holder decided, as that holder's own entry says it.
    fn decision(&self) -> Option<&str> {
        match self.came.as_deref()? {
            "answered" => Some("permit"),
            "denied" => Some("deny"),
            _ => None,
        }
    }
}

impl Facts {
    pub(crate) fn read(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    pub(crate) fn values(&self, column: Column) -> Vec<&str> {
        let outcomes = &self.outcomes;
        let (single, lists): (Vec<&Option<String>>, Vec<&Vec<String>>) = match column {
            Column::Event => (vec![&self.event], vec![]),
            Column::File => (vec![&self.file], vec![&self.indexes, &self.put, &self.delete]),
            Column::User => (vec![&self.user, &self.on_behalf_of], vec![]),
            Column::Terminal => (vec![&self.terminal], vec![]),
            Column::Peer => {
                let own = [&self.asker, &self.holder, &self.member];
                (own.into_iter().chain(outcomes.iter().map(|outcome| &outcome.holder)).collect(), vec![&self.audience])
            }
            Column::Purpose => (vec![&self.purpose], vec![]),
            Column::Basis => {
                let kind = self.basis.as_ref().and_then(|basis| basis.split_once(':')).map(|(kind, _)| kind);
                return [kind, self.basis.as_deref(), self.consent.as_deref()].into_iter().flatten().collect();
            }
            Column::Case => (vec![&self.case], vec![]),
            Column::Decision => {
                let each = outcomes.iter().filter_map(Outcome::decision);
                return self.decision.as_deref().into_iter().chain(each).collect();
            }
            Column::Key => (vec![&self.key, &self.certificate], vec![]),
            Column::Request => {
                ([&self.request].into_iter().chain(outcomes.iter().map(|outcome| &outcome.request)).collect(), vec![])
            }
        };
        let single = single.into_iter().filter_map(Option::as_deref);
        single.chain(lists.into_iter().flatten().map(String::as_str)).collect()
    }
}

/// Some of what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// In the order of the log; none of them erased.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<u64>,
}

/// A [`Page`]'s entry before its payload is read.
pub(crate) struct Found {
    pub(crate) index: u64,
    hash: Hash,
    pub(crate) opened: Opened,
}

impl Log {
    /// The first `limit` entries from index `start` on that `filter` looks for. Blocks: it reads a few kilobytes for
    /// each 4096 entries of the log, and every entry that may match.
    ///
    /// # Errors
    /// A [`Fault`] when a record is damaged or its payload does not open.
    pub fn search(&self, filter: &Filter, start: u64, limit: usize) -> Result<Page, Fault> {
        let (found, next) = self.find(filter, start, limit)?;
        let entry = |Found { index, hash, opened }| Ok(Entry { index, hash, payload: Some(opened.value(index)?) });
        Ok(Page { entries: found.into_iter().map(entry).collect::<Result<_, _>>()?, next })
    }

    /// Gives `each` every entry that `filter` looks for, in the order of the log. Blocks, as [`Self::search`] does.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub fn search_each(&self, filter: &Filter, mut each: impl FnMut(Entry)) -> Result<(), Fault> {
        let mut start = Some(0);
        while let Some(at) = start {
            let page = self.search(filter, at, PAGE)?;
            page.entries.into_iter().for_each(&mut each);
            start = page.next;
        }
        Ok(())
    }

    /// [`Self::search`], with salts.
    pub(crate) fn find(&self, filter: &Filter, start: u64, limit: usize) -> Result<(Vec<Found>, Option<u64>), Fault> {
        let (size, mut all, mut at) = (self.size(), Vec::new(), start);
        while at < size {
            let room = limit - all.len();
            if room == 0 {
                return Ok((all, Some(at)));
            }
            let number = at / ENTRIES;
            let end = size.min((number + 1) * ENTRIES);
            let found = match if index::due(number, size) { self.candidates(filter, number) } else { None } {
                Some(candidates) => {
                    self.open_each(filter, candidates.into_iter().filter(|(index, _)| *index >= at), room)?
                }
                None => self.look_through(filter, at..end, room)?,
            };
            at = found.last().filter(|_| found.len() == room).map_or(end, |last| last.index + 1);
            all.extend(found);
        }
        Ok((all, None))
    }

    /// The entries of a full segment that may match, with their places in its file; `None` without a sound index.
    fn candidates(&self, filter: &Filter, number: u64) -> Option<Vec<(u64, u64)>> {
        if !index::fill(self.core(), number) {
            return None;
        }
        let index = Index::open(self.dir(), self.sealer(), number)?;
        let mut rows: Vec<usize> = Vec::new();
        for (turn, (column, term)) in filter.terms().into_iter().enumerate() {
            let (words, wanted) = (index.words(column)?, bits(column, term));
            let may = |row: &usize| words.get(*row).is_some_and(|word| word & wanted == wanted);
            if turn == 0 {
                rows = (0..words.len()).filter(may).collect();
            } else {
                rows.retain(may);
            }
            if rows.is_empty() {
                return Some(Vec::new());
            }
        }
        if filter.from.is_some() || filter.until.is_some() || filter.terms().is_empty() {
            let times = index.times()?;
            if filter.terms().is_empty() {
                rows = (0..times.len()).collect();
            }
            rows.retain(|row| times.get(*row).is_some_and(|time| filter.in_period(*time)));
        }
        let places = index.places()?;
        let candidate = |row: usize| Some((number * ENTRIES + row as u64, *places.get(row)?));
        rows.into_iter().map(candidate).collect()
    }

    fn open_each(
        &self,
        filter: &Filter,
        candidates: impl Iterator<Item = (u64, u64)>,
        room: usize,
    ) -> Result<Vec<Found>, Fault> {
        let (mut found, mut file) = (Vec::new(), None);
        for (index, place) in candidates {
            if found.len() == room {
                break;
            }
            let path = segment::path(self.dir(), index / ENTRIES);
            let file = match &file {
                Some(file) => file,
                None => file.insert(File::open(&path).map_err(Fault::io(path))?),
            };
            let bytes = record_at(file, place, index).unwrap_or_default();
            found.extend(match Record::parse(&bytes) {
                Some(record) => self.found(filter, &record)?,
                // The segment was rewritten a moment ago, or the index is wrong: the records know.
                None => self.look_through(filter, index..index + 1, 1)?.pop(),
            });
        }
        Ok(found)
    }

    fn look_through(&self, filter: &Filter, range: Range<u64>, room: usize) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        let mut records = Segment::open(self.dir(), range.start / ENTRIES)?;
        records.skip_to(range.start)?;
        for _ in range {
            let damage = records.damage();
            let record = records.next()?.ok_or(damage)?;
            found.extend(self.found(filter, &record)?);
            if found.len() == room {
                break;
            }
        }
        Ok(found)
    }

    fn found(&self, filter: &Filter, record: &Record<'_>) -> Result<Option<Found>, Fault> {
        let Some(opened) = self.sealer().open(record.index, &record.entry, record.sealed)? else { return Ok(None) };
        // Cheaper than reading it: most have not even the words. What JSON may write otherwise, or
        // another word stands for, is not looked for so.
        let json = str::from_utf8(opened.json()).unwrap_or_default();
        let plain = |term: &str| term.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        let has = |(column, term): (Column, &str)| column == Column::Decision || !plain(term) || json.contains(term);
        if !filter.terms().into_iter().all(has) || !filter.matches(opened.json()) {
            return Ok(None);
        }
        Ok(Some(Found { index: record.index, hash: record.entry, opened }))
    }
}

/// The bytes of the record of entry `index`, if it stands there.
fn record_at(file: &File, place: u64, index: u64) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, place).ok()?;
    let parsed = Header::parse(&header).filter(|header| header.index == index)?;
    let mut bytes = vec![0; parsed.whole()];
    file.read_exact_at(&mut bytes, place).ok()?;
    Some(bytes)
}
