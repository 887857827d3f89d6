//! The ring of signing keys, one per use, sealed in one file.

use crate::files::create_private;
use crate::sealer::random;
use crate::storage_key::StorageKey;
use protocol::manifest::KeyUse;
use protocol::{Bytes, SigningKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

/// A member's signing keys.
#[derive(Debug)]
pub struct KeyRing {
    /// Requests, answers, grants, tickets.
    pub message: SigningKey,
    /// Registry entries and evaluation messages.
    pub entry: SigningKey,
    /// Log checkpoints.
    pub log: SigningKey,
    /// Cosignatures.
    pub cosign: SigningKey,
}

/// Why the ring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The file system's word.
    #[error("the key ring {} cannot be used", path.display())]
    Io {
        /// The ring.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not open: another storage key or passphrase, or damage.
    #[error("the key ring {} does not open: wrong passphrase or storage key, or the file is damaged", .0.display())]
    WrongKey(PathBuf),
}

/// What stands in the file, sealed.
#[derive(Serialize, Deserialize)]
struct Seeds {
    message: Bytes,
    entry: Bytes,
    log: Bytes,
    cosign: Bytes,
}

const AAD: &[u8] = b"ogniwo/v1/key-ring";

impl KeyRing {
    /// Makes four fresh keys and writes them to `path`, sealed; fails if the file exists.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn create(path: &Path, storage: &StorageKey) -> Result<Self, RingError> {
        let failed = |source| RingError::Io { path: path.to_owned(), source };
        let seed = || random::<32>().map(|s| Bytes(s.to_vec())).map_err(failed);
        let seeds = Seeds { message: seed()?, entry: seed()?, log: seed()?, cosign: seed()? };
        let text = Zeroizing::new(serde_json::to_vec(&seeds).map_err(|e| failed(io::Error::other(e)))?);
        let sealer = storage.sealer("key-ring").map_err(|_| RingError::WrongKey(path.to_owned()))?;
        create_private(path, &sealer.seal(AAD, &text).map_err(failed)?).map_err(failed)?;
        seeds.into_ring().ok_or_else(|| RingError::WrongKey(path.to_owned()))
    }

    /// Opens the ring at `path`.
    ///
    /// # Errors
    /// [`RingError`]; `WrongKey` is also how a wrong passphrase shows.
    pub fn open(path: &Path, storage: &StorageKey) -> Result<Self, RingError> {
        let sealed = std::fs::read(path).map_err(|source| RingError::Io { path: path.to_owned(), source })?;
        let wrong = || RingError::WrongKey(path.to_owned());
        let text = storage.sealer("key-ring").and_then(|s| s.open(AAD, &sealed)).map_err(|_| wrong())?;
        let seeds: Seeds = serde_json::from_slice(&text).map_err(|_| wrong())?;
        seeds.into_ring().ok_or_else(wrong)
    }

    /// The key for `usage`.
    #[must_use]
    pub fn key(&self, usage: KeyUse) -> &SigningKey {
        match usage {
            KeyUse::Message => &self.message,
            KeyUse::Entry => &self.entry,
            KeyUse::Log => &self.log,
            KeyUse::Cosign => &self.cosign,
        }
    }
}

impl Seeds {
    fn into_ring(mut self) -> Option<KeyRing> {
        let key = |bytes: &mut Bytes| {
            let seed = Zeroizing::new(<[u8; 32]>::try_from(bytes.0.as_slice()).ok()?);
            bytes.0.zeroize();
            SigningKey::from_seed(&seed).ok()
        };
        Some(KeyRing {
            message: key(&mut self.message)?,
            entry: key(&mut self.entry)?,
            log: key(&mut self.log)?,
            cosign: key(&mut self.cosign)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_its_storage_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.sealed");
        let made = KeyRing::create(&path, &StorageKey::from_bytes([1; 32])).unwrap();
        let opened = KeyRing::open(&path, &StorageKey::from_bytes([1; 32])).unwrap();
        for usage in [KeyUse::Message, KeyUse::Entry, KeyUse::Log, KeyUse::Cosign] {
            assert_eq!(made.key(usage).public(), opened.key(usage).public());
        }
        assert!(matches!(KeyRing::open(&path, &StorageKey::from_bytes([2; 32])), Err(RingError::WrongKey(_))));
        assert!(matches!(KeyRing::create(&path, &StorageKey::from_bytes([1; 32])), Err(RingError::Io { .. })));
        let file = std::fs::read(&path).unwrap();
        assert!(!file.windows(32).any(|w| w == made.message.seed().as_slice()));
    }
}
