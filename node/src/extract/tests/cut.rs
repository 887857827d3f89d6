//! The shipped mappings and the shipped cut agree with each other, with the catalogue and with the cut's truth.

use super::*;
use std::collections::BTreeSet;

const UNITS: [&str; 4] = ["css", "mops", "pup", "zlm"];

struct Unit {
    clients: BTreeSet<String>,
    sealed: BTreeSet<String>,
    rows: usize,
    rejects: Vec<Reject>,
    differ: u64,
}

fn import(folder: &std::path::Path, unit: &str) -> Unit {
    let mapping = Mapping::load(&shipped(&format!("deploy/mappings/{unit}.toml")), &catalogue).unwrap();
    let mut extract = Extract::open(&folder.join(format!("{unit}.csv")), &mapping, TODAY).unwrap();
    let (mut clients, mut sealed, mut rows, mut rejects) = (BTreeSet::new(), BTreeSet::new(), 0, Vec::new());
    for entry in extract.by_ref() {
        match entry.unwrap() {
            Entry::Row(row) => {
                rows += 1;
                clients.insert(row.pesel.as_ref().unwrap().as_str().to_owned());
                if row.sealed.values().any(|value| value == &Value::Bool(true)) {
                    sealed.insert(row.pesel.as_ref().unwrap().as_str().to_owned());
                }
                assert!(row.local_number.is_some());
                assert!(["person.surname", "person.given_names"].iter().all(|id| field(&row, id).is_some()));
            }
            Entry::Reject(reject) => rejects.push(reject),
        }
    }
    Unit { clients, sealed, rows, rejects, differ: extract.birth_dates_differ() }
}

fn check_against_truth(folder: &std::path::Path) -> BTreeMap<&'static str, Unit> {
    let truth: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let units: BTreeMap<&str, Unit> = UNITS.into_iter().map(|unit| (unit, import(folder, unit))).collect();
    for (name, unit) in &units {
        let expected = |key: &str| truth[key][name].as_u64().unwrap();
        assert_eq!(unit.clients.len() as u64, expected("clients"), "{name}");
        assert_eq!(unit.rejects.len() as u64, expected("rejected"), "{name}");
        assert_eq!((unit.rows + unit.rejects.len()) as u64, expected("rows"), "{name}");
        assert_eq!(unit.sealed.len() as u64, expected("sealed"), "{name}");
        assert_eq!(unit.differ, 0, "{name}");
        for (kind, code) in [
            ("empty", "pesel_empty"),
            ("short", "pesel_length"),
            ("letters", "pesel_bad_character"),
            ("checksum", "pesel_checksum"),
            ("date", "pesel_date"),
        ] {
            let refused = unit.rejects.iter().filter(|reject| reject.reason.code() == code).count() as u64;
            assert_eq!(refused, truth["bad_rows"][name][kind].as_u64().unwrap(), "{name} {kind}");
        }
    }
    for (together, count) in truth["shared"].as_object().unwrap() {
        let mut sets = together.split('+').map(|unit| &units[unit].clients);
        let first = sets.next().unwrap().clone();
        let common = sets.fold(first, |common, set| &common & set);
        assert_eq!(common.len() as u64, count.as_u64().unwrap(), "{together}");
        assert_ne!(common.len(), 0, "{together}");
    }
    for sample in truth["samples"].as_array().unwrap() {
        let pesel = sample["pesel"].as_str().unwrap();
        let knowing: Vec<&str> = UNITS.into_iter().filter(|unit| units[unit].clients.contains(pesel)).collect();
        assert_eq!(sample["units"], serde_json::json!(knowing));
    }
    for pesel in truth["sealed_samples"].as_array().unwrap() {
        assert!(units["mops"].sealed.contains(pesel.as_str().unwrap()));
    }
    for pesel in truth["strangers"].as_array().unwrap() {
        assert!(units.values().all(|unit| !unit.clients.contains(pesel.as_str().unwrap())));
    }
    units
}

#[test]
fn the_shipped_cut_reads_as_its_truth_says() {
    let units = check_against_truth(&shipped("deploy/demo"));
    assert!(units["mops"].sealed.len() >= 3);
}

/// One resident that several units know is spelt alike: the one-column name and address come apart as others have them.
#[test]
fn columns_that_hold_two_things_come_apart_as_other_units_write_them() {
    let mut seen: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for unit in UNITS {
        let mapping = Mapping::load(&shipped(&format!("deploy/mappings/{unit}.toml")), &catalogue).unwrap();
        let path = shipped(&format!("deploy/demo/{unit}.csv"));
        for entry in Extract::open(&path, &mapping, TODAY).unwrap() {
            let Entry::Row(row) = entry.unwrap() else { continue };
            for (id, value) in row.fields.iter().filter(|(id, _)| id.as_str().starts_with("person.")) {
                let key = (row.pesel.as_ref().unwrap().as_str().to_owned(), id.to_string());
                seen.entry(key).or_default().insert(value.as_str().unwrap().to_owned());
            }
        }
    }
    assert!(seen.len() > 1_000);
    assert!(seen.values().all(|spellings| spellings.len() == 1));
}
