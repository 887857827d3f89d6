//! A resident's record, and the two ways in: by what the institution itself calls the resident, and — only with a
//! [`Permit`] — by what a peer may have of it.

use crate::node::Node;
use crate::store::{Read, Store, StoreError, Table, Write};
use jiff::civil::Date;
use policies::{Buckets, Permit};
use protocol::{ConsentId, Epoch, FieldId, FileId, Index, MemberId, SubjectId, Timestamp};
use pseudonym::{Pesel, SealKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::slice;
use zeroize::Zeroizing;

/// The field of a resident's birth date.
const BIRTH_DATE: &str = "person.birth_date";

/// What the institution keeps of one resident. Whoever needs no rows reads it with `IgnoredAny` in their place.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct FileRecord<Rows = Vec<StoredRow>> {
    /// The PESEL, for evaluating under the next epoch; leaves the node in no form.
    #[serde(default)]
    pub(crate) pesel: Option<Zeroizing<String>>,
    /// The identity document, `TYPE|ISO3166|NUMBER`.
    #[serde(default)]
    pub(crate) document: Option<Zeroizing<String>>,
    /// PESEL numbers of which an extract says that the resident had them before: other institutions may still hold them,
    /// so the resident is enrolled by them too.
    #[serde(default)]
    pub(crate) earlier: Vec<Zeroizing<String>>,
    /// Numbers and documents that others took the place of without a word: by them the resident is still found here, and
    /// nowhere else, for one may have been a slip of the pen that is somebody else's.
    #[serde(default)]
    pub(crate) former: Vec<(Kind, Zeroizing<String>)>,
    /// Which run last brought rows of a source.
    pub(crate) sources: BTreeMap<String, u64>,
    /// When that was.
    #[serde(default)]
    pub(crate) imported: BTreeMap<String, Timestamp>,
    /// Rows of all sources, in the order of import.
    pub(crate) rows: Rows,
}

/// One imported row.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredRow {
    pub(crate) source: String,
    pub(crate) local_number: Option<String>,
    pub(crate) fields: BTreeMap<FieldId, Value>,
}

/// A client's derived names under one epoch: one for each identifier the client is enrolled by, the one in use first. To
/// everybody else they are as many strangers.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Names(pub(crate) Vec<Name>);

impl Names {
    pub(crate) fn iter(&self) -> slice::Iter<'_, Name> {
        self.0.iter()
    }

    /// The name by which others mean the client as `subject`.
    pub(crate) fn called(&self, subject: &SubjectId) -> Option<&Name> {
        self.iter().find(|name| &name.subject == subject)
    }

    /// By what `member` knows that the client is meant, each name's mark for this consent (32 bytes).
    pub(crate) fn marks(&self, member: &MemberId, consent: ConsentId) -> impl Iterator<Item = Vec<u8>> {
        self.iter().filter_map(move |name| {
            let mark = SealKey::from_bytes(&name.seal).mark(member.as_str(), consent.as_bytes()).ok()?;
            Some(mark.to_vec())
        })
    }

    /// Takes out the name with this index.
    pub(crate) fn take(&mut self, index: &Index) -> Option<Name> {
        let at = self.iter().position(|name| &name.index == index)?;
        Some(self.0.swap_remove(at))
    }
}

/// One derived name (docs/PROTOCOL.md, Pseudonyms), and what of it is published.
#[derive(Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) index: Index,
    #[serde(with = "text")]
    pub(crate) seal: Zeroizing<[u8; 32]>,
    pub(crate) subject: SubjectId,
    pub(crate) published: Option<Published>,
}

/// What the registry holds of a client.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) expires: Timestamp,
    /// Digest of the audience it was published for, and of the registry's index it was published in.
    #[serde(with = "text")]
    pub(crate) audience: [u8; 32],
    /// Whether it stands for a newcomer, of whom there are no records yet.
    #[serde(default)]
    pub(crate) provisional: bool,
}

/// 32 bytes as base64url, a third of what they are as a list of numbers; no copy of them is left behind.
mod text {
    use data_encoding::BASE64URL_NOPAD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const LENGTH: usize = 43;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&BASE64URL_NOPAD.encode_display(bytes))
    }

    pub(super) fn deserialize<'de, T: From<[u8; 32]>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let read = text.len() == LENGTH && BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).is_ok();
        if read { Ok(bytes.into()) } else { Err(D::Error::custom("not 32 bytes as base64url")) }
    }
}

/// Key of `names`, `changed` and `shared`.
pub(crate) fn names_key(epoch: Epoch, file: FileId) -> Vec<u8> {
    [epoch.0.to_be_bytes().as_slice(), file.as_bytes()].concat()
}

