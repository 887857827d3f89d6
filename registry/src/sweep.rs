//! Removing what has lapsed.
//!
//! Rows do not show when they lapse, so the sweeper walks them, a share each round, and opens each. A row that its
//! writer renews meanwhile is another row and stays. Until it is swept a lapsed entry is answered as if it were gone.

use crate::admit::compute;
use crate::blind::Blind;
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::Registry;
use crate::store::{Row, RowKey};
use protocol::Timestamp;
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
        registry.keep_crl_number();
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
        let mut left = usize::try_from(self.store.count().await? / ROUNDS).unwrap_or(usize::MAX).max(PAGE);
        let mut swept = 0;
        loop {
            let page = self.store.page(after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| *key);
            let blind = self.blind.clone();
            let lapsed = compute(move || Ok(lapsed(&blind, page, now))).await?;
            swept += self.store.sweep(lapsed, now).await?;
            left = left.saturating_sub(PAGE);
            if !full {
                after = None;
            }
            if left == 0 || !full {
                break;
            }
        }
        if swept > 0 {
            let _recorded = self.journal.append(now, Event::Swept { rows: swept }).await?;
        }
        Ok(after)
    }
}

/// The rows of `page` that have lapsed. One that does not open is left to the operator, and is answered as absent.
fn lapsed(blind: &Blind, mut page: Vec<(RowKey, Row)>, now: Timestamp) -> Vec<(RowKey, Row)> {
    let mut damaged = 0;
    page.retain(|(key, row)| {
        let expires = blind.open(key, &mut row.clone()).map(|entry| entry.expires);
        damaged += usize::from(expires.is_none());
        expires.is_some_and(|expires| expires <= now)
    });
    if damaged > 0 {
        tracing::error!(damaged, "rows of the index do not open under this storage key");
    }
    page
}
