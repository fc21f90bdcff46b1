//! The mounts of a bundle: read into what the kernel wants once, then made one after another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as OciMount;
use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::cgroup::{Directories, OwnCgroup};
use super::rootfs::{Missing, Rootfs, attach, copy_of, detached_copy, set_attributes};

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;

/// One mount of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub target: PathBuf,
    pub what: What,
    /// `MOUNT_ATTR_*`.
    attributes: u64,
    /// The same, for what is mounted below as well.
    attributes_below: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A new instance of a file system.
    FileSystem { name: String, source: String, parameters: Vec<(String, Option<String>)> },
    /// A place of the host.
    Bind { source: PathBuf, recursive: bool },
    /// The container's own cgroup, of every hierarchy.
    Cgroup,
}

impl Mount {
    /// Reads a mount of a bundle. The error says what of it is not supported.
    pub fn of(mount: &OciMount) -> Result<Mount, String> {
        let target = mount.destination().clone();
        let place = |what: &str| format!("mount {}: {what}", target.display());
        if !target.is_absolute() {
            return Err(place("a relative destination"));
        }
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(place("mapped owners"));
        }
        let typ = mount.typ().as_deref().unwrap_or_default();
        let (mut attributes, mut attributes_below) = (0, 0);
        let (mut bound, mut recursive) = (typ == "bind", false);
        let mut parameters = Vec::new();
        for option in mount.options().iter().flatten() {
            match option.as_str() {
                "bind" => bound = true,
                "rbind" => (bound, recursive) = (true, true),
                // What a mount is without being told, and what all mounts of a container are.
                "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" | "private" | "rprivate" => {}
                "ro" => attributes |= libc::MOUNT_ATTR_RDONLY,
                "nosuid" => attributes |= libc::MOUNT_ATTR_NOSUID,
                "nodev" => attributes |= libc::MOUNT_ATTR_NODEV,
                "noexec" => attributes |= libc::MOUNT_ATTR_NOEXEC,
                "noatime" => attributes |= libc::MOUNT_ATTR_NOATIME,
                "strictatime" => attributes |= libc::MOUNT_ATTR_STRICTATIME,
                "rro" => attributes_below |= libc::MOUNT_ATTR_RDONLY,
                "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                    return Err(place(&format!("the option `{option}`")));
                }
                other => parameters.push(match other.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (other.to_owned(), None),
                }),
            }
        }
        let source = mount.source().clone().unwrap_or_default();
        let what = if bound {
            if let Some((name, _)) = parameters.first() {
                return Err(place(&format!("the option `{name}` of a bind mount")));
            }
            What::Bind { source, recursive }
        } else if attributes_below != 0 {
            // Nothing can be mounted below what is new.
            return Err(place("the option `rro` of a mount that binds nothing"));
        } else if typ == "cgroup" || typ == "cgroup2" {
            What::Cgroup
        } else {
            What::FileSystem { name: typ.to_owned(), source: source.to_string_lossy().into_owned(), parameters }
        };
        Ok(Mount { target, what, attributes, attributes_below })
    }

    /// Says of which mount an error is, and from where.
    pub fn failed(&self, error: &io::Error) -> String {
        match &self.what {
            What::Bind { source, .. } => format!("mount {}: {}: {error}", self.target.display(), source.display()),
            What::FileSystem { .. } | What::Cgroup => format!("mount {}: {error}", self.target.display()),
        }
    }

    /// Copies what is bound, out of the host's mount namespace; `None` for what is not of the host.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        match &self.what {
            What::Bind { source, recursive } => copy_of(source, *recursive).map(Some),
            What::FileSystem { .. } | What::Cgroup => Ok(None),
        }
    }

    /// Makes the mount, with the copy that [`Mount::open`] gave.
    pub fn make(&self, root: &Rootfs, cgroup: &OwnCgroup, bound: Option<&OwnedFd>) -> io::Result<()> {
        match &self.what {
            What::FileSystem { name, source, parameters } => {
                let target = self.target_of(root, name)?;
                let mounted = new_file_system(name, source, parameters, self.attributes)?;
                attach(mounted.as_fd(), target.as_fd())
            }
            What::Bind { .. } => {
                let tree = bound.ok_or(io::ErrorKind::NotFound)?;
                let missing = match FileType::from_raw_mode(fstat(tree)?.st_mode) {
                    FileType::Directory => Missing::Directory,
                    _ => Missing::File,
                };
                self.restrict(tree.as_fd(), false)?;
                attach(tree.as_fd(), root.find_or_make(&self.target, missing)?.as_fd())
            }
            What::Cgroup => {
                let target = root.find_or_make(&self.target, Missing::Directory)?;
                self.mount_cgroup(target.as_fd(), cgroup)
            }
        }
    }

    /// Finds the place of a file system. Those of the kernel's own go onto a real directory: an image that has a link there would
    /// have paths below hidden somewhere else.
    fn target_of(&self, root: &Rootfs, name: &str) -> io::Result<OwnedFd> {
        let target = root.find_or_make(&self.target, Missing::Directory)?;
        if matches!(name, "proc" | "sysfs") {
            let parent = root.find(self.target.parent().unwrap_or(Path::new("/")))?;
            let own = self.target.file_name().zip(parent);
            let is_link = own.is_some_and(|(name, parent)| {
                let look = rustix::fs::statat(&parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
                look.is_ok_and(|look| FileType::from_raw_mode(look.st_mode) == FileType::Symlink)
            });
            if is_link {
                return Err(rustix::io::Errno::LOOP.into());
            }
        }
        Ok(target)
    }

    /// Sets the attributes of a mount, and those of all that is mounted below.
    fn restrict(&self, tree: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
        if self.attributes != 0 {
            let is_timed = self.attributes & libc::MOUNT_ATTR__ATIME != 0;
            set_attributes(tree, self.attributes, if is_timed { libc::MOUNT_ATTR__ATIME } else { 0 }, recursive)?;
        }
        if self.attributes_below != 0 {
            set_attributes(tree, self.attributes_below, 0, true)?;
        }
        Ok(())
    }

    /// Shows the container its own cgroup: by itself for cgroup v2, and for v1 one directory for each hierarchy, named as on the
    /// host, where several controllers may share one.
    fn mount_cgroup(&self, target: BorrowedFd<'_>, cgroup: &OwnCgroup) -> io::Result<()> {
        let directories = match &cgroup.directories {
            Directories::Unified { directory, .. } => {
                let tree = copy_of(directory, false)?;
                self.restrict(tree.as_fd(), false)?;
                return attach(tree.as_fd(), target);
            }
            Directories::Separate(directories) => directories,
        };
        let writable = self.attributes & !libc::MOUNT_ATTR_RDONLY;
        let table = new_file_system("tmpfs", "tmpfs", &[("mode".to_owned(), Some("755".to_owned()))], writable)?;
        attach(table.as_fd(), target)?;
        for directory in directories {
            let Some(own) = directory.hierarchy.file_name() else { continue };
            mkdirat(&table, own, Mode::from_raw_mode(0o755))?;
            // Where controllers share a hierarchy, each of them is found by its name too.
            for other in directory.controllers.iter().filter(|name| own != name.as_str() && !name.starts_with("name="))
            {
                symlinkat(own, &table, other.as_str())?;
            }
            let tree = copy_of(&directory.directory, false)?;
            let inside = openat(&table, own, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            attach(tree.as_fd(), inside.as_fd())?;
        }
        self.restrict(table.as_fd(), true)
    }
}

/// Makes a new instance of a file system, attached to nothing.
fn new_file_system(
    name: &str,
    source: &str,
    parameters: &[(String, Option<String>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !source.is_empty() {
        fsconfig_set_string(&context, "source", source)?;
    }
    for (name, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&context, name.as_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Hides paths of the kernel's that tell of the host: nothing is to be read there any more.
pub fn mask(root: &Rootfs, paths: &[String]) -> Result<(), (String, io::Error)> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let failed = |error| (path.clone(), error);
        let Some(target) = root.find(Path::new(path)).map_err(failed)? else { continue };
        let is_directory = FileType::from_raw_mode(fstat(&target).map_err(|errno| failed(errno.into()))?.st_mode)
            == FileType::Directory;
        let hidden = match (is_directory, &empty) {
            // The host's own device: no image had a hand in it.
            (false, _) => copy_of(Path::new("/dev/null"), false),
            (true, Some(empty)) => detached_copy(empty.as_fd(), false),
            (true, None) => {
                new_file_system("tmpfs", "tmpfs", &[("nr_inodes".to_owned(), Some("1".to_owned()))], READ_ONLY)
            }
        };
        let hidden = hidden.map_err(failed)?;
        attach(hidden.as_fd(), target.as_fd()).map_err(failed)?;
        if is_directory && empty.is_none() {
            // Attached now, and so good to be copied: the kernel copies no mount of no namespace.
            empty = Some(hidden);
        }
    }
    Ok(())
}

/// Makes paths read-only with all that is mounted below; those that are not there are passed over.
pub fn make_read_only(root: &Rootfs, paths: &[String]) -> Result<(), (String, io::Error)> {
    for path in paths {
        let failed = |error| (path.clone(), error);
        let Some(target) = root.find(Path::new(path)).map_err(failed)? else { continue };
        let copy = detached_copy(target.as_fd(), true).map_err(failed)?;
        set_attributes(copy.as_fd(), READ_ONLY, 0, true).map_err(failed)?;
        attach(copy.as_fd(), target.as_fd()).map_err(failed)?;
    }
    Ok(())
}
