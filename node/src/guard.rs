//! What is written at every request: which requests were seen, and how much of each quota is used.
//!
//! One `sled` tree per concern. Keys of `seen` begin with the moment after which they may be forgotten; `meters` count
//! per name and day, or how full a bucket is; `guesses` keep, per name, the moments of the last 30 days. sled acknowledges
//! before a power cut is survived (up to half a second may be lost, ADR 0003), so what is lost is made good at start: the
//! newest log entries are read back into `seen`, into the guesses and into the meters of evaluations, agreements, users,
//! mismatches, refusals and emergencies, and requests issued before the start are refused. Nothing that was answered is
//! forgotten, as long as its entry is among the newest that are read; of other meters at worst half a second of use,
//! and of what our own users asked nothing, for that is on the disk before anything leaves. A guard that
//! is new beside a log that is not was lost, or the node restored without it: then everything that has a limit by the day
//! starts spent, and nothing is compared for as long as a guess counts. So it is when the officer confirms that the log
//! came back with entries missing: the guard came from the same backup.

use keyring::MacKey;
use protocol::Timestamp;
use protocol::encoding::sha256;
use protocol::time::DAY_SECONDS;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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
    guesses: sled::Tree,
    mac: MacKey,
    /// When the guard was begun anew though there had been one.
    lost_at: Option<Timestamp>,
    // Dropped last: flushes.
    database: sled::Db,
}

/// How long sled's own threads may hold the lock of a guard that was dropped.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How long a guess counts.
const GUESS_SECONDS: i64 = 30 * DAY_SECONDS;

impl Guard {
    /// Opens or creates the guard at `path`; names in it are MACs under `mac`. `used_before` says whether this node has
    /// worked before, so that a guard begun anew is one that was lost.
    pub(crate) fn open(path: &Path, mac: MacKey, used_before: bool, now: Timestamp) -> Result<Self, GuardError> {
        let database = open_when_let_go(path)?;
        if used_before && !database.was_recovered() {
            database.insert(LOST_AT, &now.0.to_be_bytes())?;
            database.flush()?;
        }
        let lost_at =
            database.get(LOST_AT)?.map(|at| Timestamp(at.as_ref().try_into().map_or(i64::MAX, i64::from_be_bytes)));
        let tree = |name: &str| database.open_tree(name);
        let (seen, meters, guesses) = (tree("seen")?, tree("meters")?, tree("guesses")?);
        Ok(Guard { seen, meters, guesses, mac, lost_at, database })
    }

    /// Says that the guard at `path` came from a backup, or is of no worth for another reason, as of `now`: it counts as lost.
    pub(crate) fn give_up(path: &Path, mac: MacKey, now: Timestamp) -> Result<(), GuardError> {
        let guard = Guard::open(path, mac, false, now)?;
        guard.database.insert(LOST_AT, &now.0.to_be_bytes())?;
        guard.database.flush()?;
        Ok(())
    }

    /// When the meters were lost, if they ever were: what was granted before counts as spent.
    pub(crate) fn lost_at(&self) -> Option<Timestamp> {
        self.lost_at
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
        let today = now.day();
        for row in &self.meters {
            let (key, _) = row?;
            let day = key.last_chunk::<8>().map(|d| i64::from_be_bytes(*d));
            if day.is_some_and(|day| day != FOREVER && day < today - 1) {
                self.meters.remove(key)?;
            }
        }
        for row in &self.guesses {
            let (key, moments) = row?;
            if recent(&moments, now).is_empty() {
                self.guesses.remove(key)?;
            }
        }
        Ok(())
    }

    /// Counts one more today for `name` unless `limit` is reached; how many there were before. On the day meters were
    /// lost, the limit.
    pub(crate) fn count_today(&self, name: &[&str], limit: u64, now: Timestamp) -> Result<u64, GuardError> {
        let before = self.tally_today(name, limit, now)?;
        Ok(if self.lost_today(now) { before.max(limit) } else { before })
    }

    /// Whether `limit` or more were counted today for `name`, or may have been.
    pub(crate) fn is_used_up(&self, name: &[&str], limit: u64, now: Timestamp) -> Result<bool, GuardError> {
        Ok(self.lost_today(now) || self.counted_today(name, now)? >= limit)
    }

    fn lost_today(&self, now: Timestamp) -> bool {
        self.lost_at.is_some_and(|at| at.day() >= now.day())
    }

