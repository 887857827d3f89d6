//! Removing what has lapsed, and saying what never came to anything.
//!
//! Rows do not show when they lapse, so the sweeper walks them, a share each round, and opens each. A row that its
//! writer renews meanwhile is another row and stays. Until it is swept a lapsed entry is answered as if it were gone. A
//! provisional one is kept for 90 days more, so that it cannot be made anew.

use crate::admit::compute;
use crate::blind::{Blind, State};
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Row, RowKey};
use protocol::Timestamp;
use protocol::review::REVIEW_DAYS;
use protocol::time::DAY_SECONDS;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(10);
/// Rounds in which the whole index is walked once: a day's.
const ROUNDS: u64 = 144;
/// Rows read and opened at once, and in a round at least.
const PAGE: usize = 1000;

/// Walks a share of the index every ten minutes until `shutdown`.
pub(crate) async fn run(registry: Arc<Registry>, shutdown: CancellationToken) {
    // From somewhere else at each start: restarts must not leave the same part unswept.
    let mut after = keyring::random().map(RowKey).ok();
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        match registry.sweep(after).await {
            Ok(reached) => after = reached,
            Err(error) => tracing::warn!(reason = error.to_string(), "a sweep failed and will be tried again"),
        }
    }
}

impl Registry {
    /// Sweeps one share of the index from the row after `after`, and returns where to go on: `None` at the end.
    ///
    /// # Errors
    /// The engine's or the log's.
    pub async fn sweep(&self, mut after: Option<RowKey>) -> Result<Option<RowKey>, Refusal> {
        let now = self.clock.now();
        let mut left = usize::try_from(self.store.size().await? / ROUNDS).unwrap_or(usize::MAX).max(PAGE);
        let (mut swept, mut never_converted) = (0, 0);
        loop {
            let page = self.store.page(after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| *key);
            let blind = self.blind.clone();
            let (lapsed, provisional) = compute(move || Ok(lapsed(&blind, page, now))).await?;
            swept += self.store.sweep(lapsed).await?;
            never_converted += provisional;
            left = left.saturating_sub(PAGE);
            if !full {
                after = None;
            }
            if left == 0 || !full {
                break;
            }
        }
        self.store.forget(now, now + -REVIEW_DAYS * DAY_SECONDS).await?;
        if swept > 0 {
            let _recorded = self.journal.append(Event::Swept { rows: swept, never_converted }).await?;
        }
        if let Some(held) = self.manifests.held() {
            self.report_seldom_met(&held.manifest, now).await?;
        }
        Ok(after)
    }
}

/// The rows of `page` to remove, and how many of them are provisional entries. One that does not open is left to the
/// operator, and is answered as absent.
fn lapsed(blind: &Blind, mut page: Vec<(RowKey, Row)>, now: Timestamp) -> (Vec<(RowKey, Row)>, usize) {
    let (mut damaged, mut provisional) = (0, 0);
    page.retain(|(key, row)| {
        let mut row = row.clone();
        let Some(entry) = blind.open(key, &mut row) else {
            damaged += 1;
            return false;
        };
        let kept = if entry.state == State::Provisional { REVIEW_DAYS * DAY_SECONDS } else { 0 };
        let gone = entry.expires.0.saturating_add(kept) <= now.0;
        provisional += usize::from(gone && entry.state == State::Provisional);
        gone
    });
    if damaged > 0 {
        tracing::error!(damaged, "rows of the index do not open under this storage key");
    }
    (page, provisional)
}
