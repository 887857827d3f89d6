//! The search for planted identifiers: as they are, hashed without a key, and inside what is wrapped in base64url.

use crate::residents::{CANARY_SURNAME, RESIDENTS, windows_1250};
use aho_corasick::AhoCorasick;
use protocol::encoding::b64;
use ring::digest;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The planted identifiers that occur in `bytes`, each once.
#[must_use]
pub fn leaks(bytes: &[u8]) -> Vec<String> {
    static PLANTED: OnceLock<(Vec<String>, AhoCorasick)> = OnceLock::new();
    let (names, searcher) = PLANTED.get_or_init(|| {
        let (names, needles): (Vec<_>, Vec<_>) = planted().into_iter().unzip();
        (names, AhoCorasick::new(needles).expect("needles"))
    });
    let mut found: Vec<_> = searcher.find_iter(bytes).map(|hit| hit.pattern().as_usize()).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|pattern| names[pattern].clone()).collect()
}

/// Every planted identifier in every form that is looked for, with its name.
fn planted() -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for resident in RESIDENTS {
        out.push((format!("pesel {}", resident.units), resident.pesel.as_bytes().to_vec()));
        for algorithm in [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA256, &digest::SHA384, &digest::SHA512] {
            let hash = digest::digest(algorithm, resident.pesel.as_bytes()).as_ref().to_vec();
            let name = |form: &str| format!("pesel {}, {algorithm:?} {form}", resident.units);
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push((name("hexadecimal"), hex.into_bytes()));
            out.push((name("base64url"), b64(&hash).into_bytes()));
            out.push((name("plain"), hash));
        }
    }
    out.push(("surname".to_owned(), CANARY_SURNAME.as_bytes().to_vec()));
    out.push(("surname, Windows-1250".to_owned(), windows_1250(CANARY_SURNAME)));
    out
}

/// The planted identifiers that occur in any file below `dir`, with the file's name.
#[must_use]
pub fn leaks_below(dir: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            out.extend(leaks_below(&entry.path()));
        } else if kind.is_file() {
            let found = leaks(&std::fs::read(entry.path()).expect("a file"));
            if !found.is_empty() {
                out.push((entry.path(), found));
            }
        }
    }
    out
}

/// `bytes` followed by everything that is base64url in them, unwrapped as often as it is: what a signed message says.
#[must_use]
pub fn unwrapped(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut layer = bytes.to_vec();
    while !layer.is_empty() {
        let words = layer.split(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        let inner: Vec<Vec<u8>> = words.filter(|word| word.len() >= 16).filter_map(decoded).collect();
        layer = inner.into_iter().flat_map(|bytes| [b"\n".to_vec(), bytes].concat()).collect();
        out.extend_from_slice(&layer);
    }
    out
}

fn decoded(word: &[u8]) -> Option<Vec<u8>> {
    // Any JSON that takes base64url will do; `Bytes` is the wire's own.
    let text = std::str::from_utf8(word).ok()?;
    serde_json::from_value::<protocol::Bytes>(text.into()).ok().map(|bytes| bytes.0)
}
