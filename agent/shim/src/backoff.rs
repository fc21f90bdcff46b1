//! When an ended container is started again: pure arithmetic over the restart policy.
//!
//! Whether the end was asked for is the caller's to know: it does not ask then.

use std::time::Duration;

use evenkeel_shim::{RestartConfig, RestartPolicy};

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The main process ended with this exit code (128 and the signal's number where a signal ended it).
    Exit { code: i32, ran: Duration },
    /// A restart did not get as far as a running main process.
    NotStarted,
}

/// Restarts in a row, each of which doubles the next wait.
#[derive(Debug, Default)]
pub struct Backoff {
    restarts_in_a_row: u32,
}

impl Backoff {
    /// Says how long to wait before the next start; `None` where the policy wants no more of them.
    ///
    /// A run of `reset_ms` or longer starts the row over: the first wait is `initial_ms` again, and `max_retries`
    /// counts anew, since it bounds a crash loop and not the restarts of a lifetime.
    pub fn next(&mut self, config: &RestartConfig, ended: Ended) -> Option<Duration> {
        let (failed, ran) = match ended {
            Ended::Exit { code, ran } => (code != 0, ran),
            Ended::NotStarted => (true, Duration::ZERO),
        };
        if ran >= Duration::from_millis(config.reset_ms) {
            self.restarts_in_a_row = 0;
        }
        let wanted = match config.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => failed,
            RestartPolicy::Never => false,
        };
        if !wanted || config.max_retries.is_some_and(|limit| self.restarts_in_a_row >= limit) {
            return None;
        }
        let factor = 1_u64.checked_shl(self.restarts_in_a_row).unwrap_or(u64::MAX);
        let wait = config.initial_ms.saturating_mul(factor).min(config.max_ms);
        self.restarts_in_a_row = self.restarts_in_a_row.saturating_add(1);
        Some(Duration::from_millis(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(policy: RestartPolicy, max_retries: Option<u32>) -> RestartConfig {
        RestartConfig { policy, max_retries, initial_ms: 100, max_ms: 1_500, reset_ms: 10_000 }
    }

    fn exit(code: i32, seconds: u64) -> Ended {
        Ended::Exit { code, ran: Duration::from_secs(seconds) }
    }

    #[test]
    fn waits_double_up_to_the_longest_one_and_start_over_after_a_long_run() {
        let config = config(RestartPolicy::Always, None);
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.next(&config, exit(0, 1)).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1500, 1500]);
        assert_eq!(backoff.next(&config, exit(1, 10)), Some(Duration::from_millis(100)));
        assert_eq!(backoff.next(&config, Ended::NotStarted), Some(Duration::from_millis(200)));
    }

    #[test]
    fn a_thousand_restarts_do_not_overflow() {
        let config = config(RestartPolicy::Always, None);
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            assert!(backoff.next(&config, exit(1, 0)).unwrap().as_millis() <= 1500);
        }
    }

    #[test]
    fn policies_differ_on_success() {
        for (policy, on_success, on_failure) in [
            (RestartPolicy::Always, true, true),
            (RestartPolicy::OnFailure, false, true),
            (RestartPolicy::Never, false, false),
        ] {
            let config = config(policy, None);
            assert_eq!(Backoff::default().next(&config, exit(0, 1)).is_some(), on_success, "{policy:?}");
            assert_eq!(Backoff::default().next(&config, exit(137, 1)).is_some(), on_failure, "{policy:?}");
            assert_eq!(Backoff::default().next(&config, Ended::NotStarted).is_some(), on_failure, "{policy:?}");
        }
    }

    #[test]
    fn retries_are_bounded_within_one_crash_loop() {
        let config = config(RestartPolicy::OnFailure, Some(2));
        let mut backoff = Backoff::default();
        assert!(backoff.next(&config, exit(1, 0)).is_some());
        assert!(backoff.next(&config, exit(1, 0)).is_some());
        assert_eq!(backoff.next(&config, exit(1, 0)), None);
        assert!(backoff.next(&config, exit(1, 60)).is_some());
    }
}
