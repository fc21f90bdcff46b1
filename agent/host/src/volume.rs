//! Volumes: directories under the state directory, with the owner and mode that their manifest states.
//!
//! Only the directory itself is looked at and changed; what lies in it belongs to the containers. Bind mounts and
//! tmpfs are mounts of a container, not volumes: they are `container`'s.

pub mod fill;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use evenkeel_plan::{ObservedVolume, Sight};
use evenkeel_schema::{Mode, Name, Owner, VolumeSpec};
use evenkeel_shim::fail_point;

use crate::mountinfo::{MountTable, MountTableError};
use crate::{Paths, tree};

/// What went wrong with a volume's directory.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {name}: cannot {deed} {}", path.display())]
    Directory { name: Name, deed: &'static str, path: PathBuf, source: io::Error },
    #[error("volume {name}: {} is not a directory; move it away first", path.display())]
    NotADirectory { name: Name, path: PathBuf },
    #[error("volume {name}: something is mounted on {}; unmount it first", path.display())]
    StillMounted { name: Name, path: PathBuf },
    #[error("volume {name}: cannot tell what is mounted in it")]
    Mounts { name: Name, source: MountTableError },
}

/// Looks at a volume's directory without following a symbolic link in its place.
pub fn observe(paths: &Paths, name: &Name) -> Sight<ObservedVolume> {
    let path = paths.volume(name);
    match fs::symlink_metadata(&path) {
        Ok(metadata) => Sight::Found {
            observed: ObservedVolume {
                directory: metadata.is_dir(),
                owner: Owner { uid: metadata.uid(), gid: metadata.gid() },
                mode: Mode(metadata.mode() & 0o7777),
                path,
            },
            owned: true,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Sight::Absent,
        Err(error) => Sight::Unreadable(format!("{}: {error}", path.display())),
    }
}

/// Makes the directory where it is missing, and gives it the owner and mode stated.
///
/// # Errors
/// Names the volume and the path; a directory that was there keeps its content in every case.
pub fn ensure(paths: &Paths, name: &Name, spec: &VolumeSpec) -> Result<(), VolumeError> {
    let path = paths.volume(name);
    let failed = |deed| {
        let (name, path) = (name.clone(), path.clone());
        move |source| VolumeError::Directory { name, deed, path, source }
    };
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(VolumeError::NotADirectory { name: name.clone(), path }),
        Err(_) => {
            // 0700 until owner and mode are set: nobody looks into a half-made volume.
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).map_err(failed("make the directory above"))?;
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed("make"))?;
            fail_point!("volume.made");
            sync_directory(parent).map_err(failed("write to disk"))?;
        }
    }
    lchown(&path, Some(spec.owner.uid), Some(spec.owner.gid)).map_err(failed("change the owner of"))?;
    fail_point!("volume.owned");
    // After chown(2), which clears set-user-ID and set-group-ID bits.
    fs::set_permissions(&path, fs::Permissions::from_mode(spec.mode.0)).map_err(failed("change the mode of"))?;
    fail_point!("volume.ready");
    Ok(())
}

/// Deletes the directory with all that lies in it, or whatever else stands in its place, and what lies beside it of a first copy that was cut off.
///
/// It leaves its place whole before anything in it goes: no volume is ever there with a part of its files.
///
/// # Errors
/// Names the volume and the path. Where something is mounted below, nothing is deleted: that is not the volume's.
pub fn remove(paths: &Paths, name: &Name) -> Result<(), VolumeError> {
    let path = paths.volume(name);
    let failed = |path: &Path| {
        let (name, path) = (name.clone(), path.to_owned());
        move |source| VolumeError::Directory { name, deed: "delete", path, source }
    };
    let grave = beside(&path, REMOVED);
    let mounts = MountTable::of_self().map_err(|source| VolumeError::Mounts { name: name.clone(), source })?;
    let below = |place: &Path| place.starts_with(&path) || place.starts_with(&grave);
    if let Some(mount) = mounts.iter().find(|mount| below(&mount.mount_point)) {
        return Err(VolumeError::StillMounted { name: name.clone(), path: mount.mount_point.clone() });
    }
    gone_is_fine(tree::remove(&grave)).map_err(failed(&grave))?;
    gone_is_fine(fs::rename(&path, &grave)).map_err(failed(&path))?;
    fail_point!("volume.buried");
    for suffix in [REMOVED, COPYING, COPIED] {
        let path = beside(&path, suffix);
        gone_is_fine(tree::remove(&path)).map_err(failed(&path))?;
    }
    fail_point!("volume.removed");
    Ok(())
}

/// Suffix of a volume on its way out.
const REMOVED: &str = "removed";
/// Suffix of the first copy of an image's files, while it is made.
const COPYING: &str = "copying";
/// Suffix of the first copy of an image's files, made and to be moved in.
const COPIED: &str = "copied";

/// Names the place beside a volume that this suffix stands for. No volume's own name begins with a dot.
fn beside(volume: &Path, suffix: &str) -> PathBuf {
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    volume.with_file_name(format!(".{name}.{suffix}"))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
