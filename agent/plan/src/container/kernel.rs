//! A container against what the kernel says of it now: shim, mounts, interfaces, cgroup, process, hosts file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use evenkeel_schema::{Driver, Kind, MountSource, NetworkMode, SeccompPolicy};
use ipnet::IpNet;

use super::run::Life;
use super::{Container, is_running};
use crate::network::unrouted;
use crate::{
    Action, Differences, Drift, Endpoint, Key, LinkKind, MacAddress, ObservedContainer, ObservedInterface,
    ObservedProcess, Remedy, ShimTrouble, capability_mask, capability_names, effective_capabilities, endpoint_mac,
};

/// Compares a container that runs or is to run.
pub(super) fn drift(container: &Container<'_>, observed: &ObservedContainer, life: &Life) -> Vec<Drift> {
    let mut differences = Differences::new();
    if let Life::Down(reason) = life {
        differences.push("state", Some("running".to_owned()), Some(reason.clone()), Remedy::Start);
    }
    // A container that is down gets a shim and a root file system by its start.
    if *life == Life::Going {
        alive(container, observed, &mut differences);
    }
    network(container, observed, &mut differences);
    foundations(container, &mut differences);
    if is_running(&observed.state) {
        if observed.limits.is_none() {
            differences.push("resources", Some("a cgroup".to_owned()), None, Remedy::Restart);
        }
        if let Some(process) = &observed.process {
            self::process(container, process, &mut differences);
        }
    }
    hosts(container, observed, &mut differences);
    differences.into_vec()
}

fn alive(container: &Container<'_>, observed: &ObservedContainer, differences: &mut Differences) {
    if !observed.shim_alive {
        differences.push("shim", Some("alive".to_owned()), None, Remedy::Restart);
    } else if let Some(trouble) = observed.shim_trouble {
        let found = match trouble {
            ShimTrouble::Stopped => "stopped by a signal",
            ShimTrouble::Unreachable => "without its socket",
        };
        differences.push("shim", Some("at work".to_owned()), Some(found.to_owned()), Remedy::Live);
    }
    if !observed.rootfs_mounted {
        return differences.push("rootfs", Some("mounted".to_owned()), None, Remedy::Restart);
    }
    if container.world.images.get(&observed.image).is_some_and(|image| image.layers_lost) {
        let found = "mounted over layers that are gone".to_owned();
        differences.push("rootfs", Some("mounted".to_owned()), Some(found), Remedy::Restart);
    }
}

/// Notes what is about to be made anew beneath a container that has hold of the old one.
fn foundations(container: &Container<'_>, differences: &mut Differences) {
    let action = |kind, name: &crate::Name| container.world.actions.get(&Key::new(kind, name.clone()));
    for mount in &container.spec().mounts {
        let MountSource::Volume(name) = &mount.source else { continue };
        if let Some(Action::Create | Action::Replace(_)) = action(Kind::Volume, name) {
            let (field, new) = (format!("mounts.{}", mount.target), format!("volume {name}, made anew"));
            differences.push(&field, Some(new), Some("the volume of before".to_owned()), Remedy::Restart);
        }
    }
    if let Some(NetworkMode::Container(name)) = &container.spec().network_mode {
        let renewed = match action(Kind::Container, name) {
            Some(Action::Create | Action::Replace(_)) => true,
            Some(Action::Update(drifts)) => drifts.iter().any(|drift| drift.field == NAMESPACE),
            _ => false,
        };
        if renewed {
            let new = format!("the namespace of container/{name}, made anew");
            differences.push("networkMode", Some(new), Some("the one of before".to_owned()), Remedy::Restart);
        }
    }
}

/// The field of a container's own network namespace.
const NAMESPACE: &str = "networkNamespace";

