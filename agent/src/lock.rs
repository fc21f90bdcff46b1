//! The lock of a root: whoever changes it, the agent or an `apply` of its own, holds it, and only one can.
//!
//! It is flock(2) on a file that stays, so that a holder that is killed leaves nothing to clean up. The text in the
//! file, the holder's pid and verb, is for the message to whoever comes second and is never trusted for more.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_host::Paths;
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// How long a lock may be held before it counts as held.
const PATIENCE: Duration = Duration::from_millis(200);

/// The right to change a root, until it is dropped.
#[derive(Debug)]
pub struct RootLock {
    // Closed on drop, which releases the lock; close-on-exec, as all files std opens, so that no child keeps it.
    _file: File,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    pub pid: u32,
    /// The verb it runs: `run`, `apply`.
    pub verb: String,
}

/// Says why a root cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is in use by `evenkeel {}`, process {}", root.display(), holder.verb, holder.pid)]
    Held { root: PathBuf, holder: Holder },
    /// Held by someone who has not yet written who he is, or who is no evenkeel: its name and process id, where they are known.
    #[error("{} is in use: {} holds its lock", root.display(), words(program))]
    HeldByOther { root: PathBuf, program: Option<(String, u32)> },
    #[error("cannot create the state directory {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("cannot lock {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl RootLock {
    /// Takes the lock for a verb, or says who holds it. Waits no longer than an instant.
    pub fn acquire(paths: &Paths, verb: &str) -> Result<RootLock, LockError> {
        let root = paths.root();
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(root)
            .map_err(|source| LockError::Directory { path: root.to_owned(), source })?;
        let path = paths.lock();
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // `holder` takes a shared lock for an instant: that is nobody's claim.
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 20),
                Err(TryLockError::WouldBlock) => return Err(held(root, &mut file)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        fail_point!("lock.taken");
        let holder = Holder { pid: std::process::id(), verb: verb.to_owned() };
        let text = serde_json::to_vec(&holder).map_err(|error| failed(error.into()))?;
        // Shortened after it was written: a file that is emptied gives its block back, for which some disks are waited for.
        let length = text.len() as u64;
        file.write_all(&text).and_then(|()| file.set_len(length)).map_err(failed)?;
        fail_point!("lock.written");
        Ok(RootLock { _file: file })
    }
}

/// Tells who holds the lock of a root; `None` where nobody does.
pub fn holder(paths: &Paths) -> Option<Holder> {
    let mut file = File::open(paths.lock()).ok()?;
    // A shared lock is refused only while someone holds the exclusive one; it is gone again with `file`.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read(&mut file),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn held(root: &Path, file: &mut File) -> LockError {
    let by_kernel = by_kernel(file);
    match read(file) {
        // The text may be that of a holder of before, where the present one writes none.
        Some(holder) if by_kernel.is_none_or(|pid| pid == holder.pid) => {
            LockError::Held { root: root.to_owned(), holder }
        }
        _ => {
            let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let program = by_kernel.map(|pid| (name(pid).trim().to_owned(), pid));
            LockError::HeldByOther { root: root.to_owned(), program }
        }
    }
}

/// Asks `/proc/locks` (proc_locks(5)) for the process that locked a file.
fn by_kernel(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let fields = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut holders = fields.filter(|fields| {
        fields.get(1) == Some(&"FLOCK") && fields.get(5).and_then(|id| id.rsplit(':').next()) == Some(&*inode)
    });
    // 0 stands for a process of another PID namespace.
    holders.find_map(|fields| fields.get(4)?.parse().ok().filter(|pid| *pid > 0))
}

fn words(program: &Option<(String, u32)>) -> String {
    match program {
        Some((name, pid)) => format!("{name} (process {pid})"),
        None => "another process".to_owned(),
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
