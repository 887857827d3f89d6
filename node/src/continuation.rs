//! Going on under a new origin after the log came back from a backup with entries missing (design §9). The meters, which came
//! from the same backup, start spent, and our own status list is made whole from what others hold of it (`status.rs`).
//!
//! A node's log lies in `data/log` and is `REALM/MEMBER`. One that goes on for another lies in `data/log.2` and is
//! `REALM/MEMBER/2`, then `log.3`, … The newest is in use; the others stay as they are, for auditors.

use crate::config::Config;
use crate::guard::Guard;
use crate::node::{NodeError, load_engine, load_tokens, log_config, ring_path};
use crate::tokens::{TokenError, Tokens};
use audit::{Checkpoint, SucceedError, identity};
use keyring::{KeyRing, StorageKey};
use protocol::encoding::b64;
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use transport::Clock;
use zeroize::Zeroizing;

/// Where a node's log lies, and what it is called.
pub(crate) struct LogPlace {
    pub(crate) dir: PathBuf,
    pub(crate) origin: String,
    number: u32,
}

impl LogPlace {
    fn of(config: &Config, number: u32) -> Self {
        let first = format!("{}/{}", config.realm, config.member);
        match number {
            1 => LogPlace { dir: config.data.join("log"), origin: first, number },
            _ => {
                LogPlace { dir: config.data.join(format!("log.{number}")), origin: format!("{first}/{number}"), number }
            }
        }
    }

    /// The log in use.
    pub(crate) fn newest(config: &Config) -> Result<Self, NodeError> {
        let mut place = LogPlace::of(config, 1);
        loop {
            let next = LogPlace::of(config, place.number + 1);
            // One that was not finished has no key file, and is made again.
            if !next.dir.join("vkey").try_exists()? {
                return Ok(place);
            }
            place = next;
        }
    }

    fn next(&self, config: &Config) -> Self {
        LogPlace::of(config, self.number + 1)
    }
}

/// A log that goes on for another.
#[derive(Clone, Debug, Serialize)]
pub struct Continued {
    /// The old log's origin.
    pub previous_origin: String,
    /// Entries it has.
    pub previous_size: u64,
    /// Entries others cosigned of it.
    pub cosigned_size: u64,
    /// The new log's origin.
    pub origin: String,
    /// Its directory.
    pub directory: PathBuf,
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
) -> Result<Continued, ContinueError> {
    let storage = StorageKey::obtain(&config.storage_key, passphrase).map_err(NodeError::from)?;
    let keys = KeyRing::open(&ring_path(&config), &storage).map_err(NodeError::from)?;
    let local = config.local.as_ref().ok_or(ContinueError::NoTokens)?;
    let tokens: Tokens = load_tokens(local, &load_engine(&config)?)?;
    let caller = tokens.caller(Some(&format!("Bearer {token}")), clock.now()).await?;
    if !caller.roles.iter().any(|role| role.as_str() == crate::dpo::ROLE) {
        return Err(ContinueError::Role);
    }
    let confirmed_by = b64(&storage.mac("staff").mac(&[caller.staff.as_bytes()]));
    let work = move || {
        let old = LogPlace::newest(&config)?;
        let next = old.next(&config);
        let vkey = identity(&old.dir).map_err(NodeError::from)?;
        let read = |name: &str| Checkpoint::open(&std::fs::read_to_string(old.dir.join(name)).ok()?, &vkey).ok();
        let known = ["checkpoint", "cosigned"].into_iter().filter_map(read).max_by_key(Checkpoint::size);
        let known = known.ok_or(SucceedError::NothingMissing)?;
        let payload_key = storage.derive("log");
        let opened = log_config(&next.dir, &next.origin, &keys, &payload_key, &clock);
        // What was used since the backup is forgotten.
        Guard::give_up(&config.data.join("guard"), storage.mac("guard"), clock.now()).map_err(NodeError::from)?;
        let (log, _receipt) = audit::succeed(&old.dir, &known, opened, &confirmed_by)?;
        let first = log.read(0).map_err(NodeError::from)?.and_then(|entry| entry.payload).unwrap_or_default();
        Ok(Continued {
            previous_origin: old.origin,
            previous_size: first.get("previous_size").and_then(serde_json::Value::as_u64).unwrap_or_default(),
            cosigned_size: known.size(),
            origin: next.origin,
            directory: next.dir,
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
