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
mod tests {
    use super::*;

    fn config() -> HealthConfig {
        HealthConfig {
            exec: vec!["true".into()],
            interval_ms: 30_000,
            timeout_ms: 1_000,
            retries: 2,
            start_period_ms: 60_000,
        }
    }

    #[test]
    fn a_slow_start_is_no_failure_and_success_is_seen_soon() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut probes = Probes::new(config(), start);
        assert_eq!(probes.due, at(1));
        for second in (1..60).step_by(5) {
            assert!(!probes.record(false, at(second)));
            assert_eq!(probes.due, at(second + 5));
        }
        assert!(probes.record(true, at(59)));
        assert_eq!((probes.health, probes.due), (Health::Healthy, at(89)));
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy_and_one_success_heals() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut probes = Probes::new(config(), start);
        probes.record(true, at(1));
        assert!(!probes.record(false, at(31)));
        assert!(!probes.record(true, at(61)));
        assert!(!probes.record(false, at(91)));
        assert!(probes.record(false, at(121)));
        assert_eq!(probes.health, Health::Unhealthy);
        assert!(probes.record(true, at(151)));
        assert_eq!(probes.health, Health::Healthy);
    }

    #[test]
    fn never_up_is_unhealthy_after_the_start_period_and_the_retries() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut probes = Probes::new(HealthConfig { start_period_ms: 0, ..config() }, start);
        assert!(!probes.record(false, at(1)));
        assert!(!probes.record(false, at(30)));
        assert!(probes.record(false, at(60)));
        assert_eq!(probes.health, Health::Unhealthy);
    }
}