fn network(container: &Container<'_>, observed: &ObservedContainer, differences: &mut Differences) {
    if matches!(container.spec().network_mode, Some(NetworkMode::Host | NetworkMode::Container(_))) {
        return;
    }
    let Some(interfaces) = &observed.interfaces else {
        return differences.push(NAMESPACE, Some("pinned".to_owned()), None, Remedy::Restart);
    };
    let joined = |network: &crate::Name| observed.spec.networks.iter().any(|before| before.name == *network);
    for endpoint in container.endpoints().iter().filter(|endpoint| joined(&endpoint.network)) {
        let found = interfaces.iter().find(|interface| interface.name == endpoint.interface);
        interface(container, endpoint, found, differences);
    }
    // Interfaces of networks that are left are said by the manifest of before; the process may make others of its own.
    let instance = &container.world.observed.instance;
    let known: BTreeSet<MacAddress> =
        observed.spec.networks.iter().map(|before| endpoint_mac(instance, container.name, &before.name)).collect();
    let expected = |interface: &ObservedInterface| {
        container.endpoints().iter().any(|endpoint| endpoint.interface == interface.name)
            || interface.mac.is_some_and(|mac| known.contains(&mac))
    };
    for interface in interfaces.iter().filter(|interface| is_numbered(interface) && !expected(interface)) {
        differences.push(&format!("networks.{}", interface.name), None, Some(interface.kind.to_string()), Remedy::Live);
    }
}

/// Tells whether an interface is of the kind and name that only evenkeel gives.
fn is_numbered(interface: &ObservedInterface) -> bool {
    let number = interface.name.strip_prefix("eth").is_some_and(|rest| rest.parse::<u32>().is_ok());
    number && matches!(interface.kind, LinkKind::Veth | LinkKind::Macvlan)
}

/// Says what an endpoint is to be, as `eth0 10.0.36.200/24`.
pub(super) fn describe(endpoint: &Endpoint) -> String {
    endpoint.addresses.iter().fold(endpoint.interface.clone(), |text, address| format!("{text} {address}"))
}

fn interface(
    container: &Container<'_>,
    endpoint: &Endpoint,
    found: Option<&ObservedInterface>,
    differences: &mut Differences,
) {
    let field = |part: &str| format!("networks.{}.{part}", endpoint.network);
    let Some(found) = found else {
        let field = format!("networks.{}", endpoint.network);
        return differences.push(&field, Some(describe(endpoint)), None, Remedy::Live);
    };
    let kind = match endpoint.driver {
        Driver::Bridge => LinkKind::Veth,
        Driver::Macvlan => LinkKind::Macvlan,
    };
    differences.field(&field("driver"), &kind, &found.kind, Remedy::Live);
    differences.field(&field("up"), &true, &found.up, Remedy::Live);
    differences.option(&field("mac"), Some(&endpoint.mac), found.mac.as_ref(), Remedy::Live);
    if let Some(mtu) = endpoint.mtu {
        differences.field(&field("mtu"), &mtu, &found.mtu, Remedy::Live);
    }
    differences.members(&field("addresses"), &endpoint.addresses, &found.addresses, Remedy::Live);
    differences.members(&field("gateways"), &endpoint.gateways, &found.gateways, Remedy::Live);
    unrouted(&field("routes"), &endpoint.addresses, &found.name, &found.unrouted, differences);
    let replaced = matches!(
        container.world.actions.get(&Key::new(Kind::Network, endpoint.network.clone())),
        Some(Action::Replace(_) | Action::Create)
    );
    match (endpoint.driver, &found.bridge, &found.parent) {
        (Driver::Bridge, Some(bridge), _) if replaced && *bridge == endpoint.attached_to => {
            let new = format!("{bridge}, made anew");
            differences.push(&field("bridge"), Some(new), Some(bridge.clone()), Remedy::Live);
        }
        (Driver::Bridge, bridge, _) => {
            differences.option(&field("bridge"), Some(&endpoint.attached_to), bridge.as_ref(), Remedy::Live);
        }
        (Driver::Macvlan, _, Some(parent)) => {
            differences.field(&field("parent"), &endpoint.attached_to, parent, Remedy::Live);
        }
        (Driver::Macvlan, _, None) => {}
    }
}