    /// Counts one more today for `name` up to `most`; how many are known of from before.
    pub(crate) fn tally_today(&self, name: &[&str], most: u64, now: Timestamp) -> Result<u64, GuardError> {
        let mut before = 0;
        self.meters.fetch_and_update(self.meter_key(name, now.day()), |old| {
            before = old.map_or(0, read_count);
            Some(if before < most { before + 1 } else { before }.to_be_bytes().to_vec())
        })?;
        Ok(before)
    }

    /// How many are known to have been counted today for `name`.
    pub(crate) fn counted_today(&self, name: &[&str], now: Timestamp) -> Result<u64, GuardError> {
        Ok(self.meters.get(self.meter_key(name, now.day()))?.map_or(0, |count| read_count(&count)))
    }

    /// How many guesses were recorded for `name` in the last 30 days; more than any limit if they were lost since.
    pub(crate) fn guesses(&self, name: &[&str], now: Timestamp) -> Result<u32, GuardError> {
        if self.lost_guesses(now) {
            return Ok(u32::MAX);
        }
        let moments = self.guesses.get(self.meter_key(name, FOREVER))?;
        Ok(moments.map_or(0, |moments| count(&recent(&moments, now))))
    }

    /// What was counted and recorded is on the disk when it returns.
    pub(crate) fn flush(&self) -> Result<(), GuardError> {
        self.database.flush()?;
        Ok(())
    }

    fn lost_guesses(&self, now: Timestamp) -> bool {
        self.lost_at.is_some_and(|at| now - at < GUESS_SECONDS)
    }

    /// Takes in guesses that the log says were made for `name` at these moments, as far as they are not here.
    pub(crate) fn recall_guesses(&self, name: &[&str], made: &[Timestamp]) -> Result<(), GuardError> {
        self.guesses.fetch_and_update(self.meter_key(name, FOREVER), |old| {
            let mut moments = moments(old.unwrap_or_default());
            let mut here = moments.clone();
            for Timestamp(at) in made {
                // Each that is here stands for one of the log's.
                match here.iter().position(|moment| moment == at) {
                    Some(place) => drop(here.swap_remove(place)),
                    None => moments.push(*at),
                }
            }
            moments.sort_unstable();
            Some(moments.iter().flat_map(|at| at.to_be_bytes()).collect::<Vec<u8>>())
        })?;
        Ok(())
    }

    /// Records a guess for `name`, on the disk, unless `most` were made in the last 30 days; whether it was.
    pub(crate) fn guess(&self, name: &[&str], most: u32, now: Timestamp) -> Result<bool, GuardError> {
        if self.lost_guesses(now) {
            return Ok(false);
        }
        let mut recorded = false;
        self.guesses.fetch_and_update(self.meter_key(name, FOREVER), |old| {
            let mut moments = old.map(|old| recent(old, now)).unwrap_or_default();
            recorded = count(&moments) < most;
            if recorded {
                moments.push(now.0);
            }
            Some(moments.iter().flat_map(|at| at.to_be_bytes()).collect::<Vec<u8>>())
        })?;
        if recorded {
            self.flush()?;
        }
        Ok(recorded)
    }

    /// Uses `amount` of today's quota of `limit` for `name`, or says when to come back. All or nothing.
    pub(crate) fn spend_today(
        &self,
        name: &[&str],
        amount: u64,
        limit: u64,
        now: Timestamp,
    ) -> Result<Result<(), Spent>, GuardError> {
        let today = now.day();
        let midnight = u64::try_from((today + 1) * DAY_SECONDS - now.0).unwrap_or(0);
        if self.lost_today(now) {
            return Ok(Err(Spent { retry_after: midnight }));
        }
        Ok(self.spend(name, today, amount, limit)?.map_err(|()| Spent { retry_after: midnight }))
    }

    /// Gives back what [`Guard::spend_today`] used.
    pub(crate) fn give_back_today(&self, name: &[&str], amount: u64, now: Timestamp) -> Result<(), GuardError> {
        let key = self.meter_key(name, now.day());
        let less = |old: Option<&[u8]>| old.map(|old| read_count(old).saturating_sub(amount).to_be_bytes().to_vec());
        self.meters.fetch_and_update(key, less)?;
        Ok(())
    }

    /// Raises today's meter of `name` to what the log says was used, and one that is not renewed by it.
    pub(crate) fn make_good(&self, name: &[&str], used: u64, forever: bool, now: Timestamp) -> Result<(), GuardError> {
        let day = if forever { FOREVER } else { now.day() };
        self.meters.fetch_and_update(self.meter_key(name, day), |old| {
            let count = old.map_or(0, read_count);
            let count = if forever { count.saturating_add(used) } else { count.max(used) };
            Some(count.to_be_bytes().to_vec())
        })?;
        Ok(())
    }

