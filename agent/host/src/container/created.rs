//! How a container was made: `created.json` in its state directory, the mark that it is one of ours and whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use evenkeel_schema::{ContainerSpec, Digest};
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};
use serde_json::Error as JsonError;

use super::error::Failure;

/// The manifest and image that a container was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    pub spec: ContainerSpec,
    pub image: Digest,
    /// RFC 3339.
    pub created_at: String,
}

/// Where it stands, in the state directory; a copy for the case of its loss lies in the run directory.
pub fn path(state: &Path) -> PathBuf {
    state.join("created.json")
}

/// Reads it; `None` where the container was never made to its end.
pub fn read(state: &Path) -> Result<Option<Created>, Failure> {
    let path = path(state);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Failure::Json { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Failure::File { path, source }),
    }
}

/// Writes a file so that it is there whole or as before, also after a power failure, and never torn; for root's eyes only, since an
/// environment may hold secrets.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes, true).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// As [`write_durably`], for files that do not outlast a boot anyway.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes, false).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// Writes a value as JSON, durably.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let failed = |source: JsonError| Failure::Json { path: path.to_owned(), source };
    write_durably(path, &serde_json::to_vec_pretty(value).map_err(failed)?)
}

fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fail_point!("file.written");
    fs::rename(&temporary, path)?;
    fail_point!("file.placed");
    // The directory is not flushed: a name that a power failure takes back leaves a container that was not made whole, which the
    // next pass completes.
    Ok(())
}
