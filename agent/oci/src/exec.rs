//! `exec`: a further process in a running container, under the same confinement as the first.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use evenkeel_host::container::process::start_time;
use evenkeel_shim::fail_point;
use evenkeel_shim::process::{ExitStatus, try_wait};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::{Process, User};
use rustix::process::{PidfdFlags, pidfd_open};

use super::OciError;
use super::arguments::Exec;
use super::bundle::{ProcessSpec, load};
use super::cgroup::{OwnCgroup, join, unified_of};
use super::command;
use super::console::{Console, connect_to, own_window, take_terminal};
use super::create::explain;
use super::process::{Reporter, clone, reports};
use super::record::{ContainerDirectory, Status};
use super::seccomp::Filter;

/// Signals that are passed on to the process.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the process and gives its exit status; 0 where it is not waited for.
pub fn exec(root: &Path, arguments: &Exec) -> Result<i32, OciError> {
    let container = ContainerDirectory::new(root, &arguments.id)?;
    let (record, status) = container.load()?;
    let first = record.process.filter(|_| status == Status::Running);
    let (first, started) =
        first.ok_or_else(|| OciError::Status { id: container.id.clone(), status: status.word(), wanted: "running" })?;
    let system = |what| {
        let id = container.id.clone();
        move |source: io::Error| OciError::System { id, what, source }
    };
    let config = record.bundle.join("config.json");
    let spec = load(&config)?;
    let of_container = spec.process().as_ref();
    let of_container = of_container.ok_or_else(|| OciError::MissingField { path: config.clone(), field: "process" })?;
    let stated = stated_process(arguments, of_container, &container.id)?;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let mut process = ProcessSpec::of(arguments.process.as_deref().unwrap_or(&config), &stated, seccomp)?;
    let filter = process.seccomp.as_ref().map(|policy| Filter::of(root, policy)).transpose();
    let filter = filter.map_err(|source| OciError::Filter { id: container.id.clone(), source })?;

    let waited = waited_signals();
    waited.thread_block().map_err(|errno| system("cannot block signals")(errno.into()))?;
    let (console, socket) = match (&arguments.console_socket, process.terminal) {
        (_, false) => (None, None),
        (Some(path), true) => {
            let connected = connect_to(path);
            let connected = connected.map_err(|errno| OciError::File { path: path.clone(), source: errno.into() })?;
            (None, Some(connected))
        }
        (None, true) => {
            let pair = Console::pair().map_err(|errno| system("cannot make the console's socket")(errno.into()))?;
            process.window = process.window.or_else(own_window);
            (Some(pair.0), Some(pair.1))
        }
    };

    let in_cgroup = |source| OciError::MakeCgroup { id: container.id.clone(), source };
    let cgroup = OwnCgroup::of_host(&record.cgroup).map_err(|source| in_cgroup(source.into()))?;
    let tasks = cgroup.to_join().map_err(in_cgroup)?;
    let into = cgroup.to_clone_into().map_err(system("cannot open its cgroup"))?;
    let pidfd = rustix::process::Pid::from_raw(first).ok_or(rustix::io::Errno::SRCH);
    let pidfd = pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let pidfd = pidfd.map_err(|errno| system("its process has ended")(errno.into()))?;
    if start_time(first.unsigned_abs()) != Some(started) {
        let status = Status::Stopped.word();
        return Err(OciError::Status { id: container.id, status, wanted: "running" });
    }
    // Only what is cloned from now on is in it.
    setns(&pidfd, CloneFlags::CLONE_NEWPID).map_err(|errno| system("cannot enter it")(errno.into()))?;
    let (mut reports, reporter) = reports().map_err(system("cannot make a pipe"))?;
    let tenant = Tenant { process: &process, filter: filter.as_ref(), tasks, pidfd, socket, reporter };
    fail_point!("oci.executing");
    let pid = tenant.clone_into(into, first.unsigned_abs()).map_err(system("cannot clone a process into it"))?;
    if let Some(path) = &arguments.pid_file {
        std::fs::write(path, pid.to_string()).map_err(|source| OciError::File { path: path.clone(), source })?;
    }
    fail_point!("oci.executed");
    let run = reports.wait_until_run().map_err(system("cannot hear from its process"))?;
    run.map_err(|verdict| explain(&container.id, pid, verdict, &cgroup))?;
    let pid = pid.unsigned_abs();
    let ended = match (console, arguments.detach) {
        (_, true) => return Ok(0),
        (Some(console), false) => {
            console.receive().map_err(io::Error::from).and_then(|master| console.relay(&master, pid))
        }
        (None, false) => wait(pid, &waited),
    };
    ended.map(ExitStatus::code).map_err(system("cannot wait for its process"))
}

/// What a further process is made with.
struct Tenant<'a> {
    process: &'a ProcessSpec,
    filter: Option<&'a Filter>,
    /// See [`OwnCgroup::to_join`].
    tasks: Vec<File>,
    /// The container's first process, whose namespaces are entered.
    pidfd: OwnedFd,
    /// Where the master end of its terminal goes.
    socket: Option<OwnedFd>,
    reporter: Reporter,
}

impl Tenant<'_> {
    /// Clones a process that becomes it.
    fn clone_into(self, cgroup: Option<OwnedFd>, first: u32) -> io::Result<i32> {
        let Some(own) = cgroup else { return clone(0, None, || self.run()) };
        let mut tenant = Some(self);
        let mut run = || tenant.take().map_or(1, Tenant::run);
        match clone(0, Some(own.as_fd()), &mut run) {
            // It has cgroups of its own below: beside its first process, then.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EOPNOTSUPP)) => {
                clone(0, Some(unified_of(first)?.as_fd()), &mut run)
            }
            other => other,
        }
    }

    /// Becomes the command; comes back, with an exit status, only where it cannot.
    fn run(mut self) -> i32 {
        let (status, message) = match self.prepare() {
            Err(refusal) => refusal,
            Ok(()) => match self.reporter.ready() {
                Ok(()) => command::run(self.process),
                Err(error) => (1, error.to_string()),
            },
        };
        self.reporter.failed(status, &message);
        status
    }

    fn prepare(&mut self) -> Result<(), command::Refusal> {
        let at = |what: &str, error: io::Error| (1, format!("{what}: {error}"));
        join(&self.tasks).map_err(|error| at("joining its cgroup", error))?;
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWCGROUP;
        setns(&self.pidfd, namespaces).map_err(|errno| at("entering its namespaces", errno.into()))?;
        rustix::process::setsid().map_err(|errno| at("session", errno.into()))?;
        if let Some(socket) = self.socket.take() {
            take_terminal(socket).map_err(|errno| at("terminal", errno.into()))?;
        }
        command::prepare(self.process, self.filter)
    }
}

/// The container's own process with what the command line says otherwise.
fn stated_process(arguments: &Exec, of_container: &Process, id: &str) -> Result<Process, OciError> {
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
fn wait(pid: u32, signals: &SigSet) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = try_wait(pid)? {
            return Ok(status);
        }
        match signals.wait() {
            Ok(signal) => pass_on(pid, signal),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends a signal on, where it is one that is meant for the process.
pub fn pass_on(pid: u32, signal: Signal) {
    if PASSED_ON.contains(&signal) {
        // It may have ended this moment; its end is noticed by the caller.
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}
