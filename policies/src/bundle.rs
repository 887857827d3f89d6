//! A library's own table of contents: version, the digest of every other file, and what each version changed.

use crate::library::LibraryError;
use protocol::Bytes;
use protocol::encoding::sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Its file.
pub(crate) const BUNDLE: &str = "bundle.toml";

/// `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Raised with every change, and never going back.
    pub version: u32,
    /// SHA-256 of every other file, base64url.
    pub files: BTreeMap<String, Bytes>,
    /// What each version changed, oldest first.
    pub changes: Vec<Change>,
}

/// One version's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The version.
    pub version: u32,
    /// Whether it is meant to permit what the one before did not. What permits more without saying so is not released.
    pub permits_more: bool,
    /// What changed, for people.
    pub text: String,
}

impl Bundle {
    /// Whether it is the table of contents of `files`, and tells its versions without a gap.
    pub(crate) fn check(&self, files: &BTreeMap<String, String>) -> Result<(), LibraryError> {
        let refuse = |problem: String| Err(LibraryError::new(BUNDLE, problem));
        let told = self.changes.iter().map(|change| change.version).eq(1..=self.version);
        if !told || self.changes.iter().any(|change| change.text.trim().is_empty()) {
            return refuse(format!("changes do not tell versions 1 to {}, each with a text", self.version));
        }
        let now = digests(files);
        if let Some(name) = now.keys().chain(self.files.keys()).find(|name| now.get(*name) != self.files.get(*name)) {
            return refuse(format!("{name} is not the file whose digest stands here"));
        }
        Ok(())
    }

    /// The same with the digests of `files` as they are now, as TOML.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn renewed(&self, files: &BTreeMap<String, String>) -> Result<String, toml::ser::Error> {
        toml::to_string(&Bundle { files: digests(files), ..self.clone() })
    }

    /// Whether its newest version is meant to permit more.
    #[must_use]
    pub fn permits_more(&self) -> bool {
        self.changes.last().is_some_and(|change| change.permits_more)
    }
}

fn digests(files: &BTreeMap<String, String>) -> BTreeMap<String, Bytes> {
    let others = files.iter().filter(|(name, _)| *name != BUNDLE);
    others.map(|(name, text)| (name.clone(), Bytes(sha256(&[text.as_bytes()]).to_vec()))).collect()
}
