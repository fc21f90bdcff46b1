//! Containers: a process tree from an image, with its networks, mounts, limits and rules of restart.

mod attachment;
mod life;
mod mount;
mod security;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::is_default;
use crate::{Bytes, MilliCpus, Signal, TimeSpan};

pub use attachment::*;
pub use life::*;
pub use mount::*;
pub use security::*;

/// A container that is to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSpec {
    /// The name of an Image, or a registry reference (an Image of its own that no manifest states).
    pub image: String,
    /// Replaces the image's ENTRYPOINT (and drops its CMD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the image's CMD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Added to the image's environment; values are text (quote numbers and booleans).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; names are looked up in the container's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute path in the container. Default: the image's, or `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Default: the container's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The networks to join; the first one holds the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachment>,
    /// In place of `networks`: `host`, `none` (loopback only, the default without networks) or `container:<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// Published ports, `[HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Volumes, directories of the host, and file systems in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What happens when the main process ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// How to tell whether the container serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Containers that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Limits. Without a field there is no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Rights of the container's processes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Default: the image's, or SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
    /// How long the stop signal has before SIGKILL. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub stop_timeout: TimeSpan,
    /// Name resolution beyond the container's own networks. Default: the host's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: Dns,
    /// How much of the container's output is kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: LogOptions,
}

/// Limits of the container's cgroup. Without a field there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Memory in bytes, the page cache included, and no swap beside it; beyond it the kernel ends a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor time per time, in processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<MilliCpus>,
    /// Number of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pids: Option<u32>,
}

/// Name resolution beyond the container's own networks. Default: the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Domains that a short name is looked up in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Further lines of the container's hosts file, name to address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, IpAddr>,
}

/// How much of the container's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogOptions {
    /// A log file is turned over at this size. Default `10Mi`.
    pub max_size: Bytes,
    /// Files kept, the current one included. Default 3.
    pub max_files: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { max_size: Bytes(10 << 20), max_files: 3 }
    }
}

fn ten_seconds() -> TimeSpan {
    TimeSpan(Duration::from_secs(10))
}
