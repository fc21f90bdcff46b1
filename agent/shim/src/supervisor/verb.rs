//! A verb of the runtime: called, waited for while the container's output is read, and killed when it takes too long.
//!
//! Whatever the verb is; what it does to the container is the caller's affair.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_shim::process::ExitStatus;

use super::Supervisor;
use crate::output;
use crate::runtime::{self, Call, RuntimeError};

/// Bytes of a runtime's standard error that are kept.
const KEPT_STDERR: usize = 16 * 1024;
/// Where the runtime writes its errors, by its own option.
pub(super) const RUNTIME_LOG: &str = "runtime.log";
/// How long a killed runtime may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Runs a verb to its end.
    pub(super) fn runtime(&mut self, arguments: &[OsString]) -> Result<(), RuntimeError> {
        let verb = arguments.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
        let (mut said, writing) = Said::open().map_err(|source| RuntimeError::Pipe { verb, source })?;
        let call = runtime::call(&self.config.runtime, &self.runtime_log(), arguments, None, Some(writing))?;
        let ended = self.wait_for(&call, Some(&mut said))?;
        said.read();
        call.judge(ended, &said.text)
    }

    /// Waits for a verb, and kills it when it takes too long.
    pub(super) fn wait_for(&mut self, call: &Call, mut said: Option<&mut Said>) -> Result<ExitStatus, RuntimeError> {
        let mut deadline = Instant::now() + self.runtime_timeout;
        let mut killed = false;
        loop {
            if let Some(ended) = self.reaper.take(call.pid) {
                if killed {
                    let seconds = self.runtime_timeout.as_secs();
                    return Err(RuntimeError::TimedOut { verb: call.verb.clone(), seconds });
                }
                return Ok(ended);
            }
            if Instant::now() >= deadline {
                if killed {
                    let seconds = (self.runtime_timeout + KILL_GRACE).as_secs();
                    return Err(RuntimeError::TimedOut { verb: call.verb.clone(), seconds });
                }
                call.kill(&self.reaper);
                killed = true;
                deadline = Instant::now() + KILL_GRACE;
            }
            self.turn(Some(deadline), said.as_deref_mut(), false);
        }
    }

    /// Names the directory in which the runtime keeps this container's state, where it is known.
    pub(super) fn runtime_state(&self) -> Option<PathBuf> {
        let mut arguments = self.config.runtime.iter();
        let root = arguments.by_ref().find(|argument| *argument == "--root").and_then(|_| arguments.next());
        root.map(|root| PathBuf::from(root).join(&self.config.id))
    }

    /// Whether the runtime surely has nothing of this container: then `delete` is spared.
    pub(super) fn runtime_has_no_state(&self) -> bool {
        self.runtime_state().is_some_and(
            |state| matches!(fs::symlink_metadata(state), Err(error) if error.kind() == io::ErrorKind::NotFound),
        )
    }

    pub(super) fn runtime_log(&self) -> PathBuf {
        self.beside_config(RUNTIME_LOG)
    }

    pub(super) fn beside_config(&self, name: &str) -> PathBuf {
        self.config_path.with_file_name(name)
    }
}

/// What a verb under way writes to its standard error; its beginning is kept.
pub(super) struct Said {
    /// `None` once its end was read: a pipe that nobody writes to any more is always ready, and would be looked at without rest
    /// until the runtime's end is heard of.
    pipe: Option<OwnedFd>,
    text: Vec<u8>,
}

impl Said {
    /// Makes the pipe; gives its writing end too.
    fn open() -> io::Result<(Said, OwnedFd)> {
        let (reading, writing) = output::pipe()?;
        Ok((Said { pipe: Some(reading), text: Vec::new() }, writing))
    }

    /// What to wait for.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads what is there.
    pub(super) fn read(&mut self) {
        let mut buffer = Vec::with_capacity(4096);
        while let Some(pipe) = &self.pipe {
            match output::read_available(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(_) => {
                    let space = KEPT_STDERR.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&buffer[..buffer.len().min(space)]);
                    buffer.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}
