//! A container's life: restarts, health, and what comes before it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::is_default;
use crate::{Name, TimeSpan};

/// What happens when the main process ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// When it is started again.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// Give up after so many restarts in a row. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Waiting times between restarts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Backoff,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RestartPolicy {
    /// Whatever the exit status.
    #[default]
    Always,
    /// When the exit status is not 0.
    OnFailure,
    /// As `always`, but a manual stop outlasts a reboot.
    UnlessStopped,
    /// Not: an ended container is done.
    Never,
}

impl RestartPolicy {
    /// Gives the word of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "onFailure",
            RestartPolicy::UnlessStopped => "unlessStopped",
            RestartPolicy::Never => "never",
        }
    }
}

/// Waiting time before a restart: doubles from `initial` to `max`, and starts over after `reset` of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Backoff {
    /// Before the first restart. Default `100ms`.
    pub initial: TimeSpan,
    /// At most. Default `1m`.
    pub max: TimeSpan,
    /// After so much time of running, the next wait is `initial` again. Default `10s`.
    pub reset: TimeSpan,
}

impl Default for Backoff {
    fn default() -> Self {
        let span = |milliseconds| TimeSpan(Duration::from_millis(milliseconds));
        Backoff { initial: span(100), max: span(60_000), reset: span(10_000) }
    }
}

/// A command that tells whether the container serves; exit status 0 is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// Program and arguments, run in the container.
    pub exec: Vec<String>,
    /// Time between two runs.
    #[serde(default = "thirty_seconds")]
    pub interval: TimeSpan,
    /// A run that takes longer has failed.
    #[serde(default = "thirty_seconds")]
    pub timeout: TimeSpan,
    /// Failures in a row that make it unhealthy.
    #[serde(default = "three")]
    pub retries: u32,
    /// Failures in this time after the start do not count.
    #[serde(default = "no_time")]
    pub start_period: TimeSpan,
}

/// Another container that comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// The name of a Container.
    pub container: Name,
    /// What is waited for.
    #[serde(default)]
    pub condition: Condition,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// Its process runs.
    #[default]
    Started,
    /// Its health command succeeded.
    Healthy,
    /// It ended with exit status 0.
    Completed,
}

impl Condition {
    /// Gives the word of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Healthy => "healthy",
            Condition::Completed => "completed",
        }
    }
}

fn thirty_seconds() -> TimeSpan {
    TimeSpan(Duration::from_secs(30))
}

fn no_time() -> TimeSpan {
    TimeSpan(Duration::ZERO)
}

fn three() -> u32 {
    3
}