    /// Puts `amount` into a bucket that holds `limit` and empties evenly within [`BURST_SECONDS`], or says when there
    /// will be room. All or nothing.
    pub(crate) fn spend_burst(
        &self,
        name: &[&str],
        amount: u64,
        limit: u64,
        now: Timestamp,
    ) -> Result<Result<(), Spent>, GuardError> {
        let mut over = 0;
        self.meters.fetch_and_update(self.meter_key(name, FOREVER), |old| {
            let (level, since) = old.map_or((0, now.0), read_bucket);
            let passed = u64::try_from(now.0.saturating_sub(since)).unwrap_or(0).min(BURST_SECONDS);
            let left = level.saturating_sub(limit.saturating_mul(passed) / BURST_SECONDS);
            over = left.saturating_add(amount).saturating_sub(limit);
            let level = if over > 0 { left } else { left + amount };
            Some([level.to_be_bytes(), now.0.to_be_bytes()].concat())
        })?;
        let wait = over.saturating_mul(BURST_SECONDS).div_ceil(limit.max(1));
        Ok(if over > 0 { Err(Spent { retry_after: wait.max(1) }) } else { Ok(()) })
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

const LOST_AT: &[u8] = b"lost-at";
/// A bucket is empty again after this long.
const BURST_SECONDS: u64 = 60;

/// Level and when it was that; a damaged one is full.
fn read_bucket(bytes: &[u8]) -> (u64, i64) {
    match bytes.split_first_chunk() {
        Some((level, rest)) => (u64::from_be_bytes(*level), rest.try_into().map_or(i64::MAX, i64::from_be_bytes)),
        None => (u64::MAX, i64::MAX),
    }
}

/// The moments in a row that are not 30 days past.
fn recent(row: &[u8], now: Timestamp) -> Vec<i64> {
    moments(row).into_iter().filter(|at| now.0 - at < GUESS_SECONDS).collect()
}

/// Opens the store at `path`. What still locks it is a guard dropped a moment ago, for whoever else ran here would have
/// the log.
fn open_when_let_go(path: &Path) -> sled::Result<sled::Db> {
    let until = Instant::now() + LETTING_GO;
    loop {
        match sled::Config::new().path(path).cache_capacity(4 << 20).flush_every_ms(Some(500)).open() {
            // sled tells of a lock by its message alone.
            Err(sled::Error::Io(error)) if error.kind() == ErrorKind::Other && Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn moments(row: &[u8]) -> Vec<i64> {
    row.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(i64::from_be_bytes)).collect()
}

fn count(moments: &[i64]) -> u32 {
    u32::try_from(moments.len()).unwrap_or(u32::MAX)
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
        Guard::open(&dir.join("guard"), MacKey::new(&[1; 32]), false, Timestamp(0)).unwrap()
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

    #[test]
    fn a_bucket_empties_evenly_within_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let spend = |amount, at| guard.spend_burst(&["burst", "mops"], amount, 600, Timestamp(at)).unwrap();
        assert!(spend(600, 100).is_ok());
        assert_eq!(spend(300, 100), Err(Spent { retry_after: 30 }));
        assert_eq!(spend(300, 129), Err(Spent { retry_after: 1 }));
        assert!(spend(300, 130).is_ok());
        assert_eq!(spend(1, 130), Err(Spent { retry_after: 1 }));
        // A clock that went back gives nothing away.
        assert!(spend(1, 60).is_err());
        assert!(spend(600, 1_000).is_ok());
    }

    #[test]
    fn what_the_log_says_was_used_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        assert!(guard.spend_today(&["day"], 3, 10, Timestamp(0)).unwrap().is_ok());
        guard.make_good(&["day"], 8, false, Timestamp(0)).unwrap();
        guard.make_good(&["day"], 5, false, Timestamp(0)).unwrap();
        assert!(guard.spend_today(&["day"], 3, 10, Timestamp(0)).unwrap().is_err());
        assert!(guard.spend_today(&["day"], 2, 10, Timestamp(0)).unwrap().is_ok());
        guard.give_back_today(&["day"], 1, Timestamp(0)).unwrap();
        assert!(guard.spend_today(&["day"], 1, 10, Timestamp(0)).unwrap().is_ok());
        assert!(guard.spend_once(&["once"], 5, 10).unwrap());
        guard.make_good(&["once"], 5, true, Timestamp(0)).unwrap();
        assert!(!guard.spend_once(&["once"], 1, 10).unwrap());
    }

    #[test]
    fn meters_that_were_lost_start_spent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard");
        let mac = || MacKey::new(&[1; 32]);
        let open = |used_before, at| Guard::open(&path, mac(), used_before, Timestamp(at)).unwrap();
        drop(open(false, 0));
        let kept = open(true, 100);
        assert_eq!(kept.lost_at(), None);
        drop(kept);
        std::fs::remove_dir_all(&path).unwrap();
        let begun_anew = open(true, 100);
        assert_eq!(begun_anew.lost_at(), Some(Timestamp(100)));
        let spend = |guard: &Guard, at| guard.spend_today(&["day"], 1, 10, Timestamp(at)).unwrap();
        assert_eq!(spend(&begun_anew, 200), Err(Spent { retry_after: 86_200 }));
        drop(begun_anew);
        let reopened = open(true, 300);
        assert!(spend(&reopened, 300).is_err(), "a restart does not help");
        assert!(spend(&reopened, DAY_SECONDS).is_ok(), "the next day does");
        drop(reopened);
        Guard::give_up(&path, mac(), Timestamp(DAY_SECONDS + 5)).unwrap();
        let given_up = open(true, DAY_SECONDS + 10);
        assert!(spend(&given_up, DAY_SECONDS + 10).is_err() && spend(&given_up, 2 * DAY_SECONDS).is_ok());
        // So do the counts that a decision compares with its limits.
        let (today, tomorrow) = (Timestamp(DAY_SECONDS + 10), Timestamp(2 * DAY_SECONDS));
        assert_eq!(given_up.count_today(&["agreement"], 5, today).unwrap(), 5);
        assert_eq!(given_up.count_today(&["agreement"], 5, tomorrow).unwrap(), 0);
        assert!(given_up.is_used_up(&["mismatches"], 20, today).unwrap());
        assert!(!given_up.is_used_up(&["mismatches"], 20, tomorrow).unwrap());
        // And guesses, for as long as one counts.
        let last = Timestamp(DAY_SECONDS + 4 + GUESS_SECONDS);
        assert_eq!(given_up.guesses(&["guess"], last).unwrap(), u32::MAX);
        assert!(!given_up.guess(&["guess"], 3, last).unwrap());
        assert!(given_up.guess(&["guess"], 3, last + 1).unwrap());
    }

    #[test]
    fn guesses_count_for_thirty_days_each() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let guess = |day: i64| guard.guess(&["mops", "s"], 3, Timestamp(day * DAY_SECONDS)).unwrap();
        assert!(guess(0) && guess(10) && guess(20));
        assert!(!guess(29));
        assert_eq!(guard.guesses(&["mops", "s"], Timestamp(29 * DAY_SECONDS)).unwrap(), 3);
        assert!(guess(30), "the first is 30 days past");
        assert!(!guess(31), "the refused one was not recorded, the others were");
        guard.sweep(Timestamp(59 * DAY_SECONDS)).unwrap();
        assert_eq!(guard.guesses.len(), 1);
        guard.sweep(Timestamp(60 * DAY_SECONDS)).unwrap();
        assert!(guard.guesses.is_empty());
    }

    #[test]
    fn guesses_a_power_cut_took_come_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let name = &["guess", "mops"][..];
        assert!(guard.guess(name, 3, Timestamp(5)).unwrap());
        // Two of the same second, one of which is here.
        for _ in 0..2 {
            guard.recall_guesses(name, &[Timestamp(5), Timestamp(5)]).unwrap();
            assert_eq!(guard.guesses(name, Timestamp(6)).unwrap(), 2);
        }
        guard.recall_guesses(name, &[Timestamp(1)]).unwrap();
        assert!(!guard.guess(name, 3, Timestamp(6)).unwrap());
        assert!(guard.guess(name, 3, Timestamp(1 + GUESS_SECONDS)).unwrap(), "the first is 30 days past");
    }

    #[test]
    fn what_is_counted_stops_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let guard = guard(dir.path());
        let count = || guard.count_today(&["a"], 2, Timestamp(0)).unwrap();
        assert_eq!([count(), count(), count(), count()], [0, 1, 2, 2]);
        assert_eq!(guard.counted_today(&["a"], Timestamp(0)).unwrap(), 2);
    }
}
