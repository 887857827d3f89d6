//! What the registry's own audit log says: one entry per batch, residents only as HMAC(log key, index).
//!
//! The first half of the HMAC stands (16 bytes, base64url): enough to find a resident's entries for whoever holds the
//! log key and the index, nothing for anybody else.

use crate::blind::half;
use audit::{AppendError, Log, Receipt};
use keyring::MacKey;
use protocol::encoding::b64;
use protocol::manifest::ManifestRef;
use protocol::registry::ProvisionalReason;
use protocol::time::MAX_SKEW_SECONDS;
use protocol::{Epoch, Index, MemberId, Purpose, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use transport::Clock;

/// One entry of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    /// When, by the registry's clock.
    time: Timestamp,
    /// Milliseconds behind `time`.
    ms: u16,
    #[serde(flatten)]
    event: Event,
}

impl Entry {
    fn at(at_ms: i64, event: Event) -> Self {
        let (time, ms) = Timestamp::of_ms(at_ms);
        Entry { time, ms, event }
    }
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A member asked to change its entries. Recorded before the change: after a crash between the two the change is
    /// missing, and was not acknowledged.
    Entries {
        member: MemberId,
        epoch: Epoch,
        manifest: ManifestRef,
        /// SHA-256 of the request as it came, base64url.
        request: String,
        audience: BTreeSet<MemberId>,
        put: Vec<IndexMac>,
        delete: Vec<IndexMac>,
        /// Why some of the entries are provisional.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        provisional: Vec<ProvisionalReason>,
        /// How many of the indexes the officers had planted.
        #[serde(skip_serializing_if = "none")]
        honeypots: usize,
    },
    /// A member located residents. Recorded before the answer.
    Locate {
        member: MemberId,
        epoch: Epoch,
        manifest: ManifestRef,
        /// SHA-256 of the request as it came, base64url.
        request: String,
        purpose: Purpose,
        indexes: Vec<IndexMac>,
        /// Indexes over which the asker had a live entry.
        own: usize,
        /// Others' entries shown.
        found: usize,
        tickets: usize,
        /// How many of the indexes the officers had planted.
        #[serde(skip_serializing_if = "none")]
        honeypots: usize,
    },
    /// A member read its review queue.
    Review {
        member: MemberId,
        manifest: ManifestRef,
        /// SHA-256 of the request as it came, base64url.
        request: String,
        items: usize,
    },
    /// The officers planted indexes that stand for nobody, or removed some.
    Honeypots { planted: usize, removed: usize },
    /// A member's new entries of a period met hardly anybody's.
    SeldomMet { member: MemberId, posted: u64, met: u64 },
    /// The registry's data came from a backup; these members' requests confirmed the manifest, and it opened again.
    Reopened { confirmed_by: Vec<MemberId> },
    /// A manifest came into force.
    Manifest { manifest: ManifestRef },
    /// Lapsed entries were removed.
    Swept {
        rows: usize,
        /// Of them, provisional entries that never became ordinary ones.
        #[serde(skip_serializing_if = "none")]
        never_converted: usize,
    },
    /// This log was exported for review.
    Exported,
    /// A revocation list came into force.
    Crl { counts: CrlCounts },
    /// A certificate took the place of another while the registry ran.
    Certificate {
        /// Its SHA-256, base64url.
        certificate: String,
    },
}

/// A revocation list in numbers.
#[derive(Debug, Serialize)]
pub(crate) struct CrlCounts {
    /// Its own number.
    pub(crate) number: u64,
    /// How many certificates it revokes.
    pub(crate) revoked: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn none(count: &usize) -> bool {
    *count == 0
}

/// HMAC(log key, index), the first 16 bytes, base64url.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct IndexMac(String);

/// The log with its MAC key, and the time below which the clock must be wrong.
pub(crate) struct Journal {
    log: Log,
    mac: MacKey,
    clock: Clock,
    /// The highest time recorded, in seconds.
    recorded: AtomicI64,
}

impl Journal {
    /// Takes up where `log` ends. Blocks: it reads the last entry.
    pub(crate) fn resume(log: Log, mac: MacKey, clock: Clock) -> Result<Self, audit::Fault> {
        let last = log.size().checked_sub(1).map(|index| log.read(index)).transpose()?.flatten();
        let recorded = last.and_then(|entry| Recorded::deserialize(entry.payload?).ok());
        let recorded = AtomicI64::new(recorded.map_or(i64::MIN, |entry| entry.time.0));
        Ok(Journal { log, mac, clock, recorded })
    }

