//! The agent's side of a container's shim: start one, ask it, read what it wrote, see whether it lives.
//!
//! Holds nothing open: shims outlive the agent, and the next agent finds them by their files alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_shim::{EXIT_LOCKED, Reply, Request, Status, failpoint, lock_of};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::bare_mounts;

use super::process::ProcessId;

/// The shim's program, beside the agent's.
pub(super) const PROGRAM: &str = "evenkeel-shim";
/// What the runtime may take of one request at most: four verbs of up to a minute, and its killing.
const RUNTIME_TIME: Duration = Duration::from_secs(300);
/// How long a shim may have its place without listening: while it starts and while it ends.
const PLACE_TIME: Duration = Duration::from_secs(10);
/// How long a shim may take to say how its container is.
const STATUS_TIME: Duration = Duration::from_secs(2);
/// What a stop may take whose timeout only the shim knows.
const STOP_TIME: Duration = Duration::from_secs(3600);

/// Why a shim could not be started, asked or read.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("cannot tell where this program lies, and so not where {PROGRAM} does")]
    NoProgram { source: io::Error },
    #[error("cannot start {}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    /// It ran and ended with an error; the words are its own.
    #[error("the shim for {} did not start: {said}", config.display())]
    NotStarted { config: PathBuf, said: String },
    #[error("cannot reach the shim at {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the shim at {} broke off", socket.display())]
    Broken { socket: PathBuf, source: io::Error },
    #[error("the shim at {} ended without an answer", socket.display())]
    NoAnswer { socket: PathBuf },
    #[error("the shim at {} did not answer within {} s", socket.display(), after.as_secs())]
    TimedOut { socket: PathBuf, after: Duration },
    #[error("what was said to or by the shim at {} cannot be understood", socket.display())]
    Protocol { socket: PathBuf, source: serde_json::Error },
    #[error("cannot read {}", path.display())]
    ReadStatus { path: PathBuf, source: io::Error },
    #[error("{} is not a shim's status", path.display())]
    ParseStatus { path: PathBuf, source: serde_json::Error },
}

/// Finds the shim's program beside this one.
pub fn program() -> Result<PathBuf, ShimError> {
    // After an upgrade the kernel calls our own file deleted; its directory is still where the new shim lies.
    let own = std::env::current_exe().map_err(|source| ShimError::NoProgram { source })?;
    Ok(own.with_file_name(PROGRAM))
}

/// Starts the shim of a container, and returns when it listens. One that listens already is as good.
///
/// Blocks for some milliseconds; longer where another shim has taken the place and does not listen yet, or any more:
/// it is starting, for an agent that was killed, or ending. The container is not started; [`Request::Start`] does that.
/// `bare_mounts` is what its runtime is told of a namespace to begin with, in [`bare_mounts::VARIABLE`].
pub fn spawn(program: &Path, config_path: &Path, socket: &Path, bare_mounts: Option<&str>) -> Result<(), ShimError> {
    let deadline = Instant::now() + PLACE_TIME;
    loop {
        match spawn_once(program, config_path, bare_mounts)? {
            Spawned::Listens => return Ok(()),
            Spawned::PlaceTaken if listens(socket) => return Ok(()),
            Spawned::PlaceTaken if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Spawned::PlaceTaken => {
                let said = format!("another one has its place and does not listen after {} s", PLACE_TIME.as_secs());
                return Err(ShimError::NotStarted { config: config_path.to_owned(), said });
            }
        }
    }
}

enum Spawned {
    Listens,
    PlaceTaken,
}

