//! The reader as a whole: every kind of dirt, each encoding, the shipped mappings and the shipped cut.

mod cut;
mod dirt;
mod files;
mod property;

use super::{Entry, Extract, ExtractError, FieldRule, Mapping, Reject, Row};
use jiff::civil::{Date, date};
use policies::Field;
use protocol::FieldId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

const TODAY: Date = date(2026, 11, 21);

/// The catalogue as `policies/library` ships it.
pub(super) fn catalogue(field: &FieldId) -> Option<FieldRule> {
    static FIELDS: LazyLock<BTreeMap<FieldId, Field>> = LazyLock::new(|| {
        toml::from_str(&std::fs::read_to_string(shipped("policies/library/fields.toml")).unwrap()).unwrap()
    });
    FIELDS.get(field).map(FieldRule::from)
}

fn shipped(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// A mapping of five columns, for files written in the tests.
fn small(delimiter: &str, encoding: &str) -> Mapping {
    let text = format!(
        r#"
        source = "test"
        delimiter = "{delimiter}"
        encoding = "{encoding}"
        date_format = "dd.mm.yyyy"
        decimal = "comma"
        true_values = ["T"]
        false_values = ["N"]
        ignore = ["uwagi"]
        [columns]
        PESEL = {{ pesel = true }}
        nazwisko = {{ field = "person.surname" }}
        od = {{ field = "mops.case.from" }}
        kwota = {{ field = "mops.benefit.amount" }}
        "osób" = {{ field = "mops.household.size" }}
        nk = {{ field = "mops.nk" }}
        "#
    );
    Mapping::parse(&text, &catalogue).unwrap()
}

const HEADER: &str = "PESEL;nazwisko;od;kwota;osób;nk;uwagi\n";
const GOOD: &str = "44051401359;Nowak;01.02.2024;1,50;3;N;\n";

fn open<'a>(bytes: &'a [u8], mapping: &Mapping) -> Result<Extract<&'a [u8]>, ExtractError> {
    Extract::new(bytes, mapping, TODAY)
}

/// Every row and reject of a file whose header is in order.
fn read(bytes: &[u8], mapping: &Mapping) -> (Vec<Row>, Vec<Reject>) {
    let (mut rows, mut rejects) = (Vec::new(), Vec::new());
    for entry in open(bytes, mapping).unwrap() {
        match entry.unwrap() {
            Entry::Row(row) => rows.push(row),
            Entry::Reject(reject) => rejects.push(reject),
        }
    }
    (rows, rejects)
}

/// The rows below [`HEADER`] in UTF-8 with semicolons.
fn read_rows(rows: &str) -> (Vec<Row>, Vec<Reject>) {
    read(format!("{HEADER}{rows}").as_bytes(), &small(";", "utf-8"))
}

fn field<'a>(row: &'a Row, id: &str) -> Option<&'a Value> {
    row.fields.get(&id.parse::<FieldId>().unwrap())
}
