//! What systemd is told: ready, status, alive, stopping (sd_notify(3)). Without systemd all of it is silence.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says twice in each watchdog interval that the program turns, until it is dropped.
///
/// From a task of its own: a pass may rightly take longer than any watchdog, while it pulls an image for instance.
pub(super) struct Watchdog(Option<tokio::task::JoinHandle<()>>);

impl Watchdog {
    pub(super) fn start() -> Watchdog {
        let half = sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(Duration::from_millis(1)));
        Watchdog(half.map(|half| {
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(half);
                loop {
                    interval.tick().await;
                    tell(&[NotifyState::Watchdog]);
                }
            })
        }))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
