//! `delete`: removes what is left of a container, also of one whose `create` was cut off.

use std::path::Path;

use libcontainer::container::ContainerStatus;

use super::OciError;
use super::record::{Place, status_word};

pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    if !place.exists() {
        return if force { Ok(()) } else { Err(OciError::NoContainer { id: place.id }) };
    }
    if force {
        return place.sweep();
    }
    match place.load() {
        // A made container that was never started may go, as for runc.
        Ok((container, _)) => match container.status() {
            ContainerStatus::Stopped | ContainerStatus::Created => place.sweep(),
            other => Err(OciError::Status { id: place.id, status: status_word(other), wanted: "stopped" }),
        },
        Err(OciError::NoContainer { .. }) => place.sweep(),
        Err(error) => Err(error),
    }
}