/// A kind of identifier, as the store has it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Pesel,
    Document,
}

impl From<Kind> for pseudonym::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Pesel => pseudonym::Kind::Pesel,
            Kind::Document => pseudonym::Kind::Document,
        }
    }
}

impl<Rows> FileRecord<Rows> {
    /// What the resident is enrolled by, the one in use first: the PESEL, the document, earlier PESEL numbers. Nobody
    /// without any is.
    pub(crate) fn enrolled_by(&self) -> impl Iterator<Item = (pseudonym::Kind, &str)> {
        self.declared().map(|(kind, identifier)| (kind.into(), identifier))
    }

    /// The same, as the store has the kinds.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (Kind, &str)> {
        let pesel = self.pesel.iter().map(|pesel| (Kind::Pesel, pesel.as_str()));
        let document = self.document.iter().map(|document| (Kind::Document, document.as_str()));
        let earlier = self.earlier.iter().map(|earlier| (Kind::Pesel, earlier.as_str()));
        pesel.chain(document).chain(earlier)
    }

    /// Whether there is more than the identifier: a newcomer has no records yet.
    pub(crate) fn has_rows(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Every identifier by which the resident is found.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.declared().chain(self.former.iter().map(|(kind, former)| (*kind, former.as_str())))
    }
}

impl FileRecord {
    /// When the resident was born, as the records say.
    fn born(&self) -> Option<Date> {
        let fields = self.rows.iter().flat_map(|row| &row.fields);
        let dates = fields.filter(|(field, _)| field.as_str() == BIRTH_DATE);
        dates.filter_map(|(_, date)| date.as_str()?.parse().ok()).max()
    }
}

impl Store {
    /// Key in `links` of an identifier.
    pub(crate) fn identifier_link(&self, kind: Kind, identifier: &str) -> [u8; 32] {
        let kind = match kind {
            Kind::Pesel => "pesel",
            Kind::Document => "document",
        };
        self.link(kind, identifier.as_bytes())
    }

    /// Key in `links` of a resident without identifier, by a source's own number.
    pub(crate) fn unlinked_link(&self, source: &str, local_number: &str) -> [u8; 32] {
        self.link("unlinked", &[source.as_bytes(), &[0], local_number.as_bytes()].concat())
    }

    /// Key in `links` of the name by which others mean a resident to us.
    pub(crate) fn subject_link(&self, epoch: Epoch, subject: &SubjectId) -> [u8; 32] {
        self.link("subject", &[epoch.0.to_be_bytes().as_slice(), subject.as_bytes()].concat())
    }

    /// Prefix in `local_numbers` of a client number.
    pub(crate) fn local_number_link(&self, number: &str) -> [u8; 32] {
        self.link("local", number.as_bytes())
    }
}

impl Read<'_> {
    /// The file of an identifier.
    pub(crate) fn file_of(&self, store: &Store, kind: Kind, identifier: &str) -> Result<Option<FileId>, StoreError> {
        self.get(Table::LINKS, &store.identifier_link(kind, identifier))
    }

    /// The file meant by `subject`.
    pub(crate) fn file_of_subject(
        &self,
        store: &Store,
        epoch: Epoch,
        subject: &SubjectId,
    ) -> Result<Option<FileId>, StoreError> {
        self.get(Table::LINKS, &store.subject_link(epoch, subject))
    }

    /// The files with this client number: several residents may share one.
    pub(crate) fn files_of_local_number(&self, store: &Store, number: &str) -> Result<Vec<FileId>, StoreError> {
        let keys = self.keys_with(Table::LOCAL_NUMBERS, &store.local_number_link(number))?;
        Ok(keys.iter().filter_map(|key| key.last_chunk::<16>().map(|id| FileId(*id))).collect())
    }

    /// A client's names.
    pub(crate) fn names(&self, epoch: Epoch, file: FileId) -> Result<Option<Names>, StoreError> {
        self.get(Table::NAMES, &names_key(epoch, file))
    }

    /// This institution's own numbers of a resident.
    pub(crate) fn local_numbers(&self, file: FileId) -> Result<BTreeSet<String>, StoreError> {
        let record: Option<FileRecord> = self.get(Table::FILES, file.as_bytes())?;
        Ok(record.into_iter().flat_map(|record| record.rows).filter_map(|row| row.local_number).collect())
    }

    /// When the resident of `file` was born: as the PESEL says, else as the records do.
    pub(crate) fn born(&self, file: FileId, today: Date) -> Result<Option<Date>, StoreError> {
        let Some(record) = self.get::<FileRecord<IgnoredAny>>(Table::FILES, file.as_bytes())? else { return Ok(None) };
        match record.pesel.as_deref().and_then(|pesel| Pesel::parse(pesel, today).ok()) {
            Some(pesel) => Ok(Some(pesel.birth_date())),
            None => Ok(self.get::<FileRecord>(Table::FILES, file.as_bytes())?.and_then(|record| record.born())),
        }
    }
}

