//! Which residents a user is close to: the user's own file here, a colleague's, somebody's of the same surname or
//! address.
//!
//! The identity provider says who a user is as a resident, where the institution wants that (`[local.tokens.person]`).
//! Nothing of it is kept but marks under the institution's key, beside the user's name in the store; a resident's record
//! gives marks of the same kind when somebody looked it up. A user who is a client here has the marks of that file too.

use crate::node::Node;
use crate::records::{FileRecord, Kind, OfFiles};
use crate::staff::Person;
use crate::store::{StoreError, Table};
use protocol::FileId;
use protocol::encoding::{Bytes, b64};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use zeroize::Zeroizing;

/// Claims of a token that say who the user is as a resident; each may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonClaims {
    /// The PESEL.
    pub pesel: Option<String>,
    /// The surname, as `family_name` (`OpenID` Connect Core §5.1).
    pub surname: Option<String>,
    /// The address, as `address`: an object with `street_address` and `postal_code` (§5.1.1).
    pub address: Option<String>,
}

/// What a token says by them, as long as the call lasts.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Claimed {
    pesel: Option<Zeroizing<String>>,
    surname: Option<Zeroizing<String>>,
    address: Option<Zeroizing<String>>,
}

impl PersonClaims {
    pub(crate) fn read(&self, claims: &Map<String, Value>) -> Claimed {
        let of = |name: &Option<String>| claims.get(name.as_deref()?);
        let text = |value: &Value| Some(Zeroizing::new(value.as_str()?.to_owned()));
        let address = |value: &Value| {
            let part = |name: &str| value.get(name)?.as_str();
            Some(Zeroizing::new(format!("{} {}", part("street_address")?, part("postal_code")?)))
        };
        Claimed {
            pesel: of(&self.pesel).and_then(text),
            surname: of(&self.surname).and_then(text),
            address: of(&self.address).and_then(address),
        }
    }
}

/// Marks of a user or of a resident.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// A user's: the key in `links` of the PESEL.
    #[serde(default)]
    link: Option<Bytes>,
    /// One for each part of a surname, of an address.
    #[serde(default)]
    of: BTreeSet<Bytes>,
}

impl Marks {
    pub(crate) fn claimed(node: &Node, claimed: &Claimed) -> Self {
        let Claimed { pesel, surname, address } = claimed;
        let link = pesel.as_ref().map(|pesel| node.store.identifier_link(Kind::Pesel, pesel.trim()));
        let surnames = surname.iter().flat_map(|surname| stems(surname)).map(|stem| surname_mark(node, &stem));
        let addresses = address.iter().filter_map(|address| place(address)).map(|place| address_mark(node, &place));
        Marks { link: link.map(|link| Bytes(link.to_vec())), of: surnames.chain(addresses).collect() }
    }

    /// A resident's.
    fn on_file(node: &Node, record: FileRecord) -> Self {
        let mut of = BTreeSet::new();
        for row in record.rows {
            let text = |field: &str| {
                let value = row.fields.iter().find(|(id, _)| id.as_str() == field);
                value.and_then(|(_, value)| value.as_str()).unwrap_or_default()
            };
            of.extend(stems(text("person.surname")).iter().map(|stem| surname_mark(node, stem)));
            let parts = ["street", "house", "flat", "postal_code"].map(|part| text(&format!("person.address.{part}")));
            // A street alone is no address.
            if !parts[0].is_empty() && !parts[1].is_empty() {
                of.extend(place(&parts.join(" ")).map(|place| address_mark(node, &place)));
            }
        }
        Marks { link: None, of }
    }
}

fn surname_mark(node: &Node, stem: &str) -> Bytes {
    Bytes(node.macs.staff.mac(&[b"surname\0", stem.as_bytes()]).to_vec())
}

fn address_mark(node: &Node, place: &str) -> Bytes {
    Bytes(node.macs.staff.mac(&[b"address\0", place.as_bytes()]).to_vec())
}

