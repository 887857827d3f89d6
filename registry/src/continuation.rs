//! Going on under a new origin after the registry's log came back from a backup with entries missing.
//!
//! The registry belongs to no institution, and has no data-protection officer: as many of the federation's officers as a
//! manifest needs sign that the entries are lost. What they sign names the log and the checkpoint members have of it, so
//! that their word is about these entries and no others.

use crate::config::Config;
use crate::init::Secrets;
use crate::manifest::Manifests;
use crate::server::OpenError;
use audit::{Continuation, Place, SucceedError};
use keyring::KeyRing;
use protocol::manifest::{ManifestError, Officers};
use protocol::{Bytes, KeyId, MemberId, Realm, SigningKey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use transport::Clock;
use zeroize::Zeroizing;

/// Entries of the registry's log that are lost, and the officers' word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLoss {
    /// The federation.
    pub realm: Realm,
    /// The log.
    pub origin: String,
    /// What members cosigned of it: a signed note.
    pub known: String,
    /// Ed25519 signatures over `"ogniwo/v1/log-loss"`, realm, origin and note, with a zero byte between, by key.
    #[serde(default)]
    pub signatures: BTreeMap<KeyId, Bytes>,
}

impl LogLoss {
    /// Adds an officer's signature.
    pub fn sign(&mut self, officer: &SigningKey) {
        self.signatures.insert(officer.id().clone(), Bytes(officer.sign(&self.message()).to_vec()));
    }

    /// The institutions whose officers signed, if they are as many as a manifest needs.
    fn confirmed(&self, officers: &Officers) -> Result<BTreeSet<MemberId>, ManifestError> {
        let message = self.message();
        officers.signed(&message, &self.signatures)?;
        let signed = officers.keys.iter().filter(|officer| {
            self.signatures.get(&officer.key.id()).is_some_and(|signature| officer.key.verifies(&message, &signature.0))
        });
        Ok(signed.map(|officer| officer.member.clone()).collect())
    }

    fn message(&self) -> Vec<u8> {
        ["ogniwo/v1/log-loss", self.realm.as_str(), &self.origin, &self.known].join("\0").into_bytes()
    }
}

/// Why the registry's log does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// The registry's files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No manifest is held: nobody knows who the officers are.
    #[error("the registry holds no manifest: nobody knows who the officers are")]
    NoManifest,
    /// Too few officers signed.
    #[error("the officers have not confirmed the loss")]
    Unconfirmed(#[source] ManifestError),
    /// What they signed is about other entries.
    #[error("what the officers signed is about another log, or other entries of it")]
    Other,
    /// The log.
    #[error(transparent)]
    Log(#[from] SucceedError),
}

impl ContinueError {
    /// Stable code, as the command line and its exit status use it; `None` where [`OpenError`] decides.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            ContinueError::Open(_) => return None,
            ContinueError::NoManifest => "manifest_not_pinned",
            ContinueError::Unconfirmed(_) => "confirmation_missing",
            ContinueError::Other => "value_invalid",
            ContinueError::Log(SucceedError::NothingMissing) => "nothing_missing",
            ContinueError::Log(SucceedError::NotEmpty) => "exists",
            ContinueError::Log(_) => "log_unavailable",
        })
    }
}

/// The log in use.
pub(crate) fn place(config: &Config) -> Result<Place, audit::Fault> {
    Place::newest(&config.log, &config.origin())
}

/// What is lost of the stopped registry's log, for the officers to sign. What members cosigned must lie in the log's
/// directory: a registry that meets one that knows more puts it there. Blocks.
///
/// # Errors
/// [`ContinueError`]; also if nothing is missing.
pub fn draft_loss(config: &Config) -> Result<LogLoss, ContinueError> {
    let place = place(config).map_err(SucceedError::from)?;
    let known = place.missing()?.note().to_owned();
    Ok(LogLoss { realm: config.realm.clone(), origin: place.origin(), known, signatures: BTreeMap::new() })
}

/// Lets the log of a stopped registry go on under a new origin, once enough officers confirmed `loss`. Blocks.
///
/// # Errors
/// [`ContinueError`]; then nothing was changed.
pub fn continue_after_restore(
    config: &Config,
    clock: Clock,
    loss: &LogLoss,
    passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
) -> Result<Continuation, ContinueError> {
    let secrets = Secrets::obtain(config, passphrase).map_err(OpenError::from)?;
    let keys = KeyRing::open(&config.key_ring(), &secrets.storage).map_err(OpenError::from)?;
    let manifests = Manifests::open(config.manifests(), &secrets.storage)?;
    let held = manifests.held().ok_or(ContinueError::NoManifest)?;
    let confirmed = loss.confirmed(&held.manifest.officers).map_err(ContinueError::Unconfirmed)?;
    let drafted = draft_loss(config)?;
    if (&loss.realm, &loss.origin, &loss.known) != (&drafted.realm, &drafted.origin, &drafted.known) {
        return Err(ContinueError::Other);
    }
    let by: Vec<&str> = confirmed.iter().map(MemberId::as_str).collect();
    let payload_key = secrets.storage.derive("log-payload");
    let now = Box::new(move || clock.now().0);
    Ok(place(config).map_err(SucceedError::from)?.go_on((keys.log.seed(), &payload_key), now, &by.join(" "))?)
}
