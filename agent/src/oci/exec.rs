//! `exec`: a further process in a running container, under the same confinement as the first.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use evenkeel_shim::fail_point;
use libcontainer::container::ContainerStatus;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::{Process, User};
use libcontainer::syscall::syscall::SyscallType;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::OciError;
use super::adapt::split;
use super::arguments::Exec;
use super::console::{Console, own_window};
use super::create::{compile, explain, inherit_nothing, window_of};
use super::executor::Confined;
use super::record::{Place, status_word};
use super::report::Report;

/// Signals that are passed on to the process.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the process and gives its exit status; 0 where it is not waited for.
pub fn exec(root: &Path, arguments: &Exec, report: &Report) -> Result<i32, OciError> {
    let place = Place::new(root, &arguments.id)?;
    let (container, record) = place.load()?;
    if container.status() != ContainerStatus::Running {
        let status = status_word(container.status());
        return Err(OciError::Status { id: place.id, status, wanted: "running" });
    }
    let spec = place.original_spec(&record)?;
    let missing = |field| OciError::MissingField { path: record.bundle.join("config.json"), field };
    let of_container = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    let process = wanted_process(arguments, of_container, &place.id)?;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let (mut given, confinement) = split(&process, seccomp);
    let filter = compile(root, &place.id, &confinement)?;
    inherit_nothing(&place.id)?;

    let system = |what| {
        let id = place.id.clone();
        move |errno: Errno| OciError::System { id, what, source: errno.into() }
    };
    let waited = waited_signals();
    waited.thread_block().map_err(system("cannot block signals"))?;

    let terminal = process.terminal() == Some(true);
    let console = match (&arguments.console_socket, terminal && !arguments.detach) {
        (None, true) => Some(Console::listen(&place.bundle).map_err(system("cannot make the console's socket"))?),
        _ => None,
    };
    given.set_terminal(Some(terminal));
    let socket = console.as_ref().map(|console| console.path().to_owned()).or_else(|| arguments.console_socket.clone());

    let mut file = memfd_create(c"evenkeel-process", MFdFlags::MFD_CLOEXEC)
        .map(std::fs::File::from)
        .map_err(system("cannot hand the process over"))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let json =
        serde_json::to_vec(&given).map_err(|source| OciError::Json { path: Path::new(&path).to_owned(), source })?;
    file.write_all(&json).map_err(|source| OciError::File { path: Path::new(&path).to_owned(), source })?;

    let window = process.console_size().map(window_of).or_else(|| console.as_ref().and_then(|_| own_window()));
    let build = || -> Result<i32, Box<LibcontainerError>> {
        let pid = ContainerBuilder::new(place.id.clone(), SyscallType::default())
            .with_root_path(root)?
            .with_pid_file(arguments.pid_file.as_ref())?
            .with_console_socket(socket)
            .with_executor(Confined { confinement, filter, report: report.clone(), window })
            .as_tenant()
            .with_process(Some(&path))
            // For libcontainer, "detached" is whether a terminal goes over a socket, and it always does here.
            .with_detach(true)
            .build()?;
        Ok(pid.as_raw())
    };
    fail_point!("oci.executing");
    let pid = Pid::from_raw(build().map_err(|source| explain(&place.id, source, report))?);
    fail_point!("oci.executed");
    if arguments.detach {
        return Ok(0);
    }
    match console {
        Some(console) => {
            let master = console.receive().map_err(system("cannot receive the terminal"))?;
            console.relay(&master, pid).map_err(system("the terminal broke off"))
        }
        None => wait(pid, &waited).map_err(system("cannot wait for the process")),
    }
}

/// The container's own process with what the command line says otherwise.
fn wanted_process(arguments: &Exec, of_container: &Process, id: &str) -> Result<Process, OciError> {
    if let Some(path) = &arguments.process {
        let bytes = std::fs::read(path).map_err(|source| OciError::File { path: path.clone(), source })?;
        return serde_json::from_slice(&bytes).map_err(|source| OciError::Json { path: path.clone(), source });
    }
    if arguments.command.is_empty() {
        return Err(OciError::NoCommand { id: id.to_owned() });
    }
    let mut process = of_container.clone();
    process.set_args(Some(arguments.command.clone()));
    process.set_terminal(Some(arguments.tty));
    if let Some(cwd) = &arguments.cwd {
        process.set_cwd(cwd.clone());
    }
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let mut environment = of_container.env().clone().unwrap_or_default();
    environment.retain(|variable| !arguments.env.iter().any(|other| name(other) == name(variable)));
    environment.extend(arguments.env.iter().cloned());
    process.set_env(Some(environment));
    if let Some((uid, gid)) = arguments.user {
        let mut user = User::default();
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or(0));
        process.set_user(user);
    }
    if !arguments.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(arguments.additional_gids.clone()));
    }
    Ok(process)
}

fn waited_signals() -> SigSet {
    PASSED_ON.into_iter().chain([Signal::SIGCHLD, Signal::SIGWINCH]).collect()
}

/// Waits for the process and passes signals on to it.
fn wait(pid: Pid, signals: &SigSet) -> Result<i32, Errno> {
    loop {
        if let Some(status) = ended(pid)? {
            return Ok(status);
        }
        match signals.wait() {
            Ok(signal) => pass_on(pid, signal),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends a signal on, where it is one that is meant for the process.
pub fn pass_on(pid: Pid, signal: Signal) {
    if PASSED_ON.contains(&signal) {
        // It may have ended this moment; its end is noticed by the caller.
        let _ = kill(pid, signal);
    }
}

/// Gives the exit status of an ended process: 128 and the signal where a signal ended it.
pub fn ended(pid: Pid) -> Result<Option<i32>, Errno> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(_, status) => Ok(Some(status)),
        WaitStatus::Signaled(_, signal, _) => Ok(Some(128 + signal as i32)),
        _ => Ok(None),
    }
}
