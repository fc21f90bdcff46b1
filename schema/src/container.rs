//! Containers: a process tree from an image, with its networks, mounts, limits and rules of restart.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::is_default;
use crate::{Bytes, MilliCpus, Mode, Name, QuantityError, Signal, TimeSpan};

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

/// Membership of a container in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkAttachment {
    /// The name of a Network.
    pub name: Name,
    /// A fixed IPv4 address. Default: a dynamic one from each IPv4 subnet's range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Further names by which the network's other containers find this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// A container's network without a network of evenkeel's: `host`, `none` or `container:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(host|none|container:[a-z0-9]([a-z0-9_.-]*[a-z0-9])?)$"))]
pub enum NetworkMode {
    /// The host's own network.
    Host,
    /// A namespace with nothing but loopback.
    None,
    /// The network namespace of another container.
    Container(Name),
}

impl TryFrom<String> for NetworkMode {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        match text.as_str() {
            "host" => Ok(NetworkMode::Host),
            "none" => Ok(NetworkMode::None),
            other => match other.strip_prefix("container:").map(str::parse) {
                Some(Ok(name)) => Ok(NetworkMode::Container(name)),
                _ => Err(QuantityError(format!("`{other}` is not a network mode: write host, none or container:NAME"))),
            },
        }
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> String {
        match mode {
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// A transport protocol of published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the host that leads into the container, `[HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(\[?[0-9A-Fa-f.:]+\]?:)?[0-9]+:[0-9]+(/(tcp|udp))?$"))]
pub struct PortMapping {
    /// The one address of the host that is published; every address otherwise.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl FromStr for PortMapping {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || {
            QuantityError(format!(
                "`{text}` is not a published port: write [HOST_IP:]HOST_PORT:CONTAINER_PORT[/tcp|udp] in quotes, as \"8080:80\""
            ))
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (front, container_port) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (host_ip, host_port) = match front.rsplit_once(':') {
            None => (None, front),
            Some((ip, port)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                (Some(bare.parse::<IpAddr>().map_err(|_| wrong())?), port)
            }
        };
        // 0.0.0.0 means every address, as for Docker.
        let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        Ok(PortMapping { host_ip, host_port: port(host_port)?, container_port: port(container_port)?, protocol })
    }
}

impl TryFrom<String> for PortMapping {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host_ip {
            None => String::new(),
            Some(IpAddr::V4(ip)) => format!("{ip}:"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        };
        f.pad(&format!("{host}{}:{}/{}", self.host_port, self.container_port, self.protocol))
    }
}

impl From<PortMapping> for String {
    fn from(port: PortMapping) -> String {
        port.to_string()
    }
}

/// One mount into the container, from exactly one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawMount", into = "RawMount")]
#[schemars(with = "RawMount")]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    Volume(Name),
    /// An absolute path of the host; it must exist.
    Bind {
        path: PathBuf,
        idmap: Option<IdMap>,
    },
    Tmpfs {
        size: Option<Bytes>,
        mode: Option<Mode>,
    },
}

/// The fields as they stand in a manifest, before "exactly one source" was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "Mount",
    extend("oneOf" = [{ "required": ["volume"] }, { "required": ["bind"] }, { "required": ["tmpfs"] }])
)]
pub struct RawMount {
    /// The name of a Volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// An absolute path of the host; it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<PathBuf>,
    /// `true` for a file system in memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tmpfs: bool,
    /// Absolute path in the container.
    pub target: String,
    /// Nothing can be written below `target`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Size limit of a tmpfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Mode of a tmpfs's root. Default `"1777"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owners on the host shown as other owners in the container (mount_setattr(2), MOUNT_ATTR_IDMAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<IdMap>,
}

/// One owner and one group of the host, each shown as another in the container: `"HOST:CONTAINER"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMap {
    /// Owner: `"HOST:CONTAINER"`.
    pub uid: IdPair,
    /// Default: the same as `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<IdPair>,
}

/// `"HOST:CONTAINER"`, both numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[0-9]+:[0-9]+$"))]
pub struct IdPair {
    pub host: u32,
    pub container: u32,
}

