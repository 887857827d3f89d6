//! The one source of wall-clock time. Everything else gets a [`Clock`] or a [`Timestamp`] as an argument.

use protocol::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// Tells the time: the system's, or one set by hand in tests. Clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system clock.
    #[must_use]
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// A clock that stands at `start` until it is [`set`](Self::set) or [`advance`](Self::advance)d.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Clock(Source::Manual(Arc::new(AtomicI64::new(millis(start.0)))))
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_ms().div_euclid(1000))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => system_ms(),
            Source::Manual(ms) => ms.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock to `time`, backwards too. The system clock stays as it is.
    pub fn set(&self, time: Timestamp) {
        if let Source::Manual(ms) = &self.0 {
            ms.store(millis(time.0), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock on by `seconds`. The system clock stays as it is.
    pub fn advance(&self, seconds: i64) {
        if let Source::Manual(ms) = &self.0 {
            ms.fetch_add(millis(seconds), Ordering::SeqCst);
        }
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        // A clock before 1970 has no reading for TLS: the handshake is refused.
        let seconds = u64::try_from(self.now().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn millis(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

fn system_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    match now.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_with_its_clones() {
        let clock = Clock::manual(Timestamp(100));
        let clone = clock.clone();
        clone.advance(20);
        assert_eq!((clock.now(), clock.now_ms()), (Timestamp(120), 120_000));
        clock.set(Timestamp(-1));
        assert_eq!(clone.now(), Timestamp(-1));
        assert!(clone.current_time().is_none());
    }

    #[test]
    fn the_system_clock_cannot_be_set() {
        let clock = Clock::system();
        clock.set(Timestamp(0));
        assert!(clock.now() > Timestamp(1_700_000_000));
    }
}
