//! How soon the agent looks again after work that an event triggered.
//!
//! A repair causes events itself, and one that fails or does not last would otherwise be tried in a loop. The first
//! few passes follow at once, so that a repair takes milliseconds; the same work again and again waits longer each time.

use std::time::Duration;

/// Passes with the same work that follow at once.
const FREE: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Counts passes with the same work.
#[derive(Debug, Default)]
pub(super) struct Pace {
    work: Vec<String>,
    repeats: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes note of what the last pass had to do; nothing at all starts the count over.
    pub(super) fn after(&mut self, work: &[String]) {
        if work.is_empty() {
            *self = Self::default();
        } else if *work == *self.work {
            self.repeats = self.repeats.saturating_add(1);
        } else {
            *self = Pace { work: work.to_vec(), repeats: 1 };
        }
    }

    /// Gives the time to let pass before the next look.
    pub(super) fn delay(&self) -> Duration {
        match self.repeats.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT),
        }
    }

    pub(super) async fn wait(&self) {
        tokio::time::sleep(self.delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_work_waits_longer_and_success_starts_over() {
        let mut pace = Pace::new();
        let work = vec!["network/n".to_owned()];
        let delays: Vec<u128> = (0..6)
            .map(|_| {
                pace.after(&work);
                pace.delay().as_millis()
            })
            .collect();
        assert_eq!(delays, [0, 0, 0, 500, 1000, 2000]);
        for _ in 0..40 {
            pace.after(&work);
        }
        assert_eq!(pace.delay(), LONGEST_WAIT);
        pace.after(&["volume/v".to_owned()]);
        assert_eq!(pace.delay(), Duration::ZERO);
        pace.after(&work);
        pace.after(&[]);
        assert_eq!(pace.delay(), Duration::ZERO);
    }
}
