//! What is on the host, object by object and container by container.

use std::collections::BTreeMap;

use evenkeel_plan::{
    Action, Desired, HealthState, Key, Kind, Name, Observed, ObservedContainer, Plan, RunState, Sight, Why,
    background_hint, command_of,
};
use serde::Serialize;

use super::drift::reason;
use super::words::exit_words;
use super::{Clock, action_word};

/// One object as `status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRow {
    pub object: Key,
    /// `ok`, or what stands in the way in one word.
    pub state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What a pass would do.
    pub action: String,
}

/// One container as `ps` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRow {
    pub name: Name,
    pub image: String,
    /// In words, as `running (healthy)`.
    pub state: String,
    /// Its ports on the host.
    pub ports: Vec<String>,
    /// Addresses by interface.
    pub addresses: Vec<String>,
    pub restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What to do about its state, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Lists every object of a plan with its state.
pub fn object_rows(observed: &Observed, plan: &Plan, clock: Clock) -> Vec<ObjectRow> {
    let row = |step: &evenkeel_plan::Step| {
        let (mut state, mut detail) = match (&step.action, reason(&step.action)) {
            (Action::Keep, _) => ("ok".to_owned(), String::new()),
            (Action::Create, _) => ("missing".to_owned(), String::new()),
            (Action::Delete, _) => ("extra".to_owned(), "no manifest states it".to_owned()),
            (Action::Hold(_), Some(reason)) => ("held".to_owned(), reason),
            _ => {
                let mut fields: Vec<&str> = step.drifts().iter().map(|drift| drift.field.as_str()).collect();
                fields.dedup();
                ("drifted".to_owned(), fields.join(", "))
            }
        };
        // Why its shim starts it again is in the words of its phase.
        if matches!(step.action, Action::Hold(Why::Restarting { .. })) {
            detail = String::new();
        }
        if step.key.kind == Kind::Container
            && let Some(container) = observed.containers.get(&step.key.name).and_then(Sight::found)
        {
            let words = phase_words(container, clock);
            if step.action == Action::Keep {
                state = words;
            } else {
                detail = if detail.is_empty() { words } else { format!("{detail}; {words}") };
            }
            if let Some(hint) = hint(container, observed) {
                detail = if detail.is_empty() { hint } else { format!("{detail}; {hint}") };
            }
        }
        ObjectRow { object: step.key.clone(), state, detail, action: action_word(&step.action).to_owned() }
    };
    plan.steps.iter().map(row).collect()
}

/// Lists every container that is desired or there.
pub fn container_rows(desired: &Desired, observed: &Observed, clock: Clock) -> Vec<ContainerRow> {
    let mut rows = BTreeMap::new();
    for (name, object) in &desired.containers {
        let absent = ContainerRow {
            name: name.clone(),
            image: object.spec.image.clone(),
            state: "absent".to_owned(),
            ports: object.spec.ports.iter().map(ToString::to_string).collect(),
            addresses: Vec::new(),
            restarts: 0,
            started_at: None,
            pid: None,
            hint: None,
        };
        rows.insert(name.clone(), absent);
    }
    for (name, sight) in &observed.containers {
        match sight {
            Sight::Absent => {}
            Sight::Unreadable(why) => {
                if let Some(row) = rows.get_mut(name) {
                    row.state = format!("unknown: {why}");
                }
            }
            Sight::Found { observed: container, .. } => {
                rows.insert(name.clone(), container_row(name, container, observed, clock));
            }
        }
    }
    rows.into_values().collect()
}

fn container_row(name: &Name, container: &ObservedContainer, observed: &Observed, clock: Clock) -> ContainerRow {
    let addresses = container
        .interfaces
        .iter()
        .flatten()
        .flat_map(|interface| interface.addresses.iter().map(|address| address.addr().to_string()));
    let (restarts, started_at, pid) = match &container.state {
        RunState::Running { pid, started_at, restarts, .. } => (*restarts, Some(started_at.clone()), Some(*pid)),
        RunState::Starting { restarts } | RunState::Backoff { restarts, .. } | RunState::Exited { restarts, .. } => {
            (*restarts, None, None)
        }
        RunState::Created | RunState::Failed { .. } => (0, None, None),
    };
    ContainerRow {
        name: name.clone(),
        image: container.spec.image.clone(),
        state: phase_words(container, clock),
        ports: container.spec.ports.iter().map(ToString::to_string).collect(),
        addresses: addresses.collect(),
        restarts,
        started_at,
        pid,
        hint: hint(container, observed),
    }
}

/// Says where a container is in its life.
pub fn phase_words(container: &ObservedContainer, clock: Clock) -> String {
    match &container.state {
        RunState::Created => "created".to_owned(),
        RunState::Starting { .. } => "starting".to_owned(),
        RunState::Running { health, .. } => match health {
            HealthState::None => "running".to_owned(),
            HealthState::Starting => "running (health: starting)".to_owned(),
            HealthState::Healthy => "running (healthy)".to_owned(),
            HealthState::Unhealthy => "running (unhealthy)".to_owned(),
        },
        RunState::Backoff { exit, next_start_at, .. } => {
            let next = clock.until(next_start_at).unwrap_or_else(|| next_start_at.clone());
            format!("restarting in {next}: {}", exit_words(exit))
        }
        RunState::Exited { exit, .. } => match clock.since(&exit.finished_at) {
            Some(ago) => format!("{} {ago} ago", exit_words(exit)),
            None => exit_words(exit),
        },
        RunState::Failed { message, .. } => format!("failed to start: {message}"),
    }
}

fn hint(container: &ObservedContainer, observed: &Observed) -> Option<String> {
    let (RunState::Backoff { exit, .. } | RunState::Exited { exit, .. }) = &container.state else { return None };
    exit.daemonized.then(|| background_hint(&command_of(container, observed)))
}
