//! Seconds since the Unix epoch, the only time that crosses the wire.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};

/// Clocks of two members may differ by this many seconds, either way.
pub const MAX_SKEW_SECONDS: i64 = 30;
/// A day, in seconds.
pub const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Whole seconds since 1970-01-01T00:00:00Z (JWT `NumericDate`, RFC 7519 §2, without a fraction).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds since 1970 as whole seconds and the milliseconds behind them.
    #[must_use]
    pub fn of_ms(at_ms: i64) -> (Self, u16) {
        (Timestamp(at_ms.div_euclid(1000)), u16::try_from(at_ms.rem_euclid(1000)).unwrap_or_default())
    }

    /// The day it lies in, counted from 1970-01-01, in UTC.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY_SECONDS)
    }

    /// Whether `self`, a sender's clock reading, lies no further in `now`'s future than the permitted skew.
    #[must_use]
    pub fn not_ahead_of(self, now: Timestamp) -> bool {
        self.0 <= now.0.saturating_add(MAX_SKEW_SECONDS)
    }
}

impl Add<i64> for Timestamp {
    type Output = Timestamp;
    fn add(self, seconds: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(seconds))
    }
}

impl Sub for Timestamp {
    type Output = i64;
    fn sub(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}
