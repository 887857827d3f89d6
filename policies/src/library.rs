//! The bundle of rule files: read, digested, checked.

use crate::bundle::{BUNDLE, Bundle};
use crate::catalogue::Catalogue;
use crate::engine::Engine;
use crate::guard::{FEDERATION, Guard, SCHEMA};
use crate::{check, example};
use protocol::bundle::{BundleRelease, LibraryPin, Unreleased};
use protocol::encoding::sha256;
use protocol::jws::JwsError;
use protocol::manifest::Officers;
use protocol::{Bytes, MemberId, Realm, SigningKey, Timestamp};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const AGREEMENTS: &str = "agreements.toml";
pub(crate) const CONSENTS: &str = "consents.toml";
pub(crate) const EMERGENCIES: &str = "emergencies.toml";
pub(crate) const EXAMPLES: &str = "examples.toml";
pub(crate) const FIELDS: &str = "fields.toml";
pub(crate) const KINDS: &str = "kinds.toml";
pub(crate) const MANDATES: &str = "mandates.toml";
pub(crate) const PURPOSES: &str = "purposes.toml";
pub(crate) const QUERIES: &str = "queries.toml";
pub(crate) const ROLES: &str = "roles.toml";
pub(crate) const TERMS: &str = "terms.toml";
/// The officers' signatures beside a library, a JSON array of compact JWS. Not a part of what they sign.
const RELEASE: &str = "release.json";

/// The files of a library, all needed and no others, as this program carries them.
const BUILTIN: [(&str, &str); 14] = [
    (AGREEMENTS, include_str!("../library/agreements.toml")),
    (BUNDLE, include_str!("../library/bundle.toml")),
    (CONSENTS, include_str!("../library/consents.toml")),
    (EMERGENCIES, include_str!("../library/emergencies.toml")),
    (EXAMPLES, include_str!("../library/examples.toml")),
    (FEDERATION, include_str!("../library/federation.cedar")),
    (FIELDS, include_str!("../library/fields.toml")),
    (KINDS, include_str!("../library/kinds.toml")),
    (MANDATES, include_str!("../library/mandates.toml")),
    (PURPOSES, include_str!("../library/purposes.toml")),
    (QUERIES, include_str!("../library/queries.toml")),
    (ROLES, include_str!("../library/roles.toml")),
    (SCHEMA, include_str!("../library/schema.cedarschema")),
    (TERMS, include_str!("../library/terms.toml")),
];

/// A checked bundle of rules.
#[derive(Clone, Debug)]
pub struct Library {
    pub(crate) digest: [u8; 32],
    pub(crate) version: u32,
    pub(crate) bundle: Bundle,
    releases: Vec<String>,
    files: BTreeMap<String, String>,
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

    /// The library in `directory`: exactly the files of `policies/library`, and the officers' `release.json` if they
    /// signed it.
    ///
    /// # Errors
    /// The first file that cannot be read, is missing or not known, contradicts another, or disagrees with an example.
    pub fn load(directory: &Path) -> Result<Self, LibraryError> {
        Self::from_files(&read(directory)?)
    }

    /// The `bundle.toml` that fits the other files in `directory`: for whoever drafts a version.
    ///
    /// # Errors
    /// A file that cannot be read, or a `bundle.toml` that is missing or not one.
    pub fn renewed_bundle(directory: &Path) -> Result<String, LibraryError> {
        let mut files = read(directory)?;
        files.remove(RELEASE);
        let bundle: Bundle = table(&files, BUNDLE)?;
        bundle.renewed(&files).map_err(|e| LibraryError::new(BUNDLE, e.to_string()))
    }

