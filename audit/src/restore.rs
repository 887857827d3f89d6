//! Going on after a restored backup: a log that lost entries others have seen cosigned never continues as itself.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    fault::{AppendError, Fault},
    log::{Config, Log, Receipt},
    note::{Checkpoint, NoteError, Vkey},
    store::{CHECKPOINT, COSIGNED, Unvisited, read_vkey, scan},
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
    lacks(old, &known)?;
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

/// Where a log lies and what it is called. One that goes on for it lies beside it, as `DIR.2`, and is called `ORIGIN/2`
/// or, where the origin has a part for a process already, `ORIGIN-2`; then `.3`, … The newest is in use, the others stay
/// as they are, for auditors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    first: (PathBuf, String),
    number: u32,
}

impl Place {
    /// The log in use, of those that go on for the one of `origin` in `dir`.
    ///
    /// # Errors
    /// [`Fault::Io`]: a directory cannot be looked for.
    pub fn newest(dir: &Path, origin: &str) -> Result<Self, Fault> {
        let mut place = Self { first: (dir.to_owned(), origin.to_owned()), number: 1 };
        // One that was not finished has no key file, and is made again.
        loop {
            let key = place.next().dir().join("vkey");
            if !key.try_exists().map_err(Fault::io(key))? {
                return Ok(place);
            }
            place = place.next();
        }
    }

    fn next(&self) -> Self {
        Self { first: self.first.clone(), number: self.number + 1 }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        let (first, number) = (&self.first.0, self.number);
        let mut name = first.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        if number == 1 { first.clone() } else { first.with_file_name(name) }
    }

    /// Its origin.
    #[must_use]
    pub fn origin(&self) -> String {
        let (first, number) = (&self.first.1, self.number);
        let separator = if first.matches('/').count() > 1 { '-' } else { '/' };
        if number == 1 { first.clone() } else { format!("{first}{separator}{number}") }
    }

    /// What others cosigned of this log and it has no more: their checkpoint, which lies in its directory once one of them
    /// was met. Blocks: it reads the log through.
    ///
    /// # Errors
    /// [`SucceedError::NothingMissing`], or a [`Fault`] of another sort.
    pub fn missing(&self) -> Result<Checkpoint, SucceedError> {
        let (dir, vkey) = (self.dir(), identity(&self.dir())?);
        let read = |name: &str| Checkpoint::open(&std::fs::read_to_string(dir.join(name)).ok()?, &vkey).ok();
        let known = [CHECKPOINT, COSIGNED].into_iter().filter_map(read).max_by_key(Checkpoint::size);
        let known = known.ok_or(SucceedError::NothingMissing)?;
        lacks(&dir, &known)?;
        Ok(known)
    }

    /// Lets the log go on in the next place, under the log's keys (signing, payload), because `confirmed_by` confirmed
    /// that entries are lost. See [`succeed`]. Blocks.
    ///
    /// # Errors
    /// A [`SucceedError`].
    pub fn go_on(
        &self,
        (signing_key, payload_key): (&[u8; 32], &[u8; 32]),
        now: Box<dyn Fn() -> i64 + Send>,
        confirmed_by: &str,
    ) -> Result<Continuation, SucceedError> {
        let (known, next) = (self.missing()?, self.next());
        let (dir, origin) = (next.dir(), next.origin());
        let config = Config { dir: &dir, origin: &origin, signing_key, payload_key, now };
        let (log, _receipt) = succeed(&self.dir(), &known, config, confirmed_by)?;
        let first = log.read(0)?.and_then(|entry| entry.payload).unwrap_or_default();
        Ok(Continuation {
            previous_origin: self.origin(),
            previous_size: first.get("previous_size").and_then(serde_json::Value::as_u64).unwrap_or_default(),
            cosigned_size: known.size(),
            origin,
            directory: dir,
        })
    }
}

/// A log that goes on for another.
#[derive(Clone, Debug, Serialize)]
pub struct Continuation {
    /// The old log's origin.
    pub previous_origin: String,
    /// Entries it has.
    pub previous_size: u64,
    /// Entries others cosigned of it.
    pub cosigned_size: u64,
    /// The new log's origin.
    pub origin: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// Fails unless the log in `dir` is shorter than, or other than, `known`.
fn lacks(dir: &Path, known: &Checkpoint) -> Result<(), SucceedError> {
    match scan(dir, &[known], &mut Unvisited) {
        Ok(_) => Err(SucceedError::NothingMissing),
        Err(Fault::Shorter { .. } | Fault::Rewritten { .. }) => Ok(()),
        Err(damage) => Err(damage.into()),
    }
}

/// The public key of the log in a directory, unverified by anything but itself.
///
/// # Errors
/// [`Fault::Io`] or [`Fault::Key`].
pub fn identity(dir: &Path) -> Result<Vkey, Fault> {
    read_vkey(dir, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_place_is_beside_the_first_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (origin, second, third) in
            [("a.pl/mops", "a.pl/mops/2", "a.pl/mops/3"), ("a.pl/registry/a", "a.pl/registry/a-2", "a.pl/registry/a-3")]
        {
            let place = Place::newest(&log, origin).unwrap();
            assert_eq!((place.dir(), place.origin()), (log.clone(), origin.to_owned()));
            assert_eq!((place.next().dir(), place.next().origin()), (dir.path().join("log.2"), second.to_owned()));
            assert_eq!(place.next().next().origin(), third);
        }
        std::fs::create_dir(dir.path().join("log.2")).unwrap();
        assert_eq!(Place::newest(&log, "a.pl/mops").unwrap().dir(), log, "one that was not finished");
        std::fs::write(dir.path().join("log.2/vkey"), "").unwrap();
        assert_eq!(Place::newest(&log, "a.pl/mops").unwrap().dir(), dir.path().join("log.2"));
    }
}
