//! Whatever the bytes: no panic, no value in a reject, and on well-formed files the same cells as the `csv` crate.

use super::*;
use crate::extract::scan::{Found, Scanner};
use proptest::prelude::*;

/// Bytes that look like an extract, and some that don't.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(GOOD.as_bytes().to_vec()),
        Just(b"44051401359".to_vec()),
        Just(b";".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just("\u{feff}Żółć".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in soup(), headed: bool, windows: bool) {
        let mapping = small(";", if windows { "windows-1250" } else { "utf-8" });
        let header = if windows { encoding_rs::WINDOWS_1250.encode(HEADER).0.into_owned() } else { HEADER.into() };
        let file = if headed { [header, bytes].concat() } else { bytes };
        if let Ok(extract) = open(&file, &mapping) {
            let lines = file.split(|&byte| byte == b'\n').count() as u64;
            for entry in extract {
                match entry.unwrap() {
                    Entry::Row(row) => prop_assert!((1..=lines).contains(&row.line)),
                    Entry::Reject(reject) => prop_assert!((1..=lines).contains(&reject.line)),
                }
            }
        }
    }

    /// Every cell holds the canary; whatever is refused and however it is shown, the canary stays behind.
    #[test]
    fn rejects_never_hold_a_value(
        cells in prop::collection::vec("[;\"\n\r\u{1b}0-9.,ą]{0,3}", 0..12),
        row in any::<bool>(),
    ) {
        let dirty: Vec<String> = cells.iter().map(|cell| format!("{cell}kanarek{cell}")).collect();
        let line = dirty.join(";");
        let text = if row { format!("{HEADER}{line}\n{GOOD}") } else { format!("{line}\n{GOOD}") };
        let shown = match open(text.as_bytes(), &small(";", "utf-8")) {
            Err(error) => format!("{error} {error:?}"),
            Ok(extract) => format!("{:?}", extract.collect::<Vec<_>>()),
        };
        prop_assert!(!shown.contains("kanarek"), "{}", shown);
    }

    #[test]
    fn well_formed_files_read_as_the_csv_crate_reads_them(
        records in prop::collection::vec(prop::collection::vec("[a-c\";\n ą]{0,6}", 1..5), 0..20),
        crlf: bool,
    ) {
        let mut writer = csv::WriterBuilder::new()
            .flexible(true)
            .delimiter(b';')
            .terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
            .from_writer(Vec::new());
        for record in &records {
            writer.write_record(record).unwrap();
        }
        let file = writer.into_inner().unwrap();

        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(b';').from_reader(file.as_slice());
        let expected: Vec<Vec<Vec<u8>>> = reader
            .byte_records()
            .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
            .filter(|record| record.iter().any(|cell| !cell.trim_ascii().is_empty()))
            .collect();
        prop_assert_eq!(scanned(&file), expected);
    }
}

fn scanned(file: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut scanner = Scanner::new(file, b';', b'"');
    let mut records = Vec::new();
    while let Some(found) = scanner.next().unwrap() {
        assert!(matches!(found, Found::Record { .. }), "{found:?}");
        records.push((0..scanner.width()).map(|at| scanner.cell(at).unwrap().into_owned()).collect());
    }
    records
}