    pub(crate) fn from_files(files: &BTreeMap<String, String>) -> Result<Self, LibraryError> {
        let mut files = files.clone();
        let releases = match files.remove(RELEASE) {
            None => Vec::new(),
            Some(text) => serde_json::from_str(&text).map_err(|e| LibraryError::new(RELEASE, e.to_string()))?,
        };
        if let Some(name) = files.keys().find(|name| BUILTIN.iter().all(|(known, _)| known != name)) {
            return Err(LibraryError::new(name, "not a file of a library"));
        }
        BUILTIN.iter().try_for_each(|(name, _)| text(&files, name).map(drop))?;
        let catalogue = released_catalogue(&files)?;
        check::catalogue(&catalogue)?;
        let guard = Guard::new(text(&files, SCHEMA)?, text(&files, FEDERATION)?, &catalogue)?;
        let bundle: Bundle = table(&files, BUNDLE)?;
        let digest = sha256(&[text(&files, BUNDLE)?.as_bytes()]);
        let (examples, version) = (table(&files, EXAMPLES)?, bundle.version);
        let library = Library { digest, version, bundle, releases, files, catalogue, guard };
        let engine = Engine::federation(library);
        example::run(&examples, &engine)?;
        let library = engine.into_library();
        // Last, so that somebody who writes a draft is told of its faults before its digests.
        library.bundle.check(&library.files)?;
        Ok(library)
    }

    /// SHA-256 of its `bundle.toml`, in which the digest of every other file stands. A manifest pins it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Its version and digest, as a manifest pins them.
    #[must_use]
    pub fn pin(&self) -> LibraryPin {
        LibraryPin { version: self.version, digest: Bytes(self.digest.to_vec()) }
    }

    /// What `bundle.toml` says: version, digests and what changed.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// `release.json` with the word of one more officer of `member`, for `realm` at `now`; one that stood there before is
    /// replaced.
    ///
    /// # Errors
    /// [`JwsError::Signing`].
    pub fn released_by(
        &self,
        member: &MemberId,
        officer: &SigningKey,
        realm: &Realm,
        now: Timestamp,
    ) -> Result<String, JwsError> {
        let (version, digest) = (self.version, Bytes(self.digest.to_vec()));
        let word = BundleRelease { iss: member.clone(), iat: now, realm: realm.clone(), version, digest };
        let mut releases = self.releases.clone();
        releases.retain(|token| !BundleRelease::is_by(token, member, officer));
        releases.push(word.sign(officer)?);
        serde_json::to_string_pretty(&releases).map_err(|_| JwsError::Signing)
    }

    /// Whether as many officers released this version as `officers` says. The manifest's pin says the same of the
    /// library in use; this says it of one that no manifest names yet.
    ///
    /// # Errors
    /// [`Unreleased`].
    pub fn check_release(&self, officers: &Officers, realm: &Realm) -> Result<(), Unreleased> {
        BundleRelease::check(&self.releases, officers, realm, self.version, &self.digest)
    }

    /// The Cedar schema and the federation's policies.
    #[must_use]
    pub fn cedar(&self) -> [&str; 2] {
        [SCHEMA, FEDERATION].map(|name| self.files.get(name).map_or("", String::as_str))
    }

    /// Everything it lists.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}

pub(crate) fn read(directory: &Path) -> Result<BTreeMap<String, String>, LibraryError> {
    let unreadable =
        |path: &Path, error: std::io::Error| LibraryError::new(&path.display().to_string(), error.to_string());
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(|e| unreadable(directory, e))? {
        let path = entry.map_err(|e| unreadable(directory, e))?.path();
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

/// What the files of a library list, older ones too: what they do not have they do not permit.
pub(crate) fn released_catalogue(files: &BTreeMap<String, String>) -> Result<Catalogue, LibraryError> {
    Ok(Catalogue {
        kinds: table(files, KINDS)?,
        roles: table(files, ROLES)?,
        purposes: table(files, PURPOSES)?,
        terms: if files.contains_key(TERMS) { table(files, TERMS)? } else { BTreeMap::new() },
        fields: table(files, FIELDS)?,
        queries: table(files, QUERIES)?,
        mandates: table(files, MANDATES)?,
        emergencies: table(files, EMERGENCIES)?,
        templates: table(files, CONSENTS)?,
        agreements: if files.contains_key(AGREEMENTS) { table(files, AGREEMENTS)? } else { BTreeMap::new() },
    })
}

pub(crate) fn builtin_files() -> BTreeMap<String, String> {
    BUILTIN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn text<'a>(files: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, LibraryError> {
    files.get(name).map(String::as_str).ok_or_else(|| LibraryError::new(name, "missing"))
}

pub(crate) fn table<T: DeserializeOwned>(files: &BTreeMap<String, String>, name: &str) -> Result<T, LibraryError> {
    toml::from_str(text(files, name)?).map_err(|e| LibraryError::new(name, e.to_string()))
}
