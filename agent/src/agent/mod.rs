//! The agent: keeps a root true to its manifests until it is told to end.
//!
//! Triggers (a changed directory, netlink, a container's end, the timer, a request) only say "look again"; what to do is
//! decided afresh each time from manifests and kernel. The agent owns nothing that runs: containers, networks and ports go on
//! without it, and the next agent finds them as they are.

pub mod control;
mod pace;
mod requests;
mod systemd;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_host::error_chain;
use evenkeel_host::network::Hint;
use evenkeel_plan::{Action, Drift, Options, Outcome, Report, Why};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::fetch::Patience;
use crate::reconcile::{Events, Manner};
use crate::report::{self, Clock};
use crate::session::{LockedSession, SessionError};
use crate::source::{self, Intent};
use crate::watch::{TreeWatch, WatchError};
use control::{AgentStatus, ControlError, LastPass};
use pace::Pace;
use requests::{ApplyRequest, Incoming, Relay};

/// Changes of manifests are read once they were quiet for so long …
const QUIET: Duration = Duration::from_millis(50);
/// … or after so long at the latest.
const SETTLED: Duration = Duration::from_secs(2);
/// Kernel events within this time are one.
const BURST: Duration = Duration::from_millis(15);
/// What takes longer goes on beside the following passes, so that repairs do not wait for it.
const PATIENCE: Patience = Patience::Up(Duration::from_millis(500));

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The directory (or file) of manifests, canonical as far as it exists.
    pub manifests: PathBuf,
    /// Time between two looks without a cause.
    pub resync: Duration,
    /// Delete everything when the source is empty.
    pub allow_empty: bool,
}

/// Why an agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    #[error("the kernel's changes of networks cannot be followed")]
    Hints(#[from] evenkeel_host::network::NetworkError),
}

/// Runs until SIGTERM or SIGINT. `quiet` is told of steps that no request asked for.
///
/// # Errors
/// Only what makes keeping the host impossible; a failed pass is logged and tried again.
pub async fn run(session: LockedSession, options: AgentOptions, quiet: Arc<dyn Events>) -> Result<(), AgentError> {
    let paths = session.observer().paths().clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(AgentError::Signals)?;
    // Watches stand before the first look, so that nothing falls between the two.
    let mut manifests = TreeWatch::new(&options.manifests)?;
    make_directory(&paths.statuses());
    let mut statuses = TreeWatch::new(&paths.statuses())?;
    let mut hints = session.observer().networks().watch()?;
    let listener = control::listen(&paths.agent_socket())?;
    let _watchdog = systemd::Watchdog::start();

    let fetches = Arc::clone(&session.fetches);
    let mut agent = Agent::new(session, options, quiet);
    let (sender, mut incoming) = mpsc::channel(16);
    tokio::spawn(requests::serve(listener, sender));
    agent.pass(true, None).await;
    systemd::ready(agent.status_line());
    let mut next_resync = Instant::now() + agent.options.resync;
    loop {
        let reload = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => true,
            () = manifests.changed(QUIET, SETTLED) => true,
            () = tokio::time::sleep_until(next_resync.into()) => true,
            () = fetches.ended() => false,
            () = statuses.changed(BURST, BURST) => false,
            () = rested(agent.pace.next(Instant::now())) => false,
            hint = hints.recv() => { gather(hint, &mut hints).await; false }
            request = incoming.recv() => {
                agent.answer(request).await;
                continue;
            }
        };
        agent.pass(reload, None).await;
        if reload {
            next_resync = Instant::now() + agent.options.resync;
        }
        systemd::status(agent.status_line());
    }
    systemd::stopping();
    // Where it cannot be removed the next agent replaces it.
    let _ = std::fs::remove_file(paths.agent_socket());
    tracing::info!("ending; containers and networks go on");
    Ok(())
}

