//! Who is in the extracts, read the way the nodes read them; and a search of everything written for any of them.

use crate::demo::extracts::Extracts;
use crate::exit::{Failure, chain};
use aho_corasick::AhoCorasick;
use node::extract::{Entry, Extract, FieldRule, Mapping, Row};
use policies::Library;
use protocol::encoding::{b64, sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// A surname shorter than this occurs by chance in any large file.
const SHORTEST_SURNAME: usize = 7;

/// The residents of one extract.
pub(crate) struct People {
    pub(crate) pesels: BTreeSet<String>,
    pub(crate) surnames: BTreeSet<String>,
    /// The unit's own numbers of those for whom a guardian consents.
    pub(crate) minors: BTreeSet<String>,
}

const ADULT: i16 = 18;

/// Whether the resident of `row` is under eighteen: by the PESEL, else by the birth date.
fn is_minor(row: &Row, today: jiff::civil::Date) -> bool {
    let on_file =
        || row.fields.iter().find(|(field, _)| field.as_str() == "person.birth_date")?.1.as_str()?.parse().ok();
    let born = match &row.pesel {
        Some(pesel) => Some(pesel.birth_date()),
        None => on_file(),
    };
    let of_age = born.and_then(|born| born.checked_add(jiff::Span::new().years(ADULT)).ok());
    of_age.is_some_and(|of_age| today <= of_age)
}

impl People {
    /// Reads a unit's extract.
    pub(crate) fn read(extracts: &Extracts, unit: &str, today: jiff::civil::Date) -> Result<Self, Failure> {
        let refused = |e: &dyn std::error::Error| Failure::new("extract_refused", chain(e));
        let library = Library::builtin().map_err(|e| refused(&e))?;
        let rule = |field: &_| library.catalogue().fields.get(field).map(FieldRule::from);
        let mapping = Mapping::load(&extracts.mapping(unit), &rule).map_err(|e| refused(&e))?;
        let rows = Extract::open(&extracts.extract(unit), &mapping, today).map_err(|e| refused(&e))?;
        let mut people = People { pesels: BTreeSet::new(), surnames: BTreeSet::new(), minors: BTreeSet::new() };
        for entry in rows {
            if let Entry::Row(row) = entry.map_err(|e| refused(&e))? {
                people.pesels.extend(row.pesel.as_ref().map(|pesel| pesel.as_str().to_owned()));
                people.minors.extend(row.local_number.clone().filter(|_| is_minor(&row, today)));
                let surname = row.fields.iter().find(|(field, _)| field.as_str() == "person.surname");
                people.surnames.extend(surname.and_then(|(_, value)| value.as_str()).map(str::to_owned));
            }
        }
        Ok(people)
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) found: usize,
}

/// Searches every file below `dir` for PESEL numbers, their plain hashes, and longer surnames in two encodings.
pub(crate) fn search(dir: &Path, people: &[People]) -> Result<Searched, Failure> {
    let mut patterns: BTreeSet<Vec<u8>> = BTreeSet::new();
    for pesel in people.iter().flat_map(|p| &p.pesels) {
        let hash = sha256(&[pesel.as_bytes()]);
        patterns.extend([
            pesel.as_bytes().to_vec(),
            hash.to_vec(),
            b64(&hash).into_bytes(),
            data_encoding::HEXLOWER.encode(&hash).into_bytes(),
        ]);
    }
    for surname in people.iter().flat_map(|p| &p.surnames).filter(|s| s.chars().count() >= SHORTEST_SURNAME) {
        patterns.insert(surname.as_bytes().to_vec());
        patterns.insert(encoding_rs::WINDOWS_1250.encode(surname).0.into_owned());
    }
    let searcher = AhoCorasick::new(&patterns).map_err(|e| Failure::new("internal", e))?;
    let mut out = Searched::default();
    search_dir(dir, &searcher, &mut out)?;
    Ok(out)
}

/// The processes are at work meanwhile: what they replace or remove before it is read is passed over.
fn search_dir(dir: &Path, searcher: &AhoCorasick, out: &mut Searched) -> Result<(), Failure> {
    let Some(entries) = unless_gone(std::fs::read_dir(dir))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Some(kind) = unless_gone(entry.file_type())? else { continue };
        if kind.is_dir() {
            search_dir(&entry.path(), searcher, out)?;
        } else if kind.is_file()
            && let Some(bytes) = unless_gone(std::fs::read(entry.path()))?
        {
            out.files += 1;
            out.bytes += bytes.len() as u64;
            out.found += searcher.find_iter(&bytes).count();
        }
    }
    Ok(())
}

fn unless_gone<T>(read: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_consent_alone_is_known_by_the_units_own_number() {
        let dir = tempfile::tempdir().unwrap();
        let extracts = Extracts::shipped(dir.path()).unwrap();
        let shipped = std::fs::read_to_string(extracts.extract("pup")).unwrap();
        let head = shipped.lines().next().unwrap();
        let rows = [("1", "87032679097", "1987-03-26"), ("2", "15232600010", "2015-03-26")].map(|(id, pesel, born)| {
            format!("{id},{pesel},Jan,Podleski,{born},bezrobotny,2025-08-30,,,false,,,0,,,443930")
        });
        std::fs::write(extracts.extract("pup"), format!("{head}\n{}\n", rows.join("\n"))).unwrap();
        let minors = |year| People::read(&extracts, "pup", jiff::civil::date(year, 6, 1)).unwrap().minors;
        assert_eq!(minors(2026), BTreeSet::from(["2".to_owned()]));
        assert_eq!(minors(2034), BTreeSet::new());
    }

    #[test]
    fn a_leak_is_found_however_it_is_written() {
        let people = || People {
            pesels: BTreeSet::from(["02070803628".to_owned()]),
            surnames: BTreeSet::from(["Żółtowski".to_owned(), "Nowak".to_owned()]),
            minors: BTreeSet::new(),
        };
        let check = |content: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("deep")).unwrap();
            std::fs::write(dir.path().join("deep/file"), content).unwrap();
            search(dir.path(), &[people()]).unwrap().found
        };
        assert_eq!(check(b"nothing of Nowak 02070803629"), 0);
        assert_eq!(check(b"..02070803628.."), 1);
        assert_eq!(check("Żółtowski".as_bytes()), 1);
        assert_eq!(check(&encoding_rs::WINDOWS_1250.encode("Żółtowski").0), 1);
        assert_eq!(check(&sha256(&[b"02070803628"])), 1);
    }
}
