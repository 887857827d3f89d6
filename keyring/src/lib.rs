//! One program's secrets at rest: the storage key, what is derived from it, and the sealed ring of signing keys.
//!
//! Everything a node or registry keeps encrypted hangs on one 32-byte [`StorageKey`], which comes from outside the
//! data directory: a credential file (systemd `LoadCredential`) or a passphrase (Argon2id). It is not what a network
//! or a database sees: those get keys derived from it by label.

mod files;
mod ring_file;
mod sealer;
mod storage_key;

pub use files::{create_private, write_atomically};
pub use ring_file::{KeyRing, RingError};
pub use sealer::{MacKey, OpenError, Sealer, fill_random, random};
pub use storage_key::{KeySource, StorageKey, StorageKeyError};
