//! The status file, replaced whole at every change so that a reader never sees half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evenkeel_shim::Status;
use evenkeel_shim::fail_point;

/// The status file could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct StatusError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Writes the status beside its place, makes it durable, and puts it there.
pub fn write(path: &Path, status: &Status) -> Result<(), StatusError> {
    let temporary = evenkeel_shim::status_on_its_way(path);
    let replace = || {
        let text = serde_json::to_vec(status)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fail_point!("shim.status.written");
        fs::rename(&temporary, path)?;
        fail_point!("shim.status.placed");
        Ok(())
    };
    replace().map_err(|source| StatusError { path: path.to_owned(), source })
}
