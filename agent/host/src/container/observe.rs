//! What there is of a container now: the files it was made with, its shim's word, and what the kernel says of both.
//!
//! A shim's word counts as long as the kernel does not say otherwise: a process is running if it is there, by pid
//! and start time. Interfaces are the network module's to see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_plan::{Exit, HealthState, HostNames, ObservedContainer, RunState, ShimTrouble, Sight};
use evenkeel_schema::Name;
use evenkeel_shim::{Health, Phase, Status};

use super::cgroup::{Cgroup, Hierarchies};
use super::create::now;
use super::error::Failure;
use super::process::ProcessId;
use super::{Containers, Shared, files, process, shim};
use crate::error_chain;

/// A container's state, and how its shim is.
struct Now {
    state: RunState,
    shim_alive: bool,
    shim_trouble: Option<ShimTrouble>,
}

/// What is the same for all containers that one thread looks at.
struct View {
    hierarchies: Hierarchies,
    /// Hosts files seen so far: those of one network are mostly the same.
    hosts: HashMap<String, Arc<HostNames>>,
}

impl Containers {
    /// Looks at one container.
    pub async fn observe(&self, name: &Name) -> Sight<ObservedContainer> {
        let mut all = self.observe_all(&BTreeSet::from([name.clone()])).await;
        all.remove(name).unwrap_or_default()
    }

    /// Looks at many containers side by side.
    pub async fn observe_all(&self, names: &BTreeSet<Name>) -> BTreeMap<Name, Sight<ObservedContainer>> {
        let (shared, owned) = (Arc::clone(&self.0), names.clone());
        let seen = tokio::task::spawn_blocking(move || shared.observe_all(&owned)).await;
        seen.unwrap_or_else(|error| {
            names.iter().map(|name| (name.clone(), Sight::Unreadable(error.to_string()))).collect()
        })
    }
}

