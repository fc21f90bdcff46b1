//! Shims that live and do no work: stopped by a signal, or without the files by which they are known.
//!
//! What can be seen of that without a write is [`ShimTrouble`]; rousing one is signals alone, and the container never notices.

use std::time::{Duration, Instant};

use evenkeel_plan::ShimTrouble;
use evenkeel_schema::Name;
use evenkeel_shim::{fail_point, lock_of, process};

use super::create::private_directory;
use super::error::Failure;
use super::process::signal_process;
use super::{ContainerError, Containers, Shared, shim};

/// How long a roused shim may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A shim that lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Living {
    pub pid: u32,
    pub start_time: u64,
    pub trouble: Option<ShimTrouble>,
    /// Its status file cannot tell of it.
    pub unknown: bool,
}

impl Containers {
    /// Tells whether the container's shim lives, and sees to it that it can be asked.
    pub(super) async fn shim_is_alive(&self, name: &Name) -> Result<bool, ContainerError> {
        let rouse = |shared: &Shared, name: &Name| shared.rouse(name);
        match self.0.living_shim(name) {
            None => Ok(false),
            Some(Living { trouble: None, unknown: false, .. }) => Ok(true),
            Some(_) => {
                let roused = move |shared: &Shared, name: &Name| {
                    rouse(shared, name).map_err(|failure| ContainerError::of(name, failure))
                };
                self.blocking(name, roused).await.map(|()| true)
            }
        }
    }
}

impl Shared {
    /// Finds the shim of a container: by its status, or by its command line where it holds a place that no status tells of.
    pub(super) fn living_shim(&self, name: &Name) -> Option<Living> {
        let (config, socket) = (self.shim_config(name), self.socket(name));
        let known = shim::read_status(&self.paths.status(name)).unwrap_or(None).filter(shim::is_alive);
        let unknown = known.is_none();
        let (pid, start_time) = match known {
            Some(status) => (status.shim_pid, status.shim_start_time),
            None if lock_of(&socket).exists() || socket.exists() => shim::find(&config)?,
            None => return None,
        };
        let state = process::stat(pid)?.state;
        let trouble = match state {
            'T' | 't' => Some(ShimTrouble::Stopped),
            _ if !socket.exists() => Some(ShimTrouble::Unreachable),
            _ => None,
        };
        Some(Living { pid, start_time, trouble, unknown })
    }

    /// Has a stopped shim go on, and one without its files make them again.
    fn rouse(&self, name: &Name) -> Result<(), Failure> {
        let Some(living) = self.living_shim(name) else { return Ok(()) };
        let socket = self.socket(name);
        let deadline = Instant::now() + PATIENCE;
        let send = |signal| {
            let sent = signal_process(living.pid, living.start_time, signal);
            sent.map_err(|source| Failure::Signal { pid: living.pid, signal, source })
        };
        private_directory(&self.run(name))?;
        send(libc::SIGCONT)?;
        fail_point!("container.shim.roused");
        // One that has its files is let be: while it makes them again, there is an instant without a socket.
        if living.unknown || !socket.exists() {
            send(libc::SIGHUP)?;
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let status = shim::read_status(&self.paths.status(name)).unwrap_or(None);
            if status.is_some_and(|status| status.shim_pid == living.pid) && shim::listens(&socket) {
                return Ok(());
            }
            if process::start_time(living.pid) != Some(living.start_time) {
                return Ok(());
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