    /// Returns once the entry is on the disk.
    pub(crate) async fn append(&self, event: Event) -> Result<Receipt, AppendError> {
        let entry = Entry::at(self.clock.now_ms(), event);
        let receipt = self.log.append(&entry).await?;
        self.recorded.fetch_max(entry.time.0, Ordering::Relaxed);
        Ok(receipt)
    }

    /// [`Self::append`], blocking.
    pub(crate) fn append_blocking(&self, event: Event) -> Result<Receipt, AppendError> {
        self.log.append_blocking(&Entry::at(self.clock.now_ms(), event))
    }

    /// Whether `now` can be true, given what was already recorded.
    pub(crate) fn permits(&self, now: Timestamp) -> bool {
        self.recorded.load(Ordering::Relaxed) <= now.0.saturating_add(MAX_SKEW_SECONDS)
    }

    pub(crate) fn health(&self) -> Result<(), AppendError> {
        self.log.health()
    }

    pub(crate) fn mac(&self, index: &Index) -> IndexMac {
        IndexMac(b64(&half(self.mac.mac(&[index.as_bytes()]))))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

/// What [`Journal::resume`] wants of an entry.
#[derive(Deserialize)]
struct Recorded {
    time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::{EventKind, Stream, project};
    use protocol::encoding::Bytes;
    use serde_json::Value;

    /// One of each, with every field; the match makes a new event fail to compile until it is here.
    fn all() -> Vec<Event> {
        let member = || -> MemberId { "mops".parse().unwrap() };
        let manifest = || ManifestRef { version: 1, hash: Bytes(vec![1; 32]) };
        let macs = || vec![IndexMac("mac".into())];
        let all = vec![
            Event::Entries {
                member: member(),
                epoch: Epoch(1),
                manifest: manifest(),
                request: "r".into(),
                audience: [member()].into(),
                put: macs(),
                delete: macs(),
                provisional: vec![ProvisionalReason::Emergency],
                honeypots: 1,
            },
            Event::Locate {
                member: member(),
                epoch: Epoch(1),
                manifest: manifest(),
                request: "r".into(),
                purpose: "p".parse().unwrap(),
                indexes: macs(),
                own: 1,
                found: 1,
                tickets: 1,
                honeypots: 1,
            },
            Event::Review { member: member(), manifest: manifest(), request: "r".into(), items: 1 },
            Event::Honeypots { planted: 1, removed: 1 },
            Event::SeldomMet { member: member(), posted: 1, met: 1 },
            Event::Reopened { confirmed_by: vec![member()] },
            Event::Manifest { manifest: manifest() },
            Event::Swept { rows: 1, never_converted: 1 },
            Event::Exported,
            Event::Crl { counts: CrlCounts { number: 1, revoked: 1 } },
            Event::Certificate { certificate: "c".into() },
        ];
        for event in &all {
            match event {
                Event::Entries { .. }
                | Event::Locate { .. }
                | Event::Review { .. }
                | Event::Honeypots { .. }
                | Event::SeldomMet { .. }
                | Event::Reopened { .. }
                | Event::Manifest { .. }
                | Event::Swept { .. }
                | Event::Exported
                | Event::Crl { .. }
                | Event::Certificate { .. } => {}
            }
        }
        all
    }

    #[test]
    fn every_event_is_in_the_catalogue_with_all_its_fields() {
        let mut seen = BTreeSet::new();
        for event in all() {
            let payload = serde_json::to_value(Entry::at(1_007, event)).unwrap();
            assert_eq!((&payload["time"], &payload["ms"]), (&Value::from(1), &Value::from(7)));
            let name = payload.get("event").and_then(Value::as_str).unwrap();
            let kind = EventKind::find(name).unwrap_or_else(|| panic!("{name} is in the catalogue"));
            seen.insert(kind);
            let shown = project(&payload, Stream::Dpo).unwrap();
            for field in payload.as_object().unwrap().keys() {
                assert!(shown.get(field).is_some(), "{name}: {field}");
            }
        }
        let listed: BTreeSet<EventKind> = EventKind::ALL.iter().copied().filter(|kind| kind.id() / 100 == 9).collect();
        assert_eq!(seen, listed, "and none is listed that the registry does not write");
    }
}