/// Waits until an object may be tried again.
async fn rested(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Takes in the rest of a burst of hints.
async fn gather(first: Option<Hint>, hints: &mut mpsc::Receiver<Hint>) {
    if first.is_none() {
        // The watch ended; the timer remains.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(BURST).await;
    while hints.try_recv().is_ok() {}
}

fn make_directory(path: &Path) {
    if let Err(error) = std::fs::create_dir_all(path) {
        tracing::warn!("cannot make {}: {error}", path.display());
    }
}

/// The state of a running agent between two passes.
struct Agent {
    session: LockedSession,
    options: AgentOptions,
    quiet: Arc<dyn Events>,
    intent: Option<Intent>,
    status: AgentStatus,
    /// What is not to be tried again at once.
    pace: Pace,
    /// Lines already logged, so that what lasts is said once.
    said: std::collections::BTreeSet<String>,
}

impl Agent {
    fn new(session: LockedSession, options: AgentOptions, quiet: Arc<dyn Events>) -> Agent {
        let status = AgentStatus {
            pid: std::process::id(),
            manifests: options.manifests.clone(),
            started_at: Clock::now().timestamp(),
            last_pass: None,
        };
        Agent { session, options, quiet, intent: None, status, pace: Pace::default(), said: Default::default() }
    }

    fn status_line(&self) -> String {
        match &self.status.last_pass {
            None => "starting".to_owned(),
            Some(pass) if pass.in_sync && pass.complete => format!("in sync with revision {}", pass.revision),
            Some(pass) if pass.in_sync => format!("revision {}: could not see everything", pass.revision),
            Some(pass) => format!("revision {}: {} problems", pass.revision, pass.problems.len().max(1)),
        }
    }

    /// Answers one request; a pass that it asks for is made before the answer.
    async fn answer(&mut self, request: Option<Incoming>) {
        match request {
            None => {}
            Some(Incoming::Status(reply)) => drop(reply.send(self.status.clone())),
            Some(Incoming::Wake) => {
                self.pass(false, None).await;
            }
            Some(Incoming::Apply(request, relay)) => match self.refusal(&request) {
                Some(message) => relay.refuse(message).await,
                None => {
                    let report = self.pass(true, Some((&request, relay.clone()))).await;
                    relay.end(report).await;
                }
            },
        }
    }

    /// Says why a request cannot be met: the agent keeps the root true to one source only.
    fn refusal(&self, request: &ApplyRequest) -> Option<String> {
        let wanted = request.path.as_ref()?;
        let own = self.options.manifests.canonicalize().unwrap_or_else(|_| self.options.manifests.clone());
        (*wanted != own).then(|| {
            format!(
                "the agent (process {}) keeps this root true to {}, not to {}",
                self.status.pid,
                own.display(),
                wanted.display()
            )
        })
    }

    /// Looks, plans and repairs once.
    async fn pass(&mut self, reload: bool, request: Option<(&ApplyRequest, Relay)>) -> Option<Report> {
        let started = Instant::now();
        let asked_for = request.as_ref().is_some_and(|(request, _)| request.allow_empty);
        let allow_empty = self.options.allow_empty || asked_for;
        if reload || self.intent.is_none() {
            let (path, ledger) = (self.options.manifests.clone(), Arc::clone(&self.session.ledger));
            let read = move || source::read(&path, Some(&ledger), allow_empty);
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(intent)) => {
                    if self.intent.as_ref().is_none_or(|earlier| earlier.desired != intent.desired) {
                        self.pace.start_over();
                    }
                    self.intent = Some(intent);
                }
                Ok(Err(error)) => self.say(error_chain(&error)),
                Err(error) => self.say(format!("the manifests could not be read: {error}")),
            }
        }
        let intent = self.intent.as_ref()?;
        let asked = request.as_ref().map(|(request, _)| *request);
        if asked.is_some() {
            self.pace.start_over();
        }
        let options = Options {
            allow_data_loss: asked.is_some_and(|request| request.allow_data_loss),
            prune: !asked.is_some_and(|request| request.no_prune),
        };
        // A person who asked waits for the result; the agent by itself has the next repair to think of.
        let patience = if asked.is_some() { Patience::Whole } else { PATIENCE };
        let manner = Manner { options, patience, resting: self.pace.resting(started) };
        let events: Arc<dyn Events> = match request {
            Some((_, relay)) => Arc::new(relay),
            None => Arc::clone(&self.quiet),
        };
        let result = self.session.apply(&intent.desired, &manner, events).await;
        let (errors, whole) = (intent.errors(), intent.distrust.is_none());
        match result {
            Ok(mut report) => {
                report.complete &= whole;
                report.problems.splice(0..0, errors);
                self.note(&report, started.elapsed());
                Some(report)
            }
            Err(error) => {
                self.say(format!("the pass failed: {}", error_chain(&error)));
                None
            }
        }
    }

    /// Remembers and logs what came of a pass.
    fn note(&mut self, report: &Report, took: Duration) {
        self.pace.after(&report.outcomes, Instant::now());
        let mut lines: Vec<String> = report.problems.clone();
        for step in &report.plan.steps {
            if let Action::Hold(why) = &step.action
                && *why != Why::Kept
            {
                let reason = report::reason(&step.action).unwrap_or_default();
                lines.push(format!("{}: held: {reason}", step.key));
            }
            let Some(outcome) = report.outcomes.get(&step.key) else { continue };
            match outcome {
                Outcome::Applied => tracing::info!("{}: {}", step.key, repaired(&step.action)),
                Outcome::Failed { error } => lines.push(format!("{}: {error}", step.key)),
                Outcome::Blocked { by } if *by == step.key => lines.push(format!("{}: is being fetched", step.key)),
                Outcome::Blocked { by } => lines.push(format!("{}: waits for {by}", step.key)),
            }
        }
        if report.plan.firewall_differs {
            tracing::info!("firewall: table replaced");
        }
        // What lasts is said once, and again only after it was gone.
        self.said.retain(|line| lines.contains(line));
        for line in &lines {
            self.say(line.clone());
        }
        let failed = report.outcomes.values().any(|outcome| *outcome != Outcome::Applied);
        self.status.last_pass = Some(LastPass {
            at: Clock::now().timestamp(),
            revision: report.source.revision.clone(),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            in_sync: !failed && lines.is_empty(),
            complete: report.complete,
            problems: lines,
        });
    }

    fn say(&mut self, line: String) {
        if self.said.insert(line.clone()) {
            tracing::warn!("{line}");
        }
    }
}

fn repaired(action: &Action) -> String {
    let fields = |drifts: &[Drift]| drifts.iter().map(|drift| drift.field.as_str()).collect::<Vec<_>>().join(", ");
    match action {
        Action::Create => "created".to_owned(),
        Action::Update(drifts) => format!("repaired: {}", fields(drifts)),
        Action::Replace(drifts) => format!("replaced: {}", fields(drifts)),
        Action::Delete => "deleted".to_owned(),
        Action::Keep | Action::Hold(_) => "unchanged".to_owned(),
    }
}
