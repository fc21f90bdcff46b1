//! The terminal of an interactive `exec`: the master end arrives over a socket and is joined to our own terminal.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use evenkeel_shim::process::{ExitStatus, try_wait, wait};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    sendmsg, socket, socketpair,
};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use super::bundle::Window;
use super::exec::pass_on;

nix::ioctl_read_bad!(get_window_size, libc::TIOCGWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);

/// Our end of the socket over which the master end comes.
pub struct Console(OwnedFd);

impl Console {
    /// Makes both ends; the second one is the container's process's.
    pub fn pair() -> Result<(Console, OwnedFd), Errno> {
        let (own, other) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Console(own), other))
    }

    /// Takes the master end from the container's process, which has sent it by now.
    pub fn receive(&self) -> Result<OwnedFd, Errno> {
        let mut name = [0; 256];
        let mut buffers = [IoSliceMut::new(&mut name)];
        let mut space = nix::cmsg_space!([i32; 1]);
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let rights = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let master = rights.ok_or(Errno::EBADMSG)?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(master) })
    }

    /// Carries bytes, signals and window sizes until the process has ended; gives its exit status.
    pub fn relay(&self, master: &OwnedFd, pid: u32) -> io::Result<ExitStatus> {
        let raw = RawMode::enter(std::io::stdin().as_fd());
        resize(master.as_fd());
        let mut signals = SigSet::all();
        signals.remove(Signal::SIGTTIN);
        signals.remove(Signal::SIGTTOU);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut status = None;
        let mut input = true;
        loop {
            let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
            let mut sources =
                vec![PollFd::new(master.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if input {
                sources.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            // After the end, what the terminal still holds is drained and then nothing more waited for.
            let patience = if status.is_some() { PollTimeout::ZERO } else { PollTimeout::NONE };
            match poll(&mut sources, patience) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready = |index: usize| sources.get(index).and_then(PollFd::any).unwrap_or(false);
            if ready(1) {
                while let Some(signal) = signals.read_signal()? {
                    match Signal::try_from(signal.ssi_signo as i32) {
                        Ok(Signal::SIGWINCH) => resize(master.as_fd()),
                        Ok(Signal::SIGCHLD) => status = status.or(try_wait(pid)?),
                        Ok(signal) => pass_on(pid, signal),
                        Err(_) => {}
                    }
                }
            }
            // EIO is how a terminal says that nobody holds its other end.
            let mut open = true;
            if ready(0) {
                open = copy(master.as_fd(), stdout.as_fd())?;
            } else if status.is_some() {
                open = false;
            }
            if input && ready(2) {
                input = copy(stdin.as_fd(), master.as_fd())?;
            }
            if !open {
                drop(raw);
                return match status {
                    Some(status) => Ok(status),
                    None => wait(pid),
                };
            }
        }
    }
}

/// Connects to a caller's socket, for a master end that is not ours to hold.
pub fn connect_to(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Makes a terminal of the container's own, sends the master end over a socket, and has the calling process, which must lead a
/// session, use the other end.
pub fn take_terminal(socket: OwnedFd) -> Result<(), Errno> {
    let errno = |errno: rustix::io::Errno| Errno::from_raw(errno.raw_os_error());
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).map_err(errno)?;
    unlockpt(&master).map_err(errno)?;
    // By the master itself: a path could lead to another one.
    let own = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(errno)?;
    let descriptors = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let name = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(socket.as_raw_fd(), &name, &rights, MsgFlags::empty(), None)?;
    rustix::process::ioctl_tiocsctty(&own).map_err(errno)?;
    rustix::stdio::dup2_stdin(&own).map_err(errno)?;
    rustix::stdio::dup2_stdout(&own).map_err(errno)?;
    rustix::stdio::dup2_stderr(&own).map_err(errno)
}

/// Copies what is there once; `false` at the end of the source.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut buffer = [0; 8192];
    let length = match read(from, &mut buffer) {
        Ok(0) | Err(Errno::EIO) => return Ok(false),
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        other => other?,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EIO | Errno::EPIPE) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// Gives the container's terminal the size of ours.
fn resize(master: BorrowedFd<'_>) {
    if let Some(window) = own_window() {
        // A terminal that is gone has no size.
        let _ = set_window(master, window);
    }
}

/// Gives the size of our own terminal, where standard input is one.
pub fn own_window() -> Option<Window> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a winsize that outlives the call.
    unsafe { get_window_size(libc::STDIN_FILENO, &raw mut size) }.ok()?;
    Some(Window { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of a terminal, by either end.
pub fn set_window(terminal: BorrowedFd<'_>, window: Window) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a winsize that outlives the call.
    unsafe { set_window_size(terminal.as_raw_fd(), &raw const size) }.map(drop)
}

/// Our terminal in raw mode; as before when dropped. Nothing where stdin is no terminal.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter(stdin: BorrowedFd<'_>) -> RawMode {
        let Ok(before) = tcgetattr(stdin) else { return RawMode(None) };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        match tcsetattr(stdin, SetArg::TCSANOW, &raw) {
            Ok(()) => RawMode(Some(before)),
            Err(_) => RawMode(None),
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
