//! Going on under a new origin after the log came back from a backup with entries missing. The meters, which came
//! from the same backup, start spent, and our own status list is made whole from what others hold of it (`status.rs`).
//!
//! A node's log lies in `data/log` and is `REALM/MEMBER`. One that goes on for another lies in `data/log.2` and is
//! `REALM/MEMBER/2`, then `log.3`, … The newest is in use; the others stay as they are, for auditors.

use crate::bulk::blocking;
use crate::config::Config;
use crate::guard::Guard;
use crate::node::{NodeError, load_engine, load_tokens, ring_path};
use crate::tokens::{TokenError, Tokens};
use audit::{Continuation, Fault, Place, SucceedError};
use keyring::{KeyRing, StorageKey};
use protocol::encoding::b64;
use std::io;
use transport::Clock;
use zeroize::Zeroizing;

/// The log in use.
pub(crate) fn place(config: &Config) -> Result<Place, Fault> {
    Place::newest(&config.data.join("log"), &format!("{}/{}", config.realm, config.member))
}

/// Why a log does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// The node's files.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The officer's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is not a data-protection officer's.
    #[error("only the data-protection officer may confirm that entries are lost")]
    Role,
    /// The local API, whose tokens say who confirms, is not configured.
    #[error("`local.tokens` is not configured: nobody can prove to be the data-protection officer")]
    NoTokens,
    /// The log.
    #[error(transparent)]
    Log(#[from] SucceedError),
    /// Randomness, threads.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl ContinueError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ContinueError::Node(error) => error.code(),
            ContinueError::Token(error) => error.code(),
            ContinueError::Role => "role_not_allowed",
            ContinueError::NoTokens => "config",
            ContinueError::Log(SucceedError::NothingMissing) => "nothing_missing",
            ContinueError::Log(SucceedError::NotEmpty) => "exists",
            ContinueError::Log(_) => "log_unavailable",
            ContinueError::System(_) => "system",
        }
    }
}

/// Lets the log of a stopped node go on under a new origin, once the holder of `token`, a data-protection officer of this
/// institution, confirms that entries are lost. What others cosigned must lie in the log's directory: a node that meets
/// a peer that knows more puts it there.
///
/// # Errors
/// [`ContinueError`]; then nothing was changed.
pub async fn continue_after_restore(
    config: Config,
    clock: Clock,
    token: &str,
    passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
) -> Result<Continuation, ContinueError> {
    let storage = StorageKey::obtain(&config.storage_key, passphrase).map_err(NodeError::from)?;
    let keys = KeyRing::open(&ring_path(&config), &storage).map_err(NodeError::from)?;
    let local = config.local.as_ref().ok_or(ContinueError::NoTokens)?;
    let tokens: Tokens = load_tokens(local, &load_engine(&config)?, clock.now())?;
    let caller = tokens.caller(Some(&format!("Bearer {token}")), clock.now()).await?;
    if !caller.roles.iter().any(|role| role.as_str() == crate::dpo::ROLE) {
        return Err(ContinueError::Role);
    }
    let confirmed_by = b64(&storage.mac("staff").mac(&[caller.staff.as_bytes()]));
    let work = move || {
        let place = place(&config).map_err(NodeError::from)?;
        // What was used since the backup is forgotten.
        Guard::give_up(&config.data.join("guard"), storage.mac("guard"), clock.now()).map_err(NodeError::from)?;
        let now = Box::new(move || clock.now().0);
        Ok(place.go_on((keys.log.seed(), &storage.derive("log")), now, &confirmed_by)?)
    };
    blocking(work).await?
}
