//! First use of a volume: what the image has at the mount point is copied into an empty volume, as Docker does.
//!
//! The volume's own owner and mode stay as its manifest says. The copy is made beside the volume and moved in when it
//! is whole, so that a copy that was cut off is begun again, or moved in at the next attempt.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use evenkeel_shim::fail_point;
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::{OFlags, XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;

use super::{COPIED, COPYING, beside};
use crate::attributes;
use crate::container::inside::Inside;

/// The longest list of extended attributes, and the longest value of one (limits.h: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_LIMIT: usize = 64 * 1024;

/// The copy failed.
#[derive(Debug, thiserror::Error)]
#[error("copying the image's content to {path}")]
pub struct FillError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Lets one container at a time fill a volume: two that are made side by side would copy to the same place.
#[derive(Debug, Default)]
pub struct FillLocks(Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>);

impl FillLocks {
    fn of(&self, volume: &Path) -> Arc<Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(volume).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(volume.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Fills an empty volume with what the root file system has at the target.
pub fn fill(inside: &Inside, target: &Path, volume: &Path, locks: &FillLocks) -> Result<(), FillError> {
    let lock = locks.of(volume);
    let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FillError { path, source }
    };
    let (begun, whole) = (beside(volume, COPYING), beside(volume, COPIED));
    if !whole.is_dir() {
        remove_tree(&begun).map_err(failed(&begun))?;
        let empty = fs::read_dir(volume).map_err(failed(volume))?.next().is_none();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let source = if empty { inside.open_at(target, flags).map_err(failed(volume))? } else { None };
        let Some(source) = source else { return Ok(()) };
        // The container does not run, so that nothing changes below while it is walked; the way here was resolved safely.
        let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        if fs::read_dir(&source).map_err(failed(volume))?.next().is_none() {
            return Ok(());
        }
        fs::create_dir(&begun).map_err(failed(&begun))?;
        fail_point!("volume.copying");
        copy_tree(source, begun.clone())?;
        // What has the name of a whole copy has to be one after a power failure too.
        flush(&begun).map_err(failed(&begun))?;
        fs::rename(&begun, &whole).map_err(failed(&whole))?;
        fail_point!("volume.copied");
    }
    for entry in fs::read_dir(&whole).map_err(failed(&whole))? {
        let entry = entry.map_err(failed(&whole))?;
        let place = volume.join(entry.file_name());
        fs::rename(entry.path(), &place).map_err(failed(&place))?;
        fail_point!("volume.filled");
    }
    // Before the container counts as made: nobody fills its volumes after that.
    File::open(volume).and_then(|volume| volume.sync_all()).map_err(failed(volume))?;
    fs::remove_dir(&whole).map_err(failed(&whole))
}

/// Flushes the file system that a directory lies in: one call for however many files.
fn flush(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match crate::tree::remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies what lies in a directory. Trees of any depth: neither the stack nor the open files grow with it.
fn copy_tree(from: PathBuf, to: PathBuf) -> Result<(), FillError> {
    let mut copier = Copier::new();
    let mut directories = Vec::new();
    let mut pending = vec![(from, to)];
    while let Some((from, to)) = pending.pop() {
        let failed = |source| FillError { path: to.clone(), source };
        for entry in fs::read_dir(&from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let failed = |source| FillError { path: to.clone(), source };
            let metadata = fs::symlink_metadata(&from).map_err(failed)?;
            if metadata.is_dir() {
                fs::create_dir(&to).map_err(failed)?;
                pending.push((from.clone(), to.clone()));
                directories.push((from, to, metadata));
            } else {
                copier.copy(&from, &to, &metadata).map_err(failed)?;
            }
        }
    }
    // Last: what is made in a directory moves its time.
    for (from, to, metadata) in directories {
        copier.settle(&from, &to, &metadata).map_err(|source| FillError { path: to, source })?;
    }
    Ok(())
}

struct Copier {
    /// The first copy of each file that has several names, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Copier {
    fn new() -> Copier {
        Copier { links: HashMap::new(), names: vec![0; ATTRIBUTE_LIMIT], value: vec![0; ATTRIBUTE_LIMIT] }
    }

    /// Copies anything but a directory.
    fn copy(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let identity = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&identity) {
                return fs::hard_link(first, to);
            }
            self.links.insert(identity, to.to_owned());
        }
        let kind = metadata.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            fs::copy(from, to)?;
        } else {
            // A socket is nothing without the process that listens.
            let typ = match () {
                () if kind.is_char_device() => SFlag::S_IFCHR,
                () if kind.is_block_device() => SFlag::S_IFBLK,
                () if kind.is_fifo() => SFlag::S_IFIFO,
                () => return Ok(()),
            };
            mknod(to, typ, Mode::empty(), metadata.rdev())?;
        }
        self.settle(from, to, metadata)
    }

    /// Gives a copy its owner, attributes, mode and time. chown(2) takes set-user-ID and capabilities away: it comes first.
    fn settle(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
        self.copy_attributes(from, to, !kind.is_file() && !kind.is_dir())?;
        if kind.is_symlink() {
            return Ok(());
        }
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        if (kind.is_file() || kind.is_dir())
            && let Ok(modified) = metadata.modified()
        {
            File::open(to)?.set_modified(modified)?;
        }
        Ok(())
    }

    fn copy_attributes(&mut self, from: &Path, to: &Path, special: bool) -> io::Result<()> {
        let length = match llistxattr(from, self.names.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => return Ok(()),
            listed => listed?,
        };
        for name in self.names[..length].split(|byte| *byte == 0).filter(|name| attributes::is_kept(name)) {
            let length = lgetxattr(from, name, self.value.as_mut_slice())?;
            let copied = lsetxattr(to, name, &self.value[..length], XattrFlags::empty());
            attributes::judge(copied, name, special)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
