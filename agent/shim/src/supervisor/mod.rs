//! The container's life: one loop over signals, output, requests and deadlines.
//!
//! The runtime's verbs are waited for in place, with the container's output read meanwhile, so that a start or an end
//! is a plain sequence; requests that arrive then are taken afterwards. What takes as long as the container likes (a
//! stop, a backoff, a health probe) is a deadline of the loop. poll(2) rather than epoll: there are about five
//! descriptors, and the set changes with every run.

mod end;
mod probe;
mod requests;
mod start;
mod verb;

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_shim::{Config, Health, Phase, Status, process};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::backoff::Backoff;
use crate::clock;
use crate::daemon::{self, LockedSocket, StartError};
use crate::health::Probes;
use crate::log::Log;
use crate::output::Output;
use crate::reaper::Reaper;
use crate::server::{ConnectionId, Server};
use crate::status::{self, StatusError};
use crate::survivors::Accounting;

/// How long a burst's memory is kept, and how often a log that lost lines is tried again.
const IDLE: Duration = Duration::from_secs(1);
/// How often a status that could not be written is tried again.
const STATUS_RETRY: Duration = Duration::from_secs(1);
/// A main process that ended with 0 within this time of its start may have gone to the background.
const DAEMONIZE_WINDOW: Duration = Duration::from_secs(10);

/// One container's shim at work.
pub struct Supervisor {
    config_path: PathBuf,
    config: Config,
    /// Longest time that a verb of the runtime may take.
    runtime_timeout: Duration,
    socket: LockedSocket,
    signals: SignalFd,
    server: Server,
    output: Output,
    reaper: Reaper,
    status: Status,
    /// When it is written again, where the status file does not say so yet.
    status_due: Option<Instant>,
    run: Option<Run>,
    backoff: Backoff,
    next_start: Option<Instant>,
    /// Whether the runtime surely knows nothing of this container.
    clean: bool,
    waiters: Vec<Waiter>,
    /// A signal told the shim to end.
    end_requested: bool,
    /// A signal told the shim to make its files again.
    files_requested: bool,
    over: bool,
}

/// A container that runs.
struct Run {
    pid: u32,
    started: Instant,
    /// Whether the main process's end is the end of all others.
    own_pid_namespace: bool,
    oom_kills_before: u64,
    accounting: Option<Accounting>,
    probes: Option<Probes>,
    probe: Option<probe::Probe>,
    stopping: Option<Stopping>,
}

/// A stop under way.
struct Stopping {
    deadline: Instant,
    killed: bool,
    then: Then,
}

/// What follows a stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    Start,
    End,
}

/// Somebody whose request is answered when the stop under way is done.
struct Waiter {
    connection: ConnectionId,
    wants_running: bool,
}

