//! `delete`: removes what is left of a container, also of one whose `create` was cut off.

use std::path::Path;

use super::OciError;
use super::record::{ContainerDirectory, Status};

pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), OciError> {
    let container = ContainerDirectory::new(root, id)?;
    if !container.path.exists() {
        return if force { Ok(()) } else { Err(OciError::NoContainer { id: container.id }) };
    }
    if force {
        return container.sweep();
    }
    match container.load() {
        // A made container that was never started may go, as for runc.
        Ok((_, Status::Running)) => {
            let status = Status::Running.word();
            Err(OciError::Status { id: container.id, status, wanted: "stopped" })
        }
        Ok(_) | Err(OciError::NoContainer { .. }) => container.sweep(),
        Err(error) => Err(error),
    }
}
