//! Rows that are refused, each for its own reason, and rows that only look bad.

use super::*;
use serde_json::json;

#[track_caller]
fn refused(row: &str, column: Option<&str>, code: &str) {
    let (rows, rejects) = read_rows(&format!("{GOOD}{row}\n{GOOD}"));
    assert_eq!((rows.len(), rejects.len()), (2, 1), "its neighbours are read: {rejects:?}");
    let reject = &rejects[0];
    assert_eq!((reject.line, reject.column.as_deref(), reject.reason.code()), (3, column, code));
}

#[test]
fn each_bad_pesel_has_its_code() {
    for (pesel, code) in [
        ("", "pesel_empty"),
        ("  \u{a0}", "pesel_empty"),
        ("4405140135", "pesel_length"),
        ("440514O1359", "pesel_bad_character"),
        ("44051401358", "pesel_checksum"),
        ("00000000000", "pesel_date"),
        ("00410100000", "pesel_future_birth"),
    ] {
        refused(&format!("{pesel};Nowak;01.02.2024;1,50;3;N;"), Some("PESEL"), code);
    }
}

#[test]
fn spaces_in_a_pesel_are_removed() {
    for pesel in ["  440514 01359 ", "44051401359\u{a0}", "440514-01359", "\"44051401359\""] {
        let (rows, rejects) = read_rows(&format!("{pesel};Nowak;;;;;\n"));
        assert_eq!((rows.len(), rejects.len()), (1, 0), "{rejects:?}");
        assert_eq!(rows[0].pesel.as_ref().unwrap().as_str(), "44051401359");
    }
}

#[test]
fn a_bad_value_refuses_the_whole_row_and_names_its_column() {
    refused("44051401359;Nowak;31.02.2024;1,50;3;N;", Some("od"), "bad_date");
    refused("44051401359;Nowak;01.02.2024;1.50;3;N;", Some("kwota"), "bad_decimal");
    refused("44051401359;Nowak;01.02.2024;1,50;trzy;N;", Some("osób"), "bad_integer");
    refused("44051401359;Nowak;01.02.2024;1,50;3;?;", Some("nk"), "bad_boolean");
    refused("44051401359;No\u{fffd}ak;01.02.2024;1,50;3;N;", Some("nazwisko"), "undecodable");
    refused("44051401359;No\u{1b}ak;01.02.2024;1,50;3;N;", Some("nazwisko"), "control_character");
    refused("44051401359;Nowak;01.02.2024;1,50;3;N;\0", None, "control_character");
}

#[test]
fn rows_of_another_width_are_refused() {
    refused("44051401359;Nowak;01.02.2024", None, "too_few_columns");
    refused("44051401359;No;wak;01.02.2024;1,50;3;N;x", None, "too_many_columns");
    let (rows, rejects) = read_rows("44051401359;Nowak;;;;;;;\n");
    assert_eq!((rows.len(), rejects.len()), (1, 0), "empty cells behind the last column say nothing");
}

#[test]
fn a_stray_quote_costs_its_own_line_only() {
    refused("44051401359;\"Nowak;01.02.2024;1,50;3;N;", None, "quote_not_closed");
    refused("44051401359;\"Nowak\"a;01.02.2024;1,50;3;N;", None, "bad_quoting");
    let (rows, rejects) = read_rows(&format!("4;\"x;;;;;\n44051401359;\"Nowak\";;;;;\n{GOOD}"));
    assert_eq!((rows.len(), rejects.len()), (2, 1));
    assert_eq!((rejects[0].line, rejects[0].reason.code()), (2, "bad_quoting"));
}

#[test]
fn a_quote_that_is_not_closed_is_found_within_bounds() {
    let many = GOOD.repeat(20_000);
    let (rows, rejects) = read_rows(&format!("44051401359;\"Nowak;;;;;\n{many}"));
    assert_eq!((rows.len(), rejects.len()), (20_000, 1));
    assert_eq!((rejects[0].line, rejects[0].reason.code()), (2, "quote_not_closed"));
}

#[test]
fn a_huge_line_is_refused_and_skipped() {
    let huge = "x".repeat(3_000_000);
    refused(&format!("44051401359;{huge};01.02.2024;1,50;3;N;"), None, "record_too_long");
    let (rows, rejects) = read_rows(&huge);
    assert_eq!((rows.len(), rejects.len()), (0, 1), "at the end of the file too");
}

#[test]
fn quotes_keep_delimiters_newlines_and_quotes() {
    let (rows, rejects) = read_rows(&format!("44051401359;\"No\"\"w\n;ak\";;;;;\"a\r\nb\"\r\n{GOOD}44;;;;;;\n"));
    assert_eq!(field(&rows[0], "person.surname"), Some(&json!("No\"w\n;ak")));
    let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
    assert_eq!((lines, rejects[0].line), (vec![2, 5], 6), "lines are those of the file");
    let (rows, _) = read_rows("44051401359;Nowak \"Zosia\";;;;;\n");
    assert_eq!(
        field(&rows[0], "person.surname"),
        Some(&json!("Nowak \"Zosia\"")),
        "quotes inside a plain cell are text"
    );
}

#[test]
fn line_ends_and_blank_lines_do_not_matter() {
    let crlf = format!("\r\n{HEADER}{GOOD}").replace('\n', "\r\n");
    for text in [
        format!("{HEADER}\n{GOOD}  \n;;;;;;\n\n{}", GOOD.trim_end()),
        format!("{crlf}\r\n{}", GOOD.trim_end()),
        format!("{crlf}{}\r", GOOD.trim_end()),
    ] {
        let (rows, rejects) = read(text.as_bytes(), &small(";", "utf-8"));
        assert_eq!((rows.len(), rejects.len()), (2, 0), "{rejects:?}");
        assert_eq!(rows[1].sealed.len(), 1);
    }
}

#[test]
fn empty_cells_are_absent_and_sealed_ones_stand_apart() {
    let (rows, _) = read_rows("44051401359; ;;;;T;\n44051401359;Nowak;01.02.2024;1 234,5;3;;\n");
    assert!(rows[0].fields.is_empty());
    assert_eq!(rows[0].sealed.values().collect::<Vec<_>>(), [&json!(true)]);
    assert!(rows[1].sealed.is_empty());
    assert_eq!(field(&rows[1], "mops.case.from"), Some(&json!("2024-02-01")));
    assert_eq!(field(&rows[1], "mops.benefit.amount"), Some(&json!("1234.50")));
    assert_eq!(field(&rows[1], "mops.household.size"), Some(&json!(3)));
}

#[test]
fn debug_shows_no_value() {
    let (rows, _) = read_rows("44051401359;Nowak;01.02.2024;1,50;3;T;\n");
    assert_eq!(format!("{:?}", rows[0]), "Row { line: 2, .. }");
}
