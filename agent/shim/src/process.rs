//! What `/proc` says of one process, as far as shim and agent need it to tell one process from another.

use std::fs::File;
use std::io::Read;

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
