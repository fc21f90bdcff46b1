//! What a container's life so far means, by its restart policy.
//!
//! The shim restarts, and says when it gives up; here is only judged whether what it left is as the manifest wants it, and
//! said in words.

use evenkeel_schema::{ContainerSpec, RestartPolicy, Signal};

use super::background::background_hint;
use crate::{Exit, ObservedContainer, RunState, Why};

/// Whether a container is where its manifest wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its process runs, or its shim is about to start it: look at what the kernel says of it.
    Going,
    /// It ended and is to stay so: only its manifest can still differ.
    Done,
    /// It is to run and nothing starts it: start it, for this reason.
    Down(String),
}

/// Judges what was observed by the restart policy. `command` is what the container runs.
pub(crate) fn judge(spec: &ContainerSpec, observed: &ObservedContainer, command: &[String]) -> Life {
    match &observed.state {
        _ if gave_up(spec, observed) => Life::Done,
        RunState::Running { .. } | RunState::Starting { .. } | RunState::Backoff { .. } => Life::Going,
        RunState::Failed { next_start_at: Some(_), .. } => Life::Going,
        RunState::Created => Life::Down("made, never started".to_owned()),
        RunState::Failed { message, .. } => Life::Down(format!("could not be started: {message}")),
        RunState::Exited { exit, .. } => match spec.restart.policy {
            RestartPolicy::Never => Life::Done,
            RestartPolicy::OnFailure if exit.code == 0 && !exit.daemonized => Life::Done,
            RestartPolicy::Always | RestartPolicy::UnlessStopped | RestartPolicy::OnFailure => {
                Life::Down(describe(exit, command))
            }
        },
    }
}

/// Says why a container that nothing is to be done to is not in sync all the same.
pub(crate) fn unsettled(spec: &ContainerSpec, observed: &ObservedContainer, command: &[String]) -> Option<Why> {
    let given_up = |how: String| {
        let message = format!("{how}, after all restarts that `restart.maxRetries` allows");
        gave_up(spec, observed).then_some(Why::Conflict { message })
    };
    match &observed.state {
        // Without count and time, which change with every restart: what lasts is to be told as one thing.
        RunState::Backoff { exit, .. } => {
            Some(Why::Restarting { message: format!("its shim starts it again: {}", describe(exit, command)) })
        }
        RunState::Starting { .. } => Some(Why::Restarting { message: "its shim is starting it".to_owned() }),
        RunState::Failed { message, next_start_at: Some(_), .. } => {
            Some(Why::Restarting { message: format!("its shim tries again: could not be started: {message}") })
        }
        RunState::Failed { message, .. } => given_up(format!("could not be started: {message}")),
        RunState::Exited { exit, .. } => given_up(describe(exit, command)),
        RunState::Created | RunState::Running { .. } => None,
    }
}

/// Tells whether the shim has used up its restarts: starting it again would undo what the manifest says.
///
/// Under other rules than those by which it gave up, it gets a new chance.
fn gave_up(spec: &ContainerSpec, observed: &ObservedContainer) -> bool {
    let gave_up =
        matches!(observed.state, RunState::Exited { gave_up: true, .. } | RunState::Failed { gave_up: true, .. });
    gave_up && spec.restart == observed.spec.restart
}

/// Says how a main process ended, and what to do about the ends that surprise people.
fn describe(exit: &Exit, command: &[String]) -> String {
    if exit.daemonized {
        return format!("main process went to the background and ended: {}", background_hint(command));
    }
    let mut text = match exit.signal {
        Some(number) => format!("ended by {}", Signal(number)),
        None => format!("ended with exit status {}", exit.code),
    };
    if exit.oom_killed {
        text += ", killed for lack of memory (resources.memory)";
    }
    text
}
