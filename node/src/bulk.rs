//! Progress and results of long work, as the command line shows them.

use serde::{Deserialize, Serialize};

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
