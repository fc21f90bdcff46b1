//! The health probe at work: a call of the runtime's `exec`, its deadline and its result.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use evenkeel_shim::fail_point;
use evenkeel_shim::process::{self, ExitStatus};

use super::{Run, Supervisor};
use crate::reaper::Reaper;
use crate::runtime::{self, Call};

/// A probe under way.
pub(super) struct Probe {
    pub(super) pid: u32,
    call: Call,
    /// `None` once it was killed.
    deadline: Option<Instant>,
}

impl Probe {
    /// Kills a probe whose container has ended.
    pub(super) fn kill(&self, reaper: &Reaper) {
        self.call.kill(reaper);
    }
}

impl Run {
    /// When the next probe is due, or the present one late.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) => probe.deadline,
            None if self.stopping.is_some() => None,
            None => self.probes.as_ref().map(|probes| probes.due),
        }
    }
}

impl Supervisor {
    /// Takes the result of a probe that has ended.
    pub(super) fn notice_probe(&mut self) {
        let Some(run) = &mut self.run else { return };
        let Some(ended) = run.probe.as_ref().and_then(|probe| self.reaper.take(probe.pid)) else { return };
        fail_point!("shim.probed");
        let in_time = run.probe.take().is_some_and(|probe| probe.deadline.is_some());
        self.record(in_time && ended == ExitStatus::Exited(0));
    }

    /// Starts the probe that is due, or kills the one that is late.
    pub(super) fn meet_probe_deadline(&mut self, now: Instant) {
        let Some(run) = &mut self.run else { return };
        if run.probe_deadline().is_none_or(|due| now < due) {
            return;
        }
        let pid_file = self.config_path.with_file_name("probe.pid");
        if let Some(probe) = &mut run.probe {
            probe.deadline = None;
            kill_probed(&pid_file, probe.pid);
            probe.call.kill(&self.reaper);
            return;
        }
        let Some(probes) = &run.probes else { return };
        let timeout = Duration::from_millis(probes.config.timeout_ms.max(1));
        let mut arguments: Vec<OsString> =
            vec!["exec".into(), "--pid-file".into(), pid_file.clone().into(), self.config.id.clone().into()];
        arguments.extend(probes.config.exec.iter().map(OsString::from));
        let _ = fs::remove_file(&pid_file);
        // Its own log file: another verb of the runtime may run at the same time.
        let log = self.config_path.with_file_name("probe.log");
        match runtime::call(&self.config.runtime, &log, &arguments, None, None) {
            Ok(call) => run.probe = Some(Probe { pid: call.pid, call, deadline: Some(now + timeout) }),
            Err(error) => {
                self.note(&error);
                self.record(false);
            }
        }
    }

    fn record(&mut self, success: bool) {
        let Some(probes) = self.run.as_mut().and_then(|run| run.probes.as_mut()) else { return };
        if probes.record(success, Instant::now()) {
            self.status.health = probes.health;
            self.publish();
        }
    }
}

/// Kills the process that the runtime's `exec` put into the container; killing `exec` itself would leave it there.
fn kill_probed(pid_file: &std::path::Path, exec_pid: u32) {
    let pid = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    // A child of `exec` that lives is what the file says it is; anything else may be somebody else by now.
    if let Some(pid) = pid.filter(|pid| process::stat(*pid).is_some_and(|stat| stat.parent == exec_pid)) {
        // SAFETY: kill(2) with a process id and a signal.
        unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
    }
}
