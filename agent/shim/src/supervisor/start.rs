//! From nothing to a running main process: the runtime's `create`, and its `start` or the gate.

use std::ffi::OsString;
use std::fs;
use std::time::Instant;

use evenkeel_shim::process::{self, ExitStatus};
use evenkeel_shim::{Health, Phase};
use evenkeel_shim::{cgroup, fail_point, gate};

use super::verb::RUNTIME_LOG;
use super::{Run, Supervisor, with_causes};
use crate::backoff::{self, Backoff, Ended};
use crate::clock;
use crate::health::Probes;
use crate::runtime::{self, RuntimeError};
use crate::survivors::{self, Accounting};

impl Supervisor {
    /// Starts the container because somebody asked for it: with a fresh backoff, and a failure is final.
    ///
    /// Whoever asked is told why and may ask again; a failing *re*start, of which nobody is told, is tried again.
    pub(super) fn start_fresh(&mut self) {
        self.backoff = Backoff::default();
        self.status.restarts = 0;
        self.next_start = None;
        if let Err(error) = self.start() {
            self.enter(Phase::Failed { message: with_causes(&error), next_start_at: None, gave_up: false });
        }
    }

    /// Starts the container again by the restart policy.
    pub(super) fn restart(&mut self) {
        self.next_start = None;
        fail_point!("shim.restarting");
        self.status.restarts = self.status.restarts.saturating_add(1);
        if let Err(error) = self.start() {
            let wait = self.backoff.next(&self.config.restart, Ended::NotStarted);
            self.next_start = wait.map(|wait| Instant::now() + wait);
            let gave_up = wait.is_none() && backoff::wants_restart(&self.config.restart, Ended::NotStarted);
            let (message, next_start_at) = (with_causes(&error), wait.map(clock::after));
            self.enter(Phase::Failed { message, next_start_at, gave_up });
        }
    }

    fn start(&mut self) -> Result<(), RuntimeError> {
        self.status.health = Health::None;
        self.enter(Phase::Starting);
        match self.bring_up() {
            Ok(run) => {
                self.status.health = run.probes.as_ref().map_or(Health::None, |probes| probes.health);
                let start_time = process::stat(run.pid).map_or(0, |stat| stat.start_time);
                let pid = run.pid;
                self.run = Some(run);
                self.enter(Phase::Running { pid, start_time, started_at: clock::now() });
                fail_point!("shim.running");
                Ok(())
            }
            Err(error) => {
                self.output.abandon();
                if let Err(error) = self.delete() {
                    self.note(&error);
                }
                Err(error)
            }
        }
    }

    fn bring_up(&mut self) -> Result<Run, RuntimeError> {
        if !self.clean && !self.runtime_has_no_state() {
            self.delete()?;
        }
        self.clean = false;

        let verb = || "create".to_owned();
        let pid_file = self.beside_config("init.pid");
        let _ = fs::remove_file(&pid_file);
        let (stdout, stderr) = self.output.open().map_err(|source| RuntimeError::Pipe { verb: verb(), source })?;
        let arguments = [
            OsString::from("create"),
            "--bundle".into(),
            self.config.bundle.clone().into(),
            "--pid-file".into(),
            pid_file.clone().into(),
            self.config.id.clone().into(),
        ];
        fail_point!("shim.creating");
        let call = runtime::call(&self.config.runtime, &self.runtime_log(), &arguments, Some(stdout), Some(stderr))?;
        let ended = self.wait_for(&call, None)?;
        if ended != ExitStatus::Exited(0) {
            // The container has the same standard error as `create`, and wrote nothing to it yet.
            let said = self.output.abandon();
            call.judge(ended, &said)?;
        }
        fail_point!("shim.created");
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let pid = pid.filter(|pid| *pid > 1).ok_or(RuntimeError::NoPid { path: pid_file })?;
        if !self.reaper.has(pid) && !process::is_child(pid) {
            return Err(RuntimeError::NotOurs { pid });
        }
        self.output.release_held();

        let own_pid_namespace = survivors::is_first_of_its_namespace(pid);
        let accounting = own_pid_namespace.then(|| Accounting::begin(pid)).and_then(|begun| match begun {
            Ok(accounting) => Some(accounting),
            Err(error) => {
                self.note(&error);
                None
            }
        });
        let oom_kills_before = cgroup::oom_kills(&self.config.cgroups);
        self.release()?;
        fail_point!("shim.started");
        let started = Instant::now();
        let probes = self.config.health.clone().map(|config| Probes::new(config, started));
        Ok(Run { pid, started, own_pid_namespace, oom_kills_before, accounting, probes, probe: None, stopping: None })
    }

    /// Removes whatever the runtime still has of this container: after its end, or left by a shim that was killed.
    pub(super) fn delete(&mut self) -> Result<(), RuntimeError> {
        self.runtime(&["delete".into(), "--force".into(), self.config.id.clone().into()])?;
        fail_point!("shim.deleted");
        self.clean = true;
        for name in ["init.pid", "probe.pid", "probe.log", RUNTIME_LOG] {
            let _ = fs::remove_file(self.beside_config(name));
        }
        Ok(())
    }

    /// Lets the made container's command run: by the gate where there is one, otherwise by the runtime's `start`.
    fn release(&mut self) -> Result<(), RuntimeError> {
        let gate = self.runtime_state().map(|state| gate::path(&state)).filter(|gate| gate::is_there(gate));
        match gate.map(|gate| gate::open(&gate)) {
            Some(Ok(true)) => Ok(()),
            // Nobody waits, or it cannot be opened: the runtime says why.
            _ => self.runtime(&["start".into(), self.config.id.clone().into()]),
        }
    }
}
