//! A mount namespace with the host's mounts and none of containers, for runtimes to begin with.
//!
//! A container's own namespace is a copy of the one that its runtime is in, with every mount of every other container: at a
//! thousand of them that copy, and letting go of it again, is most of a start. Whoever starts many makes one copy
//! without them first. It is pinned nowhere: it lasts as long as its descriptor, and who comes too late does without.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::mountinfo::MountTable;

/// Tells a runtime of the namespace: `<path>:<inode>`, a file of `/proc` and the number that it has as long as it is the right one.
pub const VARIABLE: &str = "EVENKEEL_BARE_MOUNTS";

/// The namespace of those that start now, made with the first of them.
#[derive(Debug, Default)]
pub(super) struct ForStarts(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Few are started, or none: each does without.
    #[default]
    Unwanted,
    Wanted {
        starts: usize,
    },
    Made(BareMounts),
    /// It could not be made, or would not pay, and is not tried again.
    Without,
}

impl ForStarts {
    pub fn want(&self, starts: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Wanted { starts };
    }

    /// Lets go of the namespace: from now on each does without.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Unwanted;
    }

    /// Gives what [`VARIABLE`] is to be, where it is to be anything.
    pub fn variable(&self, run: &Path) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Wanted { starts } = *state {
            *state = match BareMounts::make(run, starts) {
                Ok(made) => made.map_or(State::Without, State::Made),
                Err(error) => {
                    tracing::debug!(%error, "containers are started with a copy of all mounts");
                    State::Without
                }
            };
        }
        match &*state {
            State::Made(made) => Some(made.variable()),
            State::Unwanted | State::Wanted { .. } | State::Without => None,
        }
    }
}

/// The namespace, for as long as this is kept.
#[derive(Debug)]
struct BareMounts {
    namespace: File,
    inode: u64,
}

impl BareMounts {
    /// Copies the mount namespace of this process and takes out of the copy all that is mounted below `run`.
    ///
    /// `None` where there is more to be taken out than is to be started: each waits until the kernel knows it unused by all
    /// processors, some tenths of a millisecond, and would be copied in some microseconds.
    fn make(run: &Path, starts: usize) -> io::Result<Option<BareMounts>> {
        // As the table of mounts has it.
        let run = run.canonicalize()?;
        if mounts_below(&run)?.len() > starts {
            return Ok(None);
        }
        // On a thread of its own, which the copy ends with.
        let thread = std::thread::Builder::new().name("bare-mounts".to_owned()).spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            // A mount may hide another, which only the next round finds.
            while detach_round(&run)? {}
            File::open("/proc/thread-self/ns/mnt")
        })?;
        let namespace = thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread ended abnormally")))?;
        let inode = namespace.metadata()?.ino();
        Ok(Some(BareMounts { namespace, inode }))
    }

    fn variable(&self) -> String {
        format!("/proc/{}/fd/{}:{}", std::process::id(), self.namespace.as_raw_fd(), self.inode)
    }
}

/// Lists what is mounted below a directory, in the order in which it was mounted.
fn mounts_below(run: &Path) -> io::Result<Vec<PathBuf>> {
    let mounts = MountTable::of_self().map_err(io::Error::other)?;
    let points = mounts.iter().map(|mount| mount.mount_point.clone());
    Ok(points.filter(|point| point.starts_with(run) && point != run).collect())
}

/// Detaches what is seen to be mounted below a directory; tells whether there was anything.
fn detach_round(run: &Path) -> io::Result<bool> {
    let mut has_detached = false;
    for mount_point in mounts_below(run)?.into_iter().rev() {
        match unmount(mount_point.as_path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => has_detached = true,
            // Hidden by another mount, or gone with one.
            Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(has_detached)
}

/// Opens the namespace that [`VARIABLE`] tells of; `None` where there is none, or another one, by now.
pub fn open(variable: &str) -> Option<File> {
    let (path, inode) = variable.rsplit_once(':')?;
    let inode: u64 = inode.parse().ok()?;
    let is_namespace = fs::read_link(path).ok()?.to_str() == Some(&format!("mnt:[{inode}]"));
    let namespace = is_namespace.then(|| File::open(path).ok()).flatten()?;
    let (found, own) = (namespace.metadata().ok()?, fs::metadata("/proc/self/ns/mnt").ok()?);
    ((found.dev(), found.ino()) == (own.dev(), inode)).then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_namespace_that_was_meant_is_opened() {
        // That of this process stands for one that was made.
        let namespace = File::open("/proc/self/ns/mnt").expect("our own namespace");
        let inode = namespace.metadata().expect("its number").ino();
        let own = BareMounts { namespace, inode };
        let variable = own.variable();
        assert_eq!(open(&variable).expect("it is there").metadata().expect("its number").ino(), inode);
        assert!(open(&format!("{}1", variable)).is_none(), "another number");
        let file = File::open("/proc/self/status").expect("a file");
        let other = format!("/proc/{}/fd/{}:{}", std::process::id(), file.as_raw_fd(), file.metadata().unwrap().ino());
        assert!(open(&other).is_none(), "no namespace");
        assert!(open("").is_none() && open("/proc/self:x").is_none());
        drop(own);
    }
}
