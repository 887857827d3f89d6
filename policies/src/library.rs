//! The bundle of rule files: read, digested, checked.

use crate::catalogue::Catalogue;
use crate::engine::Engine;
use crate::guard::{FEDERATION, Guard, SCHEMA};
use crate::{check, example};
use protocol::encoding::sha256;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const CONSENTS: &str = "consents.toml";
pub(crate) const EXAMPLES: &str = "examples.toml";
pub(crate) const FIELDS: &str = "fields.toml";
pub(crate) const KINDS: &str = "kinds.toml";
pub(crate) const MANDATES: &str = "mandates.toml";
pub(crate) const PURPOSES: &str = "purposes.toml";
pub(crate) const QUERIES: &str = "queries.toml";
pub(crate) const ROLES: &str = "roles.toml";

/// The files of a library, all needed and no others, as this program carries them.
const BUILTIN: [(&str, &str); 10] = [
    (CONSENTS, include_str!("../library/consents.toml")),
    (EXAMPLES, include_str!("../library/examples.toml")),
    (FEDERATION, include_str!("../library/federation.cedar")),
    (FIELDS, include_str!("../library/fields.toml")),
    (KINDS, include_str!("../library/kinds.toml")),
    (MANDATES, include_str!("../library/mandates.toml")),
    (PURPOSES, include_str!("../library/purposes.toml")),
    (QUERIES, include_str!("../library/queries.toml")),
    (ROLES, include_str!("../library/roles.toml")),
    (SCHEMA, include_str!("../library/schema.cedarschema")),
];

/// A checked bundle of rules.
#[derive(Clone, Debug)]
pub struct Library {
    pub(crate) digest: [u8; 32],
    pub(crate) catalogue: Catalogue,
    pub(crate) guard: Guard,
}

/// A rule file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct LibraryError {
    file: String,
    problem: String,
}

impl LibraryError {
    pub(crate) fn new(file: &str, problem: impl Into<String>) -> Self {
        LibraryError { file: file.to_owned(), problem: problem.into() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl Library {
    /// The library this program carries.
    ///
    /// # Errors
    /// Never for a released program: its tests load it.
    pub fn builtin() -> Result<Self, LibraryError> {
        Self::from_files(&builtin_files())
    }

    /// The library in `directory`: exactly the files of `policies/library`.
    ///
    /// # Errors
    /// The first file that cannot be read, is missing or not known, contradicts another, or disagrees with an example.
    pub fn load(directory: &Path) -> Result<Self, LibraryError> {
        let unreadable =
            |path: &Path, error: std::io::Error| LibraryError::new(&path.display().to_string(), error.to_string());
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(|e| unreadable(directory, e))? {
            let path = entry.map_err(|e| unreadable(directory, e))?.path();
            let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, text);
        }
        Self::from_files(&files)
    }

    pub(crate) fn from_files(files: &BTreeMap<String, String>) -> Result<Self, LibraryError> {
        if let Some(name) = files.keys().find(|name| BUILTIN.iter().all(|(known, _)| known != name)) {
            return Err(LibraryError::new(name, "not a file of a library"));
        }
        let catalogue = Catalogue {
            kinds: table(files, KINDS)?,
            roles: table(files, ROLES)?,
            purposes: table(files, PURPOSES)?,
            fields: table(files, FIELDS)?,
            queries: table(files, QUERIES)?,
            mandates: table(files, MANDATES)?,
            templates: table(files, CONSENTS)?,
        };
        check::catalogue(&catalogue)?;
        let guard = Guard::new(text(files, SCHEMA)?, text(files, FEDERATION)?, &catalogue)?;
        let library = Library { digest: digest(files), catalogue, guard };
        let engine = Engine::federation(library);
        example::run(&table(files, EXAMPLES)?, &engine)?;
        Ok(engine.into_library())
    }

    /// SHA-256 over the files in the order of their names, each as length (u64, big-endian) ‖ name ‖ length ‖ bytes.
    /// A manifest pins it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Everything it lists.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}

pub(crate) fn builtin_files() -> BTreeMap<String, String> {
    BUILTIN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn text<'a>(files: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, LibraryError> {
    files.get(name).map(String::as_str).ok_or_else(|| LibraryError::new(name, "missing"))
}

fn table<T: DeserializeOwned>(files: &BTreeMap<String, String>, name: &str) -> Result<T, LibraryError> {
    toml::from_str(text(files, name)?).map_err(|e| LibraryError::new(name, e.to_string()))
}

fn digest(files: &BTreeMap<String, String>) -> [u8; 32] {
    let framed = files.iter().flat_map(|(name, text)| [name, text]).fold(Vec::new(), |mut out, part| {
        out.extend((part.len() as u64).to_be_bytes());
        out.extend(part.as_bytes());
        out
    });
    sha256(&[&framed])
}
