//! Directory trees of any depth, walked with one open directory and no recursion.
//!
//! `std::fs::remove_dir_all` keeps one file descriptor for each level, so that a tree deeper than the limit on open files
//! (1024 by default) cannot be removed with it. An archive or a container makes such a tree with a single path.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::{Errno, Result};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

type Name = Vec<u8>;

/// Removes whatever is at a path, a directory with all that lies in it. Symbolic links are not followed, and nothing is removed
/// through a mount.
///
/// # Errors
/// `EXDEV` or `EBUSY` for what is mounted there, on a directory or on a file; what was met before is gone by then.
pub fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = apart(path)?;
    Ok(remove_at(parent.as_fd(), name.as_bytes())?)
}

/// Does the same by the name in an open directory.
pub fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let empty = |directory: &OwnedFd| match is_mount_root(directory)? {
        true => Err(Errno::XDEV),
        false => children(directory, |child, _| unlink_unless_directory(directory, child)),
    };
    let left = |parent: BorrowedFd<'_>, name: &[u8]| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    walk(parent, name, empty, left)
}

/// Has ext4 put what lies in each subdirectory into a part of the disk of its own (the attribute `T` of chattr(1)). Other file systems
/// choose by themselves.
///
/// Without it trees that come and go share one part, where ext4 passes over every inode that was freed within the last minutes
/// before it takes one: an image's files take three times as long to be made where another's were just deleted.
pub fn spread(directory: &Path) {
    let Ok(opened) = rustix::fs::open(directory, DIRECTORY, Mode::empty()) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&opened)
        && !flags.contains(IFlags::TOPDIR)
    {
        // A hint that is refused is no loss but of time.
        let _ = rustix::fs::ioctl_setflags(&opened, flags | IFlags::TOPDIR);
    }
}

/// Adds up the lengths of the regular files in a directory tree, each file once.
pub fn size(path: &Path) -> io::Result<u64> {
    let (parent, name) = apart(path)?;
    let mut linked = std::collections::HashSet::new();
    let mut sum = 0u64;
    let add = |directory: &OwnedFd| {
        children(directory, |child, kind| {
            if kind == FileType::RegularFile {
                let stat = rustix::fs::statat(directory, child, AtFlags::SYMLINK_NOFOLLOW)?;
                if stat.st_nlink == 1 || linked.insert(stat.st_ino) {
                    sum = sum.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
                }
            }
            Ok(kind == FileType::Directory)
        })
    };
    walk(parent.as_fd(), name.as_bytes(), add, |_, _| Ok(()))?;
    Ok(sum)
}

/// A directory for something half-made; whatever it holds goes with the value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Takes over a directory, or the name of one that is to come.
    pub fn new(path: PathBuf) -> Self {
        Scratch { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, and tells whether that went well.
    pub fn close(self) -> io::Result<()> {
        let removed = remove(&self.path);
        std::mem::forget(self);
        removed
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where it was renamed there is nothing left, and what cannot be removed now is cleared at the next start.
        let _ = remove(&self.path);
    }
}

struct Level {
    name: Name,
    /// Device and inode: the way up must lead where we came from.
    identity: (u64, u64),
    /// Its directories that were not entered yet.
    pending: Vec<Name>,
}

/// Walks a directory: `enter` lists the sub-directories to go into, `leave` is told each directory after all below it.
fn walk(
    parent: BorrowedFd<'_>,
    name: &[u8],
    mut enter: impl FnMut(&OwnedFd) -> Result<Vec<Name>>,
    mut leave: impl FnMut(BorrowedFd<'_>, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    let mut levels = vec![Level { name: name.to_vec(), identity: identity(&directory)?, pending: enter(&directory)? }];
    while let Some(level) = levels.last_mut() {
        if let Some(child) = level.pending.pop() {
            directory = rustix::fs::openat(&directory, child.as_slice(), DIRECTORY, Mode::empty())?;
            levels.push(Level { name: child, identity: identity(&directory)?, pending: enter(&directory)? });
            continue;
        }
        let done = levels.pop().map(|level| level.name).unwrap_or_default();
        match levels.last() {
            None => leave(parent, &done)?,
            Some(above) => {
                let up = rustix::fs::openat(&directory, "..", DIRECTORY, Mode::empty())?;
                // Somebody moved the directory while we were in it.
                if identity(&up)? != above.identity {
                    return Err(Errno::BUSY);
                }
                leave(up.as_fd(), &done)?;
                directory = up;
            }
        }
    }
    Ok(())
}

/// Calls `each` for every entry of a directory, and gives the names for which it says that they are directories.
fn children(directory: &OwnedFd, mut each: impl FnMut(&[u8], FileType) -> Result<bool>) -> Result<Vec<Name>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        if each(name, kind)? {
            directories.push(name.to_vec());
        }
    }
    Ok(directories)
}

fn unlink_unless_directory(directory: &OwnedFd, name: &[u8]) -> Result<bool> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Tells whether an open directory is the root of a mount.
fn is_mount_root(directory: &OwnedFd) -> Result<bool> {
    let look = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(look.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn apart(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(parent, flags, Mode::empty())?, name))
}

#[cfg(test)]
mod tests;
