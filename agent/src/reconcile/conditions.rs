//! `dependsOn`: a container waits until others have come as far as it states.

use std::time::{Duration, Instant};

use evenkeel_plan::{HealthState, Key, Kind, ObservedContainer, RunState, Sight};
use evenkeel_schema::Condition;

use super::Pass;
use crate::fetch::Patience;
use crate::schedule::NotDone;

/// How long a container waits for another to become healthy or to complete.
const CONDITION_LIMIT: Duration = Duration::from_secs(300);
const CONDITION_POLL: Duration = Duration::from_millis(100);

impl Pass {
    /// Waits until the containers that this one depends on have come as far as it states.
    pub(super) async fn wait_for_conditions(&self, key: &Key) -> Result<(), NotDone> {
        let Some(step) = self.plan.steps.iter().find(|step| step.key == *key) else { return Ok(()) };
        for (other, condition) in &step.conditions {
            let limit = match self.patience {
                Patience::Whole => CONDITION_LIMIT,
                Patience::Up(limit) => limit,
            };
            let deadline = Instant::now() + limit;
            loop {
                match condition_met(&self.applier.observer().containers().observe(other).await, *condition) {
                    Ok(true) => break,
                    Ok(false) if Instant::now() < deadline => tokio::time::sleep(CONDITION_POLL).await,
                    Ok(false) if self.patience != Patience::Whole => {
                        return Err(NotDone::Blocked(Key::new(Kind::Container, other.clone())));
                    }
                    Ok(false) => {
                        let (word, limit) = (condition.as_str(), limit.as_secs());
                        return Err(format!("container {other} was not {word} after {limit} s").into());
                    }
                    Err(why) => {
                        return Err(format!("container {other} will not be {}: {why}", condition.as_str()).into());
                    }
                }
            }
        }
        Ok(())
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