impl TryFrom<String> for IdPair {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let pair =
            text.split_once(':').and_then(|(host, container)| Some((host.parse().ok()?, container.parse().ok()?)));
        match pair {
            Some((host, container)) => Ok(IdPair { host, container }),
            None => Err(QuantityError(format!(
                "`{text}` is not an id map: write HOST:CONTAINER in quotes, as \"1000:999\""
            ))),
        }
    }
}

impl From<IdPair> for String {
    fn from(pair: IdPair) -> String {
        format!("{}:{}", pair.host, pair.container)
    }
}

impl TryFrom<RawMount> for Mount {
    type Error = QuantityError;

    fn try_from(raw: RawMount) -> Result<Self, QuantityError> {
        let wrong = |text: &str| Err(QuantityError(text.to_owned()));
        if !raw.target.starts_with('/') || raw.target.split('/').any(|part| part == "..") || raw.target == "/" {
            return wrong("`target` is an absolute path in the container, without `..`, and not `/` itself");
        }
        let source = match (raw.volume, raw.bind, raw.tmpfs) {
            (Some(volume), None, false) => MountSource::Volume(volume),
            (None, Some(path), false) if path.is_absolute() => MountSource::Bind { path, idmap: raw.idmap.clone() },
            (None, Some(_), false) => return wrong("`bind` is an absolute path of the host"),
            (None, None, true) => MountSource::Tmpfs { size: raw.size, mode: raw.mode },
            (None, None, false) => return wrong("a mount needs one of `volume`, `bind` or `tmpfs: true`"),
            _ => return wrong("a mount has only one of `volume`, `bind` and `tmpfs`"),
        };
        if (raw.size.is_some() || raw.mode.is_some()) && !matches!(source, MountSource::Tmpfs { .. }) {
            return wrong("`size` and `mode` go with `tmpfs` only");
        }
        if raw.idmap.is_some() && !matches!(source, MountSource::Bind { .. }) {
            return wrong("`idmap` goes with `bind` only");
        }
        Ok(Mount { source, target: raw.target, read_only: raw.read_only })
    }
}

impl From<Mount> for RawMount {
    fn from(mount: Mount) -> RawMount {
        let mut raw = RawMount {
            volume: None,
            bind: None,
            tmpfs: false,
            target: mount.target,
            read_only: mount.read_only,
            size: None,
            mode: None,
            idmap: None,
        };
        match mount.source {
            MountSource::Volume(name) => raw.volume = Some(name),
            MountSource::Bind { path, idmap } => (raw.bind, raw.idmap) = (Some(path), idmap),
            MountSource::Tmpfs { size, mode } => (raw.tmpfs, raw.size, raw.mode) = (true, size, mode),
        }
        raw
    }
}

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

/// Limits of the container's cgroup. Without a field there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Memory in bytes, the page cache included; beyond it the kernel ends a process.
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

/// Rights of the container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// Nothing can be written outside of mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only_rootfs: bool,
    /// Capabilities taken from the default set: names without `CAP_`, or `ALL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<Capability>,
    /// Capabilities added after `capDrop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<Capability>,
    /// No program gains rights by set-user-ID bits or file capabilities (prctl(2), PR_SET_NO_NEW_PRIVS).
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// Which system calls are let through.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seccomp: SeccompPolicy,
}

/// Which system calls are let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SeccompPolicy {
    /// Docker's default policy.
    #[default]
    Default,
    /// Every system call.
    Unconfined,
}

/// A capability of capabilities(7) by its name without `CAP_`, or `ALL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Capability(String);

/// Every capability, by the number the kernel gives it (include/uapi/linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// Gives the name without `CAP_`, in capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Capability {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" || CAPABILITIES.contains(&bare) {
            return Ok(Capability(bare.to_owned()));
        }
        Err(QuantityError(format!(
            "`{text}` is not a capability: write a name of capabilities(7), as NET_ADMIN, or ALL"
        )))
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.0
    }
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

fn thirty_seconds() -> TimeSpan {
    TimeSpan(Duration::from_secs(30))
}

fn no_time() -> TimeSpan {
    TimeSpan(Duration::ZERO)
}

fn three() -> u32 {
    3
}
