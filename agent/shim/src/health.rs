//! What the results of the health probe mean, and when the next is due.
//!
//! Pure: runs nothing and reads no clock. A probe is due soon after the start and then every few seconds until the
//! first success or the end of the start period; afterwards at the interval. Failures in the start period, which is
//! never shorter than one interval, do not count.

use std::time::{Duration, Instant};

use evenkeel_shim::{Health, HealthConfig};

const FIRST_PROBE: Duration = Duration::from_secs(1);
const STARTING_INTERVAL: Duration = Duration::from_secs(5);

/// One run's health.
#[derive(Debug)]
pub struct Probes {
    pub config: HealthConfig,
    pub health: Health,
    pub due: Instant,
    started: Instant,
    failures: u32,
}

impl Probes {
    /// Begins with a run.
    pub fn new(config: HealthConfig, started: Instant) -> Self {
        let due = started + FIRST_PROBE.min(interval(&config));
        Probes { config, health: Health::Starting, due, started, failures: 0 }
    }

    /// Takes a probe's result; says whether the health has changed.
    pub fn record(&mut self, success: bool, now: Instant) -> bool {
        let before = self.health;
        let start_period = Duration::from_millis(self.config.start_period_ms).max(interval(&self.config));
        let starting = self.health == Health::Starting && now < self.started + start_period;
        if success {
            self.failures = 0;
            self.health = Health::Healthy;
        } else if !starting {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.config.retries.max(1) {
                self.health = Health::Unhealthy;
            }
        }
        let still_starting = starting && !success;
        let wait = interval(&self.config);
        self.due = now + if still_starting { wait.min(STARTING_INTERVAL) } else { wait };
        self.health != before
    }
}

fn interval(config: &HealthConfig) -> Duration {
    // An interval of 0 would be a busy loop.
    Duration::from_millis(config.interval_ms.max(100))
}

#[cfg(test)]
mod tests;
