//! `dependsOn`: a container waits until others have come as far as it states.
//!
//! However many wait for the same, one looks. Only a person is waited for: the agent blocks what is not yet possible and
//! is told by the other's status file when to look again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_plan::{HealthState, Key, Kind, Name, ObservedContainer, RunState, Sight};
use evenkeel_schema::Condition;
use tokio::sync::OnceCell;

use super::Pass;
use crate::fetch::Patience;
use crate::schedule::NotDone;

/// How long a container waits for another to become healthy or to complete.
const CONDITION_LIMIT: Duration = Duration::from_secs(300);
const CONDITION_POLL: Duration = Duration::from_millis(100);

/// One wait for a container, with what came of it.
type Wait = Arc<OnceCell<Result<(), NotDone>>>;

/// The waits of one pass, each shared by all whom it concerns.
#[derive(Default)]
pub(super) struct Waits(Mutex<BTreeMap<Name, Vec<(Condition, Wait)>>>);

impl Waits {
    /// Gives the wait for a container, a new one where nobody waits yet.
    fn join(&self, other: &Name, condition: Condition) -> Wait {
        let mut waits = self.lock();
        let waits = waits.entry(other.clone()).or_default();
        match waits.iter().find(|(one, _)| *one == condition) {
            Some((_, wait)) => Arc::clone(wait),
            None => {
                let wait = Wait::default();
                waits.push((condition, Arc::clone(&wait)));
                wait
            }
        }
    }

    /// Lets whoever comes later look again.
    fn forget(&self, other: &Name, wait: &Wait) {
        if let Some(waits) = self.lock().get_mut(other) {
            waits.retain(|(_, one)| !Arc::ptr_eq(one, wait));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Vec<(Condition, Wait)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Waits until the containers that this one depends on have come as far as it states.
    ///
    /// # Errors
    /// `Blocked` by the other one where a limited patience leaves no time for it.
    pub(super) async fn wait_for_conditions(&self, key: &Key) -> Result<(), NotDone> {
        for (other, condition) in self.step(key).into_iter().flat_map(|step| &step.conditions) {
            let wait = self.waits.join(other, *condition);
            let result = wait.get_or_init(|| self.wait_for(other, *condition)).await;
            if result.is_err() {
                self.waits.forget(other, &wait);
            }
            result.clone()?;
        }
        Ok(())
    }

    async fn wait_for(&self, other: &Name, condition: Condition) -> Result<(), NotDone> {
        let deadline = Instant::now() + CONDITION_LIMIT;
        loop {
            match condition_met(&self.applier.observer().containers().observe(other).await, condition) {
                Ok(true) => return Ok(()),
                Ok(false) if self.patience != Patience::Whole => {
                    return Err(NotDone::Blocked(Key::new(Kind::Container, other.clone())));
                }
                Ok(false) if Instant::now() < deadline => tokio::time::sleep(CONDITION_POLL).await,
                Ok(false) => {
                    let (word, limit) = (condition.as_str(), CONDITION_LIMIT.as_secs());
                    return Err(format!("container {other} was not {word} after {limit} s").into());
                }
                Err(why) => return Err(format!("container {other} will not be {}: {why}", condition.as_str()).into()),
            }
        }
    }
}

/// Tells whether a container has come as far as stated, or why it never will without help.
fn condition_met(sight: &Sight<ObservedContainer>, condition: Condition) -> Result<bool, String> {
    let Some(container) = sight.found() else { return Ok(false) };
    match (condition, &container.state) {
        (_, RunState::Failed { message, next_start_at: None, .. }) => Err(message.clone()),
        (Condition::Started, RunState::Running { .. }) => Ok(true),
        (Condition::Healthy, RunState::Running { health: HealthState::Healthy, .. }) => Ok(true),
        (Condition::Healthy, RunState::Running { health: HealthState::Unhealthy, .. }) => {
            Err("its health probe fails".to_owned())
        }
        (Condition::Healthy, RunState::Running { health: HealthState::None, .. }) => {
            Err("it has no health probe".to_owned())
        }
        (Condition::Healthy, RunState::Running { .. }) if !container.shim_alive => {
            Err("its shim has ended, so that nobody probes it".to_owned())
        }
        (Condition::Started | Condition::Completed, RunState::Exited { exit, .. }) if exit.code == 0 => Ok(true),
        (_, RunState::Exited { exit, .. }) => Err(format!("it ended with exit status {}", exit.code)),
        _ => Ok(false),
    }
}
