//! `start`: lets the command of a made container run.

use std::path::Path;

use evenkeel_shim::fail_point;
use libcontainer::container::ContainerStatus;

use super::OciError;
use super::record::{Place, status_word};

pub fn start(root: &Path, id: &str) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    let (mut container, _) = place.load()?;
    if container.status() != ContainerStatus::Created {
        let status = status_word(container.status());
        return Err(OciError::Status { id: place.id, status, wanted: "created" });
    }
    fail_point!("oci.starting");
    container.start().map_err(|source| OciError::Container {
        id: place.id,
        detail: "cannot start it".to_owned(),
        source: Box::new(source),
    })?;
    fail_point!("oci.started");
    Ok(())
}
