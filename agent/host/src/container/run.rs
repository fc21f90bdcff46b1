//! Starting, stopping and signalling a made container, by way of its shim.

use std::fs;
use std::time::Duration;

use evenkeel_schema::Name;
use evenkeel_shim::cgroup::CgroupDirectory;
use evenkeel_shim::fail_point;
use evenkeel_shim::{Config, Phase, Reply, Request, Status};

use super::cgroup::Cgroup;
use super::error::Failure;
use super::process::ProcessId;
use super::shim::ShimError;
use super::{ContainerError, Containers, Shared, shim};

impl Containers {
    /// Readies what many starts share, until [`Containers::end_of_starts`].
    pub(crate) fn expect_many_starts(&self, count: usize) {
        self.0.bare_mounts.want(count);
    }

    pub(crate) fn end_of_starts(&self) {
        self.0.bare_mounts.forget();
    }

    /// Starts a made container, with a shim where none lives. The error is the runtime's own where it failed.
    pub async fn start(&self, name: &Name) -> Result<Status, ContainerError> {
        self.ready_shim(name).await?;
        self.start_with_shim(name).await
    }

    /// Has a shim that knows what it is to keep: the one that lives, or a new one. `true` where it is new.
    pub(crate) async fn ready_shim(&self, name: &Name) -> Result<bool, ContainerError> {
        let is_alive = self.shim_is_alive(name).await?;
        if is_alive {
            // What it is to start may have changed since it read its configuration.
            self.ask(name, &Request::Reload).await?;
        } else {
            self.spawn_shim(name).await?;
        }
        fail_point!("container.shim.ready");
        Ok(!is_alive)
    }

    /// Starts a made container whose shim is ready.
    pub(crate) async fn start_with_shim(&self, name: &Name) -> Result<Status, ContainerError> {
        let reply = self.ask(name, &Request::Start).await?;
        fail_point!("container.started");
        Ok(reply.status)
    }

    /// Ends a shim that was readied for nothing.
    pub(crate) async fn dismiss_shim(&self, name: &Name) -> Result<(), ContainerError> {
        self.ask(name, &Request::Shutdown).await.map(drop)
    }

    /// Stops a container and leaves it stopped; `None` is the timeout of its manifest.
    pub async fn stop(&self, name: &Name, timeout: Option<Duration>) -> Result<(), ContainerError> {
        let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        if self.shim_is_alive(name).await? {
            return self.ask(name, &Request::Stop { timeout_ms }).await.map(drop);
        }
        self.blocking(name, move |shared, name| {
            shared.stop_orphan(name, timeout).map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }

    /// Starts the container's process anew.
    pub async fn restart(&self, name: &Name) -> Result<(), ContainerError> {
        match self.shim_is_alive(name).await? {
            true => self.ask(name, &Request::Restart).await.map(drop),
            false => {
                self.stop(name, None).await?;
                self.start(name).await.map(drop)
            }
        }
    }

    /// Sends a signal to the container's first process.
    pub async fn kill(&self, name: &Name, signal: i32) -> Result<(), ContainerError> {
        if self.shim_is_alive(name).await? {
            return self.ask(name, &Request::Kill { signal }).await.map(drop);
        }
        self.blocking(name, move |shared, name| {
            let sent = || match shared.running_process(name)? {
                Some(process) => process.signal(signal),
                None => Ok(false),
            };
            match sent() {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::NotRunning),
                Err(failure) => Err(failure),
            }
            .map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }

    /// As [`Shared::end_stray`], for a container that no status tells of.
    pub(crate) async fn end_stray(&self, name: &Name) -> Result<(), ContainerError> {
        self.blocking(name, |shared, name| shared.end_stray(name).map_err(|failure| ContainerError::of(name, failure)))
            .await
    }

    async fn spawn_shim(&self, name: &Name) -> Result<(), ContainerError> {
        self.blocking(name, |shared, name| {
            let spawned = || {
                shared.end_stray(name)?;
                let config = shared.shim_config(name);
                if !config.exists() {
                    return Err(Failure::NotMade { path: config });
                }
                // One that lives already is found by its lock.
                let bare_mounts = shared.bare_mounts.variable(shared.paths.run());
                shim::spawn(&shared.shim, &config, &shared.socket(name), bare_mounts.as_deref())?;
                shared.shims.note_start(config);
                Ok(())
            };
            spawned().map_err(|failure| ContainerError::of(name, failure))
        })
        .await
    }

    /// Asks the shim; a refusal is an error in its words.
    pub(super) async fn ask(&self, name: &Name, request: &Request) -> Result<Reply, ContainerError> {
        let reply =
            shim::request(&self.0.socket(name), request).await.map_err(|failure| ContainerError::of(name, failure))?;
        match reply.error {
            None => Ok(reply),
            Some(message) => Err(ContainerError::of(name, Failure::Refused(message))),
        }
    }
}

impl Shared {
    /// Finds the first process of a container, where it runs, by its shim's last word.
    pub(super) fn running_process(&self, name: &Name) -> Result<Option<ProcessId>, Failure> {
        let status = self.status(name)?;
        let process = match status.map(|status| status.phase) {
            Some(Phase::Running { pid, start_time, .. }) => Some(ProcessId { pid, start_time }),
            _ => None,
        };
        Ok(process.filter(|process| process.is_alive()))
    }

    /// Reads what the shim said last.
    pub(super) fn status(&self, name: &Name) -> Result<Option<Status>, ShimError> {
        shim::status(&self.paths.status(name), &self.socket(name))
    }

    /// Ends a shim and processes of the container that no file tells of any more, as where the run directory was wiped: another
    /// shim would start a second one beside them.
    pub(super) fn end_stray(&self, name: &Name) -> Result<(), Failure> {
        if self.status(name)?.is_some() {
            return Ok(());
        }
        let path = self.shim_config(name);
        // The configuration tells where the cgroup is without a look at the host's mounts.
        let config = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Config>(&text).ok());
        let cgroups = match config {
            Some(config) => config.cgroups,
            None => Cgroup::of_host(&self.cgroup_path(name))?.directories(),
        };
        let has_processes = |directory: &CgroupDirectory| {
            fs::read_to_string(directory.path.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
        };
        let has_place = evenkeel_shim::lock_of(&self.socket(name)).exists() || !self.run(name).exists();
        let is_known = self.runtime_state(name).exists();
        if !cgroups.iter().any(has_processes) && !is_known && !has_place {
            return Ok(());
        }
        if let Some(shim) = self.shims.find(&path) {
            shim.end()?;
        }
        Ok(Cgroup::of_host(&self.cgroup_path(name))?.kill_and_remove()?)
    }

    fn stop_orphan(&self, name: &Name, timeout: Option<Duration>) -> Result<(), Failure> {
        let Some(process) = self.running_process(name)? else { return Ok(()) };
        let path = self.shim_config(name);
        let config = fs::read(&path).map_err(|source| Failure::File { path: path.clone(), source })?;
        let config: Config = serde_json::from_slice(&config).map_err(|source| Failure::Json { path, source })?;
        let timeout = timeout.unwrap_or(Duration::from_millis(config.stop.timeout_ms));
        process.signal(config.stop.signal)?;
        fail_point!("container.orphan.signalled");
        if process.await_end(timeout) { Ok(()) } else { process.end() }
    }
}
