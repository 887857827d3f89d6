//! The two calls on whose honesty the log rests, so that tests can count them and make them fail.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// Writing and syncing.
pub(crate) trait Disk: Send {
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once the file's content and length are on the disk (`fdatasync`).
    fn sync(&mut self, file: &File) -> io::Result<()>;
}

/// The operating system's.
pub(crate) struct System;

impl Disk for System {
    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Replaces the file `name` of `dir` (opened as `handle`): after a crash it holds the old bytes or the new ones.
pub(crate) fn replace(disk: &mut dyn Disk, dir: &Path, handle: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(name).with_extension("tmp");
    let file = File::create(&new)?;
    disk.write(&file, bytes, 0)?;
    disk.sync(&file)?;
    fs::rename(&new, dir.join(name))?;
    // Not `fdatasync`: ext4 leaves a new name out of it when the directory keeps its size.
    handle.sync_all()
}
