//! What the host says, brought to the form in which it can be compared.
//!
//! `evenkeel-host` fills these; nothing in them is taken from a record where the kernel can be asked instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use evenkeel_schema::{ContainerSpec, Digest, ImageConfig, ImageSource, Key, MilliCpus, Mode, Name, Owner, Policy};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{MacAddress, ObservedFirewall};

/// Everything that was looked at. A desired key without an entry counts as `Absent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Short name of this root, part of every mark on the host: `evenkeel`, or `evenkeel-1a2b3c4d`.
    pub instance: String,
    pub images: BTreeMap<Name, Sight<ObservedImage>>,
    pub volumes: BTreeMap<Name, Sight<ObservedVolume>>,
    pub networks: BTreeMap<Name, Sight<ObservedNetwork>>,
    pub containers: BTreeMap<Name, Sight<ObservedContainer>>,
    /// The firewall table; `Absent` where there is none.
    pub firewall: Sight<ObservedFirewall>,
    /// Every object that the ledger holds, with the policy it was applied with.
    pub ledger: BTreeMap<Key, Policy>,
    /// Dynamic addresses handed out, by container and network.
    pub leases: BTreeMap<Name, BTreeMap<Name, BTreeSet<IpAddr>>>,
    /// Containers stopped by hand.
    pub overrides: BTreeMap<Name, Override>,
    /// Containers that are not there yet and would publish a port that a program of the host holds, with who holds it.
    pub taken_ports: BTreeMap<Name, String>,
    /// Destinations of the host's own routes that no object of ours holds, with their link's name.
    pub host_routes: Vec<(IpNet, String)>,
    /// Names that a network's links would need but that something else on the host holds already.
    pub foreign_links: BTreeSet<String>,
}

/// How an object was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sight<T> {
    /// It is not there: make it.
    #[default]
    Absent,
    /// It is there: compare it. What is not `owned` is left alone unless the manifest says `adopt`.
    Found { observed: T, owned: bool },
    /// It could not be looked at: hold it, and never call it in sync.
    Unreadable(String),
}

impl<T> Sight<T> {
    /// Gives what was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Sight::Found { observed, .. } => Some(observed),
            Sight::Absent | Sight::Unreadable(_) => None,
        }
    }
}

/// A manual stop, kept until a manual start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// When it was stopped, RFC 3339.
    pub since: String,
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedImage {
    /// Digest of the image's configuration, the image's identity.
    pub id: Digest,
    /// Digest of the manifest or index that the source gave, what `digest:` in a manifest pins.
    pub digest: Digest,
    /// The source it was made from.
    pub source: ImageSource,
    /// The configuration that containers inherit.
    pub config: ImageConfig,
    /// Digests of the unpacked layers, lowest first.
    pub layers: Vec<Digest>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// What the store lacks of it, in words; empty for a sound image.
    pub damage: Vec<String>,
    /// A layer's directory is among what it lacks: whatever was mounted over it has lost its files.
    #[serde(default)]
    pub layers_lost: bool,
    /// The digest that the source has now, where it was asked: a registry under `pull: always`, a changed file.
    pub upstream: Option<Result<Digest, String>>,
}

/// A volume's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedVolume {
    pub path: PathBuf,
    /// `false` where something else than a directory stands in its place.
    pub directory: bool,
    pub owner: Owner,
    pub mode: Mode,
}

/// A network's own objects on the host. A macvlan network without a shim has no link; its parent is all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedNetwork {
    /// The bridge, or the macvlan shim.
    pub link: Option<ObservedLink>,
    /// The parent of a macvlan network.
    pub parent: Option<ObservedLink>,
    /// `net.ipv4.ip_forward`.
    pub forwarding_v4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub forwarding_v6: bool,
    /// What the kernel has for those of [`crate::BRIDGE_SETTINGS`] that it knows, for the bridge.
    pub settings: BTreeMap<String, String>,
}

/// What a link is, by the kernel's word for it (`IFLA_INFO_KIND`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum LinkKind {
    Bridge,
    Macvlan,
    Veth,
    /// Any other word; none for a physical link.
    Other(String),
}

impl LinkKind {
    pub fn as_str(&self) -> &str {
        match self {
            LinkKind::Bridge => "bridge",
            LinkKind::Macvlan => "macvlan",
            LinkKind::Veth => "veth",
            LinkKind::Other(word) => word,
        }
    }
}

impl Default for LinkKind {
    fn default() -> Self {
        LinkKind::Other(String::new())
    }
}

impl From<String> for LinkKind {
    fn from(word: String) -> Self {
        match word.as_str() {
            "bridge" => LinkKind::Bridge,
            "macvlan" => LinkKind::Macvlan,
            "veth" => LinkKind::Veth,
            _ => LinkKind::Other(word),
        }
    }
}

