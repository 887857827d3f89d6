//! Files the user named, read and written.

use crate::exit::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A file as text.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::new("value", format!("{} cannot be read: {e}", path.display())))
}

/// A JSON document.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    parse(path, "value")
}

/// The same; `code` if it is none of this kind.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, code: &str) -> Result<T, Failure> {
    serde_json::from_str(&read_text(path)?).map_err(|e| Failure::new(code, format!("{}: {e}", path.display())))
}

/// Writes a JSON document; a crash leaves the old one or the new one.
pub(crate) fn write_json(path: &Path, document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(document).map_err(|e| Failure::new("internal", e))?;
    keyring::write_atomically(path, &text).map_err(unwritable(path))
}

/// Writes a file.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, content).map_err(unwritable(path))
}

/// Why a file cannot be made.
pub(crate) fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let text = format!("{} cannot be written", path.display());
    move |error| {
        let code = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "exists",
            std::io::ErrorKind::NotFound => "no_directory",
            _ => "file",
        };
        Failure::new(code, format!("{text}: {error}"))
    }
}

/// Refuses, before anything is made, files in directories that are not there.
pub(crate) fn places(paths: &[&Path]) -> Result<(), Failure> {
    for path in paths {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if parent.is_some_and(|parent| !parent.is_dir()) {
            return Err(unwritable(path)(std::io::ErrorKind::NotFound.into()));
        }
    }
    Ok(())
}
