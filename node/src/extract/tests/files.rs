//! Files that are not what the mapping describes, and each encoding.

use super::*;
use encoding_rs::WINDOWS_1250;
use serde_json::json;
use std::io::{self, Read};
use std::path::Path;

#[track_caller]
fn refused(bytes: &[u8], mapping: &Mapping, code: &str, says: &[&str]) {
    let error = open(bytes, mapping).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for part in says {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(!error.to_string().contains("44051401359") && !error.to_string().contains("Nowak"), "{error}");
}

#[test]
fn both_encodings_and_the_mark_are_read() {
    let text = format!("{HEADER}44051401359;Żółć;;;;;\n");
    let marked = format!("\u{feff}{text}");
    let windows = WINDOWS_1250.encode(&text).0;
    for (bytes, encoding) in
        [(text.as_bytes(), "utf-8"), (marked.as_bytes(), "utf-8"), (windows.as_ref(), "windows-1250")]
    {
        let (rows, rejects) = read(bytes, &small(";", encoding));
        assert!(rejects.is_empty());
        assert_eq!(field(&rows[0], "person.surname"), Some(&json!("Żółć")));
    }
}

#[test]
fn a_row_in_the_other_encoding_is_refused_not_mangled() {
    let row = "44051401359;Żółć;;;;;\n";
    let windows = |text: &str| WINDOWS_1250.encode(text).0.into_owned();
    for (bytes, encoding) in [
        ([windows(HEADER), windows(row), row.as_bytes().to_vec()].concat(), "windows-1250"),
        ([HEADER.as_bytes().to_vec(), row.as_bytes().to_vec(), windows(row)].concat(), "utf-8"),
    ] {
        let (rows, rejects) = read(&bytes, &small(";", encoding));
        assert_eq!((rows.len(), rejects.len()), (1, 1));
        let reject = &rejects[0];
        assert_eq!((reject.line, reject.column.as_deref(), reject.reason.code()), (3, Some("nazwisko"), "undecodable"));
    }
}

#[test]
fn a_wrong_delimiter_is_named() {
    let text = format!("{HEADER}{GOOD}");
    refused(text.as_bytes(), &small(",", "utf-8"), "header_not_found", &["delimiter = \";\"", "hold 6"]);
    let quoted = "\"PESEL\"\t\"nazwisko\"\t\"od\"\t\"kwota\"\t\"osób\"\t\"nk\"\n";
    refused(quoted.as_bytes(), &small(";", "utf-8"), "header_unreadable", &["line 1", "quote"]);
    refused(quoted.replace('"', "").as_bytes(), &small(";", "utf-8"), "header_not_found", &["delimiter = \"tab\""]);
}

#[test]
fn a_wrong_encoding_is_named() {
    let text = format!("{HEADER}{GOOD}");
    let windows = WINDOWS_1250.encode(&text).0;
    refused(&windows, &small(";", "utf-8"), "column_missing", &["\"osób\"", "encoding = \"windows-1250\""]);
    refused(text.as_bytes(), &small(";", "windows-1250"), "column_missing", &["encoding = \"utf-8\""]);
    refused(format!("\u{feff}{text}").as_bytes(), &small(";", "windows-1250"), "extract_utf8_mark", &["utf-8"]);
    let utf16: Vec<u8> = "\u{feff}PESEL".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(&utf16, &small(";", "utf-8"), "extract_utf16", &["export it again"]);
}

#[test]
fn columns_must_match_the_mapping() {
    let mapping = small(";", "utf-8");
    let without = HEADER.replace("kwota", "suma");
    refused(
        without.as_bytes(),
        &mapping,
        "column_missing",
        &["lacks mapped columns \"kwota\"", "line 1 has 7 columns, 5"],
    );
    let extra = HEADER.replace("uwagi", "uwagi;telefon");
    refused(extra.as_bytes(), &mapping, "column_unknown", &["places 8 of the header on line 1:", "ignore"]);
    let twice = HEADER.replace("uwagi", "uwagi;od");
    refused(twice.as_bytes(), &mapping, "column_twice", &["\"od\""]);
    let swapped = "uwagi; nk ;osób;kwota;od;\"nazwisko\";PESEL;;\nx;N;3;1,50;01.02.2024;Nowak;44051401359;;\n";
    assert_eq!(read(swapped.as_bytes(), &mapping).0.len(), 1, "order, spaces and empty last columns do not matter");
}

#[test]
fn a_file_without_a_header_shows_nothing_of_it() {
    refused(GOOD.repeat(2).as_bytes(), &small(";", "utf-8"), "header_not_found", &["must be the header"]);
    refused(GOOD.repeat(2).as_bytes(), &small(",", "utf-8"), "header_not_found", &["must be the header"]);
    let error = Mapping::parse(GOOD, &catalogue).unwrap_err().to_string();
    assert!(!error.contains("Nowak") && !error.contains("44051401359"), "an extract for a mapping: {error}");
}

/// A first line that is a header for the most part, and goes on with a person.
#[test]
fn a_header_shows_no_cell_that_the_mapping_does_not_name() {
    let mapping = small(";", "utf-8");
    let header = HEADER.trim_end();
    for (line, code, says) in [
        (format!("{header};{GOOD}"), "column_unknown", "places 8, 9, 10, 11, 12, 13 of the header on line 3:"),
        (header.replace("kwota", "44051401359"), "column_missing", "\"kwota\"; its header on line 3 has 7 columns, 5"),
        (header.replace("nk;uwagi", "Nowak"), "column_missing", "\"nk\"; its header on line 3 has 6 columns, 5"),
    ] {
        refused(format!("\n\n{line}\n").as_bytes(), &mapping, code, &[says]);
    }
}

#[test]
fn line_ends_of_carriage_returns_alone_are_named() {
    let quoted = "\"PESEL\";\"nazwisko\"\n\"44051401359\";\"Nowak\"\n";
    for text in [format!("{HEADER}{GOOD}"), format!("{HEADER}{}", GOOD.repeat(20_000)), quoted.to_owned()] {
        refused(text.replace('\n', "\r").as_bytes(), &small(";", "utf-8"), "extract_line_ends", &["(CR)"]);
    }
    let text = format!("{}\r", HEADER.trim_end());
    assert!(read(text.as_bytes(), &small(";", "utf-8")).0.is_empty(), "one line and no newline");
}

#[test]
fn empty_files_and_missing_ones_are_named() {
    for empty in ["", "\u{feff}", "\n\r\n  \n"] {
        refused(empty.as_bytes(), &small(";", "utf-8"), "extract_empty", &["export it again"]);
    }
    for path in ["/nonexistent.csv", "/tmp"] {
        let error = Extract::open(Path::new(path), &small(";", "utf-8"), TODAY).unwrap_err();
        assert!(error.code() == "extract_unreadable" && error.to_string().contains(path), "{error}");
    }
    let error = Mapping::load(Path::new("/nonexistent.toml"), &catalogue).unwrap_err();
    assert!(error.code() == "mapping_unreadable" && error.to_string().contains("/nonexistent.toml"), "{error}");
}

/// Gives what it has and then breaks, as a network share does.
struct Breaking<'a>(&'a [u8]);

