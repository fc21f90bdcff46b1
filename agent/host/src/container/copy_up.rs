//! First use of a volume: what the image has at the mount point is copied into an empty volume, as Docker does.
//!
//! The volume's own owner and mode stay as its manifest says. The copy is made beside the volume and moved in when it
//! is whole, so that a copy that was cut off is begun again, or moved in at the next attempt.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use evenkeel_shim::fail_point;
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::OFlags;

use super::inside::Inside;
use crate::volume::{COPIED, COPYING, beside};

/// The copy failed.
#[derive(Debug, thiserror::Error)]
#[error("copying the image's content to {path}")]
pub struct CopyUpError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Fills an empty volume with what the root file system has at the target.
pub fn fill(inside: &Inside, target: &Path, volume: &Path) -> Result<(), CopyUpError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CopyUpError { path, source }
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
        copy_children(&source, &begun)?;
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

fn copy_children(from: &Path, to: &Path) -> Result<(), CopyUpError> {
    let failed = |source| CopyUpError { path: to.to_owned(), source };
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), CopyUpError> {
    let failed = |source| CopyUpError { path: to.to_owned(), source };
    let metadata = fs::symlink_metadata(from).map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(to).map_err(failed)?;
        copy_children(from, to)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from).map_err(failed)?, to).map_err(failed)?;
    } else if kind.is_file() {
        fs::copy(from, to).map_err(failed)?;
    } else {
        // A socket is nothing without the process that listens.
        let typ = match () {
            () if kind.is_char_device() => SFlag::S_IFCHR,
            () if kind.is_block_device() => SFlag::S_IFBLK,
            () if kind.is_fifo() => SFlag::S_IFIFO,
            () => return Ok(()),
        };
        mknod(to, typ, Mode::empty(), metadata.rdev()).map_err(|errno| failed(errno.into()))?;
    }
    lchown(to, Some(metadata.uid()), Some(metadata.gid())).map_err(failed)?;
    if kind.is_symlink() {
        return Ok(());
    }
    // After the owner: chown(2) takes set-user-ID away.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)).map_err(failed)?;
    if (kind.is_file() || kind.is_dir())
        && let Ok(modified) = metadata.modified()
    {
        File::open(to).and_then(|file| file.set_modified(modified)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
