//! What is written at every request: which requests were seen, and how much of each quota is used.
//!
//! One `sled` tree per concern. Keys of `seen` begin with the moment after which they may be forgotten; `meters` count
//! per name and day. sled acknowledges before a power cut is survived (up to half a second may be lost, design §4), so
//! what is lost is made good at start: the newest log entries are read back into `seen`, and requests issued before
//! the start are refused. A meter may at worst forget half a second of use.

use keyring::MacKey;
use protocol::Timestamp;
use protocol::encoding::sha256;
use std::path::Path;

/// The guard's store failed; whoever asked must refuse.
#[derive(Debug, thiserror::Error)]
#[error("the replay guard and meters cannot be used: {0}")]
pub struct GuardError(#[from] sled::Error);

/// A quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Seconds until some of it is free again.
    pub(crate) retry_after: u64,
}

/// Replay guard and meters.
pub(crate) struct Guard {
    seen: sled::Tree,
    meters: sled::Tree,
    mac: MacKey,
    // Dropped last: flushes.
    _database: sled::Db,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Guard {
    /// Opens or creates the guard at `path`; names in it are MACs under `mac`.
    pub(crate) fn open(path: &Path, mac: MacKey) -> Result<Self, GuardError> {
        let database = sled::Config::new().path(path).cache_capacity(4 << 20).flush_every_ms(Some(500)).open()?;
        Ok(Guard { seen: database.open_tree("seen")?, meters: database.open_tree("meters")?, mac, _database: database })
    }

    /// Records `(issuer, jti)` until `keep_until`; whether this is the first time.
    pub(crate) fn first_time(&self, issuer: &str, jti: &[u8], keep_until: Timestamp) -> Result<bool, GuardError> {
        let key = seen_key(issuer, jti, keep_until);
        Ok(self.seen.compare_and_swap(key, None as Option<&[u8]>, Some(&[]))?.is_ok())
    }

    /// Takes back what [`Guard::first_time`] recorded.
    pub(crate) fn forget(&self, issuer: &str, jti: &[u8], keep_until: Timestamp) -> Result<(), GuardError> {
        self.seen.remove(seen_key(issuer, jti, keep_until))?;
        Ok(())
    }

    /// Forgets what may be forgotten.
    pub(crate) fn sweep(&self, now: Timestamp) -> Result<(), GuardError> {
        for key in self.seen.range(..now.0.to_be_bytes().to_vec()).keys() {
            self.seen.remove(key?)?;
        }
        let today = now.0.div_euclid(DAY_SECONDS);
        for row in &self.meters {
            let (key, _) = row?;
            let day = key.last_chunk::<8>().map(|d| i64::from_be_bytes(*d));
            if day.is_some_and(|day| day != FOREVER && day < today - 1) {
                self.meters.remove(key)?;
            }
        }
        Ok(())
    }

    /// Uses `amount` of today's quota of `limit` for `name`, or says when to come back. All or nothing.
    pub(crate) fn spend_today(
        &self,
        name: &[&str],
        amount: u64,
        limit: u64,
        now: Timestamp,
    ) -> Result<Result<(), Spent>, GuardError> {
        let day = now.0.div_euclid(DAY_SECONDS);
        let midnight = u64::try_from((day + 1) * DAY_SECONDS - now.0).unwrap_or(0);
        Ok(self.spend(name, day, amount, limit)?.map_err(|()| Spent { retry_after: midnight }))
    }

    /// Uses `amount` of a quota of `limit` that is not renewed.
    pub(crate) fn spend_once(&self, name: &[&str], amount: u64, limit: u64) -> Result<bool, GuardError> {
        Ok(self.spend(name, FOREVER, amount, limit)?.is_ok())
    }

    fn spend(&self, name: &[&str], day: i64, amount: u64, limit: u64) -> Result<Result<(), ()>, GuardError> {
        let key = self.meter_key(name, day);
        let mut refused = false;
        self.meters.fetch_and_update(key, |old| {
            let used = old.map_or(0, read_count);
            let total = used.saturating_add(amount);
            refused = total > limit;
            Some(if refused { used } else { total }.to_be_bytes().to_vec())
        })?;
        Ok(if refused { Err(()) } else { Ok(()) })
    }

    fn meter_key(&self, name: &[&str], day: i64) -> Vec<u8> {
        let parts: Vec<&[u8]> = name.iter().flat_map(|part| [part.as_bytes(), &[0]]).collect();
        [self.mac.mac(&parts).as_slice(), &day.to_be_bytes()].concat()
    }
}

fn seen_key(issuer: &str, jti: &[u8], keep_until: Timestamp) -> Vec<u8> {
    [keep_until.0.to_be_bytes().as_slice(), &sha256(&[issuer.as_bytes(), &[0], jti])].concat()
}

/// The "day" of quotas that are not renewed.
const FOREVER: i64 = i64::MAX;

/// A damaged count reads as everything spent.
fn read_count(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(dir: &Path) -> Guard {
        Guard::open(&dir.join("guard"), MacKey::new(&[1; 32])).unwrap()
    }

    #[test]
    fn a_request_is_new_once_even_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let first = guard(dir.path());
        assert!(first.first_time("mops", b"1", Timestamp(100)).unwrap());
        assert!(!first.first_time("mops", b"1", Timestamp(100)).unwrap());
        assert!(first.first_time("pup", b"1", Timestamp(100)).unwrap());
        drop(first);
        let again = guard(dir.path());
        assert!(!again.first_time("mops", b"1", Timestamp(100)).unwrap());
        again.sweep(Timestamp(101)).unwrap();
        assert!(again.seen.is_empty());
    }

    #[test]
    fn quotas_are_all_or_nothing_and_renew_at_midnight() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let spend = |amount, at| guard.spend_today(&["eval", "mops"], amount, 10, Timestamp(at)).unwrap();
        assert!(spend(8, 0).is_ok());
        assert_eq!(spend(3, DAY_SECONDS - 60), Err(Spent { retry_after: 60 }));
        assert!(spend(2, DAY_SECONDS - 60).is_ok());
        assert!(spend(1, 0).is_err());
        assert!(spend(10, DAY_SECONDS).is_ok());
        assert!(guard.spend_once(&["first"], 5, 5).unwrap());
        assert!(!guard.spend_once(&["first"], 1, 5).unwrap());
        guard.sweep(Timestamp(10 * DAY_SECONDS)).unwrap();
        assert!(!guard.spend_once(&["first"], 1, 5).unwrap());
    }
}
