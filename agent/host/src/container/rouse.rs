//! Shims that live and do no work: stopped by a signal, or without the files by which they are known.
//!
//! What can be seen of that without a write is [`ShimTrouble`]; rousing one is signals alone, and the container never notices.

use std::time::{Duration, Instant};

use evenkeel_plan::ShimTrouble;
use evenkeel_schema::Name;
use evenkeel_shim::{fail_point, lock_of};

use super::create::private_directory;
use super::error::Failure;
use super::process::ProcessId;
use super::{ContainerError, Containers, Shared, shim};

/// How long a roused shim may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A shim that lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Living {
    pub process: ProcessId,
    pub trouble: Option<ShimTrouble>,
    /// Its status file cannot tell of it.
    pub unknown: bool,
}

impl Containers {
    /// Tells whether the container's shim lives, and sees to it that it can be asked.
    pub(super) async fn shim_is_alive(&self, name: &Name) -> Result<bool, ContainerError> {
        match self.0.known_shim(name) {
            Some(Living { trouble: None, .. }) => Ok(true),
            None if !self.0.has_shim_place(name) => Ok(false),
            _ => {
                self.blocking(name, |shared, name| {
                    shared.rouse(name).map_err(|failure| ContainerError::of(name, failure))
                })
                .await
            }
        }
    }
}

impl Shared {
    /// Finds the shim of a container: by its status, or by its command line where it holds a place that no status tells of.
    ///
    /// The latter blocks for a look at every process of the host.
    pub(super) fn living_shim(&self, name: &Name) -> Option<Living> {
        if let Some(known) = self.known_shim(name) {
            return Some(known);
        }
        let process = self.has_shim_place(name).then(|| self.shims.find(&self.shim_config(name))).flatten()?;
        self.living(name, process, true)
    }

    /// Finds the shim of a container by its status alone.
    fn known_shim(&self, name: &Name) -> Option<Living> {
        let status = shim::read_status(&self.paths.status(name)).unwrap_or(None).filter(shim::is_alive)?;
        self.living(name, shim::process_of(&status), false)
    }

    fn living(&self, name: &Name, process: ProcessId, unknown: bool) -> Option<Living> {
        let trouble = match evenkeel_shim::process::stat(process.pid)?.state {
            'T' | 't' => Some(ShimTrouble::Stopped),
            _ if !self.socket(name).exists() => Some(ShimTrouble::Unreachable),
            _ => None,
        };
        Some(Living { process, trouble, unknown })
    }

    /// Tells whether there is a file of a shim's own that an ordered end takes away.
    fn has_shim_place(&self, name: &Name) -> bool {
        let socket = self.socket(name);
        lock_of(&socket).exists() || socket.exists()
    }

    /// Has a stopped shim go on, and one without its files make them again; `false` where none lives.
    fn rouse(&self, name: &Name) -> Result<bool, Failure> {
        let living = match self.living_shim(name) {
            None => return Ok(false),
            Some(Living { trouble: None, unknown: false, .. }) => return Ok(true),
            Some(living) => living,
        };
        let shim = living.process;
        let socket = self.socket(name);
        let deadline = Instant::now() + PATIENCE;
        private_directory(&self.run(name))?;
        shim.signal(libc::SIGCONT)?;
        fail_point!("container.shim.roused");
        // One that has its files is let be: while it makes them again, there is an instant without a socket.
        if living.unknown || !socket.exists() {
            shim.signal(libc::SIGHUP)?;
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let status = shim::read_status(&self.paths.status(name)).unwrap_or(None);
            if status.is_some_and(|status| status.shim_pid == shim.pid) && shim::listens(&socket) {
                return Ok(true);
            }
            if !shim.is_alive() {
                return Ok(false);
            }
            if Instant::now() >= deadline {
                let after = PATIENCE;
                return Err(shim::ShimError::TimedOut { socket, after }.into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Tells whether anything of a container lives, whatever its files say.
    pub(super) fn is_alive(&self, name: &Name) -> Result<bool, Failure> {
        Ok(self.living_shim(name).is_some() || self.running_process(name)?.is_some())
    }
}
