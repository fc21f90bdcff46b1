//! Evidence for a main process that went to the background: the processes that ended with it.
//!
//! When the first process of a pid namespace ends, the kernel kills all others before anyone can look, so that looking
//! at `/proc` or the cgroup afterwards shows nothing, and looking now and then before shows a script's children just
//! as well as a daemon's. Process accounting (acct(2)) is kept per pid namespace and tells the two apart for sure:
//! the record of the first process is written when it begins to end, those of the processes killed for that reason
//! after it.
//!
//! The records go to a small tmpfs that is mounted nowhere. Accounting ends by itself when its last descriptor is
//! closed, also by the shim's death, and no helper has to enter the namespace once the container's program runs in it.
//! Limits: a kernel without `CONFIG_BSD_PROCESS_ACCT`, and a container that shares another's pid namespace, leave no
//! evidence; a script that ends with 0 while a job of its own still runs in the background looks like a daemon.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use evenkeel_shim::process::{self, ExitStatus};

/// `struct acct_v3` of `<linux/acct.h>`.
const RECORD_SIZE: usize = 64;
const PID_OFFSET: usize = 16;
const PARENT_OFFSET: usize = 20;

/// Process accounting of one container, from before its start.
#[derive(Debug)]
pub struct Accounting {
    mount: OwnedFd,
}

impl Accounting {
    /// Begins to account for the pid namespace of a process that is the first in it and has not started its program.
    pub fn begin(pid: u32) -> io::Result<Self> {
        let mount = detached_tmpfs()?;
        let path = records_path(&mount);
        File::create(&path)?;
        let path = CString::new(path)?;
        let namespace = File::open(format!("/proc/{pid}/ns/pid"))?;
        in_pid_namespace(&namespace, || {
            // SAFETY: a path that ends with a zero byte.
            unsafe { libc::acct(path.as_ptr()) }
        })?;
        Ok(Accounting { mount })
    }

    /// Whether other processes ended because the first one did. Only meaningful after its end.
    pub fn others_ended_with_the_first(&self) -> bool {
        fs::read(records_path(&self.mount)).is_ok_and(|records| ended_with_the_first(&records) > 0)
    }
}

/// Whether a process is the first of a pid namespace of its own.
pub fn is_first_of_its_namespace(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<_> = ids.split_ascii_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

fn records_path(mount: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/acct", mount.as_raw_fd())
}

fn ended_with_the_first(records: &[u8]) -> usize {
    let number = |record: &[u8], offset: usize| {
        u32::from_ne_bytes([record[offset], record[offset + 1], record[offset + 2], record[offset + 3]])
    };
    let mut records = records.chunks_exact(RECORD_SIZE).skip_while(|record| number(record, PID_OFFSET) != 1);
    records.next();
    // What was put into the namespace from outside, by the runtime's `exec`, has no parent there.
    records.filter(|record| number(record, PARENT_OFFSET) != 0).count()
}

/// Makes a tmpfs that has no place in any directory and lasts as long as its descriptor.
fn detached_tmpfs() -> io::Result<OwnedFd> {
    let configure = |context: &OwnedFd, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both texts end with a zero byte or are absent, as the command wants it.
        let result =
            unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the file system's name ends with a zero byte.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSOPEN_CLOEXEC) })?;
    configure(&context, FSCONFIG_SET_STRING, Some(c"size"), Some(c"256k"))?;
    configure(&context, FSCONFIG_SET_STRING, Some(c"mode"), Some(c"0700"))?;
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: a descriptor of our own and flags.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

// <linux/mount.h>
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs a system call in a process that belongs to another pid namespace.
fn in_pid_namespace(namespace: &File, call: impl Fn() -> libc::c_int) -> io::Result<()> {
    let own = File::open("/proc/self/ns/pid")?;
    // setns(2) moves the children of its caller, so the call is made by one of those.
    let enter = |namespace: &File| {
        // SAFETY: a descriptor that is open.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWPID) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    enter(namespace)?;
    // SAFETY: this program has one thread, so a forked copy is whole; it leaves with _exit alone.
    let child = match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let result = call();
            let error = io::Error::last_os_error().raw_os_error().unwrap_or(1);
            // SAFETY: ends the copy.
            unsafe { libc::_exit(if result == 0 { 0 } else { error }) }
        }
        child => Ok(child),
    };
    enter(&own)?;
    match process::wait(child?.unsigned_abs())? {
        ExitStatus::Exited(0) => Ok(()),
        ExitStatus::Exited(error) => Err(io::Error::from_raw_os_error(error)),
        ExitStatus::Signaled(_) => Err(io::ErrorKind::Interrupted.into()),
    }
}

#[cfg(test)]
mod tests;
