//! What members do for each other's logs: give out checkpoints and tiles, cosign checkpoints, ask for cosignatures, and
//! tell a log that came back from a backup how long it had been.
//!
//! **What it is.** The network side of `audit`, the same at a node and at the registry: [`Circle::router`] serves
//! members over mutual TLS, [`Circle::gather`] asks them. Who is asked and believed stands in the manifest: a member's
//! log is signed by its key for the use `log`, its witness by the one for `cosign`.
//!
//! | path | what |
//! |---|---|
//! | `GET /checkpoint`, `GET /tile/…` | this log (C2SP `tlog-tiles`) |
//! | `POST /add-checkpoint` | cosign (C2SP `tlog-witness`) |
//! | `GET /witnessed/ORIGIN` | the newest checkpoint cosigned here for that log |
//!
//! **Names.** A log's origin is `REALM/MEMBER`, with one more part for a further process of the registry or for a log
//! that goes on for another; all of them are signed by the member's log key. A witness is `REALM/MEMBER/witness`.
//!
//! **What it is not.** It decides nothing about a log's content, and sees none: what crosses are salted hashes.

mod gather;
mod serve;

pub use gather::{Coverage, NEEDED};

use audit::{Checkpoint, EventKind, Fault, Hash, Log, Vkey, Witness};
use protocol::manifest::KeyUse;
use protocol::{Manifest, MemberId, PublicKey, Realm, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use transport::Clock;

/// The last part of a witness's name.
const WITNESS: &str = "witness";
/// Logs of one member that are witnessed: registry processes, and logs that went on for others.
const MAX_LOGS: usize = 16;

/// One member's log among the others: witness of theirs, witnessed by them.
pub struct Circle {
    log: Log,
    witness: Witness,
    realm: Realm,
    me: MemberId,
    clock: Clock,
    standing: Mutex<Standing>,
    /// One round at a time: of two, the one with the older checkpoint would look like a rollback.
    gathering: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Standing {
    /// Members with the keys their logs may be signed by.
    members: BTreeMap<MemberId, Vec<PublicKey>>,
    /// The logs witnessed, with the key each was last signed by.
    logs: BTreeMap<String, Vkey>,
    /// The size each witness is believed to have cosigned last.
    known: BTreeMap<MemberId, u64>,
    /// When every entry there was had last been cosigned by enough.
    covered_at: Option<Timestamp>,
    /// What an alarm was raised about since the start.
    alarmed: BTreeSet<(String, &'static str)>,
}

/// The public key of the log `origin`.
///
/// # Errors
/// [`audit::NoteError`] for an origin that cannot be a name.
pub fn log_key(origin: &str, key: &PublicKey) -> Result<Vkey, audit::NoteError> {
    Vkey::new(origin, key.0)
}

/// The public key of `member`'s witness.
///
/// # Errors
/// [`audit::NoteError`]; never for a realm and member that are such.
pub fn witness_key(realm: &Realm, member: &MemberId, key: &PublicKey) -> Result<Vkey, audit::NoteError> {
    Vkey::witness(&format!("{realm}/{member}/{WITNESS}"), key.0)
}

/// The entry that says another log was rolled back or rewritten.
#[derive(Serialize)]
struct Alarm<'a> {
    detail: &'static str,
    event: EventKind,
    /// What was cosigned here, a signed note.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<&'a str>,
    ms: u16,
    origin: &'a str,
    time: Timestamp,
}

impl Circle {
    /// `me`'s log in the circle, with its witness's state in `dir`, which is made when it is missing. `seed` is the
    /// seed of the member's key for cosigning, 32 bytes.
    ///
    /// # Errors
    /// A [`Fault`] of the witness's directory.
    pub fn open(
        dir: &Path,
        (realm, me): (&Realm, &MemberId),
        seed: &[u8; 32],
        log: Log,
        clock: Clock,
    ) -> Result<Self, Fault> {
        let witness = Witness::open(dir, &format!("{realm}/{me}/{WITNESS}"), seed)?;
        Ok(Circle {
            log,
            witness,
            realm: realm.clone(),
            me: me.clone(),
            clock,
            standing: Mutex::default(),
            gathering: tokio::sync::Mutex::default(),
        })
    }

    /// Goes by `manifest` from now on: whose logs are witnessed.
    pub fn follow(&self, manifest: &Manifest) {
        let now = self.clock.now();
        let keys = |id: &MemberId| manifest.keys_of(id, KeyUse::Log, now).collect();
        let members = manifest.members.iter().map(|member| (member.id.clone(), keys(&member.id))).collect();
        self.standing().members = members;
    }

    /// This witness's key, and what it cosigned last of every log, by origin. Blocks.
    ///
    /// # Errors
    /// A [`Fault`] of the witness's state.
    pub fn cosigned(&self) -> Result<(Vkey, BTreeMap<String, Checkpoint>), Fault> {
        Ok((self.witness.vkey().clone(), self.witness.all()?))
    }

    /// What was cosigned here of a member's own logs, by origin: the first, and those that went on for it. Blocks.
    ///
    /// # Errors
    /// A [`Fault`] of the witness's state.
    pub fn cosigned_of(&self, member: &MemberId) -> Result<BTreeMap<String, Checkpoint>, Fault> {
        let first = format!("{}/{member}", self.realm);
        let mut all = BTreeMap::new();
        for origin in std::iter::once(first.clone()).chain((2..=MAX_LOGS).map(|number| format!("{first}/{number}"))) {
            let Some(known) = self.witness.known(&origin)? else { break };
            all.insert(origin, known);
        }
        Ok(all)
    }

    /// Reads `note`, a checkpoint of a log of `member`'s: signed by its key in the manifest and, where that log was cosigned
    /// here, shown by `proof` to have grown from what `cosigned` has of it. `None` for anything else.
    #[must_use]
    pub fn believe(
        &self,
        member: &MemberId,
        note: &str,
        proof: &[Hash],
        cosigned: &BTreeMap<String, Checkpoint>,
    ) -> Option<Checkpoint> {
        let origin = note.split('\n').next().filter(|origin| self.owner(origin).as_ref() == Some(member))?;
        let standing = self.standing();
        let mut keys = standing.members.get(member)?.iter();
        let new = keys.find_map(|key| Checkpoint::open(note, &log_key(origin, key).ok()?).ok())?;
        let grown =
            |old: &Checkpoint| audit::tree::verify_consistency(old.size(), &old.root(), new.size(), &new.root(), proof);
        cosigned.get(origin).is_none_or(grown).then_some(new)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records once that another log was rolled back or rewritten; whoever reads the log sees it.
    fn alarm(&self, origin: &str, detail: &'static str, known: Option<&str>) {
        if !self.standing().alarmed.insert((origin.to_owned(), detail)) {
            return;
        }
        tracing::error!(origin, detail, "another log is not what it was: keep the evidence and tell the officers");
        let (time, ms) = Timestamp::of_ms(self.clock.now_ms());
        let entry = Alarm { detail, event: EventKind::WitnessAlarm, known, ms, origin, time };
        if let Err(error) = self.log.append_blocking(&entry) {
            tracing::error!(%error, "the alarm is not recorded");
        }
    }
}

#[cfg(test)]
mod tests;
