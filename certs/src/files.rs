//! Files that survive a crash: created once, or replaced whole.

use crate::AuthorityError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError, rename};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Modes: a secret for its owner alone, the rest for everyone to read.
pub(crate) const SECRET: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;

pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, AuthorityError> {
    result.map_err(|source| AuthorityError::Io { path: path.to_owned(), source })
}

pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, AuthorityError> {
    at(path, std::fs::read_to_string(path)).map(Zeroizing::new)
}

/// Makes `path` and its parents for the owner alone. One that is there already must be empty.
pub(crate) fn new_directory(path: &Path) -> Result<(), AuthorityError> {
    at(path, DirBuilder::new().recursive(true).mode(0o700).create(path))?;
    if at(path, path.read_dir())?.next().is_some() {
        return Err(AuthorityError::NotEmpty(path.to_owned()));
    }
    Ok(())
}

/// Writes a file that must not be there yet.
pub(crate) fn create(path: &Path, content: &str, mode: u32) -> Result<(), AuthorityError> {
    at(path, write_new(path, content, mode).and_then(|()| sync_parent(path)))
}

/// Replaces a public file: readers see the old or the new content, also after a crash.
pub(crate) fn replace(path: &Path, content: &str) -> Result<(), AuthorityError> {
    let staged = path.with_extension("new");
    let replaced = match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => write_new(&staged, content, PUBLIC),
    };
    at(path, replaced.and_then(|()| rename(&staged, path)).and_then(|()| sync_parent(path)))
}

/// The lock on an authority. It is let go by name: closing alone would leave it with a child process that another thread is
/// just starting, until that one runs its program.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it comes next in any case.
        let _ = self.0.unlock();
    }
}

/// Holds `path` against other processes.
pub(crate) fn lock(path: &Path) -> Result<Lock, AuthorityError> {
    let file = at(path, OpenOptions::new().create(true).append(true).mode(SECRET).open(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(AuthorityError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => at(path, Err(error)),
    }
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_let_go_though_a_child_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        // What a process has that was started meanwhile.
        let _inherited = held.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(AuthorityError::InUse(_))));
        drop(held);
        lock(&path).unwrap();
    }
}
