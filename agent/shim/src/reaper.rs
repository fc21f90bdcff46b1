//! The children that ended: those that the shim started, and the orphans that a subreaper inherits.
//!
//! By waitid(2) itself, since the wrappers of std and nix have no word for a real-time signal and would lose the exit.

use std::collections::BTreeMap;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

impl Ended {
    /// Gives the exit code as a shell shows it: 128 and the signal's number where a signal ended it.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Signaled(signal) => 128 + signal,
        }
    }

    pub fn signal(self) -> Option<i32> {
        match self {
            Ended::Exited(_) => None,
            Ended::Signaled(signal) => Some(signal),
        }
    }
}

/// Exits that were collected and that nobody asked for yet.
#[derive(Debug, Default)]
pub struct Reaper {
    ended: BTreeMap<u32, Ended>,
}

impl Reaper {
    /// Collects every child that has ended, without waiting.
    pub fn reap(&mut self) {
        while let Some((pid, ended)) = next() {
            self.ended.insert(pid, ended);
        }
    }

    /// Takes the exit of one process, if it has been collected.
    pub fn take(&mut self, pid: u32) -> Option<Ended> {
        self.ended.remove(&pid)
    }

    /// Whether a process's exit has been collected.
    pub fn has(&self, pid: u32) -> bool {
        self.ended.contains_key(&pid)
    }

    /// Forgets the exits of all but these: nobody will ask for an orphan's.
    pub fn forget_others(&mut self, wanted: &[Option<u32>]) {
        self.ended.retain(|pid, _| wanted.contains(&Some(*pid)));
    }
}

/// Whether this process is a child of ours, so that its exit will come to us.
pub fn is_child(pid: u32) -> bool {
    // SAFETY: an all-zero siginfo_t is a valid one to be filled in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call; WNOWAIT leaves the child as it is.
    unsafe {
        libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL) == 0
    }
}

fn next() -> Option<(u32, Ended)> {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one to be filled in.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` outlives the call.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::__WALL) };
        if result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
            continue;
        }
        // SAFETY: waitid filled in a SIGCHLD siginfo, or left it zero, and these fields are valid in both.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if result == -1 || pid <= 0 {
            return None;
        }
        let ended = if info.si_code == libc::CLD_EXITED { Ended::Exited(status) } else { Ended::Signaled(status) };
        return Some((pid.unsigned_abs(), ended));
    }
}
