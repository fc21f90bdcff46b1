//! The OCI runtime's command line: how it is called, and what it says when it fails.
//!
//! Starts the program only; the supervisor waits for it, since it has the container's output to read meanwhile.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_shim::process::ExitStatus;

use crate::reaper::Reaper;

/// Why a call of the runtime did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot start the runtime `{program}`")]
    Spawn { program: String, source: io::Error },
    #[error("cannot make pipes for the runtime's `{verb}`")]
    Pipe { verb: String, source: io::Error },
    #[error("the runtime's `{verb}` did not end within {seconds} s and was killed")]
    TimedOut { verb: String, seconds: u64 },
    /// It ended with an error; the message is its own.
    #[error("{message}")]
    Failed { message: String },
    #[error("the runtime wrote no process id to {}", path.display())]
    NoPid { path: PathBuf },
    #[error("the runtime left process {pid} to another parent than the shim, which would not hear of its end")]
    NotOurs { pid: u32 },
}

/// A started call of the runtime.
#[derive(Debug)]
pub struct Call {
    pub verb: String,
    pub pid: u32,
    log: PathBuf,
}

/// Starts the runtime with a verb and its arguments, in a process group of its own.
pub fn call(
    runtime: &[String],
    log: &Path,
    arguments: &[OsString],
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
) -> Result<Call, RuntimeError> {
    // An error of an earlier call must not be taken for this one's.
    let _ = fs::remove_file(log);
    let program = runtime.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(runtime.iter().skip(1)).arg("--log").arg(log).args(["--log-format", "json"]).args(arguments);
    command.stdin(Stdio::null());
    command.stdout(stdout.map_or_else(Stdio::null, Stdio::from)).stderr(stderr.map_or_else(Stdio::null, Stdio::from));
    command.process_group(0);
    // SAFETY: `prepare_child` makes only async-signal-safe calls.
    unsafe { command.pre_exec(prepare_child) };
    let child = command.spawn().map_err(|source| RuntimeError::Spawn { program, source })?;
    let verb = arguments.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Call { verb, pid: child.id(), log: log.to_owned() })
}

impl Call {
    /// Kills the runtime and what it started in its process group, where its exit has not been collected.
    pub fn kill(&self, reaper: &Reaper) {
        // Afterwards the number may be somebody else's.
        if !reaper.has(self.pid) {
            // SAFETY: kill(2) with a process group that `call` made and whose leader was not reaped.
            unsafe { libc::kill(-self.pid.cast_signed(), libc::SIGKILL) };
        }
    }

    /// Judges the call's end; `stderr` is what it wrote there.
    pub fn judge(&self, ended: ExitStatus, stderr: &[u8]) -> Result<(), RuntimeError> {
        if ended == ExitStatus::Exited(0) {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let message = logged_error(&log).or_else(|| {
            let text = String::from_utf8_lossy(stderr).trim().to_owned();
            (!text.is_empty()).then_some(text)
        });
        let message = message.unwrap_or_else(|| match ended {
            ExitStatus::Exited(code) => format!("the runtime's `{}` ended with exit status {code}", self.verb),
            ExitStatus::Signaled(signal) => format!("the runtime's `{}` was ended by signal {signal}", self.verb),
        });
        Err(RuntimeError::Failed { message })
    }
}

/// Finds the last error in a log of JSON lines, the form that runc and crun share.
fn logged_error(log: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        level: String,
        msg: String,
    }
    log.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Entry>(line).ok())
        .find(|entry| matches!(entry.level.as_str(), "error" | "fatal" | "panic"))
        .map(|entry| entry.msg)
}

/// Gives the child what a fresh program expects: no blocked signals, and an OOM score that is not the shim's.
fn prepare_child() -> io::Result<()> {
    // SAFETY: sigemptyset and sigprocmask get a valid set; open, write and close a path and bytes that live for the program.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