fn spawn_once(program: &Path, config_path: &Path, bare_mounts: Option<&str>) -> Result<Spawned, ShimError> {
    // Of the environment only the search path: a NOTIFY_SOCKET or a secret of the agent's is nothing for a runtime.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let output = Command::new(program)
        .arg(config_path)
        .env_clear()
        .env("PATH", path)
        .envs(failpoint::environment())
        .envs(bare_mounts.map(|value| (bare_mounts::VARIABLE, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|source| ShimError::Spawn { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(Spawned::Listens);
    }
    if output.status.code() == Some(i32::from(EXIT_LOCKED)) {
        return Ok(Spawned::PlaceTaken);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("evenkeel-shim: ").to_owned();
    Err(ShimError::NotStarted { config: config_path.to_owned(), said })
}

/// Asks a shim, and waits for its answer as long as the request may rightly take.
pub async fn request(socket: &Path, request: &Request) -> Result<Reply, ShimError> {
    let after = RUNTIME_TIME
        + match request {
            Request::Start | Request::Kill { .. } | Request::Status | Request::Reload => Duration::ZERO,
            Request::Stop { timeout_ms: Some(timeout) } => Duration::from_millis(*timeout),
            Request::Stop { timeout_ms: None } | Request::Restart | Request::Shutdown => STOP_TIME,
        };
    let answer = tokio::time::timeout(after, exchange(socket, request)).await;
    answer.unwrap_or_else(|_| Err(ShimError::TimedOut { socket: socket.to_owned(), after }))
}

async fn exchange(socket: &Path, request: &Request) -> Result<Reply, ShimError> {
    let broken = |source| ShimError::Broken { socket: socket.to_owned(), source };
    let protocol = |source| ShimError::Protocol { socket: socket.to_owned(), source };
    let mut stream =
        connect(socket).await.map_err(|source| ShimError::Connect { socket: socket.to_owned(), source })?;
    let mut line = serde_json::to_vec(request).map_err(protocol)?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(broken)?;
    line.clear();
    BufReader::new(stream).read_until(b'\n', &mut line).await.map_err(broken)?;
    if line.is_empty() {
        return Err(ShimError::NoAnswer { socket: socket.to_owned() });
    }
    serde_json::from_slice(&line).map_err(protocol)
}

/// Connects by way of the directory's descriptor: a socket's own path may have no more than 107 bytes.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = short_path(socket)?;
    UnixStream::connect(short).await
}

pub(super) fn listens(socket: &Path) -> bool {
    short_path(socket).and_then(|(_directory, short)| std::os::unix::net::UnixStream::connect(short)).is_ok()
}

/// Gives a path of few bytes, good for as long as the directory is open.
fn short_path(socket: &Path) -> io::Result<(File, PathBuf)> {
    let directory = File::open(socket.parent().unwrap_or(Path::new("/")))?;
    let name = socket.file_name().unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((directory, short))
}

/// Takes a shim's place, so that none can start for as long as the file is open; `None` while a shim has it.
pub fn take_place(socket: &Path) -> io::Result<Option<File>> {
    let path = lock_of(socket);
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A shim that ends removes the file: then this lock guards nothing.
        let held = file.metadata()?;
        if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            return Ok(Some(file));
        }
    }
}

/// Reads what a shim said last; `None` where no shim ever wrote there, or it ended in order.
pub fn read_status(path: &Path) -> Result<Option<Status>, ShimError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ShimError::ReadStatus { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| ShimError::ParseStatus { path: path.to_owned(), source })
}

/// As [`read_status`]; where the file is damaged or gone, the shim is asked, which writes it anew. A damaged file that no shim
/// stands behind tells nothing.
pub fn status(path: &Path, socket: &Path) -> Result<Option<Status>, ShimError> {
    let damaged = match read_status(path) {
        Ok(None) if socket.exists() => None,
        Err(damaged @ ShimError::ParseStatus { .. }) => Some(damaged),
        other => return other,
    };
    match (ask_status(socket), damaged) {
        (Ok(status), _) => Ok(Some(status)),
        (Err(error), _) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        // Of a later release, perhaps, or busy.
        (_, Some(damaged)) => Err(damaged),
        (Err(source), None) => Err(ShimError::Broken { socket: socket.to_owned(), source }),
    }
}

fn ask_status(socket: &Path) -> io::Result<Status> {
    let (_directory, short) = short_path(socket)?;
    let mut stream = std::os::unix::net::UnixStream::connect(short)?;
    stream.set_read_timeout(Some(STATUS_TIME))?;
    let mut line = serde_json::to_vec(&Request::Status)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    line.clear();
    std::io::BufRead::read_until(&mut std::io::BufReader::new(stream), b'\n', &mut line)?;
    let reply: Reply = serde_json::from_slice(&line)?;
    Ok(reply.status)
}

/// Gives the process that wrote a status.
pub fn process_of(status: &Status) -> ProcessId {
    ProcessId { pid: status.shim_pid, start_time: status.shim_start_time }
}

/// Tells whether the shim that wrote a status still lives. Without one, the status only tells of the past.
pub fn is_alive(status: &Status) -> bool {
    process_of(status).is_alive()
}

#[cfg(test)]
mod tests;
