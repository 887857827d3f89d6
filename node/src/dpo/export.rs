//! A signed bundle of entries and what proves them, for reports and auditors.
//!
//! Made in `exports` of the data directory, sent as one tar file and gone from the directory before the first byte
//! leaves: what a crash leaves there is removed at the next export.

use super::act::Act;
use super::search::{Criteria, LogFilter};
use super::{DpoError, Officer, eyes};
use crate::bulk::blocking;
use crate::events::Happened;
use crate::node::Node;
use audit::Checkpoint;
use protocol::encoding::b64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use utoipa::ToSchema;

/// The report about single persons: only for a second officer's confirmation.
const SPECIFIC: &str = "R9";
/// Reports there are.
const REPORTS: &[&str] = &["R1", "R2", "R3", "R4", "R7", "R8", SPECIFIC, "R10", "R11", "R14"];

/// What is to be exported.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportBody {
    /// Which entries; all, if not said. The tree is exported whole in any case.
    #[serde(default)]
    pub filter: LogFilter,
    /// The report it is for, as `R2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// Why, in the officer's words; stays in the log. By a user or a terminal, this or a second officer is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The log's newest checkpoint.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct LogPosted {
    /// The log's origin.
    pub origin: String,
    /// Its public key (C2SP `signed-note`).
    pub vkey: String,
    /// Entries of the log.
    pub entries: u64,
    /// The newest checkpoint with enough cosignatures or, before the first, without: a signed note.
    pub checkpoint: String,
    /// Entries that enough other members vouch for.
    pub cosigned_entries: u64,
    /// How long some entry has waited for that, in seconds.
    pub cosigned_age_seconds: Option<i64>,
}

pub(super) fn checkpoint(node: &Node) -> LogPosted {
    let coverage = node.circle.coverage();
    LogPosted {
        origin: node.log.origin().to_owned(),
        vkey: node.log.vkey().to_string(),
        entries: node.log.size(),
        checkpoint: node.log.published_checkpoint().note().to_owned(),
        cosigned_entries: coverage.entries,
        cosigned_age_seconds: coverage.age_seconds,
    }
}

/// What this node cosigned of the others' logs: evidence against whoever rewrites one.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Witnessed {
    /// This witness's public key (C2SP `signed-note`); none where it was read from its files, which do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// The logs, by origin.
    pub logs: Vec<WitnessedLog>,
}

/// What was cosigned last of one log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct WitnessedLog {
    /// Its origin.
    pub origin: String,
    /// Entries under the checkpoint.
    pub entries: u64,
    /// The checkpoint, a signed note under the log's signature and this witness's.
    pub checkpoint: String,
}

impl Witnessed {
    /// By origin, with the witness's key where it is known.
    #[must_use]
    pub fn of(witness: Option<String>, all: BTreeMap<String, Checkpoint>) -> Self {
        let log = |(origin, known): (String, Checkpoint)| {
            let (entries, checkpoint) = (known.size(), known.note().to_owned());
            WitnessedLog { origin, entries, checkpoint }
        };
        Witnessed { witness, logs: all.into_iter().map(log).collect() }
    }
}

/// Not recorded: it says nothing of anybody, and every member is given the same.
pub(super) async fn witnessed(node: &Arc<Node>) -> Result<Witnessed, DpoError> {
    let circle = node.circle.clone();
    let (key, all) = blocking(move || circle.cosigned()).await??;
    Ok(Witnessed::of(Some(key.to_string()), all))
}

/// Makes the bundle, once the export is in the log: a tar file that no directory names any more.
pub(super) async fn export(
    node: &Arc<Node>,
    officer: &Officer,
    second: Option<&Officer>,
    body: &ExportBody,
) -> Result<File, DpoError> {
    if body.report.as_deref().is_some_and(|report| !REPORTS.contains(&report)) {
        return Err(DpoError::Value("report"));
    }
    let second = officer.confirmed(second);
    let happened = if body.report.is_some() { Happened::DpoReported } else { Happened::DpoExported };
    let mut act = Act::of(officer, happened, node)?;
    if body.report.as_deref() == Some(SPECIFIC) && second.is_none() {
        (act.decision, act.reason, act.report) = (Some("deny"), Some("confirmation_missing"), body.report.clone());
        let _recorded = act.record(node).await?;
        return Err(DpoError::Confirmation);
    }
    let criteria = body.filter.resolve(node, &mut act).await?;
    let alone = eyes::alone(&mut act, node, second, body.reason.as_ref(), &criteria)?;
    let Criteria { filter, names, file } = criteria;
    act.filter = names;
    act.file = file;
    act.report.clone_from(&body.report);
    let (receipt, now) = (act.record(node).await?, super::now(node)?);
    if alone {
        eyes::tell(node, officer, &eyes::about(&filter), &receipt, now)?;
    }
    let node = node.clone();
    let made = blocking(move || {
        let exports = node.config.data.join("exports");
        make_private(&exports)?;
        let name = b64(&keyring::random::<16>()?);
        let (dir, archive) = (exports.join(&name), exports.join(format!("{name}.tar")));
        let made = audit::export(&node.log, &dir, &filter, now.0).map_err(DpoError::from);
        let packed = made.and_then(|_| Ok(pack(&dir, &archive)?));
        // Clear text stays no longer than it must, whatever happened.
        let _gone = (fs::remove_dir_all(&dir), fs::remove_file(&archive));
        packed
    });
    made.await?
}

fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn pack(dir: &Path, archive: &Path) -> io::Result<File> {
    let mut tar = tar::Builder::new(File::options().read(true).write(true).create_new(true).open(archive)?);
    tar.append_dir_all("export", dir)?;
    let mut file = tar.into_inner()?;
    file.rewind()?;
    Ok(file)
}

/// Removes what an export that was cut off left.
pub(crate) fn sweep(data: &Path) {
    let exports = data.join("exports");
    if let Err(error) = fs::remove_dir_all(&exports)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(%error, "the remains of an export cannot be removed");
    }
}