impl Supervisor {
    /// Takes over from `main`, in the background already.
    pub fn new(
        config_path: PathBuf,
        config: Config,
        socket: LockedSocket,
        runtime_timeout: Duration,
    ) -> Result<Self, StartError> {
        let call = |call| move |source| StartError::Call { call, source };
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().map_err(|error| call("block signals")(error.into()))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|error| call("make a signal descriptor")(error.into()))?;
        let listener = socket.listener.try_clone().map_err(call("clone the socket"))?;
        let pid = std::process::id();
        let status = Status {
            id: config.id.clone(),
            shim_pid: pid,
            shim_start_time: process::start_time(pid).unwrap_or_default(),
            phase: Phase::Created,
            restarts: 0,
            health: Health::None,
        };
        Ok(Supervisor {
            output: Output::new(Log::new(config.log.clone())),
            config_path,
            config,
            runtime_timeout,
            socket,
            signals,
            server: Server::new(listener),
            reaper: Reaper::default(),
            status,
            status_due: None,
            run: None,
            backoff: Backoff::default(),
            next_start: None,
            clean: false,
            waiters: Vec::new(),
            end_requested: false,
            files_requested: false,
            over: false,
        })
    }

    /// Writes the status for the first time.
    pub fn announce(&self) -> Result<(), StatusError> {
        status::write(&self.config.status, &self.status)
    }

    /// Works until the shim is told to end.
    pub fn run(&mut self) {
        while !self.over {
            let probe = self.run.as_ref().and_then(|run| run.probe.as_ref()).map(|probe| probe.pid);
            self.reaper.forget_others(&[self.run.as_ref().map(|run| run.pid), probe]);
            let deadline = self.next_deadline();
            let idle = self.turn(deadline, None, true);
            if idle {
                self.be_idle();
            }
            for (connection, request) in self.server.take_requests() {
                self.handle(connection, request);
            }
            if std::mem::take(&mut self.files_requested) {
                self.make_files_again();
            }
            if std::mem::take(&mut self.end_requested) {
                self.shut_down();
            }
            self.notice_end();
            self.notice_probe();
            self.meet_deadlines();
        }
    }

    /// Says until when the loop may sleep.
    fn next_deadline(&self) -> Option<Instant> {
        let run = self.run.as_ref();
        let stopping = run.and_then(|run| run.stopping.as_ref()).map(|stopping| stopping.deadline);
        let accounting = run.and_then(|run| run.accounting.as_ref().map(|_| run.started + DAEMONIZE_WINDOW));
        let probe = run.and_then(Run::probe_deadline);
        let idle = self.output.log.owes_a_note() || self.output.holds_buffers();
        let idle = idle.then(|| Instant::now() + IDLE);
        [self.status_due, self.next_start, stopping, accounting, probe, idle].into_iter().flatten().min()
    }

    /// Does what has come due.
    fn meet_deadlines(&mut self) {
        let now = Instant::now();
        if let Some(run) = &mut self.run
            && now >= run.started + DAEMONIZE_WINDOW
        {
            run.accounting = None;
        }
        if self.status_due.is_some_and(|due| now >= due) {
            self.publish();
        }
        if self.next_start.is_some_and(|due| now >= due) {
            self.restart();
        }
        self.meet_stop_deadline(now);
        self.meet_probe_deadline(now);
    }

    /// Waits for something to happen, reads the container's output, and reaps. `true` when nothing has happened.
    ///
    /// `said` is the standard error of a verb under way. Requests wake it, and are taken by the caller, only where
    /// `serve` is set.
    fn turn(&mut self, deadline: Option<Instant>, said: Option<&mut verb::Said>, serve: bool) -> bool {
        let mut polled: Vec<libc::pollfd> = Vec::with_capacity(8);
        let mut add = |fd: RawFd| polled.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        add(self.signals.as_raw_fd());
        self.output.descriptors().for_each(&mut add);
        if serve {
            self.server.descriptors().for_each(&mut add);
        }
        said.as_ref().and_then(|said| said.descriptor()).into_iter().for_each(&mut add);
        let timeout = deadline.map_or(-1, |deadline| {
            // Rounded up: waking a little early would be a round for nothing.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
        });
        let count = libc::nfds_t::try_from(polled.len()).unwrap_or_default();
        // SAFETY: the pointer and count are those of a living vector.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) };
        if ready <= 0 {
            return ready == 0;
        }
        let is_ready = |fd: RawFd| polled.iter().any(|entry| entry.fd == fd && entry.revents != 0);
        if is_ready(self.signals.as_raw_fd()) {
            self.take_signals();
        }
        if self.output.descriptors().any(is_ready) {
            self.output.read_all();
        }
        if let Some(said) = said
            && said.descriptor().is_some_and(is_ready)
        {
            said.read();
        }
        false
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let end = [libc::SIGTERM, libc::SIGINT].map(i32::unsigned_abs).contains(&signal.ssi_signo);
            self.end_requested |= end;
            self.files_requested |= signal.ssi_signo == libc::SIGHUP.unsigned_abs();
        }
        self.reaper.reap();
    }

    fn be_idle(&mut self) {
        if self.output.log.owes_a_note() {
            self.output.log.flush();
        }
        if self.output.holds_buffers() {
            self.output.release();
            // SAFETY: malloc_trim(3) takes a number and may be called at any time.
            unsafe { libc::malloc_trim(0) };
        }
    }

    /// Listens anew and writes the status again, for whoever cannot ask because somebody removed the files.
    fn make_files_again(&mut self) {
        match self.socket.listen_again() {
            Ok(listener) => self.server.listen_on(listener),
            Err(error) => self.note(&error),
        }
        self.publish();
    }

    /// Enters a phase, and says so in the status file.
    fn enter(&mut self, phase: Phase) {
        self.status.phase = phase;
        self.publish();
    }

    /// Writes the status file. Where it cannot be written (a full disk), it is tried until it can.
    fn publish(&mut self) {
        let Err(error) = status::write(&self.config.status, &self.status) else {
            self.status_due = None;
            return;
        };
        let is_news = self.status_due.is_none();
        self.status_due = Some(Instant::now() + STATUS_RETRY);
        if is_news {
            self.note(&error);
        }
    }

    /// Writes to the shim's own log what nobody waits to be told.
    fn note(&self, error: &dyn Error) {
        let text = with_causes(error);
        daemon::bound_own_log();
        // Where the disk is full, which may be what is to be told, the container is to run on without a note.
        let _ = writeln!(io::stderr(), "{} {text}", clock::now());
    }
}

/// Gives an error with its causes in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
