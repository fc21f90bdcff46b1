//! The agent: keeps a root true to its manifests until it is told to end.
//!
//! Triggers (a changed directory, netlink, a container's end, the timer, a request) only say "look again"; what to do is
//! decided afresh each time from manifests and kernel. The agent owns nothing that runs: containers, networks and ports go on
//! without it, and the next agent finds them as they are.

pub mod control;
mod keeper;
mod pace;
mod requests;
mod systemd;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_shim::fail_point;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::reconcile::Events;
use crate::session::{LockedSession, SessionError};
use crate::watch::{TreeWatch, WatchError};
use control::ControlError;
use keeper::Keeper;
use requests::Incoming;

/// Changes of manifests are read once they were quiet for so long …
const QUIET: Duration = Duration::from_millis(50);
/// … or after so long at the latest.
const SETTLED: Duration = Duration::from_secs(2);
/// The first event is followed at once; those within this time after a look are one. A look's own repairs are among them.
const BURST: Duration = Duration::from_millis(15);

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
    let resync = options.resync;
    let mut end = End::new().map_err(AgentError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(AgentError::Signals)?;
    // Watches stand before the first look, so that nothing falls between the two.
    let mut manifests = TreeWatch::new(&options.manifests)?;
    make_directory(&paths.statuses());
    fail_point!("agent.watching");
    let mut statuses = TreeWatch::new(&paths.statuses())?;
    let mut hints = session.observer().networks().watch()?;
    let listener = control::listen(&paths.agent_socket())?;
    fail_point!("agent.listening");
    let _watchdog = systemd::Watchdog::start();

    let fetches = Arc::clone(&session.fetches);
    let mut keeper = Keeper::new(session, options, quiet);
    let (sender, mut incoming) = mpsc::channel(16);
    tokio::spawn(requests::serve(listener, sender, keeper.status()));
    tracing::info!("keeping {} true to {}", paths.root().display(), keeper.manifests().display());
    let mut is_ready = false;
    let mut reload = true;
    let mut due = Some(Instant::now());
    let mut next_resync = Instant::now() + jittered(resync);
    let mut looked = Instant::now();
    loop {
        let next = [Some(next_resync), keeper.next_try(), due].into_iter().flatten().min().unwrap_or(next_resync);
        tokio::select! {
            () = end.told() => break,
            _ = hang_up.recv() => {
                keeper.forget_failures();
                (reload, due) = (true, Some(Instant::now()));
            }
            () = manifests.changed(QUIET, SETTLED) => (reload, due) = (true, Some(Instant::now())),
            () = fetches.ended() => due = Some(Instant::now()),
            () = statuses.changed(Duration::ZERO, BURST) => due = sooner(due, keeper.gate(after_burst(looked))),
            // Where the watch ended, the timer remains.
            Some(_) = hints.recv() => {
                while hints.try_recv().is_ok() {}
                due = sooner(due, keeper.gate(after_burst(looked)));
            }
            Some(request) = incoming.recv() => match request {
                Incoming::Wake => due = Some(Instant::now()),
                Incoming::Apply(request, relay) => tokio::select! {
                    () = end.told() => break,
                    () = keeper.answer(&request, relay) => {}
                },
            },
            () = until(next) => {
                if Instant::now() >= next_resync {
                    reload = true;
                    next_resync = Instant::now() + jittered(resync);
                }
                // Ended in the middle of a pass, as by a kill: what is begun is in the ledger.
                tokio::select! {
                    () = end.told() => break,
                    () = keeper.look(reload) => {}
                }
                (reload, due, looked) = (false, None, Instant::now());
                if keeper.source_is_in_motion() {
                    (reload, due) = (true, Some(Instant::now() + SETTLED));
                }
                if !is_ready {
                    is_ready = true;
                    systemd::ready();
                }
                systemd::status(&keeper.status_line());
            }
        }
    }
    systemd::stopping();
    // Where it cannot be removed the next agent replaces it.
    let _ = std::fs::remove_file(paths.agent_socket());
    fail_point!("agent.ending");
    tracing::info!("ending; containers and networks go on");
    Ok(())
}

/// The signals that end the agent.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn new() -> std::io::Result<End> {
        Ok(End { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits until `at`, not at all where that is past: a timer of the runtime waits for its next whole millisecond.
async fn until(at: Instant) {
    if at > Instant::now() {
        tokio::time::sleep_until(at.into()).await;
    }
}

fn sooner(due: Option<Instant>, at: Instant) -> Option<Instant> {
    Some(due.map_or(at, |due| due.min(at)))
}

/// Gives the time at which an event that comes now is followed, where the last look ended at `looked`.
fn after_burst(looked: Instant) -> Instant {
    Instant::now().max(looked + BURST)
}

/// Varies an interval by up to a tenth, so that the agents of many hosts do not ask one registry at the same time.
fn jittered(interval: Duration) -> Duration {
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let share = f64::from(nanoseconds.map_or(0, |time| time.subsec_nanos()) % 1_000) / 1_000.0;
    interval.mul_f64(0.9 + share / 5.0)
}

fn make_directory(path: &Path) {
    if let Err(error) = std::fs::create_dir_all(path) {
        tracing::warn!("cannot make {}: {error}", path.display());
    }
}