fn process(container: &Container<'_>, process: &ObservedProcess, differences: &mut Differences) {
    let (spec, security) = (container.spec(), &container.spec().security);
    // A process may give up rights by itself: only more rights than stated are a difference.
    if security.no_new_privileges {
        let field = "security.noNewPrivileges";
        differences.field(field, &true, &process.no_new_privileges, Remedy::Restart);
    }
    if security.seccomp == SeccompPolicy::Default && !process.seccomp_filter {
        let (new, found) = (SeccompPolicy::Default.as_str(), SeccompPolicy::Unconfined.as_str());
        differences.push("security.seccomp", Some(new.to_owned()), Some(found.to_owned()), Remedy::Restart);
    }
    let allowed = capability_mask(effective_capabilities(security));
    for extra in capability_names(process.capability_bounding_set & !allowed) {
        differences.push("security.capabilities", None, Some(extra.to_owned()), Remedy::Restart);
    }
    let read_only = security.read_only_rootfs;
    differences.field("security.readOnlyRootfs", &read_only, &process.readonly_rootfs, Remedy::Restart);
    for mount in &spec.mounts {
        if !process.mount_points.contains(&mount.target) {
            differences.push(&format!("mounts.{}", mount.target), Some("mounted".to_owned()), None, Remedy::Restart);
        }
    }
    // In the host's own network, and in another container's, the name may be that one's.
    let own_name =
        spec.hostname.is_some() || !matches!(spec.network_mode, Some(NetworkMode::Host | NetworkMode::Container(_)));
    if own_name {
        let hostname = spec.hostname.as_deref().unwrap_or(container.name.as_str());
        differences.field("hostname", &hostname, &process.hostname.as_str(), Remedy::Restart);
    }
}

/// Compares the hosts file line by line, without building the lines of every container.
fn hosts(container: &Container<'_>, observed: &ObservedContainer, differences: &mut Differences) {
    let world = container.world;
    if world.hosts.are_plainly(container.name, &observed.hosts, &world.hosts_alike) {
        return;
    }
    // Loopback and multicast lines are the runtime's, whoever states them besides, and are not observed.
    let mut desired = world.hosts.pairs(container.name);
    desired.retain(|(address, _)| !is_fixed(*address));
    let lines = observed.hosts.iter();
    let found = lines.flat_map(|(address, names)| names.iter().map(move |name| (*address, name.as_str())));
    let host_network = container.spec().network_mode == Some(NetworkMode::Host);
    let mut found = found.peekable();
    if !desired.is_empty() && found.peek().is_none() {
        let names = if desired.len() == 1 { "1 name".to_owned() } else { format!("{} names", desired.len()) };
        return differences.push("hosts", Some(names), None, Remedy::Live);
    }
    let mut missing = Vec::new();
    let mut desired = desired.into_iter().peekable();
    // Both sides are sorted: one walk over both finds what only one of them has.
    loop {
        match (desired.peek().copied(), found.peek().copied()) {
            (None, None) => break,
            (Some(line), other) if other.is_none_or(|other| line < other) => {
                missing.push(line);
                desired.next();
            }
            (line, Some(other)) if line.is_none_or(|line| other < line) => {
                // Host mode begins with the host's own names.
                if !host_network && !is_fixed(other.0) {
                    differences.push("hosts", None, Some(describe_line(other)), Remedy::Live);
                }
                found.next();
            }
            _ => {
                desired.next();
                found.next();
            }
        }
    }
    for line in missing {
        differences.push("hosts", Some(describe_line(line)), None, Remedy::Live);
    }
}

fn describe_line((address, name): (IpAddr, &str)) -> String {
    format!("{address} {name}")
}

fn is_fixed(address: IpAddr) -> bool {
    let local_v6 = matches!(address, IpAddr::V6(v6) if v6.segments()[0] == 0xfe00);
    address.is_loopback() || address.is_multicast() || local_v6
}

/// Gives the addresses that a container holds now, as far as they can be seen.
pub(crate) fn addresses_of(observed: &ObservedContainer) -> impl Iterator<Item = IpAddr> + '_ {
    observed.interfaces.iter().flatten().flat_map(|interface| &interface.addresses).map(IpNet::addr)
}
