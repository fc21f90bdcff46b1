//! One process told from another by what `/proc` says of it, and the exit statuses of children.
//!
//! Those by waitid(2) itself, since the wrappers of std and nix have no word for a real-time signal and would lose the exit.

use std::fs::File;
use std::io::{self, Read};

/// The fields of `/proc/<pid>/stat` that identify a process (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: `R`, `S`, `Z`, …
    pub state: char,
    /// Field 4: the parent's process id.
    pub parent: u32,
    /// Field 22: clock ticks since boot. A process id and its start time together never come twice.
    pub start_time: u64,
}

/// Reads a process's identity; `None` where there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    // One read of the whole line, which the kernel would make anew for the next. The program's name may be any bytes.
    let mut line = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse(&String::from_utf8_lossy(&line[..length]))
}

/// Gives the start time of a process that lives; `None` where there is none, or only its exit status is left.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X')).map(|stat| stat.start_time)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Exited(i32),
    Signaled(i32),
}

impl ExitStatus {
    /// Gives the exit code as a shell shows it: 128 and the signal's number where a signal ended it.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled(signal) => 128 + signal,
        }
    }

    pub fn signal(self) -> Option<i32> {
        match self {
            ExitStatus::Exited(_) => None,
            ExitStatus::Signaled(signal) => Some(signal),
        }
    }
}

/// Waits for the end of a child and collects its exit status.
///
/// # Errors
/// The kernel's: ECHILD where it is no child, or was collected before.
pub fn wait(child: u32) -> io::Result<ExitStatus> {
    let ended = waitid(libc::P_PID, child, 0)?;
    ended.map(|(_, status)| status).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}

/// Collects the exit status of a child that has ended; `None` where it has not. Errors as [`wait`].
pub fn try_wait(child: u32) -> io::Result<Option<ExitStatus>> {
    Ok(waitid(libc::P_PID, child, libc::WNOHANG)?.map(|(_, status)| status))
}

/// Collects the exit status of any child that has ended; `None` where none has.
pub fn try_wait_for_any() -> Option<(u32, ExitStatus)> {
    // The one error is that there are no children.
    waitid(libc::P_ALL, 0, libc::WNOHANG).ok().flatten()
}

/// Whether this process is a child of ours, so that its exit will come to us.
pub fn is_child(pid: u32) -> bool {
    waitid(libc::P_PID, pid, libc::WNOHANG | libc::WNOWAIT).is_ok()
}

fn waitid(kind: libc::idtype_t, id: u32, flags: libc::c_int) -> io::Result<Option<(u32, ExitStatus)>> {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one to be filled in.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` outlives the call.
        if unsafe { libc::waitid(kind, id, &mut info, libc::WEXITED | libc::__WALL | flags) } == -1 {
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            }
        }
        // SAFETY: waitid filled in a SIGCHLD siginfo, or left it zero, and these fields are valid in both.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let ended = match info.si_code {
            libc::CLD_EXITED => ExitStatus::Exited(status),
            _ => ExitStatus::Signaled(status),
        };
        return Ok((pid > 0).then(|| (pid.unsigned_abs(), ended)));
    }
}

fn parse(text: &str) -> Option<Stat> {
    // Field 2 is the program's name in parentheses and may itself hold spaces and parentheses.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_time })
}

#[cfg(test)]
mod tests;
