//! The last steps in a container's own process, the same for its first and for further ones: working directory, rights,
//! command.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use rustix::fs::{FileType, fchown, fstat};
use rustix::process::Uid;

use super::bundle::{DEFAULT_PATH, ProcessSpec};
use super::console::set_window;
use super::privileges::give_up;
use super::seccomp::Filter;

/// Exit status where something other than the command is at fault.
const FAILURE: i32 = 1;
/// Exit status of a command that is there and cannot be run.
const NOT_EXECUTABLE: i32 = 126;
/// Exit status of a command that is not there.
const NOT_FOUND: i32 = 127;

/// Why the command cannot run: the exit status that says so, and the words.
pub type Refusal = (i32, String);

/// Does everything up to the command: nothing of it may go wrong any more but the command itself.
pub fn prepare(process: &ProcessSpec, filter: Option<&Filter>) -> Result<(), Refusal> {
    let failed = |what: String| (FAILURE, what);
    enter(&process.cwd).map_err(|error| failed(format!("working directory {}: {error}", process.cwd.display())))?;
    own_streams(process);
    if let Some(window) = process.window {
        // Without a terminal at its standard input there is nothing to set.
        let _ = set_window(std::io::stdin().as_fd(), window);
    }
    umask(Mode::from_bits_truncate(process.user.umask));
    hand_nothing_down().map_err(|errno| failed(format!("open files: {errno}")))?;
    give_up(process, filter).map_err(|(step, error)| failed(format!("{step}: {error}")))?;
    find(process).map(drop).map_err(|(errno, command)| cannot_run(&command, errno))
}

/// Lets the user have its standard streams: an image's program may open them again by `/dev/stdout`, and a pipe is its
/// maker's. Files and terminals of whoever calls stay theirs.
fn own_streams(process: &ProcessSpec) {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let Ok(look) = fstat(stream) else { continue };
        let is_pipe = FileType::from_raw_mode(look.st_mode) == FileType::Fifo;
        if (is_pipe || process.terminal) && look.st_uid != process.user.uid {
            // Where it cannot be given, it can be written to all the same.
            let _ = fchown(stream, Some(Uid::from_raw(process.user.uid)), None);
        }
    }
}

/// Has execve(2) close every file but the standard streams (CVE-2024-21626 came of one that was not).
fn hand_nothing_down() -> Result<(), Errno> {
    // SAFETY: numbers only; the files stay open until then.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Goes to the working directory, which is made where it is missing, owned by root as a runtime makes it.
fn enter(cwd: &Path) -> std::io::Result<()> {
    if !cwd.is_absolute() {
        return Err(Errno::EINVAL.into());
    }
    let mut missing: Vec<&Path> = cwd.ancestors().take_while(|path| !path.exists()).collect();
    while let Some(path) = missing.pop() {
        std::fs::DirBuilder::new().mode(0o755).create(path)?;
        chown(path, Some(0), Some(0))?;
    }
    std::env::set_current_dir(cwd)?;
    // A directory outside the root would be a way out (CVE-2024-21626); getcwd(2) then says "(unreachable)".
    match std::env::current_dir()?.is_absolute() {
        true => Ok(()),
        false => Err(Errno::ENOENT.into()),
    }
}

/// Finds the command as a shell would. The error bears the command as it was asked for.
fn find(process: &ProcessSpec) -> Result<PathBuf, (Errno, String)> {
    let command = process.arguments.first().cloned().unwrap_or_default();
    let path =
        process.environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    if command.is_empty() {
        return Err((Errno::ENOENT, command));
    }
    if command.contains('/') {
        return executable(Path::new(&command)).map(|()| PathBuf::from(&command)).map_err(|errno| (errno, command));
    }
    let mut refused = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(&command);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno @ (Errno::EACCES | Errno::EISDIR)) => refused = refused.or(Some(errno)),
            Err(_) => {}
        }
    }
    Err((refused.unwrap_or(Errno::ENOENT), command))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    if std::fs::metadata(path).map_err(errno)?.is_dir() {
        return Err(Errno::EISDIR);
    }
    // Real and effective ids are the same here, so access(2) asks as execve(2) will.
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK)
}

fn cannot_run(command: &str, errno: Errno) -> (i32, String) {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if command.contains('/') => {
            (NOT_FOUND, format!("exec: {command:?}: no such file"))
        }
        Errno::ENOENT => (NOT_FOUND, format!("exec: {command:?}: not found in PATH")),
        Errno::EACCES => (NOT_EXECUTABLE, format!("exec: {command:?}: not executable")),
        Errno::EISDIR => (NOT_EXECUTABLE, format!("exec: {command:?}: is a directory")),
        other => (NOT_EXECUTABLE, format!("exec: {command:?}: {}", other.desc())),
    }
}

/// Becomes the command; comes back only with the reason why not.
pub fn run(process: &ProcessSpec) -> Refusal {
    let path = match find(process) {
        Err((errno, command)) => return cannot_run(&command, errno),
        Ok(path) => path,
    };
    let command = process.arguments.first().map(String::as_str).unwrap_or_default();
    let strings = || -> Result<_, NulError> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let arguments = process.arguments.iter().map(|text| CString::new(text.as_bytes()));
        Ok((path, arguments.collect::<Result<Vec<_>, _>>()?))
    };
    let Ok((path, arguments)) = strings() else {
        return (NOT_EXECUTABLE, format!("exec: {command:?}: an argument has a zero byte in it"));
    };
    let environment = match environment(process) {
        Ok(environment) => environment,
        Err(variable) => return (FAILURE, format!("environment: `{variable}` is not a variable")),
    };
    reset_signals();
    let Err(errno) = nix::unistd::execve(&path, &arguments, &environment);
    if errno == Errno::ENOENT {
        // The file was found a moment ago: what is missing is what its first line or header names.
        return (NOT_FOUND, format!("exec: {command:?}: its interpreter is missing"));
    }
    cannot_run(command, errno)
}

/// Gives the environment, of which the last word on a variable counts. The error is the name of one that is none.
fn environment(process: &ProcessSpec) -> Result<Vec<CString>, String> {
    let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
    for variable in &process.environment {
        let (name, _) = variable.split_once('=').ok_or_else(|| variable.clone())?;
        if name.is_empty() || variable.contains('\0') {
            return Err(name.to_owned());
        }
        variables.insert(name, variable);
    }
    let texts = variables.into_iter().map(|(name, text)| CString::new(text).map_err(|_| name.to_owned()));
    texts.collect()
}

/// Gives the command the signals of a fresh process: Rust's start-up ignores SIGPIPE, and a supervisor may block others.
fn reset_signals() {
    /// The size of the kernel's signal set, for 64 signals.
    const SET: usize = 8;
    // struct kernel_sigaction, all zero: SIG_DFL, no flags, nothing masked.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: no handler is installed, only the default put back. Past libc, which keeps two of the signals to itself
        // and would hand them down ignored. SIGKILL and SIGSTOP refuse, and need nothing.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), SET) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