impl Shared {
    fn observe_all(&self, names: &BTreeSet<Name>) -> BTreeMap<Name, Sight<ObservedContainer>> {
        let hierarchies = match Hierarchies::of_host() {
            Ok(hierarchies) => hierarchies,
            Err(error) => {
                return names.iter().map(|name| (name.clone(), Sight::Unreadable(error_chain(&error)))).collect();
            }
        };
        let names: Vec<&Name> = names.iter().collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let share = names.len().div_ceil(threads).max(1);
        let look = |names: &[&Name]| -> Vec<(Name, Sight<ObservedContainer>)> {
            let mut view = View { hierarchies: hierarchies.clone(), hosts: HashMap::new() };
            names.iter().map(|name| ((*name).clone(), self.sight(name, &mut view))).collect()
        };
        std::thread::scope(|scope| {
            // Threads of their own: a look enters the namespaces of what it looks at, and none comes back from there.
            let look = &look;
            let begin = |names| std::thread::Builder::new().spawn_scoped(scope, move || look(names));
            let threads: Vec<_> = names.chunks(share).map(|names| (names, begin(names))).collect();
            let mut seen = BTreeMap::new();
            for (names, thread) in threads {
                let unseen = |why: &str| -> Vec<(Name, Sight<ObservedContainer>)> {
                    names.iter().map(|name| ((*name).clone(), Sight::Unreadable(why.to_owned()))).collect()
                };
                seen.extend(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|_| unseen("the look broke off")),
                    Err(error) => unseen(&format!("no thread could be started to look at it: {error}")),
                });
            }
            seen
        })
    }

    fn sight(&self, name: &Name, view: &mut View) -> Sight<ObservedContainer> {
        match self.look(name, view) {
            Ok(Some(observed)) => Sight::Found { observed, owned: true },
            Ok(None) => Sight::Absent,
            Err(failure) => Sight::Unreadable(error_chain(&failure)),
        }
    }

    /// `None` for one that was never made to its end: making it again completes it.
    fn look(&self, name: &Name, view: &mut View) -> Result<Option<ObservedContainer>, Failure> {
        let Some((made, record_lost)) = self.made(name)? else { return Ok(None) };
        let Now { mut state, mut shim_alive, shim_trouble } = self.state_now(name)?;
        let mut process = None;
        if let RunState::Running { pid, .. } = state {
            let targets: Vec<&str> = made.spec.mounts.iter().map(|mount| mount.target.as_str()).collect();
            process = process::observe(pid, &targets)?;
            if process.is_none() {
                // It ended while it was looked at.
                Now { state, shim_alive, .. } = self.state_now(name)?;
            }
        }
        let cgroup = Cgroup::new(view.hierarchies.clone(), &self.cgroup_path(name));
        let hosts = self.run(name).join("hosts");
        let hosts = match fs::read_to_string(&hosts) {
            Ok(text) => match view.hosts.get(&text) {
                Some(known) => Arc::clone(known),
                None => {
                    let names = Arc::new(files::parse_hosts(&text));
                    view.hosts.insert(text, Arc::clone(&names));
                    names
                }
            },
            // Gone with a reboot, or damaged beyond text: no names either way.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Arc::default()
            }
            Err(source) => return Err(Failure::File { path: hosts, source }),
        };
        Ok(Some(ObservedContainer {
            spec: made.spec,
            image: made.image,
            record_lost,
            state,
            shim_alive,
            shim_trouble,
            rootfs_mounted: self.is_whole(name)?,
            interfaces: None,
            limits: cgroup.limits()?,
            process,
            hosts,
            pids: cgroup.count()?,
        }))
    }

    fn state_now(&self, name: &Name) -> Result<Now, Failure> {
        let living = self.living_shim(name);
        let shim_trouble = living.and_then(|living| living.trouble);
        if living.is_some_and(|living| living.unknown) && shim_trouble.is_some() {
            // Only the shim knows, and has to be roused before it can say so.
            return Ok(Now { state: RunState::Starting { restarts: 0 }, shim_alive: true, shim_trouble });
        }
        let status = self.settled_status(name)?;
        let shim_alive = status.as_ref().is_some_and(shim::is_alive);
        let state = status.map_or(RunState::Created, |status| run_state(status, shim_alive));
        Ok(Now { state, shim_alive, shim_trouble })
    }

    /// Reads the status; where the process that it names is gone and the shim lives, the shim is about to say so.
    fn settled_status(&self, name: &Name) -> Result<Option<Status>, Failure> {
        let (path, socket) = (self.paths.status(name), self.socket(name));
        for _ in 0..20 {
            let status = shim::status(&path, &socket)?;
            let stale = status.as_ref().is_some_and(|status| match status.phase {
                Phase::Running { pid, start_time, .. } => {
                    !ProcessId { pid, start_time }.is_alive() && shim::is_alive(status)
                }
                _ => false,
            });
            if !stale {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(shim::status(&path, &socket)?)
    }
}

/// Brings a shim's word to the plan's, where the kernel bears it out.
fn run_state(status: Status, shim_alive: bool) -> RunState {
    let Status { phase, restarts, health, .. } = status;
    match phase {
        Phase::Starting if shim_alive => RunState::Starting { restarts },
        Phase::Created | Phase::Starting => RunState::Created,
        Phase::Running { pid, start_time, started_at } => match (ProcessId { pid, start_time }).is_alive() {
            true => RunState::Running { pid, started_at, restarts, health: health_state(health) },
            false if shim_alive => RunState::Starting { restarts },
            false => RunState::Exited { exit: unknown_exit(), restarts, gave_up: false },
        },
        Phase::Backoff { exit, next_start_at } if shim_alive => {
            RunState::Backoff { exit: exit_of(exit), restarts, next_start_at }
        }
        Phase::Backoff { exit, .. } => RunState::Exited { exit: exit_of(exit), restarts, gave_up: false },
        Phase::Exited { exit, gave_up } => RunState::Exited { exit: exit_of(exit), restarts, gave_up },
        Phase::Failed { message, next_start_at, gave_up } => {
            RunState::Failed { message, next_start_at: next_start_at.filter(|_| shim_alive), gave_up }
        }
    }
}

/// The end of a process whose shim was not there to see it.
fn unknown_exit() -> Exit {
    Exit { code: 255, signal: None, oom_killed: false, daemonized: false, finished_at: now() }
}

fn exit_of(exit: evenkeel_shim::Exit) -> Exit {
    let evenkeel_shim::Exit { code, signal, oom_killed, daemonized, finished_at } = exit;
    Exit { code, signal, oom_killed, daemonized, finished_at }
}

fn health_state(health: Health) -> HealthState {
    match health {
        Health::None => HealthState::None,
        Health::Starting => HealthState::Starting,
        Health::Healthy => HealthState::Healthy,
        Health::Unhealthy => HealthState::Unhealthy,
    }
}

#[cfg(test)]
mod tests;
