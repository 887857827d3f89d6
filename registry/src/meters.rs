//! What members are counted for, by the day or by 30 days, durably and for all processes over one store together.
//!
//! A meter only grows, and what was refused stays counted: asking again does not pay. Days are UTC's.

use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Count, MeterId};
use protocol::manifest::Manifest;
use protocol::review::News;
use protocol::time::DAY_SECONDS;
use protocol::{MemberId, Timestamp};
use std::collections::HashMap;

const PERIOD_SECONDS: i64 = 30 * DAY_SECONDS;
/// A period with fewer new entries says nothing.
const TELLING: u64 = 100;
/// Whose new entries meet others' less often than one in this many is reported.
const SELDOM: u64 = 50;

const MISSES: u8 = 1;
const PROVISIONAL: u8 = 2;
const POSTED: u8 = 3;
const MET: u8 = 4;
const REPORTED: u8 = 5;
/// Meters that share what one member is counted for while it enrols: its batches of one moment do not wait for each other
/// at one row.
const SHARDS: u8 = 64;

/// What one member has been counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) misses_today: u64,
    pub(crate) posted: u64,
    pub(crate) met: u64,
}

impl Registry {
    /// Counts `misses` of a member; beyond its budget the officers are told, once a day.
    pub(crate) async fn charge_misses(
        &self,
        manifest: &Manifest,
        member: &MemberId,
        misses: usize,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let add = u64::try_from(misses).unwrap_or(u64::MAX);
        if add == 0 {
            return Ok(());
        }
        let budget = self.config.shares.misses_per_day;
        let retry_after = until_tomorrow(now);
        if self.recovery.spent(now) {
            return Err(Refusal::MissBudget { retry_after });
        }
        let total = self.charge(self.daily(MISSES, now, member, b"", add)).await?;
        if total <= budget {
            return Ok(());
        }
        if total - add <= budget {
            let news = News::MissBudgetSpent { member: member.clone() };
            let note = self.blind.tell_officers(manifest, now, None, (member, &news))?;
            self.store.write(crate::store::Batch { note, ..Default::default() }).await?;
        }
        Err(Refusal::MissBudget { retry_after })
    }

    /// Counts provisional entries of the users of a member.
    pub(crate) async fn charge_provisional(
        &self,
        member: &MemberId,
        by_user: &HashMap<&[u8], u64>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if by_user.is_empty() {
            return Ok(());
        }
        let refused = Refusal::ProvisionalQuota { retry_after: until_tomorrow(now) };
        if self.recovery.spent(now) {
            return Err(refused);
        }
        let counts = by_user.iter().map(|(user, add)| self.daily(PROVISIONAL, now, member, user, *add)).collect();
        let totals = self.store.charge(counts).await?;
        let quota = self.config.shares.provisional_per_user_per_day;
        if totals.iter().all(|total| *total <= quota) { Ok(()) } else { Err(refused) }
    }

    /// New entries of a member, put by the request `id`.
    pub(crate) fn posted(&self, member: &MemberId, id: &[u8; 32], add: usize, now: Timestamp) -> Count {
        self.periodic((POSTED, shard(id)), now.0.div_euclid(PERIOD_SECONDS), member, add)
    }

    /// New entries of a member that met another's.
    pub(crate) fn met(&self, member: &MemberId, id: &[u8; 32], add: usize, now: Timestamp) -> Count {
        self.periodic((MET, shard(id)), now.0.div_euclid(PERIOD_SECONDS), member, add)
    }

    /// Tells the officers of members whose entries of the period before hardly met anybody's, once each.
    pub(crate) async fn report_seldom_met(&self, manifest: &Manifest, now: Timestamp) -> Result<(), Refusal> {
        let last = now.0.div_euclid(PERIOD_SECONDS) - 1;
        for (member, tally) in self.tallies(manifest, now, last).await? {
            let Tally { posted, met, .. } = tally;
            if posted < TELLING || met.saturating_mul(SELDOM) >= posted {
                continue;
            }
            if self.charge(self.periodic((REPORTED, 0), last, &member, 1)).await? > 1 {
                continue;
            }
            let event = Event::SeldomMet { member: member.clone(), posted, met };
            let _recorded = self.journal.append(event).await?;
            let news = News::SeldomMet { member: member.clone(), posted, met };
            let note = self.blind.tell_officers(manifest, now, None, (&member, &news))?;
            self.store.write(crate::store::Batch { note, ..Default::default() }).await?;
        }
        Ok(())
    }

    /// What every member has been counted for today and in this period.
    pub(crate) async fn tallies_now(
        &self,
        manifest: &Manifest,
        now: Timestamp,
    ) -> Result<Vec<(MemberId, Tally)>, Refusal> {
        self.tallies(manifest, now, now.0.div_euclid(PERIOD_SECONDS)).await
    }

    async fn tallies(
        &self,
        manifest: &Manifest,
        now: Timestamp,
        period: i64,
    ) -> Result<Vec<(MemberId, Tally)>, Refusal> {
        let meters: HashMap<MeterId, u64> =
            self.store.ledger().await?.meters.into_iter().map(|count| (count.meter, count.add)).collect();
        let read = |count: Count| meters.get(&count.meter).copied().unwrap_or_default();
        let sum = |kind, member: &MemberId| {
            (0..SHARDS).map(|shard| read(self.periodic((kind, shard), period, member, 0))).sum()
        };
        let tally = |member: &MemberId| Tally {
            misses_today: read(self.daily(MISSES, now, member, b"", 0)),
            posted: sum(POSTED, member),
            met: sum(MET, member),
        };
        Ok(manifest.members.iter().map(|member| (member.id.clone(), tally(&member.id))).collect())
    }

    async fn charge(&self, count: Count) -> Result<u64, Refusal> {
        let totals = self.store.charge(vec![count]).await?;
        totals.first().copied().ok_or(Refusal::Internal("a count without a total"))
    }

    fn daily(&self, kind: u8, now: Timestamp, member: &MemberId, more: &[u8], add: u64) -> Count {
        let day = now.day();
        let until = Timestamp((day + 1).saturating_mul(DAY_SECONDS));
        Count { meter: self.blind.meter(kind, day, member, more), add, until }
    }

    /// Kept for a period longer, to be judged by.
    fn periodic(&self, (kind, shard): (u8, u8), period: i64, member: &MemberId, add: usize) -> Count {
        let until = Timestamp((period + 2).saturating_mul(PERIOD_SECONDS));
        let add = u64::try_from(add).unwrap_or(u64::MAX);
        Count { meter: self.blind.meter(kind, period, member, &[shard]), add, until }
    }
}

/// On which of its member's meters the request `id`, an HMAC, counts.
fn shard(id: &[u8; 32]) -> u8 {
    id.first().map_or(0, |byte| byte % SHARDS)
}

/// Seconds until the day's meters begin anew.
fn until_tomorrow(now: Timestamp) -> u64 {
    u64::try_from(DAY_SECONDS - now.0.rem_euclid(DAY_SECONDS)).unwrap_or(1)
}
