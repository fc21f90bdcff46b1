//! What `/proc` says of one process, as far as shim and agent need it to tell one process from another.

use std::fs;

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
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 4242 1000 10 18446744073709551615\n";
        assert_eq!(parse(text), Some(Stat { state: 'S', parent: 3, start_time: 4242 }));
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn the_kernel_says_who_our_parent_is() {
        let own = stat(std::process::id()).expect("this process is there");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert_eq!(start_time(std::process::id()), Some(own.start_time));
    }
}
