//! The registry's birth: its secrets obtained, its data directory and key ring made.

use crate::config::Config;
use crate::server::OpenError;
use keyring::{KeyRing, StorageKey, StorageKeyError, write_atomically};
use protocol::Timestamp;
use protocol::manifest::{KeyUse, MemberKey};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use zeroize::Zeroizing;

const PEPPER_AAD: &[u8] = b"ogniwo/v1/pepper-check";

/// The two secrets that live outside the data directory. Losing either loses the index; giving both away gives away how
/// many institutions know an unnamed resident, and no identifier.
pub(crate) struct Secrets {
    pub(crate) storage: StorageKey,
    pub(crate) pepper: StorageKey,
}

impl Secrets {
    /// From where the configuration says.
    pub(crate) fn obtain(
        config: &Config,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
    ) -> Result<Self, StorageKeyError> {
        let never = || Err(io::Error::other("the pepper comes from a credential file"));
        Ok(Secrets {
            pepper: StorageKey::obtain(&config.pepper, never)?,
            storage: StorageKey::obtain(&config.storage_key, passphrase)?,
        })
    }

    /// Fails unless the pepper is the one the data directory was made with: with another, every row would seem absent.
    pub(crate) fn check_pepper(&self, path: &Path) -> Result<(), OpenError> {
        let file = std::fs::read(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
        let sealer = self.storage.sealer("pepper-check").map_err(|_| OpenError::damaged(path))?;
        let known = sealer.open(PEPPER_AAD, &file).map_err(|_| OpenError::damaged(path))?;
        if known.as_slice() == self.pepper.derive("check").as_slice() { Ok(()) } else { Err(OpenError::WrongPepper) }
    }

    fn write_check(&self, path: &Path) -> Result<(), OpenError> {
        let failed = |source| OpenError::Write { path: path.to_owned(), source };
        let sealer = self.storage.sealer("pepper-check").map_err(|_| OpenError::damaged(path))?;
        let known = sealer.seal(PEPPER_AAD, self.pepper.derive("check").as_slice()).map_err(failed)?;
        write_atomically(path, &known).map_err(failed)
    }
}

/// Makes the data directory (mode 0700) and, last, the key ring in it; refuses where there is one already. The
/// credential files must be there (see [`StorageKey::create_credential`]); `passphrase` is asked only if the storage key
/// needs one.
///
/// # Errors
/// [`OpenError::Initialised`], [`OpenError::Secrets`], or the file system's.
pub fn init(config: &Config, passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>) -> Result<KeyRing, OpenError> {
    let dir = &config.data;
    if config.key_ring().exists() {
        return Err(OpenError::Initialised(dir.clone()));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Write { path: dir.clone(), source })?;
    config.storage_key.prepare()?;
    let secrets = Secrets::obtain(config, passphrase)?;
    secrets.write_check(&config.pepper_check())?;
    Ok(KeyRing::create(&config.key_ring(), &secrets.storage)?)
}

/// The public halves of `ring` as the manifest lists them, valid from `from` to `to`.
#[must_use]
pub fn member_keys(ring: &KeyRing, from: Timestamp, to: Timestamp) -> Vec<MemberKey> {
    let uses = [KeyUse::Message, KeyUse::Entry, KeyUse::Log, KeyUse::Cosign];
    let public = |usage| ring.key(usage).public();
    uses.map(|usage| MemberKey { usage, key: public(usage), valid_from: from, valid_to: to, revoked_at: None }).into()
}
