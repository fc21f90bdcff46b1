//! The mounts of a container: those that every one has, and those of its manifest with their sources checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use evenkeel_schema::{ContainerSpec, IdMap, Mount, MountSource};
use evenkeel_shim::fail_point;
use oci_spec::runtime::Mount as OciMount;
use sha2::{Digest, Sha256};

use super::error::Failure;
use super::idmap;
use super::inside::Inside;
use crate::Paths;
use crate::mountpoint::{detach, is_mount_point};
use crate::volume::fill::{FillLocks, fill};

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

/// Where mounts with mapped owners are kept, below the run directory.
const STAGES: &str = "mounts";

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
    /// For the container's first time alone: a volume that is emptied afterwards was emptied by somebody.
    pub filling: Option<&'a FillLocks>,
}

/// Checks the sources, makes what has to be made on the host, and gives the mounts with outer targets first.
pub fn stated_mounts(spec: &ContainerSpec, with: Preparation<'_>) -> Result<Vec<OciMount>, Failure> {
    let mut mounts = Vec::new();
    for stated in &spec.mounts {
        mounts.push(stated_mount(stated, with)?);
    }
    drop_other_stages(with.run, &mounts)?;
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn stated_mount(stated: &Mount, with: Preparation<'_>) -> Result<OciMount, Failure> {
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
            if let Some(locks) = with.filling {
                fill(with.inside, Path::new(&stated.target), &path, locks)
                    .map_err(|source| Failure::Fill { target: target.clone(), source })?;
            }
            Ok(bind(&path))
        }
        MountSource::Bind { path, idmap } => {
            let metadata = fs::metadata(path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Failure::MissingSource { target: target.clone(), path: path.clone() },
                _ => Failure::Source { target: target.clone(), path: path.clone(), source },
            })?;
            let Some(map) = idmap else { return Ok(bind(path)) };
            let staged = with.run.join(STAGES).join(stage_name(path, map));
            let file = |source| Failure::File { path: staged.clone(), source };
            if !is_mount_point(&staged).map_err(file)? {
                stage(&staged, metadata.is_dir()).map_err(file)?;
                fail_point!("mount.stage.made");
                idmap::mount(path, &staged, map).map_err(|source| Failure::IdMap {
                    target: target.clone(),
                    path: path.clone(),
                    source,
                })?;
                fail_point!("mount.stage.mounted");
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

/// Names the place of a mount by what is mounted there, so that another source or map is another place.
fn stage_name(path: &Path, map: &IdMap) -> String {
    let gid = map.gid.unwrap_or(map.uid);
    let digest = Sha256::new()
        .chain_update(path.as_os_str().as_encoded_bytes())
        .chain_update(format!("\0{} {}", String::from(map.uid), String::from(gid)))
        .finalize();
    hex::encode(&digest[..8])
}

/// Takes away the mounts that the container had of other sources before. A container that runs has its own copies.
fn drop_other_stages(run: &Path, mounts: &[OciMount]) -> Result<(), Failure> {
    let stages = run.join(STAGES);
    let Ok(entries) = fs::read_dir(&stages) else { return Ok(()) };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if mounts.iter().any(|mount| mount.source().as_ref() == Some(&path)) {
            continue;
        }
        detach(&path).map_err(|source| Failure::File { path: path.clone(), source })?;
        fail_point!("mount.stage.detached");
        // Empty now, whether directory or file; what is not is left to the removal of the container.
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
    Ok(())
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
