//! The container's first process, from its clone(2) to its command.
//!
//! It is in its new namespaces already. Here it joins its cgroup, makes the root file system as the bundle says, moves into it,
//! gives up what it is not to have, and waits at the gate until `start` opens it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, mknodat, symlinkat};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::bundle::Bundle;
use super::cgroup::{OwnCgroup, join};
use super::command::{self, Refusal};
use super::mounts::{What, make_read_only, mask};
use super::process::Reporter;
use super::rootfs::{Rootfs, set_attributes};
use super::seccomp::Filter;

/// What the first process is made with.
pub struct Init<'a> {
    pub bundle: &'a Bundle,
    pub cgroup: &'a OwnCgroup,
    /// What is written to for joining the cgroup; empty on cgroup v2, where it was cloned into it.
    pub tasks: Vec<File>,
    pub filter: Option<&'a Filter>,
    /// Copies of the root file system and of what each mount of the bundle binds, made in the host's mount namespace.
    pub rootfs: OwnedFd,
    pub bound: Vec<Option<OwnedFd>>,
    /// The pipe at which it waits; open for writing too, so that reading waits.
    pub gate: File,
    pub reporter: Reporter,
}

/// The device nodes that a program may expect (config-linux.md, "Default Devices").
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links of `/dev` (config-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

impl Init<'_> {
    /// Becomes the container's command; comes back, with an exit status, only where it cannot.
    pub fn run(mut self) -> i32 {
        if let Err((status, message)) = self.prepare() {
            self.reporter.failed(status, &message);
            return status;
        }
        let said = self.reporter.ready();
        // Whoever made it waits for the end of what it has to say.
        drop(self.reporter);
        let opened = said.and_then(|()| self.gate.read_exact(&mut [0]));
        if opened.is_err() {
            return 1;
        }
        let (status, message) = command::run(&self.bundle.process);
        // `create` is long over: the container's own stderr, which goes to its log, is where a person will look.
        let _ = writeln!(io::stderr(), "{message}");
        status
    }

    fn prepare(&self) -> Result<(), Refusal> {
        let bundle = self.bundle;
        let at = |what: &str, error: io::Error| (1, format!("{what}: {error}"));
        join(&self.tasks).map_err(|error| at("joining its cgroup", error))?;
        if let Some(score) = bundle.process.oom_score {
            fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| at("oom_score_adj", error))?;
        }
        if bundle.cgroup_namespace {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
                .map_err(|errno| at("cgroup namespace", errno.into()))?;
        }
        // A session of its own; it leads none yet.
        rustix::process::setsid().map_err(|errno| at("session", errno.into()))?;
        if let Some(hostname) = &bundle.hostname {
            nix::unistd::sethostname(hostname).map_err(|errno| at("hostname", errno.into()))?;
        }
        self.make_root()?;
        command::prepare(&bundle.process, self.filter)
    }

    fn make_root(&self) -> Result<(), Refusal> {
        let bundle = self.bundle;
        let at = |path: &Path, error: io::Error| (1, format!("mount {}: {error}", path.display()));
        // Nothing that is mounted here is to be seen on the host, nor the other way round.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(|errno| at(Path::new("/"), errno.into()))?;
        let root = self
            .rootfs
            .try_clone()
            .and_then(|tree| Rootfs::take(tree, &bundle.rootfs))
            .map_err(|error| at(&bundle.rootfs, error))?;
        for (mount, bound) in bundle.mounts.iter().zip(&self.bound) {
            mount.make(&root, self.cgroup, bound.as_ref()).map_err(|error| (1, mount.failed(&error)))?;
        }
        if bundle
            .mounts
            .iter()
            .any(|mount| mount.target == Path::new("/dev") && !matches!(mount.what, What::Bind { .. }))
        {
            make_devices(&root).map_err(|(name, error)| (1, format!("device /dev/{name}: {error}")))?;
        }
        make_read_only(&root, &bundle.read_only_paths)
            .map_err(|(path, error)| (1, format!("making {path} read-only: {error}")))?;
        mask(&root, &bundle.masked).map_err(|(path, error)| (1, format!("hiding {path}: {error}")))?;
        root.enter().map_err(|error| (1, format!("entering {}: {error}", bundle.rootfs.display())))?;
        if bundle.read_only {
            set_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
                .map_err(|error| (1, format!("making its root read-only: {error}")))?;
        }
        Ok(())
    }
}

/// Makes the nodes and links of `/dev`; what a mount put there already stays.
fn make_devices(root: &Rootfs) -> Result<(), (String, io::Error)> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |error| (name, error)
    };
    let dev = root.find(Path::new("/dev")).and_then(|dev| dev.ok_or_else(|| io::ErrorKind::NotFound.into()));
    let dev = dev.map_err(failed(""))?;
    let unless_there = |made: rustix::io::Result<()>| match made {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other.map_err(io::Error::from),
    };
    for (name, major, minor) in DEVICES {
        // The caller's mask of file modes is 0022, and a device is for everybody.
        let mode = Mode::from_raw_mode(0o666);
        let made = mknodat(&dev, name, FileType::CharacterDevice, mode, rustix::fs::makedev(major, minor));
        let is_new = made.is_ok();
        unless_there(made).map_err(failed(name))?;
        if is_new {
            rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())
                .map_err(|errno| (name.to_owned(), errno.into()))?;
        }
    }
    for (target, name) in LINKS {
        unless_there(symlinkat(target, &dev, name)).map_err(failed(name))?;
    }
    Ok(())
}
