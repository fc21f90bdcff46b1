//! The last steps in the container's own process: working directory, confinement, the command.
//!
//! libcontainer calls [`Executor::validate`] when namespaces, mounts and user are in place and the process still holds
//! its capabilities, before it says that the container is made; what fails there fails `create`. [`Executor::exec`]
//! comes after `start`.

use std::collections::HashMap;
use std::ffi::{CString, NulError};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Spec};
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::console::set_window;
use super::filter::Filter;
use super::report::Report;

/// Exit status of a command that is there and cannot be run.
const NOT_EXECUTABLE: i32 = 126;
/// Exit status of a command that is not there.
const NOT_FOUND: i32 = 127;
/// Where a command is looked for without a PATH, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the process gives up and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Confinement {
    pub cwd: PathBuf,
    /// Every set stated; `None` keeps what there is.
    pub capabilities: Option<LinuxCapabilities>,
    pub no_new_privileges: bool,
    pub seccomp: Option<LinuxSeccomp>,
}

/// Runs a command under a [`Confinement`].
#[derive(Clone, Debug)]
pub struct Confined {
    pub confinement: Confinement,
    /// The compiled policy of the confinement.
    pub filter: Option<Filter>,
    pub report: Report,
    /// The size that its terminal gets before the command can ask for it.
    pub window: Option<Window>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub rows: u16,
    pub columns: u16,
}

impl Executor for Confined {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.prepare(spec).map_err(|(status, message)| {
            self.report.verdict(status, &message);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    fn setup_envs(&self, variables: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        for (name, _) in std::env::vars_os() {
            // SAFETY: this process was cloned from a single-threaded one and has one thread.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in variables {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(ExecutorSetEnvsError::Other(format!("environment: `{name}` is not a variable")));
            }
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(window) = self.window {
            // Without a terminal at its standard input there is nothing to set.
            let _ = set_window(std::io::stdin().as_fd(), window);
        }
        let (status, message) = run(spec);
        // `create` is long over: the container's own stderr, which goes to its log, is where a person will look.
        eprintln!("{message}");
        self.report.verdict(status, &message);
        std::process::exit(status);
    }
}

impl Confined {
    fn prepare(&self, spec: &Spec) -> Result<(), (i32, String)> {
        let failed = |what: String| (1, what);
        enter(&self.confinement.cwd)
            .map_err(|error| failed(format!("working directory {}: {error}", self.confinement.cwd.display())))?;
        let filter = || match &self.filter {
            None => Ok(()),
            Some(filter) => filter.load().map_err(|error| failed(format!("seccomp filter: {error}"))),
        };
        // Without no_new_privs, loading a filter takes CAP_SYS_ADMIN (seccomp(2)); with it, the filter comes as late as can be.
        if !self.confinement.no_new_privileges {
            filter()?;
        }
        if let Some(capabilities) = &self.confinement.capabilities {
            drop_privileges(capabilities, create_syscall().as_ref())
                .map_err(|error| failed(format!("capabilities: {}", super::chain(&error))))?;
        }
        if self.confinement.no_new_privileges {
            filter()?;
        }
        find(spec).map(|_| ()).map_err(|(errno, command)| cannot_run(&command, errno))
    }
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
fn find(spec: &Spec) -> Result<PathBuf, (Errno, String)> {
    let process = spec.process().as_ref();
    let command = process.and_then(|process| process.args().as_ref()?.first().cloned()).unwrap_or_default();
    let environment = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
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
fn run(spec: &Spec) -> (i32, String) {
    let (path, arguments) = match find(spec) {
        Err((errno, command)) => return cannot_run(&command, errno),
        Ok(path) => (path, spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default()),
    };
    let strings = || -> Result<_, NulError> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let arguments: Result<Vec<_>, _> = arguments.iter().map(|text| CString::new(text.as_bytes())).collect();
        Ok((path, arguments?))
    };
    let Ok((path, strings)) = strings() else {
        return (NOT_EXECUTABLE, format!("exec: {:?}: an argument has a zero byte in it", arguments.first()));
    };
    reset_signals();
    let Err(errno) = nix::unistd::execv(&path, &strings);
    let command = arguments.first().map(String::as_str).unwrap_or_default();
    if errno == Errno::ENOENT {
        // The file was found a moment ago: what is missing is what its first line or header names.
        return (NOT_FOUND, format!("exec: {command:?}: its interpreter is missing"));
    }
    cannot_run(command, errno)
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
