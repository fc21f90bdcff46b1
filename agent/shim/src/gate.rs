//! The gate: a named pipe at which a made container's first process waits for its start.
//!
//! The built-in OCI runtime makes it in the container's directory below its root. Whoever starts the container opens it: the
//! runtime's `start`, or the shim itself, which spares a program its start. Other runtimes have gates of their own,
//! which nobody here touches.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::fail_point;

/// Names the gate of a container, by the directory of its own that the runtime keeps.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("gate")
}

/// Tells whether there is a gate.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Lets whoever waits at the gate go on, and takes the gate away. `false` where nobody waits there any more.
///
/// # Errors
/// The kernel's, and `NotFound` where there is no gate.
pub fn open(path: &Path) -> io::Result<bool> {
    fail_point!("gate.opening");
    let is_awaited = match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(mut gate) => gate.write_all(&[0]).map(|()| true)?,
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => false,
        Err(error) => return Err(error),
    };
    fail_point!("gate.opened");
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(is_awaited),
    }
}
