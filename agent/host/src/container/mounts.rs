//! The mounts of a container: those that every one has, and those of its manifest with their sources checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use evenkeel_schema::{ContainerSpec, Mount, MountSource};
use oci_spec::runtime::Mount as OciMount;

use super::error::Failure;
use super::inside::Inside;
use super::mountinfo::MountTable;
use super::{copy_up, idmap};
use crate::Paths;

/// Paths of `/proc` and `/sys` that tell of the host or change it: hidden, as Docker does.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of `/proc` that may be read and not written, as Docker does.
pub const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The files that are bound over those of the image.
pub const FILES: [(&str, &str); 3] =
    [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];

/// Gives the mounts that every container has, in their order, and without those that the manifest replaces.
pub fn default_mounts(spec: &ContainerSpec, run: &Path) -> Vec<OciMount> {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    mounts.extend(FILES.map(|(file, target)| mount(target, "bind", run.join(file), &["rbind", "rprivate"])));
    let replaced = |target: &Path| spec.mounts.iter().any(|stated| Path::new(&stated.target) == target);
    mounts.retain(|mount| !replaced(mount.destination()));
    mounts
}

fn mount(target: &str, typ: &str, source: impl AsRef<Path>, options: &[&str]) -> OciMount {
    let mut mount = OciMount::default();
    mount.set_destination(target.into());
    mount.set_typ(Some(typ.to_owned()));
    mount.set_source(Some(source.as_ref().to_owned()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// What is needed to prepare the manifest's mounts.
#[derive(Clone, Copy, Debug)]
pub struct Preparation<'a> {
    pub paths: &'a Paths,
    /// The container's run directory.
    pub run: &'a Path,
    pub inside: &'a Inside,
    pub mounts: &'a MountTable,
}

/// Checks the sources, makes what has to be made on the host, and gives the mounts with outer targets first.
pub fn stated_mounts(spec: &ContainerSpec, with: Preparation<'_>) -> Result<Vec<OciMount>, Failure> {
    let mut mounts = Vec::new();
    for (index, stated) in spec.mounts.iter().enumerate() {
        mounts.push(stated_mount(index, stated, with)?);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn stated_mount(index: usize, stated: &Mount, with: Preparation<'_>) -> Result<OciMount, Failure> {
    let target = stated.target.clone();
    let bind = |source: &Path| {
        let options: &[&str] =
            if stated.read_only { &["rbind", "rprivate", "ro", "rro"] } else { &["rbind", "rprivate", "rw"] };
        mount(&target, "bind", source, options)
    };
    match &stated.source {
        MountSource::Volume(volume) => {
            let path = with.paths.volume(volume);
            if !path.is_dir() {
                return Err(Failure::MissingVolume { target, volume: volume.clone(), path });
            }
            copy_up::fill(with.inside, Path::new(&stated.target), &path)
                .map_err(|source| Failure::CopyUp { target: target.clone(), source })?;
            Ok(bind(&path))
        }
        MountSource::Bind { path, idmap } => {
            let metadata = fs::metadata(path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Failure::MissingSource { target: target.clone(), path: path.clone() },
                _ => Failure::Source { target: target.clone(), path: path.clone(), source },
            })?;
            let Some(map) = idmap else { return Ok(bind(path)) };
            let staged = with.run.join("mounts").join(index.to_string());
            if with.mounts.at(&staged).is_none() {
                stage(&staged, metadata.is_dir()).map_err(|source| Failure::File { path: staged.clone(), source })?;
                idmap::mount(path, &staged, map).map_err(|source| Failure::IdMap {
                    target: target.clone(),
                    path: path.clone(),
                    source,
                })?;
            }
            Ok(bind(&staged))
        }
        MountSource::Tmpfs { size, mode } => {
            let mode = format!("mode={}", mode.map_or("1777".to_owned(), |mode| mode.to_string()));
            let size = size.map(|size| format!("size={}", size.0));
            let mut options = vec!["nosuid", "nodev", mode.as_str()];
            options.extend(size.as_deref());
            options.extend(stated.read_only.then_some("ro"));
            Ok(mount(&target, "tmpfs", "tmpfs", &options))
        }
    }
}

/// Makes the place where a mount is kept until the runtime binds it.
fn stage(place: &Path, directory: bool) -> io::Result<()> {
    let parent: PathBuf = place.parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(parent)?;
    let made = match directory {
        true => fs::create_dir(place),
        false => fs::File::create(place).map(drop),
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
