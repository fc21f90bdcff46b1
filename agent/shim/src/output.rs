//! The container's two output pipes, from which the log is fed.
//!
//! Reads whatever is there and never waits; when to look is the event loop's affair.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use evenkeel_shim::Stream;

use crate::clock;
use crate::log::Log;

/// Bytes taken by one read: a pipe's usual capacity.
const READ_SIZE: usize = 64 * 1024;
/// Bytes of standard error kept while the runtime creates the container; more than any message of one.
const HELD_SIZE: usize = 64 * 1024;

/// Reading ends, and what was read of a line so far.
#[derive(Debug)]
pub struct Output {
    pub log: Log,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    buffer: Vec<u8>,
    /// Standard error while the runtime has it too: a failing runtime's message, and no line of the container's.
    held: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    partial: Vec<u8>,
}

impl Output {
    pub fn new(log: Log) -> Self {
        Output { log, stdout: None, stderr: None, buffer: Vec::new(), held: None }
    }

    /// Makes fresh pipes and gives their writing ends; holds back standard error until [`Output::release_held`].
    pub fn open(&mut self) -> io::Result<(OwnedFd, OwnedFd)> {
        let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
        self.stdout = Some(Pipe { fd: stdout, partial: Vec::new() });
        self.stderr = Some(Pipe { fd: stderr, partial: Vec::new() });
        self.held = Some(Vec::new());
        Ok((stdout_end, stderr_end))
    }

    /// Lets what was held back go to the log.
    pub fn release_held(&mut self) {
        let held = self.held.take().unwrap_or_default();
        if let (false, Some(pipe)) = (held.is_empty(), &mut self.stderr) {
            self.log.append(Stream::Stderr, &mut pipe.partial, &held, &clock::now());
            self.log.flush();
        }
    }

    /// Takes what was held back away from the log, and closes the pipes.
    pub fn abandon(&mut self) -> Vec<u8> {
        self.read_all();
        self.close();
        self.held.take().unwrap_or_default()
    }

    /// Gives what is to be polled.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.stdout, &self.stderr].into_iter().flatten().map(|pipe| pipe.fd.as_raw_fd())
    }

    /// Whether both streams have come to their end.
    pub fn is_finished(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads what both pipes hold, up to one buffer each, and writes it to the log at once.
    pub fn read_all(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read(stream);
        }
        self.log.flush();
    }

    /// Closes the pipes; what is left of a line becomes one.
    pub fn close(&mut self) {
        self.finish(Stream::Stdout);
        self.finish(Stream::Stderr);
        self.log.flush();
    }

    /// Whether memory is held that only a burst of output needed.
    pub fn holds_buffers(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Gives that memory back.
    pub fn release(&mut self) {
        self.buffer = Vec::new();
        self.log.release();
    }

    fn read(&mut self, stream: Stream) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(pipe) = slot else { return };
        self.buffer.clear();
        self.buffer.reserve(READ_SIZE);
        match read_available(&pipe.fd, &mut self.buffer) {
            Ok(0) => self.finish(stream),
            Ok(_) => match &mut self.held {
                Some(held) if stream == Stream::Stderr => {
                    let space = HELD_SIZE.saturating_sub(held.len());
                    held.extend_from_slice(&self.buffer[..self.buffer.len().min(space)]);
                }
                _ => self.log.append(stream, &mut pipe.partial, &self.buffer, &clock::now()),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.finish(stream),
        }
    }

    fn finish(&mut self, stream: Stream) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if let Some(mut pipe) = slot.take() {
            self.log.finish(stream, &mut pipe.partial, &clock::now());
        }
    }
}

/// Reads once into a buffer's spare room, whatever is there now.
pub fn read_available(fd: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    // SAFETY: the pointer and length are those of the vector's own spare room.
    let count = unsafe { libc::read(fd.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just written `count` bytes there.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// Makes a pipe whose reading end never blocks. Its writing end does, as every program expects of its output.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us both, and nobody else has them.
    let (reading, writing) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: a descriptor of our own and a flag.
    if unsafe { libc::fcntl(reading.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((reading, writing))
}
