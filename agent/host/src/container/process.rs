//! What the kernel says of a container's main process, read from outside through `/proc/<pid>`.
//!
//! Nothing in the container is asked or run, and no path of the container is followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_plan::ObservedProcess;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use evenkeel_shim::process::start_time;

use super::error::Failure;
use crate::mountinfo::{MountTable, MountTableError, read_proc};

/// The process could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}: no `{field}` line")]
    MissingField { path: PathBuf, field: &'static str },
    #[error("{path}: cannot enter")]
    Namespace {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Mounts(#[from] MountTableError),
}

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// One process, for which no later one with its number is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// Takes the process that has a number now; `None` where there is none.
    pub fn of(pid: u32) -> Option<ProcessId> {
        Some(ProcessId { pid, start_time: start_time(pid)? })
    }

    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// As [`ProcessId::try_signal`], with a container's error.
    pub(super) fn signal(self, signal: i32) -> Result<bool, Failure> {
        self.try_signal(signal).map_err(|source| Failure::Signal { pid: self.pid, signal, source })
    }

    /// Sends a signal to exactly this process; `false` where it has ended.
    pub fn try_signal(self, signal: i32) -> io::Result<bool> {
        let Some(pidfd) = open(self.pid)? else { return Ok(false) };
        // The descriptor holds the process; now its pid cannot pass to another before this is read.
        if !self.is_alive() {
            return Ok(false);
        }
        send(&pidfd, signal)
    }

    /// Waits for the end of a process that is not our child, and tells whether it came.
    pub(super) fn await_end(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }

    /// Kills it, and returns when it is gone.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.signal(libc::SIGKILL)?;
        if self.await_end(PATIENCE) { Ok(()) } else { Err(Failure::Lingers { pid: self.pid }) }
    }
}

/// Opens whatever process has a number now; `None` where there is none.
pub(super) fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(id, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Sends a signal to an open process; `false` where it has ended.
pub(super) fn send(pidfd: &OwnedFd, signal: i32) -> io::Result<bool> {
    let (descriptor, nothing) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open, and no siginfo is passed. Raw, since real-time signals have no name in rustix.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, nothing, 0) };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(true),
        (_, error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        (_, error) => Err(error),
    }
}

/// Looks at a process. `targets` are the mount targets of its manifest; see [`ObservedProcess::mount_points`].
/// `None` where it has ended.
///
/// The calling thread is left in the process's UTS namespace: give it a thread that ends.
pub fn observe(pid: u32, targets: &[&str]) -> Result<Option<ObservedProcess>, ProcessError> {
    let error = match try_observe(pid, targets) {
        Ok(observed) => return Ok(Some(observed)),
        Err(error) => error,
    };
    // A process that ends has no namespaces any more some moments before it is a zombie.
    for _ in 0..20 {
        if start_time(pid).is_none() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(error)
}

fn try_observe(pid: u32, targets: &[&str]) -> Result<ObservedProcess, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = read_proc(&path).map_err(|source| ProcessError::File { path: path.clone(), source })?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &'static str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| ProcessError::MissingField { path: path.clone(), field: name })
    };
    let mounts = MountTable::of_process(pid)?;
    let bounding = u64::from_str_radix(field("CapBnd")?, 16)
        .map_err(|_| ProcessError::MissingField { path: path.clone(), field: "CapBnd" })?;
    let root = mounts.at(Path::new("/"));
    Ok(ObservedProcess {
        no_new_privileges: field("NoNewPrivs")? == "1",
        // A kernel without seccomp has no such line.
        seccomp_filter: field("Seccomp").is_ok_and(|mode| mode == "2"),
        capability_bounding_set: bounding,
        readonly_rootfs: root.is_some_and(|mount| mount.options.split(',').any(|option| option == "ro")),
        mount_points: mount_points(&mounts, pid, targets),
        hostname: hostname(pid)?,
    })
}

/// Lists mount points below `/`, and targets that lead to one through the image's symbolic links by their own name.
fn mount_points(mounts: &MountTable, pid: u32, targets: &[&str]) -> BTreeSet<String> {
    let deleted = |root: &Path| root.as_os_str().as_encoded_bytes().ends_with(b"//deleted");
    let seen = mounts.iter().filter(|mount| mount.mount_point != Path::new("/") && !deleted(&mount.root));
    let mut points: BTreeSet<String> = seen.map(|mount| mount.mount_point.to_string_lossy().into_owned()).collect();
    for target in targets {
        if points.contains(*target) {
            continue;
        }
        if let Some(real) = real_path(pid, target)
            && points.contains(&real)
        {
            points.insert((*target).to_owned());
        }
    }
    points
}

/// Resolves a path as the process would, without leaving its root (openat2(2), `RESOLVE_IN_ROOT`).
fn real_path(pid: u32, path: &str) -> Option<String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root"), flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let found = crate::confined::open(&root, path.trim_start_matches('/'), flags, ResolveFlags::IN_ROOT).ok()?;
    let name = |descriptor: i32| fs::read_link(format!("/proc/self/fd/{descriptor}")).ok();
    let (root, found) = (name(root.as_raw_fd())?, name(found.as_raw_fd())?);
    // Seen from another mount namespace both names are relative to that one's root, which is `/` itself.
    let inner = found.strip_prefix(&root).ok()?;
    Some(Path::new("/").join(inner).to_string_lossy().into_owned())
}

/// Asks the UTS namespace for its name, by joining it.
fn hostname(pid: u32) -> Result<String, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/uts"));
    let namespace = File::open(&path).map_err(|source| ProcessError::File { path: path.clone(), source })?;
    let asked = setns(namespace.as_fd(), CloneFlags::CLONE_NEWUTS).and_then(|()| nix::unistd::gethostname());
    let name = asked.map_err(|source| ProcessError::Namespace { path, source })?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
