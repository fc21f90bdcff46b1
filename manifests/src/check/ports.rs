//! Published ports: each once on the host, and only where there is a bridge network to publish from.

use std::collections::BTreeMap;

use evenkeel_schema::{ContainerSpec, Driver, NetworkMode, NetworkSpec, PortMapping, Protocol};

use super::World;
use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    for (document, container) in world.containers.values() {
        if !container.ports.is_empty() {
            check_network(world, document, container, findings);
        }
    }
    check_twice(world, findings);
}

fn check_network(world: &World<'_>, document: &Document, container: &ContainerSpec, findings: &mut Findings<'_>) {
    let at = document.field(&way!["spec", "ports"]);
    let mut spoil = |finding| findings.spoil(&[document.culprit()], finding);
    let networks: Option<Vec<&NetworkSpec>> = container
        .networks
        .iter()
        .map(|attachment| world.networks.get(&attachment.name).map(|(_, network)| *network))
        .collect();
    match (&container.network_mode, networks) {
        (Some(NetworkMode::Host), _) => {
            let finding = Finding::new(at, "a container in the host's network publishes no ports");
            spoil(finding.help("leave `ports` out: what it listens on is on the host already"));
        }
        (Some(NetworkMode::None), _) => {
            spoil(Finding::new(at, "a container without a network publishes no ports"));
        }
        (Some(NetworkMode::Container(other)), _) => {
            let finding = Finding::new(at, "a container in another one's network publishes no ports");
            spoil(finding.help(format!("publish them with container `{other}`, whose network it is")));
        }
        // A network that is on hold or not there may be a bridge.
        (None, None) => {}
        (None, Some(networks)) if networks.is_empty() => {
            if !document.partial {
                let finding = Finding::new(at, "a container without a network publishes no ports");
                spoil(finding.help("join a bridge network: `networks: [{name: …}]`"));
            }
        }
        (None, Some(networks)) => {
            let bridges: Vec<_> = networks.into_iter().filter(|network| network.driver == Driver::Bridge).collect();
            if bridges.is_empty() {
                if !document.partial {
                    let finding = Finding::new(
                        at,
                        "ports are published from a bridge network, and this container is in macvlan networks only",
                    );
                    spoil(finding.help("leave `ports` out: its own address there is reached directly"));
                }
                return;
            }
            for (index, port) in container.ports.iter().enumerate() {
                let Some(host_ip) = port.host_ip else { continue };
                let same_family = |net: &NetworkSpec| {
                    net.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4() == host_ip.is_ipv4())
                };
                if !bridges.iter().any(|network| same_family(network)) && !document.partial {
                    let family = if host_ip.is_ipv4() { "IPv4" } else { "IPv6" };
                    let at = document.value(&way!["spec", "ports", index]);
                    spoil(Finding::new(at, format!("no bridge network of this container has an {family} subnet")));
                }
            }
        }
    }
}

/// One published port with the place where it stands.
struct Published<'a> {
    at: Spot,
    port: PortMapping,
    document: &'a Document,
}

impl Published<'_> {
    fn overlaps(&self, other: &Published<'_>) -> bool {
        let (Some(one), Some(other)) = (self.port.host_ip, other.port.host_ip) else { return true };
        let every = one.is_unspecified() || other.is_unspecified();
        one == other || (every && one.is_ipv4() == other.is_ipv4())
    }
}

fn check_twice(world: &World<'_>, findings: &mut Findings<'_>) {
    let mut published: Vec<Published<'_>> = Vec::new();
    for (document, container) in world.containers.values() {
        for (index, port) in container.ports.iter().enumerate() {
            let at = document.value(&way!["spec", "ports", index]);
            published.push(Published { at, port: *port, document });
        }
    }
    published.sort_by_key(|published| published.at);
    let mut earlier: BTreeMap<(Protocol, u16), Vec<Published<'_>>> = BTreeMap::new();
    for published in published {
        let PortMapping { host_port, protocol, .. } = published.port;
        let same = earlier.entry((protocol, host_port)).or_default();
        if let Some(other) = same.iter().find(|other| published.overlaps(other)) {
            let message = format!("port {host_port}/{protocol} of the host is published twice");
            let label = format!("by container `{}`", other.document.key.name);
            let finding = Finding::new(published.at, message).label("second time").also(other.at, label);
            findings.spoil(&[published.document.culprit(), other.document.culprit()], finding);
        }
        same.push(published);
    }
}
