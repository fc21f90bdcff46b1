//! A container's root file system: an overlay of the image's layers and one directory of its own.
//!
//! The layers are shared and never written; what the container writes is in `upper/` of its state directory and lasts as
//! long as the container does, over restarts and reboots.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use evenkeel_shim::fail_point;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FsWord, statfs};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, unmount,
};

use crate::mountinfo::MountTable;
use crate::mountpoint::is_mount_point;

/// The magic number of overlay file systems (statfs(2)).
const OVERLAY_MAGIC: FsWord = 0x794c_7630;

/// What an overlay is put together from.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// Topmost first.
    pub lower: &'a [PathBuf],
    pub upper: &'a Path,
    pub work: &'a Path,
    pub target: &'a Path,
}

/// The overlay could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount an overlay of {layers} layers at {path}")]
    Mount {
        path: PathBuf,
        layers: usize,
        #[source]
        source: io::Error,
    },
    #[error("the image has no layer")]
    NoLayers,
    #[error(
        "cannot mount an overlay of {layers} layers at {path}: this kernel takes too few of them (Linux 6.8 takes any number)"
    )]
    TooManyLayers {
        path: PathBuf,
        layers: usize,
        #[source]
        source: io::Error,
    },
}

/// Tells whether an overlay is mounted at a path.
pub fn is_mounted(target: &Path) -> Result<bool, RootfsError> {
    let look = || Ok(is_mount_point(target)? && statfs(target)?.f_type == OVERLAY_MAGIC);
    look().map_err(|source| RootfsError::File { path: target.to_owned(), source })
}

/// Makes the directories and mounts the overlay.
pub fn mount(overlay: &Overlay<'_>) -> Result<(), RootfsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| RootfsError::File { path, source }
    };
    let top = overlay.lower.first().ok_or(RootfsError::NoLayers)?;
    let look = fs::metadata(top).map_err(file(top))?;
    for directory in [overlay.upper, overlay.work, overlay.target] {
        fs::create_dir_all(directory).map_err(file(directory))?;
        fail_point!("overlay.directory");
    }
    // The overlay's own root has mode and owner of the uppermost directory.
    fs::set_permissions(overlay.upper, Permissions::from_mode(look.mode() & 0o7777)).map_err(file(overlay.upper))?;
    std::os::unix::fs::chown(overlay.upper, Some(look.uid()), Some(look.gid())).map_err(file(overlay.upper))?;
    fail_point!("overlay.prepared");
    let (path, layers) = (overlay.target.to_owned(), overlay.lower.len());
    let mounted = match mount_by_descriptor(overlay) {
        // Kernels before 6.8 know no `lowerdir+`, those before 5.2 no fsopen(2).
        Err(source) if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            let text = OptionText::of(overlay);
            if !text.fits() {
                return Err(RootfsError::TooManyLayers { path, layers, source });
            }
            text.mount(overlay.target)
        }
        other => other,
    };
    mounted.map_err(|source| RootfsError::Mount { path, layers, source })
}

/// Each layer is handed over by itself, so that neither their number nor characters in their names matter.
fn mount_by_descriptor(overlay: &Overlay<'_>) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    for layer in overlay.lower {
        fsconfig_set_string(&context, "lowerdir+", layer.as_path())?;
    }
    fsconfig_set_string(&context, "upperdir", overlay.upper)?;
    fsconfig_set_string(&context, "workdir", overlay.work)?;
    fsconfig_create(&context)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&mounted, "", CWD, overlay.target, from_descriptor)?)
}

/// An overlay's options as mount(2) takes them: one page of text. The layers lie in one directory, so that their names relative to it,
/// from a thread with a working directory of its own, make room for some sixty of them.
struct OptionText<'a> {
    directory: &'a Path,
    options: Vec<u8>,
}

impl<'a> OptionText<'a> {
    fn of(overlay: &Overlay<'a>) -> OptionText<'a> {
        let common = overlay.lower.iter().map(|layer| layer.parent()).reduce(|a, b| if a == b { a } else { None });
        let directory = common.flatten().unwrap_or(Path::new("/"));
        let inner = |layer: &'a PathBuf| escape(layer.strip_prefix(directory).unwrap_or(layer).as_os_str());
        let lower: Vec<Vec<u8>> = overlay.lower.iter().map(inner).collect();
        let options = [
            b"lowerdir=".as_slice(),
            &lower.join(&b':'),
            b",upperdir=",
            &escape(overlay.upper.as_os_str()),
            b",workdir=",
            &escape(overlay.work.as_os_str()),
        ]
        .concat();
        OptionText { directory, options }
    }

    /// Tells whether the kernel takes all of it, with the NUL at its end: it cuts off what is too long without a word.
    fn fits(&self) -> bool {
        // SAFETY: sysconf(3) takes any number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(page).is_ok_and(|page| self.options.len() < page)
    }

    fn mount(self, target: &Path) -> io::Result<()> {
        let options = CString::new(self.options)?;
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || -> io::Result<()> {
                unshare(CloneFlags::CLONE_FS)?;
                std::env::set_current_dir(self.directory)?;
                let flags = rustix::mount::MountFlags::empty();
                Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
            });
            thread?.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        })
    }
}

/// Separators of the option text are escaped (Documentation/filesystems/overlayfs.rst).
fn escape(text: &OsStr) -> Vec<u8> {
    let special = |byte: &u8| matches!(byte, b'\\' | b':' | b',');
    text.as_bytes().iter().flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte])).collect()
}

/// Detaches every mount at and below a directory, the innermost first. In use or not: it is gone from every path at once.
pub fn detach_below(directory: &Path) -> Result<(), RootfsError> {
    // A mount may hide another, so that several rounds are needed; what cannot be detached ends them.
    loop {
        let mounts = MountTable::of_self()
            .map_err(|error| RootfsError::File { path: directory.to_owned(), source: io::Error::other(error) })?;
        let Some(last) = mounts.iter().rev().find(|mount| mount.mount_point.starts_with(directory)) else {
            return Ok(());
        };
        unmount(last.mount_point.as_path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|errno| RootfsError::File { path: last.mount_point.clone(), source: errno.into() })?;
    }
}

#[cfg(test)]
mod tests;