impl From<LinkKind> for String {
    fn from(kind: LinkKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A link of the host with all that hangs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedLink {
    pub name: String,
    pub index: u32,
    pub kind: LinkKind,
    /// `bridge`, `private`, `vepa`, `passthru` or `source` for a macvlan link.
    pub macvlan_mode: Option<String>,
    /// Name of the link below a macvlan link, where it is in the same network namespace.
    pub parent: Option<String>,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    /// The link's alias, which holds our mark.
    pub alias: Option<String>,
    /// Addresses with their prefix length, link-local ones not included.
    pub addresses: BTreeSet<IpNet>,
    /// Destinations of the main table's routes over this link, the kernel's own not included.
    pub routes: BTreeSet<IpNet>,
    /// Subnets of its addresses that no route over this link leads to, although the kernel makes one with each.
    pub unrouted: BTreeSet<IpNet>,
}

/// A container: how it was made, and what the kernel says of it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedContainer {
    /// The manifest it was made from.
    pub spec: ContainerSpec,
    /// The image it was made from.
    pub image: Digest,
    /// The record of how it was made is gone from its state directory; a copy said the above.
    #[serde(default)]
    pub record_lost: bool,
    pub state: RunState,
    /// Whether its shim lives.
    pub shim_alive: bool,
    /// Why its shim does nothing although it lives.
    #[serde(default)]
    pub shim_trouble: Option<ShimTrouble>,
    /// Whether its root file system is mounted.
    pub rootfs_mounted: bool,
    /// Interfaces in its network namespace, loopback not included. `None` where it has no namespace of its own.
    pub interfaces: Option<Vec<ObservedInterface>>,
    /// The limits that its cgroup has; `None` where it has no cgroup.
    pub limits: Option<ObservedLimits>,
    /// What the kernel says of the main process; `None` while there is none.
    pub process: Option<ObservedProcess>,
    /// Lines of its hosts file, names by address; shared by containers whose files are the same.
    #[serde(with = "shared")]
    pub hosts: Arc<BTreeMap<IpAddr, BTreeSet<String>>>,
    /// Processes of the container, as the cgroup counts them.
    pub pids: Option<u64>,
}

/// Why a shim that lives does not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShimTrouble {
    /// A signal has stopped it.
    Stopped,
    /// Its socket is gone, so that nobody can ask it anything.
    Unreachable,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum RunState {
    /// Made and never started.
    Created,
    /// Its shim is at work on it: about to start it, or to say how it ended. Look again.
    #[serde(rename_all = "camelCase")]
    Starting { restarts: u32 },
    #[serde(rename_all = "camelCase")]
    Running { pid: u32, started_at: String, restarts: u32, health: HealthState },
    /// Ended, and its shim waits to start it again.
    #[serde(rename_all = "camelCase")]
    Backoff { exit: Exit, restarts: u32, next_start_at: String },
    /// Ended, and nothing starts it again by itself.
    #[serde(rename_all = "camelCase")]
    Exited {
        exit: Exit,
        restarts: u32,
        /// Its shim has used up the restarts that it is allowed.
        #[serde(default)]
        gave_up: bool,
    },
    /// The runtime could not start it; where a time is given, its shim tries again then.
    #[serde(rename_all = "camelCase")]
    Failed {
        message: String,
        next_start_at: Option<String>,
        /// Its shim has used up the restarts that it is allowed.
        #[serde(default)]
        gave_up: bool,
    },
}

/// What the health probe says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthState {
    /// There is no probe.
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// How a main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit status, 128 and the signal's number where a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// The main process went to the background: it ended with 0 and left others, which ended with it.
    pub daemonized: bool,
    /// RFC 3339.
    pub finished_at: String,
}

/// One interface of a container's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedInterface {
    pub name: String,
    pub kind: LinkKind,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    pub addresses: BTreeSet<IpNet>,
    /// Gateways of the default routes over this interface.
    pub gateways: BTreeSet<IpAddr>,
    /// Subnets of its addresses that no route over it leads to.
    pub unrouted: BTreeSet<IpNet>,
    /// The bridge that its host end is a port of, for a veth pair.
    pub bridge: Option<String>,
    /// The link of the host below a macvlan link; `None` where it is not known.
    pub parent: Option<String>,
}

/// Limits as the cgroup files have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedLimits {
    pub memory: Option<u64>,
    pub cpus: Option<MilliCpus>,
    pub pids: Option<u64>,
    pub swap: ObservedSwap,
}

/// How much swap a cgroup may use beside its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObservedSwap {
    /// The kernel counts none for cgroups: there is nothing to compare, or to set.
    #[default]
    Unaccounted,
    Unlimited,
    Limited(u64),
}

/// What `/proc` says of a container's main process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedProcess {
    pub no_new_privileges: bool,
    /// A seccomp filter is in force (`Seccomp: 2` in proc(5)).
    pub seccomp_filter: bool,
    /// The bounding set, bit by capability number.
    pub capability_bounding_set: u64,
    pub readonly_rootfs: bool,
    /// Mount points below `/` in its mount namespace. A target of the manifest that leads through a symbolic link of the
    /// image is listed by its name in the manifest too; one whose source was deleted (`//deleted`) is not listed.
    pub mount_points: BTreeSet<String>,
    pub hostname: String,
}

/// A shared value in the form of the value itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}