impl Write<'_> {
    /// A client's names, as this transaction sees them.
    pub(crate) fn names(&self, epoch: Epoch, file: FileId) -> Result<Option<Names>, StoreError> {
        self.get(Table::NAMES, &names_key(epoch, file))
    }

    /// Queues what the registry holds under a name for removal.
    pub(crate) fn leave(&self, epoch: Epoch, index: &Index) -> Result<(), StoreError> {
        self.put(Table::LEAVING, &[epoch.0.to_be_bytes().as_slice(), &self.leaving_link(index)].concat(), index)
    }

    /// Changes a resident's names, if it has any.
    pub(crate) fn change_names(
        &self,
        file: FileId,
        epoch: Epoch,
        mut change: impl FnMut(&mut Name) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let key = names_key(epoch, file);
        let Some(mut names) = self.get::<Names>(Table::NAMES, &key)? else { return Ok(()) };
        let mut changed = false;
        for name in &mut names.0 {
            changed |= change(name)?;
        }
        if changed { self.put(Table::NAMES, &key, &names) } else { Ok(()) }
    }

    /// Removes a resident whole; what is published is queued for removal at the registry.
    pub(crate) fn remove_file(&self, store: &Store, file: FileId, epochs: &[Epoch]) -> Result<(), StoreError> {
        let Some(record) = self.get::<FileRecord>(Table::FILES, file.as_bytes())? else { return Ok(()) };
        for (kind, identifier) in record.identifiers() {
            self.remove(Table::LINKS, &store.identifier_link(kind, identifier))?;
        }
        for row in &record.rows {
            if let Some(number) = &row.local_number {
                self.remove(Table::LINKS, &store.unlinked_link(&row.source, number))?;
            }
        }
        for number in record.rows.iter().filter_map(|row| row.local_number.as_deref()) {
            self.remove(Table::LOCAL_NUMBERS, &local_number_key(store, number, file))?;
        }
        self.forget_names(store, file, epochs)?;
        for &epoch in epochs {
            self.remove(Table::CHANGED, &names_key(epoch, file))?;
        }
        for table in [Table::NOTES, Table::SEALED_FIELDS, Table::NEWCOMERS, Table::FILES] {
            self.remove(table, file.as_bytes())?;
        }
        Ok(())
    }

    /// Ends being a newcomer. A resident of whom there are no records goes whole; for one of whom there are by now, the
    /// next enrolment publishes an ordinary entry.
    pub(crate) fn end_newcomer(&self, store: &Store, file: FileId, epochs: &[Epoch]) -> Result<(), StoreError> {
        let record = self.get::<FileRecord<IgnoredAny>>(Table::FILES, file.as_bytes())?;
        if !record.is_some_and(|record| record.has_rows()) {
            return self.remove_file(store, file, epochs);
        }
        self.remove(Table::NEWCOMERS, file.as_bytes())?;
        for &epoch in epochs {
            let provisional = |published: &mut Published| published.provisional;
            self.change_names(file, epoch, |name| Ok(name.published.take_if(provisional).is_some()))?;
        }
        Ok(())
    }

    /// Takes a resident's names and what is found by them: nobody can mean the resident to us, nor we to others. What is
    /// published under them is queued for removal.
    pub(crate) fn forget_names(&self, store: &Store, file: FileId, epochs: &[Epoch]) -> Result<(), StoreError> {
        for &epoch in epochs {
            let key = names_key(epoch, file);
            let Some(names) = self.get::<Names>(Table::NAMES, &key)? else { continue };
            for name in names.iter() {
                self.leave(epoch, &name.index)?;
                self.remove(Table::LINKS, &store.subject_link(epoch, &name.subject))?;
            }
            self.remove(Table::NAMES, &key)?;
        }
        self.remove(Table::TICKETS, file.as_bytes()).map(drop)
    }
}

/// Key of `local_numbers`.
pub(crate) fn local_number_key(store: &Store, number: &str, file: FileId) -> Vec<u8> {
    [store.local_number_link(number).as_slice(), file.as_bytes()].concat()
}

