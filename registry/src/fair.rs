//! What one member may take of what there is for all: requests at once, and entries and indexes a second.
//!
//! Before anything is read of a request its member must have a place free; what is too much is refused at once, with the
//! time after which it may come again. Kept in memory: a restart forgives.

use crate::config::Shares;
use crate::errors::Refusal;
use crate::server::Registry;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use protocol::MemberId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use transport::PeerIdentity;

/// A member may save up so many seconds' worth.
const SAVED_SECONDS: i64 = 10;

/// What each member is taking. As many members as the authority certified.
pub(crate) struct Fair {
    shares: Shares,
    members: Mutex<HashMap<MemberId, Taking>>,
}

struct Taking {
    running: Arc<Semaphore>,
    /// Indexes it may send at `at_ms`, times 1000.
    left: i64,
    at_ms: i64,
}

impl Fair {
    pub(crate) fn new(shares: Shares) -> Self {
        Fair { shares, members: Mutex::default() }
    }

    /// Takes `indexes` off what `member` may send.
    pub(crate) fn take(&self, member: &MemberId, indexes: usize, now_ms: i64) -> Result<(), Refusal> {
        let rate = i64::try_from(self.shares.indexes_per_second).unwrap_or(i64::MAX);
        let full = rate.saturating_mul(1000).saturating_mul(SAVED_SECONDS);
        let cost = i64::try_from(indexes).unwrap_or(i64::MAX).saturating_mul(1000);
        self.with(member, |taking| {
            let gained = now_ms.saturating_sub(taking.at_ms).max(0).saturating_mul(rate);
            let left = taking.left.saturating_add(gained).min(full);
            (taking.left, taking.at_ms) = (left, now_ms.max(taking.at_ms));
            // Whoever has saved nothing up still gets one batch when it has waited long enough for it.
            if left < cost.min(full) {
                let missing = cost.min(full) - left;
                let seconds = missing.div_euclid(rate.saturating_mul(1000)).saturating_add(1);
                return Err(Refusal::RateExceeded { retry_after: u64::try_from(seconds).unwrap_or(1) });
            }
            taking.left = left - cost.min(full);
            Ok(())
        })
    }

    fn running(&self, member: &MemberId) -> Arc<Semaphore> {
        self.with(member, |taking| taking.running.clone())
    }

    fn with<T>(&self, member: &MemberId, f: impl FnOnce(&mut Taking) -> T) -> T {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        f(members.entry(member.clone()).or_insert_with(|| Taking {
            running: Arc::new(Semaphore::new(self.shares.requests)),
            left: i64::MAX,
            at_ms: i64::MIN,
        }))
    }
}

/// Lets a request in if its member has a place free.
pub(crate) async fn gate(
    State(registry): State<Arc<Registry>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some(peer) = request.extensions().get::<PeerIdentity>() else { return Ok(next.run(request).await) };
    let running = registry.fair.running(peer.spiffe.member());
    let Ok(_place) = running.try_acquire() else {
        return Err(Refusal::MemberBusy);
    };
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_gets_its_rate_and_no_other_pays_for_it() {
        let shares =
            Shares { requests: 2, indexes_per_second: 100, misses_per_day: 0, provisional_per_user_per_day: 0 };
        let fair = Fair::new(shares);
        let (mops, pup): (MemberId, MemberId) = ("mops".parse().unwrap(), "pup".parse().unwrap());
        fair.take(&mops, 1000, 5_000).unwrap();
        let refused = fair.take(&mops, 50, 5_000).unwrap_err();
        assert!(matches!(refused, Refusal::RateExceeded { retry_after: 1 }), "{refused:?}");
        fair.take(&pup, 1000, 5_000).unwrap();
        fair.take(&mops, 50, 5_500).unwrap();
        assert!(fair.take(&mops, 1, 5_500).is_err());
        // A clock that steps back gives nothing and takes nothing.
        assert!(fair.take(&mops, 1, 1_000).is_err());
        assert!(fair.take(&mops, 1, 5_600).is_ok());
        // A batch larger than all that can be saved up is let through when that is saved up.
        fair.take(&mops, 100_000, 50_000).unwrap();
        assert!(fair.take(&mops, 1, 50_000).is_err());
    }
}
