//! The contract between a container's shim and whoever asks it: its configuration, its status file, its requests.
//!
//! The shim itself is the program of this crate. It runs the OCI runtime as a short-lived child, stays as the
//! subreaper of the container, keeps its output, restarts it, and needs no agent for any of that. It decides nothing
//! about images, networks or mounts: those are done before it starts, and its bundle names them.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cgroup;
pub mod failpoint;
pub mod gate;
pub mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use cgroup::CgroupDirectory;

/// The shim's exit status where another shim of the same container holds the lock.
pub const EXIT_LOCKED: u8 = 75;

/// What a shim is told at its start, and again on [`Request::Reload`]: `<run>/containers/<name>/shim.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The container's id for the runtime.
    pub id: String,
    /// The runtime's program and its global arguments, to which `create`, `start`, … are added.
    pub runtime: Vec<String>,
    /// The OCI bundle: a directory with `config.json`.
    pub bundle: PathBuf,
    /// Where the [`Status`] is written (write, fsync, rename).
    pub status: PathBuf,
    /// The Unix stream socket on which [`Request`]s are taken, one JSON object a line, each answered by one [`Reply`].
    pub socket: PathBuf,
    pub log: LogConfig,
    pub restart: RestartConfig,
    pub stop: StopConfig,
    pub health: Option<HealthConfig>,
    pub cgroups: Vec<CgroupDirectory>,
}

/// Where the container's output goes: JSON lines of [`LogLine`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogConfig {
    /// The current file; older ones are `<path>.1`, `<path>.2`, …
    pub path: PathBuf,
    /// Bytes at which the current file is turned over.
    pub max_size: u64,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
}

/// One line of a container's output, as Docker's json-file driver writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The text with its line end; without one where a line was cut at 16 KiB.
    pub log: String,
    pub stream: Stream,
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
}

/// One of the container's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Gives the word that stands for it in a log.
    pub fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// When the container is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartConfig {
    pub policy: RestartPolicy,
    /// Restarts in a row after which it gives up.
    pub max_retries: Option<u32>,
    pub initial_ms: u64,
    pub max_ms: u64,
    /// A run of this length starts the backoff over.
    pub reset_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// How the container is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopConfig {
    pub signal: i32,
    pub timeout_ms: u64,
}

/// The health probe, run with the runtime's `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthConfig {
    pub exec: Vec<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub retries: u32,
    pub start_period_ms: u64,
}

/// What a shim says of its container: `<run>/status/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub id: String,
    pub shim_pid: u32,
    /// Field 22 of `/proc/<pid>/stat` of the shim: tells a reused pid from the shim's own.
    pub shim_start_time: u64,
    pub phase: Phase,
    /// Restarts since the shim started or was last told to start.
    pub restarts: u32,
    pub health: Health,
}

/// Names the file beside a status file's place in which the next status is written.
///
/// Its leading dot has whoever watches the directory pass over it.
pub fn status_on_its_way(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Names the file that a shim holds locked (flock(2)) for as long as it lives, by its socket.
pub fn lock_of(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".lock");
    path.into()
}

/// Where the container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum Phase {
    /// The shim waits for its first [`Request::Start`].
    Created,
    /// The runtime is at work.
    Starting,
    #[serde(rename_all = "camelCase")]
    Running { pid: u32, start_time: u64, started_at: String },
    /// Ended; the next start is due.
    #[serde(rename_all = "camelCase")]
    Backoff { exit: Exit, next_start_at: String },
    /// Ended, by itself or on request; nothing is due.
    #[serde(rename_all = "camelCase")]
    Exited {
        exit: Exit,
        /// [`RestartConfig::max_retries`] is why nothing is due.
        #[serde(default)]
        gave_up: bool,
    },
    /// The runtime could not make or start it; the message is the runtime's own.
    #[serde(rename_all = "camelCase")]
    Failed {
        message: String,
        next_start_at: Option<String>,
        /// [`RestartConfig::max_retries`] is why nothing is due.
        #[serde(default)]
        gave_up: bool,
    },
}

/// How the main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// 128 and the signal's number where a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    /// It ended with 0 soon after its start and had started other processes, which ended with it.
    pub daemonized: bool,
    /// RFC 3339, UTC.
    pub finished_at: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// What a shim can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "request")]
pub enum Request {
    /// Start the container if it does not run, with a fresh backoff. Answered when it runs or failed.
    Start,
    /// Stop it and stay stopped. Answered when it is gone.
    #[serde(rename_all = "camelCase")]
    Stop {
        timeout_ms: Option<u64>,
    },
    /// Stop and start.
    Restart,
    Kill {
        signal: i32,
    },
    /// Say how the container is, and write the status file again.
    Status,
    /// Read the configuration again.
    Reload,
    /// Stop the container, remove it from the runtime, and end.
    Shutdown,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// `None` for success.
    pub error: Option<String>,
    pub status: Status,
}
