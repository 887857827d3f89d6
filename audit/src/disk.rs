//! The two calls on whose honesty the log rests, so that tests can count them and make them fail.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// Writing and syncing.
pub(crate) trait Disk: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once the file's content and length are on the disk (`fdatasync`).
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's.
pub(crate) struct System;

impl Disk for System {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Replaces the file `name` of `dir`: after a crash it holds the old bytes or the new ones.
pub(crate) fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.tmp"));
    let file = File::create(&new)?;
    disk.write(&file, bytes, 0)?;
    disk.sync(&file)?;
    fs::rename(&new, dir.join(name))?;
    sync_names(dir)
}

/// Makes the names in `dir` durable. Not by `fdatasync`: ext4 leaves a new name out of it when the directory keeps its
/// size.
pub(crate) fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
