//! What the demo found, as `--json` prints it.

use serde::Serialize;
use std::collections::BTreeMap;

/// The demo's result.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Residents on file, by unit.
    pub(crate) clients: BTreeMap<String, u64>,
    /// Rows refused, by unit.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Residents in common, by units joined with `+`, as the units learnt through the registry.
    pub(crate) shared: BTreeMap<String, u64>,
    /// The questions put.
    pub(crate) queries: Vec<Asked>,
    /// The logs.
    pub(crate) audit: BTreeMap<String, Audited>,
    /// Wall-clock time.
    pub(crate) seconds: Seconds,
}

/// One question and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) asker: String,
    pub(crate) holder: String,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) fields: Vec<String>,
}

/// One log.
#[derive(Debug, Serialize)]
pub(crate) struct Audited {
    pub(crate) entries: u64,
    pub(crate) verified: bool,
}

/// Wall-clock seconds of each part.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Seconds {
    pub(crate) import: f64,
    pub(crate) enrol: f64,
    pub(crate) shared: f64,
    pub(crate) queries: f64,
}
