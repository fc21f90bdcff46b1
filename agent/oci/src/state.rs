//! `state`: the state as the OCI runtime specification writes it.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::OciError;
use super::record::{ContainerDirectory, Status};

pub fn print(root: &Path, id: &str) -> Result<(), OciError> {
    let container = ContainerDirectory::new(root, id)?;
    let (record, status) = container.load()?;
    let pid = record.process.filter(|_| status != Status::Stopped).map_or(0, |(pid, _)| pid);
    let state = json!({
        "ociVersion": record.version,
        "id": container.id,
        "status": status.word(),
        "pid": pid,
        "bundle": record.bundle,
        "created": record.created,
        "annotations": record.annotations,
    });
    let written = writeln!(io::stdout(), "{state:#}");
    written.map_err(|source| OciError::System { id: container.id, what: "cannot print its state", source })
}
