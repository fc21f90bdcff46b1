//! The table as the manifests want it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{Driver, Name, NetworkSpec, Object, PortMapping};

use super::addresses;
use crate::network::will_exist;
use crate::{Desired, Endpoint, Firewall, FirewallNetwork, Observed, PublishedPort, bridge_link};

/// Derives the table from the manifests and the addresses that were decided.
pub(super) fn firewall(desired: &Desired, observed: &Observed, endpoints: &BTreeMap<Name, Vec<Endpoint>>) -> Firewall {
    let networks = networks(desired, observed);
    let ports = ports(desired, observed, endpoints, &networks);
    Firewall { networks, ports }
}

/// Lists the bridge networks that are going to be there.
fn networks(desired: &Desired, observed: &Observed) -> Vec<FirewallNetwork> {
    let bridges = desired
        .networks
        .iter()
        .filter(|(name, object)| object.spec.driver == Driver::Bridge && will_exist(name, object, observed));
    let network = |(name, object): (&Name, &Object<NetworkSpec>)| FirewallNetwork {
        network: name.clone(),
        bridge: bridge_link(name, &object.spec),
        subnets: object.spec.subnets.iter().map(|subnet| subnet.subnet.trunc()).collect(),
        nat: object.spec.nat && !object.spec.internal,
        internal: object.spec.internal,
    };
    bridges.map(network).collect()
}

/// Lists the published ports of every container that is to run, each with the address it leads to.
fn ports(
    desired: &Desired,
    observed: &Observed,
    endpoints: &BTreeMap<Name, Vec<Endpoint>>,
    networks: &[FirewallNetwork],
) -> BTreeSet<PublishedPort> {
    let there: BTreeSet<&Name> = networks.iter().map(|network| &network.network).collect();
    let mut ports = BTreeSet::new();
    for (name, object) in &desired.containers {
        let is_not_to_run = observed.overrides.contains_key(name) || observed.taken_ports.contains_key(name);
        if object.spec.ports.is_empty() || is_not_to_run {
            continue;
        }
        let bridged = endpoints.get(name).into_iter().flatten();
        // A macvlan container is a station of its own: its ports are open without being published.
        let bridged = bridged.filter(|endpoint| endpoint.driver == Driver::Bridge && there.contains(&endpoint.network));
        let targets: Vec<IpAddr> = bridged.flat_map(addresses).collect();
        for port in &object.spec.ports {
            for v4 in [true, false] {
                let wanted = port.host_ip.is_none_or(|host_ip| host_ip.is_ipv4() == v4);
                let target = targets.iter().find(|target| target.is_ipv4() == v4);
                if let (true, Some(target)) = (wanted, target) {
                    // Every address of one family: the table says so by the target's family alone.
                    let host_ip = port.host_ip.filter(|host_ip| !host_ip.is_unspecified());
                    let port = PortMapping { host_ip, ..*port };
                    ports.insert(PublishedPort { container: name.clone(), port, target: *target });
                }
            }
        }
    }
    ports
}
