//! The one secret that opens everything an instance keeps.

use crate::files::create_private;
use crate::sealer::{MacKey, OpenError, Sealer, random};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// 32 secret bytes from outside the data directory. Never printed; zeroised.
pub struct StorageKey(Zeroizing<[u8; 32]>);

/// Where the storage key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file of 64 hexadecimal digits, readable by the owner alone.
    Credential(PathBuf),
    /// A passphrase; salt and cost stand in the named file, which [`KeySource::prepare`] makes.
    Passphrase {
        /// The salt file.
        salt: PathBuf,
    },
}

/// Why there is no storage key.
#[derive(Debug, thiserror::Error)]
pub enum StorageKeyError {
    /// The credential file is missing or unreadable.
    #[error("the storage key cannot be read from {}", path.display())]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} must hold 64 hexadecimal digits", .0.display())]
    NotAKey(PathBuf),
    /// Others can read the file.
    #[error("{} can be read by others than its owner: chmod 600 it", .0.display())]
    Exposed(PathBuf),
    /// The salt file is damaged.
    #[error("{} is not a passphrase salt file", .0.display())]
    BadSalt(PathBuf),
    /// The salt file is not there: without it the passphrase opens nothing.
    #[error("{} is missing, without which the passphrase opens nothing", .0.display())]
    NoSalt(PathBuf),
    /// The passphrase is too short to protect anything.
    #[error("a passphrase needs at least {} characters", StorageKey::SHORTEST_PASSPHRASE)]
    TooShort,
    /// Argon2id failed, in practice for want of memory.
    #[error("the passphrase could not be stretched: {0}")]
    Stretching(String),
}

/// Salt and cost of a passphrase, beside the data; no secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stretching {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: protocol::Bytes,
}

impl KeySource {
    /// Makes the salt file of a passphrase if it is not there; for the birth of an instance alone.
    ///
    /// # Errors
    /// The file system's.
    pub fn prepare(&self) -> Result<(), StorageKeyError> {
        match self {
            KeySource::Passphrase { salt } if !salt.exists() => Stretching::create(salt),
            _ => Ok(()),
        }
    }

    /// A credential file: a bare name is one of systemd's credentials when the service has any (`LoadCredential`), every
    /// other relative path counts from `base`.
    #[must_use]
    pub fn credential(base: &Path, path: &Path) -> Self {
        let bare = path.components().count() == 1;
        KeySource::Credential(match std::env::var_os(CREDENTIALS) {
            Some(directory) if bare => Path::new(&directory).join(path),
            _ => base.join(path),
        })
    }
}

/// Where systemd puts a service's credentials, readable by that service alone.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl StorageKey {
    /// Characters a passphrase needs at least.
    pub const SHORTEST_PASSPHRASE: usize = 12;

    /// The key itself; for tests and for tools that make credential files.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        StorageKey(Zeroizing::new(bytes))
    }

    /// Makes a credential file with a fresh random key, mode 0600, and fails if the file exists.
    ///
    /// # Errors
    /// The file system's.
    pub fn create_credential(path: &Path) -> io::Result<()> {
        let key = Zeroizing::new(random::<32>()?);
        let text = Zeroizing::new(data_encoding::HEXLOWER.encode(key.as_slice()) + "\n");
        create_private(path, text.as_bytes())
    }

    /// Obtains the key; `passphrase` is asked only when the source needs one.
    ///
    /// # Errors
    /// [`StorageKeyError`].
    pub fn obtain(
        source: &KeySource,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
    ) -> Result<Self, StorageKeyError> {
        match source {
            KeySource::Credential(path) => Self::from_credential(path),
            KeySource::Passphrase { salt } => {
                let salt = Stretching::load(salt)?;
                let typed = passphrase().map_err(|source| StorageKeyError::Unreadable {
                    path: PathBuf::from("the passphrase prompt"),
                    source,
                })?;
                Self::from_passphrase(&typed, &salt)
            }
        }
    }

    fn from_credential(path: &Path) -> Result<Self, StorageKeyError> {
        use std::os::unix::fs::PermissionsExt as _;
        let unreadable = |source| StorageKeyError::Unreadable { path: path.to_owned(), source };
        // systemd protects its credentials by an ACL, which shows as group rights.
        let systemds = std::env::var_os(CREDENTIALS).is_some_and(|directory| path.starts_with(directory));
        if !systemds && std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
            return Err(StorageKeyError::Exposed(path.to_owned()));
        }
        let text = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.trim_ascii())
            .ok()
            .map(Zeroizing::new)
            .and_then(|b| <[u8; 32]>::try_from(b.as_slice()).ok());
        bytes.map(Self::from_bytes).ok_or_else(|| StorageKeyError::NotAKey(path.to_owned()))
    }

    /// Argon2id (RFC 9106) with the first recommended cost that fits a small server: 64 MiB, 3 passes, 4 lanes.
    fn from_passphrase(passphrase: &str, salt: &Stretching) -> Result<Self, StorageKeyError> {
        if passphrase.chars().count() < Self::SHORTEST_PASSPHRASE {
            return Err(StorageKeyError::TooShort);
        }
        let stretching = |e: argon2::Error| StorageKeyError::Stretching(e.to_string());
        let params = Params::new(salt.memory_kib, salt.passes, salt.lanes, Some(32)).map_err(stretching)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt.salt.0, key.as_mut_slice())
            .map_err(stretching)?;
        Ok(StorageKey(key))
    }

    /// HKDF-Expand-SHA-256 of this key with `label`, 32 bytes: one block, so T(1) of RFC 5869 §2.3.
    #[must_use]
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(MacKey::new(&self.0).mac(&[b"ogniwo/v1/storage/", label.as_bytes(), &[1]]))
    }

    /// A sealer under the key derived for `label`.
    ///
    /// # Errors
    /// [`OpenError`] if the library refuses the key.
    pub fn sealer(&self, label: &str) -> Result<Sealer, OpenError> {
        Sealer::new(&self.derive(label))
    }

    /// A MAC key derived for `label`.
    #[must_use]
    pub fn mac(&self, label: &str) -> MacKey {
        MacKey::new(&self.derive(label))
    }
}

