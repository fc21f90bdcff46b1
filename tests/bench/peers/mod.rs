//! What evenkeel is measured beside: the bare system calls, and the programs that do the same work.
//!
//! Each peer has its own directory, network namespace and cgroup below the sandbox's, so that all of it goes with the
//! sandbox, and gives commands that a measurement runs; it measures nothing itself. conmon is in `shim-memory.sh`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_tests::{Sandbox, rootfs};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

mod docker;
mod podman;
mod raw;
mod rtnetlink;
mod runc;

pub use docker::Docker;
pub use podman::Podman;
pub use raw::Raw;
pub use runc::Runc;

/// The image that [`Docker`] and [`Podman`] have: busybox alone.
pub const IMAGE: &str = "busybox";
/// The command that every peer runs, for ever.
pub const COMMAND: [&str; 2] = ["/bin/sleep", "100000"];

/// Why a peer takes no part.
#[derive(Debug)]
pub struct Missing {
    pub peer: &'static str,
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} takes no part: {}", self.peer, self.reason)
    }
}

/// Requires programs of a peer in the PATH.
pub fn installed(peer: &'static str, programs: &[&str]) -> Result<(), Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&&str| !std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    match programs.iter().find(there) {
        Some(program) => Err(Missing { peer, reason: format!("{program} is not installed (`make bench` does)") }),
        None => Ok(()),
    }
}

/// A peer's own place in the sandbox.
struct Place {
    /// Everything that the peer writes.
    directory: PathBuf,
    netns: PathBuf,
    /// The cgroup below which its containers are to be, as a path in a hierarchy.
    cgroup: String,
}

impl Place {
    fn new(sandbox: &Sandbox, peer: &str) -> Place {
        let directory = sandbox.directory().join(peer);
        fs::create_dir_all(&directory).expect("the peer's directory");
        let cgroup = format!("/{}/{peer}", sandbox.instance().as_str());
        Place { directory, netns: sandbox.netns(peer), cgroup }
    }

    /// Gives a place whose programs reach what listens on the sandbox's loopback.
    fn on_loopback(sandbox: &Sandbox, peer: &str) -> Place {
        Place { netns: "/proc/self/ns/net".into(), ..Place::new(sandbox, peer) }
    }

    /// Prepares a program in the place's network namespace.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let netns = File::open(&self.netns).expect("the peer's network namespace");
        // SAFETY: one system call, on a descriptor that was opened before the fork.
        unsafe { command.pre_exec(move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?)) };
        command.env("HOME", &self.directory).stdin(Stdio::null());
        command
    }

    /// As [`Place::command`], in a mount namespace of its own: nobody else has to read what a daemon mounts.
    fn daemon(&self, program: &str) -> Command {
        let mut command = self.command(program);
        // SAFETY: system calls alone.
        unsafe { command.pre_exec(own_mounts) };
        command
    }

    /// Packs busybox, once.
    fn rootfs(&self) -> PathBuf {
        let tarball = self.directory.join("busybox.tar.gz");
        if !tarball.exists() {
            rootfs::busybox(&tarball);
        }
        tarball
    }
}

fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// Runs a command whose output goes to a file of its own and requires success. A pipe would be held by a container.
fn succeed(command: &mut Command, log: &Path) {
    let file = File::create(log).expect("a log file");
    let status =
        command.stdout(Stdio::null()).stderr(file).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{}", fs::read_to_string(log).unwrap_or_default());
}
