//! The end of a run: by itself, on request, or by the OOM killer; and what follows.

use std::time::{Duration, Instant};

use evenkeel_shim::process::ExitStatus;
use evenkeel_shim::{Exit, Phase};
use evenkeel_shim::{cgroup, fail_point};

use super::{DAEMONIZE_WINDOW, Run, Stopping, Supervisor, Then};
use crate::backoff;
use crate::clock;
use crate::runtime::RuntimeError;
use crate::survivors::Accounting;

/// How long output may still come after the main process ended, from processes outside of its pid namespace.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a killed container may take to be gone before whoever waits is told, and it is killed again.
const KILL_GRACE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Begins to stop a running container, or changes what follows the stop under way.
    pub(super) fn stop(&mut self, timeout: Option<Duration>, then: Then) {
        let Some(run) = &mut self.run else { return };
        let timeout = timeout.unwrap_or(Duration::from_millis(self.config.stop.timeout_ms));
        let deadline = Instant::now() + timeout;
        if let Some(stopping) = &mut run.stopping {
            if !stopping.killed {
                stopping.deadline = stopping.deadline.min(deadline);
            }
            self.follow_stop_with(then);
            return;
        }
        run.stopping = Some(Stopping { deadline, killed: false, then });
        let pid = run.pid;
        let signal = self.config.stop.signal;
        if !timeout.is_zero()
            && let Err(error) = self.signal(signal)
        {
            self.note(&error);
            self.signal_directly(pid, signal);
        }
    }

    /// Changes what follows the stop under way. Nothing undoes the order to end.
    pub(super) fn follow_stop_with(&mut self, then: Then) {
        let stopping = self.run.as_mut().and_then(|run| run.stopping.as_mut());
        if let Some(stopping) = stopping.filter(|stopping| stopping.then != Then::End) {
            stopping.then = then;
        }
    }

    /// Sends a signal to the main process, by the runtime: it knows where that process is.
    pub(super) fn signal(&mut self, signal: i32) -> Result<(), RuntimeError> {
        self.runtime(&["kill".into(), self.config.id.clone().into(), signal.to_string().into()])
    }

    fn signal_directly(&self, pid: u32, signal: i32) {
        // Whose exit was collected may be somebody else by now.
        if !self.reaper.has(pid) {
            // SAFETY: kill(2) with the id of a child of ours that was not reaped.
            unsafe { libc::kill(pid.cast_signed(), signal) };
        }
    }

    /// Kills everything in the container.
    fn kill_all(&mut self) {
        let Some(run) = &self.run else { return };
        let (pid, alone) = (run.pid, run.own_pid_namespace);
        let by_cgroup = cgroup::kill(&self.config.cgroups);
        self.signal_directly(pid, libc::SIGKILL);
        // The end of a pid namespace's first process is the end of all; any other leaves the rest.
        if !alone && !by_cgroup {
            let arguments = ["kill".into(), "--all".into(), self.config.id.clone().into(), "9".into()];
            if let Err(error) = self.runtime(&arguments) {
                self.note(&error);
            }
        }
    }

    pub(super) fn meet_stop_deadline(&mut self, now: Instant) {
        let Some(stopping) = self.run.as_mut().and_then(|run| run.stopping.as_mut()) else { return };
        if now < stopping.deadline {
            return;
        }
        let again = std::mem::replace(&mut stopping.killed, true);
        stopping.deadline = now + KILL_GRACE;
        self.kill_all();
        if again {
            let seconds = KILL_GRACE.as_secs();
            let error = format!("the main process did not end within {seconds} s of being killed; the kernel holds it");
            for waiter in std::mem::take(&mut self.waiters) {
                self.reply(waiter.connection, Some(error.clone()));
            }
        }
    }

    /// Looks whether the main process has ended, and does what follows.
    pub(super) fn notice_end(&mut self) {
        let Some(ended) = self.run.as_ref().and_then(|run| self.reaper.take(run.pid)) else { return };
        let Some(run) = self.run.take() else { return };
        fail_point!("shim.ended");
        let ran = run.started.elapsed();
        if let Some(probe) = &run.probe {
            probe.kill(&self.reaper);
        }
        self.drain();
        let exit = self.describe_exit(&run, ended, ran);
        if let Err(error) = self.delete() {
            self.note(&error);
        }
        match run.stopping {
            Some(stopping) => self.after_stop(exit, stopping.then),
            None => self.after_end(exit, ran),
        }
    }

    fn after_end(&mut self, exit: Exit, ran: Duration) {
        let ended = backoff::Ended::Exit { code: exit.code, ran };
        let wait = self.backoff.next(&self.config.restart, ended);
        self.next_start = wait.map(|wait| Instant::now() + wait);
        self.status.health = evenkeel_shim::Health::None;
        self.enter(match wait {
            Some(wait) => Phase::Backoff { exit, next_start_at: clock::after(wait) },
            None => Phase::Exited { exit, gave_up: backoff::wants_restart(&self.config.restart, ended) },
        });
    }

    fn after_stop(&mut self, exit: Exit, then: Then) {
        self.status.health = evenkeel_shim::Health::None;
        self.enter(Phase::Exited { exit, gave_up: false });
        match then {
            Then::Stay => {}
            Then::Start => self.start_fresh(),
            Then::End => self.leave(),
        }
        let running = matches!(self.status.phase, Phase::Running { .. });
        for waiter in std::mem::take(&mut self.waiters) {
            let error = (waiter.wants_running && !running).then(|| match &self.status.phase {
                Phase::Failed { message, .. } => message.clone(),
                _ => "another request stopped it meanwhile".to_owned(),
            });
            self.reply(waiter.connection, error);
        }
    }

    /// Reads what the container wrote before it ended.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN;
        while !self.output.is_finished() && Instant::now() < deadline {
            self.turn(Some(deadline), None, false);
        }
        self.output.close();
    }

    fn describe_exit(&self, run: &Run, ended: ExitStatus, ran: Duration) -> Exit {
        let code = ended.code();
        let daemonized = code == 0
            && ran < DAEMONIZE_WINDOW
            && run.accounting.as_ref().is_some_and(Accounting::others_ended_with_the_first);
        // A clean exit was not the OOM killer's work, whichever of the other processes it took before.
        let oom_killed = code != 0 && cgroup::oom_kills(&self.config.cgroups) > run.oom_kills_before;
        Exit { code, signal: ended.signal(), oom_killed, daemonized, finished_at: clock::now() }
    }
}
