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
        let ran = match ended {
            Ended::Exit { ran, .. } => ran,
            Ended::NotStarted => Duration::ZERO,
        };
        if ran >= Duration::from_millis(config.reset_ms) {
            self.restarts_in_a_row = 0;
        }
        if !wants_restart(config, ended) || config.max_retries.is_some_and(|limit| self.restarts_in_a_row >= limit) {
            return None;
        }
        let factor = 1_u64.checked_shl(self.restarts_in_a_row).unwrap_or(u64::MAX);
        let wait = config.initial_ms.saturating_mul(factor).min(config.max_ms);
        self.restarts_in_a_row = self.restarts_in_a_row.saturating_add(1);
        Some(Duration::from_millis(wait))
    }
}

/// Tells whether the policy wants another start after such an end, however many there were before.
pub fn wants_restart(config: &RestartConfig, ended: Ended) -> bool {
    match config.policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !matches!(ended, Ended::Exit { code: 0, .. }),
        RestartPolicy::Never => false,
    }
}

#[cfg(test)]
mod tests;
