//! `start`: lets the command of a made container run.

use std::path::Path;

use evenkeel_shim::gate;

use super::OciError;
use super::record::{ContainerDirectory, Status};

pub fn start(root: &Path, id: &str) -> Result<(), OciError> {
    let container = ContainerDirectory::new(root, id)?;
    let (_, status) = container.load()?;
    if status != Status::Created {
        return Err(OciError::Status { id: container.id, status: status.word(), wanted: "created" });
    }
    let path = container.gate();
    // Where nobody waits any more, an earlier call opened it and was killed before it could take the gate away.
    gate::open(&path).map(drop).map_err(|source| OciError::File { path, source })
}
