//! `start`: lets the command of a made container run.

use std::path::Path;

use evenkeel_shim::gate;

use super::OciError;
use super::record::{Place, Status};

pub fn start(root: &Path, id: &str) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    let (_, status) = place.load()?;
    if status != Status::Created {
        return Err(OciError::Status { id: place.id, status: status.word(), wanted: "created" });
    }
    let path = place.gate();
    // Where nobody waits any more, an earlier call opened it and was killed before it could take the gate away.
    gate::open(&path).map(drop).map_err(|source| OciError::File { path, source })
}