/// What the records here say of residents, made of each file's once.
pub(crate) struct OfFiles<'a, T> {
    node: &'a Node,
    made: fn(&Node, FileRecord) -> T,
    known: RefCell<HashMap<String, T>>,
}

impl<'a, T: Default> OfFiles<'a, T> {
    pub(crate) fn new(node: &'a Node, made: fn(&Node, FileRecord) -> T) -> Self {
        OfFiles { node, made, known: RefCell::default() }
    }

    /// Looks at what was made of `file`, as it stands in entries: nothing, where there is no record, or none to be read.
    pub(crate) fn look<R>(&self, file: &str, at: impl FnOnce(&T) -> R) -> R {
        let make = || {
            let record = self.read(file).unwrap_or_else(|error| {
                tracing::error!(%error, "the record of a file cannot be read");
                None
            });
            record.map(|record| (self.made)(self.node, record)).unwrap_or_default()
        };
        at(self.known.borrow_mut().entry(file.to_owned()).or_insert_with(make))
    }

    fn read(&self, file: &str) -> Result<Option<FileRecord>, StoreError> {
        let Ok(file) = serde_json::from_value::<FileId>(file.into()) else { return Ok(None) };
        self.node.store.read()?.get(Table::FILES, file.as_bytes())
    }
}

/// A resident's rows, read because a [`Permit`] says so.
pub(crate) struct Records {
    rows: Vec<StoredRow>,
    as_of: Option<Timestamp>,
}

/// Reads the record of `file`. Sealed fields are in another table under another key: this cannot reach them.
pub(crate) fn select(read: &Read<'_>, _permit: &Permit, file: FileId) -> Result<Records, StoreError> {
    let record: FileRecord = read.get(Table::FILES, file.as_bytes())?.unwrap_or_default();
    let as_of = record.rows.iter().filter_map(|row| record.imported.get(&row.source)).min().copied();
    Ok(Records { rows: record.rows, as_of })
}

impl Records {
    /// Whether there is anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows.
    pub(crate) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// When the oldest of them were imported.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    /// `field` in every row, `null` where a row lacks it; nothing if every row does. A field in `buckets` is made of the
    /// number it is a rough telling of, where a row has that and not the field itself.
    pub(crate) fn column(&self, field: &FieldId, buckets: Option<&Buckets>) -> Option<Value> {
        let made = |row: &StoredRow| buckets?.of_value(row.fields.get(&buckets?.of)?).map(Value::String);
        let value = |row: &StoredRow| row.fields.get(field).cloned().or_else(|| made(row)).unwrap_or(Value::Null);
        let values: Vec<Value> = self.rows.iter().map(value).collect();
        values.iter().any(|v| !v.is_null()).then_some(Value::Array(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_else_refused() {
        let published = Published { expires: Timestamp(1), audience: [3; 32], provisional: false };
        let name = Name {
            index: Index([1; 32]),
            seal: Zeroizing::new([2; 32]),
            subject: SubjectId([4; 32]),
            published: Some(published),
        };
        let written = serde_json::to_string(&name).unwrap();
        let read: Name = serde_json::from_str(&written).unwrap();
        assert_eq!((read.index, *read.seal, read.subject), (name.index, *name.seal, name.subject));
        assert!(read.published == name.published);
        let seal = protocol::encoding::b64(&[2; 32]);
        for wrong in [&seal[1..], &format!("{seal}AA"), &seal.replace('C', "*"), "7"] {
            assert!(serde_json::from_str::<Name>(&written.replace(&seal, wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_newcomer_goes_unless_records_came() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.redb"), &keyring::StorageKey::from_bytes([1; 32])).unwrap();
        let sources = BTreeMap::from([("pomost".to_owned(), 1)]);
        let [came, stayed_away] = [1, 2].map(|n| FileId([n; 16]));
        let epochs = [Epoch(1)];
        let done: Result<(), StoreError> = store.write(|write| {
            for (file, sources) in [(came, sources), (stayed_away, BTreeMap::new())] {
                let record: FileRecord = FileRecord { sources, ..FileRecord::default() };
                write.put(Table::FILES, file.as_bytes(), &record)?;
                write.put(Table::NEWCOMERS, file.as_bytes(), &())?;
                write.end_newcomer(&store, file, &epochs)?;
            }
            Ok(())
        });
        done.unwrap();
        let read = store.read().unwrap();
        assert_eq!(read.count(Table::NEWCOMERS).unwrap(), 0);
        let is_kept = |file: FileId| read.get::<FileRecord>(Table::FILES, file.as_bytes()).unwrap().is_some();
        assert!(is_kept(came) && !is_kept(stayed_away));
    }
}
