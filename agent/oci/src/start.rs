//! `start`: lets the command of a made container run.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use evenkeel_shim::fail_point;

use super::OciError;
use super::record::{Place, Status};

pub fn start(root: &Path, id: &str) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    let (_, status) = place.load()?;
    if status != Status::Created {
        return Err(OciError::Status { id: place.id, status: status.word(), wanted: "created" });
    }
    let path = place.gate();
    let file = |source| OciError::File { path: path.clone(), source };
    fail_point!("oci.starting");
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Ok(mut gate) => gate.write_all(&[0]).map_err(file)?,
        // Nobody waits there any more: an earlier call opened it and was killed before it could take the gate away.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
        Err(source) => return Err(file(source)),
    }
    fail_point!("oci.started");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(error)),
        _ => Ok(()),
    }
}
