//! Cloned processes, and the words they send back before they become something else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// From linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// Ends the words of a process that is ready.
const READY: u8 = b'+';
/// Begins the words of one that failed.
const FAILED: u8 = b'!';

/// Clones this process, as fork(2), into new namespaces and, on cgroup v2, into a cgroup (clone3(2)).
///
/// The child runs `child` and ends with what that gives. The process must have one thread.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>, child: impl FnOnce() -> i32) -> io::Result<i32> {
    let into = cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    // SAFETY: all of it is numbers, for which zero stands for "none".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | into;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM and a stack this is fork(2); the process has one thread, so that no lock is held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            // Never back into the caller's code, of which this would be a second run.
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(1);
            // SAFETY: ends the process, without the caller's destructors and buffers.
            unsafe { libc::_exit(status) }
        }
        1.. => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Why a process did not come to its command.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In its own words, with the exit status that says the same.
    Failed { status: i32, message: String },
    /// It ended without a word.
    Silent,
}

/// The child's end of the pipe that it reports over; closed by execve(2).
#[derive(Debug)]
pub struct Reporter(File);

/// The caller's end.
#[derive(Debug)]
pub struct Reports(File);

/// Makes both ends.
pub fn reports() -> io::Result<(Reports, Reporter)> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Reports(reading.into()), Reporter(writing.into())))
}

impl Reporter {
    /// Says that all is done but the command itself.
    pub fn ready(&self) -> io::Result<()> {
        (&self.0).write_all(&[READY])
    }

    /// Says why there will be no command.
    pub fn failed(&self, status: i32, message: &str) {
        let mut bytes = vec![FAILED];
        bytes.extend(format!("{status} {message}").into_bytes());
        // Nobody is left to be told where this fails.
        let _ = (&self.0).write_all(&bytes);
    }
}

impl Reports {
    /// Waits until the process is ready or failed.
    pub fn wait_until_ready(&mut self) -> io::Result<Result<(), Verdict>> {
        match self.mark()? {
            Some(READY) => Ok(Ok(())),
            Some(_) => self.rest().map(Err),
            None => Ok(Err(Verdict::Silent)),
        }
    }

    /// Waits until the process runs its command, which closes its end, or failed.
    pub fn wait_until_run(&mut self) -> io::Result<Result<(), Verdict>> {
        let ready = self.wait_until_ready()?;
        if ready.is_err() {
            return Ok(ready);
        }
        match self.mark()? {
            Some(_) => self.rest().map(Err),
            None => Ok(Ok(())),
        }
    }

    /// Reads one mark; `None` once nobody is left who could write.
    fn mark(&mut self) -> io::Result<Option<u8>> {
        let mut mark = [0];
        loop {
            match self.0.read(&mut mark) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(mark[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn rest(&mut self) -> io::Result<Verdict> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        let (status, message) = text.split_once(' ').unwrap_or(("1", &text));
        Ok(Verdict::Failed { status: status.parse().unwrap_or(1), message: message.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_as_they_were_said() {
        let (mut reports, reporter) = reports().expect("a pipe");
        reporter.ready().expect("a write");
        assert_eq!(reports.wait_until_ready().expect("a read"), Ok(()));
        reporter.failed(127, "exec: \"x y\": no such file");
        drop(reporter);
        let failed = Verdict::Failed { status: 127, message: "exec: \"x y\": no such file".to_owned() };
        assert_eq!(reports.mark().expect("a read"), Some(FAILED));
        assert_eq!(reports.rest().expect("a read"), failed);
    }

    #[test]
    fn an_end_without_a_word_is_told_from_a_command_that_runs() {
        let (mut reports, reporter) = self::reports().expect("a pipe");
        drop(reporter);
        assert_eq!(reports.wait_until_ready().expect("a read"), Err(Verdict::Silent));
        let (mut reports, reporter) = self::reports().expect("a pipe");
        reporter.ready().expect("a write");
        drop(reporter);
        assert_eq!(reports.wait_until_run().expect("a read"), Ok(()));
    }
}
