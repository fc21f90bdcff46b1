//! From a program somebody started to a process of its own: lock, socket, and a fork into the background.
//!
//! Whatever can fail is done before the caller is let go, so that a failed start of a shim has an exit status and words.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use evenkeel_shim::Config;
use evenkeel_shim::fail_point;

use crate::status::StatusError;

/// The shim's OOM score: the kernel takes nearly every other process first.
const OOM_SCORE: &str = "-999";
/// Bytes at which the shim's own log is begun anew.
const OWN_LOG_SIZE: u64 = 64 * 1024;

/// Why a shim could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a shim's configuration", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("another shim holds {}", path.display())]
    Locked { path: PathBuf },
    #[error("cannot {verb} {}", path.display())]
    File { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {call}")]
    Call { call: &'static str, source: io::Error },
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("the shim ended while it started: {said}")]
    Ended { said: String },
}

/// Reads a configuration.
pub fn load(path: &Path) -> Result<Config, StartError> {
    let text = fs::read(path).map_err(|source| StartError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| StartError::Parse { path: path.to_owned(), source })
}

/// A shim's socket with its lock: while that is held there is no other shim for this container.
#[derive(Debug)]
pub struct LockedSocket {
    pub listener: UnixListener,
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl LockedSocket {
    /// Takes the lock and listens.
    pub fn take(socket: &Path) -> Result<Self, StartError> {
        let lock_path = evenkeel_shim::lock_of(socket);
        let lock = lock(&lock_path)?;
        let listener =
            listen(socket).map_err(|source| StartError::File { verb: "listen on", path: socket.to_owned(), source })?;
        Ok(LockedSocket { listener, path: socket.to_owned(), lock_path, lock })
    }

    /// Listens anew, and takes the lock anew where somebody removed its file.
    pub fn listen_again(&mut self) -> Result<UnixListener, StartError> {
        // One that is still there is held by us already.
        if let Ok(lock) = lock(&self.lock_path) {
            self.lock = lock;
        }
        let failed = |source| StartError::File { verb: "listen on", path: self.path.clone(), source };
        let listener = listen(&self.path).and_then(|listener| Ok((listener.try_clone()?, listener)));
        let (clone, listener) = listener.map_err(failed)?;
        self.listener = listener;
        fail_point!("shim.listening.again");
        Ok(clone)
    }

    /// Removes socket and lock from the disk. The lock goes last, and is held until the process ends.
    pub fn leave(&self) {
        let _ = fs::remove_file(&self.path);
        fail_point!("shim.socket.removed");
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn lock(path: &Path) -> Result<File, StartError> {
    let failed = |verb| move |source| StartError::File { verb, path: path.to_owned(), source };
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open"))?;
        // SAFETY: a descriptor of our own.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == -1 {
            let source = io::Error::last_os_error();
            return Err(match source.kind() {
                io::ErrorKind::WouldBlock => StartError::Locked { path: path.to_owned() },
                _ => failed("lock")(source),
            });
        }
        // Its last holder may have removed it between our two calls: then this lock guards nothing.
        let held = file.metadata().map_err(failed("look at"))?;
        if fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            fail_point!("shim.locked");
            return Ok(file);
        }
    }
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(socket);
    // By way of the directory's descriptor: a socket's own path may have 107 bytes, which a deep run directory exceeds.
    let directory = File::open(socket.parent().unwrap_or(Path::new("/")))?;
    let name = socket.file_name().unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    // SAFETY: umask(2) cannot fail, and this program has one thread.
    let mask = unsafe { libc::umask(0o177) };
    let listener = UnixListener::bind(short);
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    let listener = listener?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Closes what an unknown caller left open, and undoes what it made of the signals.
pub fn shed_inheritance() {
    // SAFETY: closes descriptors that nothing of this program has opened yet; std looks at none above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    // By the system call, since libc refuses the two signals that it keeps to itself and that a caller can ignore too.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: all zero is a valid kernel sigaction, of SIG_DFL; for SIGKILL and SIGSTOP the call fails.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
}

/// The way to tell the caller that the shim is there.
#[derive(Debug)]
pub struct Caller {
    pipe: OwnedFd,
}

impl Caller {
    /// Lets the caller go.
    pub fn release(self) {
        let _ = File::from(self.pipe).write_all(b"1");
    }
}

/// Goes into the background: returns there alone. The process that was called waits for [`Caller::release`] and ends.
pub fn detach(log: &Path) -> Result<Caller, StartError> {
    let call = |call| move |source| StartError::Call { call, source };
    let opened = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::File { verb: "open", path, source }
    };
    let log_file = OpenOptions::new().append(true).create(true).mode(0o600).open(log).map_err(opened(log))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(opened(Path::new("/dev/null")))?;
    let (reading, writing) = io::pipe().map_err(call("make a pipe"))?;

    if fork().map_err(call("fork"))? {
        drop(writing);
        let mut said = String::new();
        let _ = File::from(OwnedFd::from(reading)).read_to_string(&mut said);
        if said == "1" {
            std::process::exit(0);
        }
        return Err(StartError::Ended { said: format!("see {}", log.display()) });
    }
    // It leads its session, and so a terminal that it opened could become its own; it opens none, which spares a second fork.
    // SAFETY: setsid(2) takes nothing; it cannot fail in a process that was just forked.
    unsafe { libc::setsid() };
    drop(reading);
    replace(&log_file, 2);
    replace(&null, 0);
    replace(&null, 1);
    let _ = std::env::set_current_dir("/");
    // SAFETY: prctl(2) with plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == -1 {
        return Err(call("become a subreaper")(io::Error::last_os_error()));
    }
    // Not given where the capability CAP_SYS_RESOURCE is not; the shim does its work all the same.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    Ok(Caller { pipe: writing.into() })
}

/// Empties the shim's own log, its standard error, when it has grown too long: a crash loop may write to it for years.
pub fn bound_own_log() {
    let Ok(log) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
    if log.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > OWN_LOG_SIZE) {
        let _ = log.set_len(0);
    }
}

/// Forks; `true` in the parent.
fn fork() -> io::Result<bool> {
    // SAFETY: this program has one thread, so the copy is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(child > 0),
    }
}

fn replace(file: &File, descriptor: RawFd) {
    // SAFETY: two open descriptors; dup2 onto a standard one cannot fail but by interruption.
    while unsafe { libc::dup2(file.as_raw_fd(), descriptor) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
