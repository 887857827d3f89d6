//! Long work: its progress as the command line shows it, its patience with those who say when to come again, and its
//! threads.

use crate::locate::RegistryError;
use crate::pseudonymise::PseudonymError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far a long piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done, in bytes or residents.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Where progress is reported to; called often, from any thread.
pub type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Nobody watches a command for longer than this in vain.
const LONGEST: Duration = Duration::from_mins(10);

/// A failure that may say when to try again.
pub(crate) trait Passing {
    /// Seconds to wait, if waiting helps.
    fn retry_after(&self) -> Option<u64>;
}

impl Passing for RegistryError {
    fn retry_after(&self) -> Option<u64> {
        match self {
            RegistryError::Refused(problem) => problem.retry_after,
            _ => None,
        }
    }
}

impl Passing for PseudonymError {
    fn retry_after(&self) -> Option<u64> {
        match self {
            PseudonymError::Quota { retry_after_seconds } => Some(*retry_after_seconds),
            _ => None,
        }
    }
}

/// Does `work` again as long as it fails for a while only, each time after the time told; what would take longer than
/// [`LONGEST`] in all fails.
pub(crate) async fn patiently<T, E: Passing, F>(mut work: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waited = Duration::ZERO;
    loop {
        let failed = match work().await {
            Err(error) => error,
            done => return done,
        };
        let Some(pause) = failed.retry_after().map(|seconds| Duration::from_secs(seconds.max(1))) else {
            return Err(failed);
        };
        waited = waited.saturating_add(pause);
        if waited > LONGEST {
            return Err(failed);
        }
        tracing::info!(seconds = pause.as_secs(), "told to wait; the work goes on then");
        tokio::time::sleep(pause).await;
    }
}

/// Runs work that takes its time off the network threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(retry_after_seconds: u64) -> PseudonymError {
        PseudonymError::Quota { retry_after_seconds }
    }

    /// What `failures` come to, one after the other, and how often was tried.
    async fn tried(failures: Vec<PseudonymError>) -> (bool, usize) {
        let (mut tries, mut left) = (0, failures.into_iter());
        let done = patiently(|| {
            tries += 1;
            std::future::ready(left.next().map_or(Ok(()), Err))
        });
        (done.await.is_ok(), tries)
    }

    #[tokio::test]
    async fn work_waits_when_it_is_told_to_and_not_for_hours() {
        assert_eq!(tried(vec![]).await, (true, 1));
        assert_eq!(tried(vec![quota(1), quota(0)]).await, (true, 3));
        assert_eq!(tried(vec![PseudonymError::NoEpoch]).await, (false, 1), "nobody said that waiting helps");
        assert_eq!(tried(vec![quota(1), quota(86_400)]).await, (false, 2));
    }
}
