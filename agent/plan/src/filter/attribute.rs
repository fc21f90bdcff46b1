//! Whose a difference in the table is: a network's masquerading, a container's port.
//!
//! Each is attributed to an object and a field, and what is nobody's to the first object that needs the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{Kind, Name, PortMapping};
use ipnet::IpNet;

use super::{Basis, Filter, addresses, gone};
use crate::decide::keeps;
use crate::network::sight;
use crate::{Differences, FirewallNetwork, Key, ObservedFirewall, ObservedLink, Remedy, Sight};

impl Filter {
    /// Compares the table with the kernel's, object by object.
    pub(super) fn attribute(&mut self, basis: &Basis<'_>) {
        let Basis { desired, observed, options, kernel, .. } = *basis;
        let table = observed.firewall.found().is_some();
        let mut drifts: BTreeMap<Key, Differences> = BTreeMap::new();
        for network in &self.firewall.networks {
            let key = Key::new(Kind::Network, network.network.clone());
            compare_network(network, kernel, drifts.entry(key).or_default());
        }
        let present = &kernel.ports;
        for port in self.firewall.ports.iter().filter(|port| !present.contains(&(port.port, port.target))) {
            let differences = drifts.entry(Key::new(Kind::Container, port.container.clone())).or_default();
            differences.push("ports", Some(port.port.to_string()), None, Remedy::Live);
        }
        // What of the kernel's table belongs to an object that is about to go is explained by its going.
        let leaving = gone(desired, observed)
            .any(|(key, policy)| matches!(key.kind, Kind::Network | Kind::Container) && !keeps(key, policy, options));
        let mut unknown = self.superfluous_ports(basis, &mut drifts);
        unknown.extend(self.superfluous_networks(basis));
        let is_found = |key: &&Key| match key.kind {
            Kind::Network => sight(observed, &key.name).found().is_some(),
            _ => observed.containers.get(&key.name).and_then(Sight::found).is_some(),
        };
        let first = self.needs.iter().rev().find(is_found);
        if let Some(first) = first {
            let differences = drifts.entry(first.clone()).or_default();
            if table {
                for damage in &kernel.damage {
                    differences.push("firewall", Some(damage.clone()), None, Remedy::Live);
                }
            } else {
                let table = format!("table inet {}", observed.instance);
                differences.push("firewall", Some(table), None, Remedy::Live);
            }
            for text in kernel.foreign.iter().chain(unknown.iter().filter(|_| !leaving)) {
                differences.push("firewall", None, Some(text.clone()), Remedy::Live);
            }
        }
        self.drifts = drifts.into_iter().map(|(key, differences)| (key, differences.into_vec())).collect();
    }

    /// Attributes ports that are published but not to be, and puts into words those that are no desired container's.
    fn superfluous_ports(&self, basis: &Basis<'_>, drifts: &mut BTreeMap<Key, Differences>) -> Vec<String> {
        let wanted: BTreeSet<(PortMapping, IpAddr)> =
            self.firewall.ports.iter().map(|port| (port.port, port.target)).collect();
        let mut unknown = Vec::new();
        let mut extra = basis.kernel.ports.difference(&wanted).peekable();
        if extra.peek().is_none() {
            return unknown;
        }
        let endpoints = basis.endpoints.values().flatten();
        let holders =
            endpoints.flat_map(|endpoint| addresses(endpoint).map(move |address| (address, &endpoint.container)));
        let by_address: BTreeMap<IpAddr, &Name> = holders.collect();
        let by_port: BTreeMap<PortMapping, &Name> =
            self.firewall.ports.iter().map(|port| (port.port, &port.container)).collect();
        for (port, target) in extra {
            let text = format!("{port} to {target}");
            match by_port.get(port).or(by_address.get(target)) {
                Some(container) if basis.desired.containers.contains_key(*container) => {
                    let differences = drifts.entry(Key::new(Kind::Container, (*container).clone())).or_default();
                    differences.push("ports", None, Some(text), Remedy::Live);
                }
                _ => unknown.push(text),
            }
        }
        unknown
    }

    /// Puts into words what the kernel's table has of networks that are none of ours.
    fn superfluous_networks(&self, basis: &Basis<'_>) -> Vec<String> {
        let Basis { desired, observed, kernel, .. } = *basis;
        // What a desired network's link of before had is explained by what differs in the network itself.
        let before = desired.networks.keys().filter_map(|name| sight(observed, name).found()?.link.as_ref());
        let before: Vec<&ObservedLink> = before.collect();
        let wanted = self.firewall.networks.iter();
        let wanted = wanted.flat_map(|one| one.subnets.iter().map(|subnet| (*subnet, one.bridge.as_str())));
        let had = before.iter().flat_map(|link| link.addresses.iter().map(|one| (one.trunc(), link.name.as_str())));
        let explained: BTreeSet<(IpNet, &str)> = wanted.chain(had).collect();
        let subnets: BTreeSet<IpNet> = explained.iter().map(|(subnet, _)| *subnet).collect();
        let mut bridges: BTreeSet<&String> = self.firewall.networks.iter().map(|network| &network.bridge).collect();
        bridges.extend(before.iter().map(|link| &link.name));
        let nat = kernel.nat.iter().filter(|subnet| !subnets.contains(subnet));
        let mut unknown: Vec<String> = nat.map(|subnet| format!("masquerade {subnet}")).collect();
        let cut_off = kernel.internal.iter().filter(|bridge| !bridges.contains(bridge));
        unknown.extend(cut_off.map(|bridge| format!("cut off {bridge}")));
        let others = kernel.bridges.iter().filter(|bridge| !bridges.contains(bridge));
        unknown.extend(others.map(|bridge| format!("bridge {bridge}")));
        let strays = kernel.subnets.iter().filter(|(subnet, bridge)| !explained.contains(&(*subnet, bridge.as_str())));
        unknown.extend(strays.map(|(subnet, bridge)| format!("{subnet} of {bridge}")));
        unknown
    }
}

/// Compares one network's part of the table.
fn compare_network(network: &FirewallNetwork, kernel: &ObservedFirewall, differences: &mut Differences) {
    let masqueraded = network.subnets.iter().filter(|subnet| kernel.nat.contains(subnet)).count();
    let internal = kernel.internal.contains(&network.bridge);
    let known = kernel.bridges.contains(&network.bridge);
    match network.nat {
        true if masqueraded == network.subnets.len() => {}
        true if masqueraded == 0 => differences.field("nat", &true, &false, Remedy::Live),
        true => {
            for subnet in network.subnets.iter().filter(|subnet| !kernel.nat.contains(subnet)) {
                differences.push("nat", Some(format!("masquerade {subnet}")), None, Remedy::Live);
            }
        }
        false => differences.field("nat", &false, &(masqueraded > 0), Remedy::Live),
    }
    differences.field("internal", &network.internal, &internal, Remedy::Live);
    if !known && !network.nat && !network.internal {
        differences.push("firewall", Some(format!("rules of {}", network.bridge)), None, Remedy::Live);
    } else if known {
        for subnet in &network.subnets {
            if !kernel.subnets.contains(&(*subnet, network.bridge.clone())) {
                differences.push("firewall", Some(format!("{subnet} of {}", network.bridge)), None, Remedy::Live);
            }
        }
    }
}
