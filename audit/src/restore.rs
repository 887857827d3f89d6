//! Going on after a restored backup: a log that lost entries others have seen cosigned never continues as itself.

use std::path::Path;

use serde::Serialize;

use crate::{
    fault::{AppendError, Fault},
    log::{Config, Log, Receipt},
    note::{Checkpoint, NoteError, Vkey},
    store::{Unvisited, read_vkey, scan},
};

/// The first entry of a log that goes on for another: what was there, what is missing, and who said to go on.
#[derive(Serialize)]
struct Continued<'a> {
    confirmed_by: &'a str,
    event: crate::EventKind,
    /// The first index that is missing, and the one after the last; empty when the logs differ before that.
    lost_from: u64,
    lost_until: u64,
    /// The checkpoint others have of the old log: signed note.
    known: &'a str,
    previous_origin: &'a str,
    previous_root: String,
    previous_size: u64,
    time: i64,
}

/// Why a log was not succeeded.
#[derive(Debug, thiserror::Error)]
pub enum SucceedError {
    /// The old or the new directory.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The first entry could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The new directory holds a log with entries already.
    #[error("the new log is not empty")]
    NotEmpty,
    /// The old log does hold what was cosigned: it can simply be opened.
    #[error("nothing is missing from the old log")]
    NothingMissing,
}

/// Opens a new log, under a new origin and in an empty directory, in place of the one in `old`, which is shorter than
/// or other than `known`, a checkpoint of its own that others kept. Its first entry (`log.continued`) names the gap. For
/// use once the data-protection officer, `confirmed_by` (pseudonymous id), has confirmed that the entries are lost. The
/// old directory is only read, and stays for auditors.
///
/// # Errors
/// A [`SucceedError`].
pub fn succeed(
    old: &Path,
    known: &Checkpoint,
    config: Config<'_>,
    confirmed_by: &str,
) -> Result<(Log, Receipt), SucceedError> {
    let vkey = read_vkey(old, None)?;
    let foreign = |source| Fault::Checkpoint { path: old.to_owned(), source };
    let known = Checkpoint::open(known.note(), &vkey).map_err(foreign)?;
    if config.origin == vkey.name() {
        return Err(foreign(NoteError::Name).into());
    }
    match scan(old, &[&known], &mut Unvisited) {
        Ok(_) => return Err(SucceedError::NothingMissing),
        Err(Fault::Shorter { .. } | Fault::Rewritten { .. }) => {}
        Err(damage) => return Err(damage.into()),
    }
    let kept = scan(old, &[], &mut Unvisited)?;
    let kept = kept.tiler.tree();
    let time = (config.now)();
    let log = Log::open(config)?;
    if log.size() > 0 {
        return Err(SucceedError::NotEmpty);
    }
    let entry = Continued {
        confirmed_by,
        event: crate::EventKind::LogContinued,
        lost_from: kept.size(),
        lost_until: known.size().max(kept.size()),
        known: known.note(),
        previous_origin: vkey.name(),
        previous_root: data_encoding::BASE64.encode(&kept.root()),
        previous_size: kept.size(),
        time,
    };
    let receipt = log.append_blocking(&entry)?;
    Ok((log, receipt))
}

/// The public key of the log in a directory, unverified by anything but itself.
///
/// # Errors
/// [`Fault::Io`] or [`Fault::Key`].
pub fn identity(dir: &Path) -> Result<Vkey, Fault> {
    read_vkey(dir, None)
}
