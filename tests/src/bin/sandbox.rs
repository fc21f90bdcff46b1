//! Runs a command in new mount, network and PID namespaces, and takes away what outlasts them.
//!
//! `evenkeel-test-sandbox DIRECTORY COMMAND [ARGUMENT]...`: the exit status is the command's. Afterwards DIRECTORY and the
//! cgroups of every installation whose state directory lies directly in it are removed, also after SIGTERM or SIGINT.

use std::path::Path;
use std::process::{Command, ExitCode};

use evenkeel_tests::leftovers;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: evenkeel-test-sandbox DIRECTORY COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);

    let waited = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
    waited.thread_block().expect("signals can be blocked");
    // Of this process only its children change namespace, so that it sees none of the mounts when it removes the directory.
    unshare(CloneFlags::CLONE_NEWPID).expect("a new PID namespace needs root");
    // SAFETY: the process has one thread.
    let init = match unsafe { fork() }.expect("a process") {
        ForkResult::Child => std::process::exit(init(&mut command)),
        ForkResult::Parent { child } => child,
    };
    let code = wait_for(init, &waited);
    leftovers::remove(Path::new(&directory));
    ExitCode::from(code)
}

/// Waits for the init; a signal to end ends it, and with it everything in the namespace.
fn wait_for(init: Pid, waited: &SigSet) -> u8 {
    loop {
        match waited.wait().expect("signals are blocked") {
            Signal::SIGCHLD => match waitpid(init, Some(WaitPidFlag::WNOHANG)).expect("our own child") {
                WaitStatus::Exited(_, code) => return u8::try_from(code).unwrap_or(255),
                WaitStatus::Signaled(_, signal, _) => return 128 + signal as u8,
                _ => {}
            },
            _ => kill(init, Signal::SIGKILL).expect("our own child"),
        }
    }
}

/// Process 1 of the namespace: lays out the host, runs the command, and reaps whatever is left to it.
#[expect(clippy::zombie_processes, reason = "the loop waits for every child, this one too")]
fn init(command: &mut Command) -> i32 {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal at the parent's death");
    SigSet::all().thread_unblock().expect("signals can be let through");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("new mount and network namespaces");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), strict | MsFlags::MS_NOEXEC, none).expect("/proc of the namespace");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), strict, Some("mode=755")).expect("an empty /run");
    let loopback = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip: run `make deps`");
    assert!(loopback.success(), "lo does not come up");

    let main = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let main = Pid::from_raw(main.id() as i32);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => return 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("the command is lost: {error}"),
        }
    }
}