impl Read for Breaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn a_file_that_breaks_off_ends_with_an_error_once() {
    let text = format!("{HEADER}{}", GOOD.repeat(5_000));
    let mut extract = Extract::new(Breaking(text.as_bytes()), &small(";", "utf-8"), TODAY).unwrap();
    let error = extract.find_map(Result::err).unwrap();
    assert_eq!(error.code(), "extract_broke_off");
    assert!(extract.next().is_none());
}

#[test]
fn progress_ends_at_the_files_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let text = format!("\u{feff}{HEADER}{}\n\n", GOOD.repeat(3_000));
    std::fs::write(&path, &text).unwrap();
    let mut extract = Extract::open(&path, &small(";", "utf-8"), TODAY).unwrap();
    assert_eq!(extract.bytes_read(), (HEADER.len() + 3) as u64);
    let mut before = 0;
    while extract.next().is_some() {
        assert!(extract.bytes_read() > before);
        before = extract.bytes_read();
    }
    assert_eq!((extract.bytes_read(), extract.bytes_total()), (text.len() as u64, Some(text.len() as u64)));
}

#[test]
fn a_stated_birth_date_that_differs_is_counted_not_refused() {
    let mapping = Mapping::load(&shipped("deploy/mappings/css.toml"), &catalogue).unwrap();
    let header =
        "Numer;PESEL;Świadczeniobiorca;Data urodzenia;Świadczenie;Okres od;Okres do;Kwota miesięczna;Liczba dzieci\n";
    let rows =
        "1;44051401359;Nowak Anna;1944-05-14;;;;;\n2;44051401359;Nowak Anna;1944-05-15;;;;;\n3;44051401359;;;;;;;\n";
    let text = format!("{header}{rows}");
    let mut extract = open(text.as_bytes(), &mapping).unwrap();
    assert_eq!(extract.by_ref().filter(|entry| matches!(entry, Ok(Entry::Row(_)))).count(), 3);
    assert_eq!(extract.birth_dates_differ(), 1);
}
