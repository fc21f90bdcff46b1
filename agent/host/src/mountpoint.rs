//! Single mount points: whether a path is one, and taking what is mounted there away.
//!
//! The table of all mounts (`mountinfo.rs`) grows with every container, and so does the time to read it. What is asked
//! for one container's own paths is asked of the kernel path by path.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::mountinfo::MountTable;

/// Tells whether something is mounted at a path.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let seen = match statx(CWD, path, flags, StatxFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        other => other?,
    };
    if seen.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Kernels before 5.8 do not say.
    Ok(MountTable::of_self().map_err(io::Error::other)?.at(path).is_some())
}

/// Takes away everything that is mounted at a path, in use or not, with what is mounted below it.
pub fn detach(path: &Path) -> io::Result<()> {
    // One mount may hide another.
    while is_mount_point(path)? {
        unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