/// The parts of a surname without what tells a woman's from a man's.
fn stems(surname: &str) -> BTreeSet<String> {
    let stem = |word: String| match word.strip_suffix(['a', 'i', 'y']) {
        Some(stem) if stem.len() > 3 => stem.to_owned(),
        _ => word,
    };
    policies::plain_words(surname).into_iter().map(stem).collect()
}

/// Street, house, flat and postal code as one word, however they are written.
fn place(address: &str) -> Option<String> {
    const SAID_OR_NOT: [&str; 7] = ["ul", "ulica", "al", "aleja", "os", "pl", "m"];
    let words = policies::plain_words(address);
    let kept: Vec<&str> = words.iter().map(String::as_str).filter(|word| !SAID_OR_NOT.contains(word)).collect();
    (!kept.is_empty()).then(|| kept.concat())
}

/// How a user is close to a resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kin {
    /// It is the user's own file.
    Own,
    /// The same surname or address.
    Relative,
    /// Another user of this institution.
    Colleague,
}

/// What is known of that, read once.
pub(crate) struct Relations<'a> {
    /// By the id that stands in entries.
    users: HashMap<String, User>,
    residents: OfFiles<'a, Marks>,
}

struct User {
    marks: BTreeSet<Bytes>,
    /// The user's own file here.
    file: Option<String>,
}

impl<'a> Relations<'a> {
    pub(crate) fn read(node: &'a Node) -> Result<Self, StoreError> {
        let read = node.store.read()?;
        let mut users = HashMap::new();
        for row in read.each(Table::STAFF)? {
            let (key, Person { marks, .. }) = row?;
            let file: Option<FileId> = marks.link.map(|link| read.get(Table::LINKS, &link.0)).transpose()?.flatten();
            let record: Option<FileRecord> =
                file.map(|file| read.get(Table::FILES, file.as_bytes())).transpose()?.flatten();
            let here = record.map(|record| Marks::on_file(node, record).of).unwrap_or_default();
            let user = User { marks: &marks.of | &here, file: file.map(|file| file.to_string()) };
            users.insert(b64(&key), user);
        }
        Ok(Relations { users, residents: OfFiles::new(node, Marks::on_file) })
    }

    /// Whether `user` is close to the resident of `file` in this way, both as they stand in entries.
    pub(crate) fn are(&self, user: &str, file: &str, kin: Kin) -> bool {
        let Some(me) = self.users.get(user) else { return false };
        let mine = me.file.as_deref() == Some(file);
        match kin {
            Kin::Own => mine,
            Kin::Colleague => !mine && self.users.values().any(|other| other.file.as_deref() == Some(file)),
            Kin::Relative => !mine && !me.marks.is_empty() && self.share(&me.marks, file),
        }
    }

    fn share(&self, marks: &BTreeSet<Bytes>, file: &str) -> bool {
        self.residents.look(file, |resident| !marks.is_disjoint(&resident.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_surname_is_the_same_in_both_forms_and_an_address_however_it_is_written() {
        assert_eq!(stems("Kowalska-Nowak"), stems("NOWAK KOWALSKI"));
        assert_eq!(stems("Żółta"), stems("zolty"));
        assert_ne!(stems("Kowalski"), stems("Kowal"));
        assert_eq!(stems("Ola"), ["ola".to_owned()].into(), "nothing would be left");
        assert_eq!(place("ul. Długa 12 m. 3 90-001"), place("Dluga 12 3 90-001"));
        assert_ne!(place("Długa 12 4 90-001"), place("Długa 12 3 90-001"));
        assert_eq!(place(" - "), None);
    }

    #[test]
    fn only_claims_that_are_named_are_read() {
        let claims = json!({
            "pesel": "1", "family_name": "Nowak", "address": { "street_address": "Długa 1", "postal_code": "90-001" },
        });
        let claims = claims.as_object().unwrap();
        assert!(PersonClaims::default().read(claims) == Claimed::default());
        let named = PersonClaims {
            pesel: Some("pesel".into()),
            surname: Some("family_name".into()),
            address: Some("address".into()),
        };
        let read = named.read(claims);
        assert_eq!(read.address.as_deref().map(String::as_str), Some("Długa 1 90-001"));
        assert!(read.pesel.is_some() && read.surname.is_some());
    }
}
