//! `state`: the state as the OCI runtime specification writes it.

use std::path::Path;

use libcontainer::container::ContainerStatus;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::OciError;
use super::record::{Place, status_word};

pub fn print(root: &Path, id: &str) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    let (container, record) = place.load()?;
    let alive = container.status() != ContainerStatus::Stopped;
    let created = container
        .state
        .created
        .and_then(|created| time::OffsetDateTime::from_unix_timestamp(created.timestamp()).ok()?.format(&Rfc3339).ok());
    let state = json!({
        "ociVersion": container.state.oci_version,
        "id": place.id,
        "status": status_word(container.status()),
        "pid": container.state.pid.filter(|_| alive).unwrap_or(0),
        "bundle": record.bundle,
        "created": created,
        "annotations": container.state.annotations,
    });
    println!("{state:#}");
    Ok(())
}
