//! After the data directory, or the database, was restored from a backup.
//!
//! The registry cannot tell by itself that its past was cut: the operator says so (`ogniwo registry restored`), and it
//! starts closed. It opens when as many members as a manifest needs officers have sent a signed request under the very
//! manifest it holds: had a newer one been published, they would say so, and bring it. Until the next day its meters count
//! as spent. Requests written before the restoring are refused: which of them were done is forgotten. Members see by
//! [`protocol::registry::INDEX_HEADER`] that entries may be missing, and publish theirs again.
//!
//! **Kept** in `restored`, one line of JSON; absent in a registry that never was.

use crate::errors::Refusal;
use crate::server::OpenError;
use keyring::write_atomically;
use protocol::manifest::Manifest;
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restored {
    at: Timestamp,
    /// Whether the index's generation was renewed since.
    renewed: bool,
    reopened: Option<Timestamp>,
}

/// Whether this registry is a restored one, and how far it has come.
pub(crate) struct Recovery {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    restored: Option<Restored>,
    confirmed: BTreeSet<MemberId>,
}

/// Says that the data of this registry came from a backup, as of `now`: at its next start it is closed until members
/// confirm what it knows.
///
/// # Errors
/// The file cannot be written.
pub fn restored(config: &crate::Config, now: Timestamp) -> Result<(), OpenError> {
    let path = config.restored();
    save(&path, Restored { at: now, renewed: false, reopened: None })
        .map_err(|source| OpenError::Write { path, source })
}

fn save(path: &Path, restored: Restored) -> std::io::Result<()> {
    write_atomically(path, &serde_json::to_vec(&restored)?)
}

impl Recovery {
    pub(crate) fn open(path: PathBuf) -> Result<Self, OpenError> {
        let restored = match std::fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|_| OpenError::damaged(&path))?),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::Read { path, source }),
        };
        Ok(Recovery { path, state: Mutex::new(State { restored, confirmed: BTreeSet::new() }) })
    }

    /// Since when members must be told that entries may be missing, if they have not been.
    pub(crate) fn to_renew(&self) -> Option<Timestamp> {
        self.with(|state| state.restored.filter(|restored| !restored.renewed).map(|restored| restored.at))
    }

    pub(crate) fn renewed(&self) -> std::io::Result<()> {
        self.change(|restored| restored.renewed = true)
    }

    /// Whether the meters of today count as spent: what was counted before the restoring is forgotten.
    pub(crate) fn spent(&self, now: Timestamp) -> bool {
        let today = now.day();
        self.with(|state| state.restored.is_some_and(|restored| today <= restored.reopened.unwrap_or(now).day()))
    }

    pub(crate) fn closed(&self) -> bool {
        self.with(|state| state.restored.is_some_and(|restored| restored.reopened.is_none()))
    }

    /// Lets a request of `member`, written at `iat` under the manifest held, pass if the registry is open; while it is not,
    /// the request confirms the manifest. Returns who confirmed it when this was the last that was needed.
    pub(crate) fn confirm(
        &self,
        manifest: &Manifest,
        member: &MemberId,
        iat: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Vec<MemberId>>, Refusal> {
        let needed = usize::from(manifest.officers.threshold).max(2).min(manifest.members.len().saturating_sub(1));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(restored) = state.restored else { return Ok(None) };
        if iat <= restored.at {
            return Err(Refusal::Stale);
        }
        if restored.reopened.is_some() {
            return Ok(None);
        }
        state.confirmed.insert(member.clone());
        if state.confirmed.len() < needed {
            return Err(Refusal::Restored);
        }
        let reopened = Restored { reopened: Some(now), ..restored };
        save(&self.path, reopened)?;
        state.restored = Some(reopened);
        Ok(Some(std::mem::take(&mut state.confirmed).into_iter().collect()))
    }

    fn with<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, f: impl FnOnce(&mut Restored)) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut restored) = state.restored {
            f(&mut restored);
            save(&self.path, restored)?;
            state.restored = Some(restored);
        }
        Ok(())
    }
}
