//! The status file, replaced whole at every change so that a reader never sees half of one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evenkeel_shim::Status;

/// The status file could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct StatusError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Writes the status beside its place, makes it durable, and puts it there.
pub fn write(path: &Path, status: &Status) -> Result<(), StatusError> {
    // A name with a leading dot, which whoever watches the directory passes over.
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let temporary = path.with_file_name(name);
    let replace = || {
        let text = serde_json::to_vec(status)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    replace().map_err(|source| StatusError { path: path.to_owned(), source })
}
