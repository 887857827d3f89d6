//! Secrets and identifiers come from a prompt or standard input, never from an argument: arguments are seen by others
//! and stay in the shell's history.

use crate::args::ResidentArgs;
use crate::exit::Failure;
use protocol::FieldId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use zeroize::Zeroizing;

/// The storage passphrase.
pub(crate) fn passphrase() -> io::Result<Zeroizing<String>> {
    read("Storage passphrase: ")
}

/// In its place where the key lies in a credential file.
pub(crate) fn no_passphrase() -> io::Result<Zeroizing<String>> {
    Err(io::Error::other("this key comes from a credential file"))
}

/// A storage passphrase that is to seal something: typed twice, for a slip would be known to nobody.
pub(crate) fn new_passphrase() -> io::Result<Zeroizing<String>> {
    let first = passphrase()?;
    if io::stdin().is_terminal() && *first != *read("The same again: ")? {
        return Err(io::Error::other("the two passphrases differ; nothing was made"));
    }
    Ok(first)
}

/// Whom a request is about, as the local API takes it.
pub(crate) fn resident(arguments: &ResidentArgs) -> Result<Value, Failure> {
    match (&arguments.local_number, &arguments.document) {
        (Some(number), _) => Ok(json!({ "local_number": number })),
        (None, Some(document)) => {
            let (kind, country) = document
                .split_once(',')
                .ok_or_else(|| Failure::new("value", "--document takes TYPE,COUNTRY, as PASSPORT,UKR"))?;
            let number = read("Document number: ")?;
            Ok(json!({ "document": { "type": kind, "country": country, "number": number.trim() } }))
        }
        (None, None) => Ok(json!({ "pesel": read("PESEL: ")?.trim() })),
    }
}

/// The values a verify query compares, as the local API takes them.
pub(crate) fn expected(fields: &[FieldId]) -> io::Result<BTreeMap<&FieldId, Zeroizing<String>>> {
    fields.iter().map(|field| Ok((field, read(&format!("Expected {field}: "))?))).collect()
}

fn read(question: &str) -> io::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        rpassword::prompt_password(question).map(Zeroizing::new)
    } else {
        let mut line = Zeroizing::new(String::new());
        io::stdin().read_line(&mut line)?;
        Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
