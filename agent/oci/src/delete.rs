//! `delete`: removes what is left of a container, also of one whose `create` was cut off.

use std::path::Path;

use super::OciError;
use super::record::{Place, Status};

pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    if !place.directory.exists() {
        return if force { Ok(()) } else { Err(OciError::NoContainer { id: place.id }) };
    }
    if force {
        return place.sweep();
    }
    match place.load() {
        // A made container that was never started may go, as for runc.
        Ok((_, Status::Running)) => {
            let status = Status::Running.word();
            Err(OciError::Status { id: place.id, status, wanted: "stopped" })
        }
        Ok(_) | Err(OciError::NoContainer { .. }) => place.sweep(),
        Err(error) => Err(error),
    }
}
