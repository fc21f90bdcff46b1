//! The container's root file system from inside its new mount namespace.
//!
//! An image is not trusted: a symbolic link in it may point anywhere. Every path is walked from an open root, and whatever
//! is mounted goes onto a descriptor, never onto a path that could change in between.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use evenkeel_host::confined;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, readlinkat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

/// How many symbolic links one path may lead through, as in path_resolution(7).
const MAX_LINKS: usize = 40;

/// What is made where a path leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Directory,
    File,
}

/// An open root file system that is a mount point of its own.
#[derive(Debug)]
pub struct Rootfs(OwnedFd);

impl Rootfs {
    /// Mounts a copy of the tree at a path over that path: pivot_root(2) wants a mount point of this namespace.
    pub fn take(tree: OwnedFd, path: &Path) -> io::Result<Rootfs> {
        move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Rootfs(tree))
    }

    /// Opens what a path leads to in the container, with `O_PATH`; `None` where there is nothing.
    pub fn find(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        match confined::open(&self.0, relative, OFlags::PATH, ResolveFlags::IN_ROOT) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// As [`Rootfs::find`], and makes what is missing of the path, also behind a symbolic link that leads to nothing yet.
    pub fn find_or_make(&self, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        // The directories above, so that `..` leads where the walk came from.
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut rest: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                above.pop();
                continue;
            }
            let here = above.last().unwrap_or(&self.0);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match openat(here, &name, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => {
                    make(here.as_fd(), &name, if rest.is_empty() { missing } else { Missing::Directory })?;
                    openat(here, &name, flags, Mode::empty())?
                }
                other => other?,
            };
            if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = PathBuf::from(OsString::from_vec(readlinkat(&found, "", Vec::new())?.into_bytes()));
                if target.is_absolute() {
                    above.clear();
                }
                rest.extend(parts(&target));
            } else {
                above.push(found);
            }
        }
        match above.pop() {
            Some(found) => Ok(found),
            None => Ok(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?),
        }
    }

    /// Makes this the root of the namespace and of the process, and lets go of the old one (pivot_root(2)).
    pub fn enter(&self) -> io::Result<()> {
        fchdir(&self.0)?;
        pivot_root(".", ".")?;
        // The old root now lies over the new one, whose directory is still the working directory.
        unmount(".", UnmountFlags::DETACH)?;
        Ok(chdir("/")?)
    }
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Splits a path into its names, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn make(here: BorrowedFd<'_>, name: &OsString, what: Missing) -> io::Result<()> {
    let made = match what {
        Missing::Directory => mkdirat(here, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(here, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else, with the same volume, was faster.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Mounts a detached tree onto what a descriptor stands for.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// Copies the mounts at a place of the host, which are then attached to nothing, and no event leads from one side to the other.
pub fn copy_of(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = open_tree(CWD, source, flags)?;
    let private = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    change(tree.as_fd(), &private, true)?;
    Ok(tree)
}

/// Copies the mount that a descriptor stands for, which is then attached to nothing.
pub fn detached_copy(of: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(of, "", flags)?)
}

/// Sets attributes of a mount, `MOUNT_ATTR_*` of mount_setattr(2).
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    change(mount, &libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 }, recursive)
}

fn change(mount: BorrowedFd<'_>, attributes: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = AtFlags::EMPTY_PATH.bits() | if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let (mount, size) = (mount.as_raw_fd(), size_of::<libc::mount_attr>());
    // SAFETY: the descriptor is open, the path is empty, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount, c"".as_ptr(), flags, std::ptr::from_ref(attributes), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