impl std::fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StorageKey(…)")
    }
}

impl Stretching {
    fn load(path: &Path) -> Result<Self, StorageKeyError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Stretching>(&bytes)
                .ok()
                .filter(|s| s.algorithm == "argon2id" && s.salt.0.len() >= 16)
                .ok_or_else(|| StorageKeyError::BadSalt(path.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StorageKeyError::NoSalt(path.to_owned())),
            Err(source) => Err(StorageKeyError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn create(path: &Path) -> Result<(), StorageKeyError> {
        let unreadable = |source| StorageKeyError::Unreadable { path: path.to_owned(), source };
        let made = Stretching {
            algorithm: "argon2id".to_owned(),
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 4,
            salt: protocol::Bytes(random::<32>().map_err(unreadable)?.to_vec()),
        };
        let text = serde_json::to_vec_pretty(&made).map_err(|e| unreadable(io::Error::other(e)))?;
        create_private(path, &text).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn obtain(source: &KeySource, phrase: &str) -> Result<StorageKey, StorageKeyError> {
        StorageKey::obtain(source, || Ok(Zeroizing::new(phrase.to_owned())))
    }

    #[test]
    fn a_credential_is_read_back_and_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storage.key");
        StorageKey::create_credential(&path).unwrap();
        let source = KeySource::Credential(path.clone());
        let first = obtain(&source, "").unwrap().derive("x");
        assert_eq!(first, obtain(&source, "").unwrap().derive("x"));
        assert_ne!(first, obtain(&source, "").unwrap().derive("y"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(obtain(&source, ""), Err(StorageKeyError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(obtain(&source, ""), Err(StorageKeyError::NotAKey(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(obtain(&source, ""), Err(StorageKeyError::Unreadable { .. })));
    }

    #[test]
    fn a_passphrase_gives_the_same_key_with_its_salt_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let source = KeySource::Passphrase { salt: dir.path().join("salt.json") };
        assert!(matches!(obtain(&source, "koń bateria zszywka"), Err(StorageKeyError::NoSalt(_))));
        assert!(!dir.path().join("salt.json").exists(), "a lost one is not made anew");
        source.prepare().unwrap();
        let first = obtain(&source, "koń bateria zszywka").unwrap().derive("x");
        assert_eq!(first, obtain(&source, "koń bateria zszywka").unwrap().derive("x"));
        assert_ne!(first, obtain(&source, "koń bateria zszywki").unwrap().derive("x"));
        source.prepare().unwrap();
        assert_eq!(first, obtain(&source, "koń bateria zszywka").unwrap().derive("x"), "the one there stays");
        assert!(matches!(obtain(&source, "short"), Err(StorageKeyError::TooShort)));
        std::fs::write(dir.path().join("salt.json"), "{}").unwrap();
        assert!(matches!(obtain(&source, "koń bateria zszywka"), Err(StorageKeyError::BadSalt(_))));
    }
}
