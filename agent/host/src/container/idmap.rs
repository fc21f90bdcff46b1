//! Bind mounts that show one owner of the host as another in the container (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! The mount is made on the host, below the container's run directory, and bound from there by the runtime: then every
//! runtime serves, whether it knows such mounts or not.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use evenkeel_schema::{IdMap, IdPair};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// The mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    #[error("cannot make a user namespace")]
    Namespace(#[source] io::Error),
    #[error("the kernel refuses the map of {kind} {pair}", pair = String::from(*pair))]
    Map {
        kind: &'static str,
        pair: IdPair,
        #[source]
        source: io::Error,
    },
    #[error("the file system there cannot show other owners")]
    NotSupported(#[source] io::Error),
    #[error("cannot mount it")]
    Mount(#[source] io::Error),
}

/// Mounts `source` on `target`, which must be there, with the owners mapped.
pub fn mount(source: &Path, target: &Path, map: &IdMap) -> Result<(), IdMapError> {
    let namespace = user_namespace(map)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source, flags).map_err(|errno| IdMapError::Mount(errno.into()))?;
    set_id_map(tree.as_fd(), namespace.as_fd()).map_err(IdMapError::NotSupported)?;
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| IdMapError::Mount(errno.into()))
}

fn set_id_map(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptors are open, the path is empty, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a user namespace with the map. A process is needed to make one; it does nothing and goes at once.
fn user_namespace(map: &IdMap) -> Result<File, IdMapError> {
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: as fork(2) with the caller's stack; the child makes only async-signal-safe calls and never returns.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: as above. It dies with the thread that made it, however that one ends.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    if child < 0 {
        return Err(IdMapError::Namespace(io::Error::last_os_error()));
    }
    let write = |kind: &'static str, file: &str, pair: IdPair| {
        fs::write(format!("/proc/{child}/{file}"), extents(pair)).map_err(|source| IdMapError::Map {
            kind,
            pair,
            source,
        })
    };
    let made = write("uid", "uid_map", map.uid)
        .and_then(|()| write("gid", "gid_map", map.gid.unwrap_or(map.uid)))
        .and_then(|()| File::open(format!("/proc/{child}/ns/user")).map_err(IdMapError::Namespace));
    // SAFETY: our own child, not waited for yet.
    unsafe {
        libc::kill(child as i32, libc::SIGKILL);
        libc::waitpid(child as i32, std::ptr::null_mut(), 0);
    }
    made
}

/// Writes the map (user_namespaces(7)): the two ids change places, and every other one stays itself.
///
/// Left out, the others would be shown as `nobody` and could own nothing new; and each id can be shown for one only,
/// so that the one whose place is taken goes to the place that became free.
fn extents(pair: IdPair) -> String {
    /// The highest id; the one above means "none".
    const LAST: u32 = u32::MAX - 1;
    let (low, high) = (pair.host.min(pair.container), pair.host.max(pair.container));
    let mut lines = String::new();
    let mut same = |from: u32, to: u32| {
        if from <= to {
            lines += &format!("{from} {from} {}\n", to - from + 1);
        }
    };
    if low == high {
        same(0, LAST);
        return lines;
    }
    if low > 0 {
        same(0, low - 1);
    }
    same(low + 1, high - 1);
    if high < LAST {
        same(high + 1, LAST);
    }
    lines + &format!("{low} {high} 1\n{high} {low} 1\n")
}

#[cfg(test)]
mod tests;
