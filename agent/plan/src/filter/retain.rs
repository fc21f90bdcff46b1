//! What stays in the table as the kernel has it: parts of objects that are only reported, and of those that are kept.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{DriftPolicy, Kind, Name, PortMapping};

use super::{Basis, Filter, addresses, gone};
use crate::container::addresses_of;
use crate::decide::keeps;
use crate::network::sight;
use crate::{Firewall, FirewallNetwork, Key, ObservedFirewall, PublishedPort, Sight};

/// Ports that the kernel's table has beyond the wanted ones, by where they lead.
struct Beyond(BTreeMap<IpAddr, BTreeSet<PortMapping>>);

impl Beyond {
    fn of(kernel: &ObservedFirewall, firewall: &Firewall) -> Beyond {
        let wanted: BTreeSet<(PortMapping, IpAddr)> =
            firewall.ports.iter().map(|port| (port.port, port.target)).collect();
        let mut beyond: BTreeMap<IpAddr, BTreeSet<PortMapping>> = BTreeMap::new();
        for (port, target) in kernel.ports.difference(&wanted) {
            beyond.entry(*target).or_default().insert(*port);
        }
        Beyond(beyond)
    }

    /// Lets the ports that lead to this address stay, as the container's.
    fn stay(&mut self, target: IpAddr, container: &Name, firewall: &mut Firewall) {
        let ports = self.0.remove(&target).unwrap_or_default();
        firewall.ports.extend(ports.into_iter().map(|port| PublishedPort {
            container: container.clone(),
            port,
            target,
        }));
    }

    /// Lists where ports lead that did not stay so far.
    fn targets(&self) -> Vec<IpAddr> {
        self.0.keys().copied().collect()
    }
}

impl Filter {
    /// Leaves the parts of objects under `drift: report` as the kernel has them.
    pub(super) fn leave_to_report(&mut self, basis: &Basis<'_>) {
        let Basis { desired, observed, endpoints, kernel, .. } = *basis;
        for network in std::mem::take(&mut self.firewall.networks) {
            let policy = desired.networks.get(&network.network).map(|object| object.policy.drift);
            let found = sight(observed, &network.network).found().is_some();
            match policy {
                Some(DriftPolicy::Report) if found => {
                    self.firewall.networks.extend(as_in_kernel(&network.network, &network.bridge, kernel));
                }
                _ => self.firewall.networks.push(network),
            }
        }
        let is_reported = |name: &Name| {
            let found = observed.containers.get(name).and_then(Sight::found).is_some();
            found && desired.containers.get(name).is_some_and(|object| object.policy.drift == DriftPolicy::Report)
        };
        let reported: BTreeSet<&Name> = desired.containers.keys().filter(|name| is_reported(name)).collect();
        if reported.is_empty() {
            return;
        }
        self.firewall
            .ports
            .retain(|port| !reported.contains(&port.container) || kernel.ports.contains(&(port.port, port.target)));
        let mut beyond = Beyond::of(kernel, &self.firewall);
        for name in reported {
            for target in endpoints.get(name).into_iter().flatten().flat_map(addresses) {
                beyond.stay(target, name, &mut self.firewall);
            }
        }
    }

    /// Leaves the parts of objects whose manifests went and whose policy keeps them as the kernel has them.
    pub(super) fn keep(&mut self, basis: &Basis<'_>) {
        let Basis { desired, observed, endpoints, options, kernel } = *basis;
        let in_use = lingering_networks(basis);
        let mut beyond = Beyond::of(kernel, &self.firewall);
        let known = LazyCell::new(|| endpoints.values().flatten().flat_map(addresses).collect::<BTreeSet<IpAddr>>());
        for (key, policy) in gone(desired, observed) {
            if matches!(observed.containers.get(&key.name), Some(Sight::Unreadable(_))) && key.kind == Kind::Container {
                // Nobody knows its addresses: what leads to no container that is known may lead to it.
                for target in beyond.targets().into_iter().filter(|target| !known.contains(target)) {
                    beyond.stay(target, &key.name, &mut self.firewall);
                }
                continue;
            }
            let used = key.kind == Kind::Network && in_use.as_ref().is_none_or(|in_use| in_use.contains(&key.name));
            if !keeps(key, policy, options) && !used {
                continue;
            }
            match key.kind {
                Kind::Network => {
                    let link = sight(observed, &key.name).found().and_then(|network| network.link.as_ref());
                    let parts = link.map(|link| as_in_kernel(&key.name, &link.name, kernel));
                    self.firewall.networks.extend(parts.into_iter().flatten());
                }
                Kind::Container => {
                    let found = observed.containers.get(&key.name).and_then(Sight::found);
                    for target in found.into_iter().flat_map(addresses_of) {
                        beyond.stay(target, &key.name, &mut self.firewall);
                    }
                }
                Kind::Image | Kind::Volume => {}
            }
        }
    }
}

/// Gives a network's part of the table as the kernel has it; nothing where the kernel knows no such bridge.
///
/// It is in two where only some of the subnets are masqueraded, as no manifest has it.
fn as_in_kernel(network: &Name, bridge: &str, kernel: &ObservedFirewall) -> Vec<FirewallNetwork> {
    if !kernel.bridges.contains(bridge) {
        return Vec::new();
    }
    let subnets = kernel.subnets.iter().filter(|(_, of)| of == bridge).map(|(subnet, _)| *subnet);
    let (masqueraded, others): (Vec<_>, Vec<_>) = subnets.partition(|subnet| kernel.nat.contains(subnet));
    let part = |nat, subnets| FirewallNetwork {
        network: network.clone(),
        bridge: bridge.to_owned(),
        subnets,
        nat,
        internal: kernel.internal.contains(bridge),
    };
    match (masqueraded.is_empty(), others.is_empty()) {
        (true, _) => vec![part(false, others)],
        (false, true) => vec![part(true, masqueraded)],
        (false, false) => vec![part(true, masqueraded), part(false, others)],
    }
}

/// Lists the networks that containers are on which stay as they are; `None` where that cannot be seen of one.
fn lingering_networks(basis: &Basis<'_>) -> Option<BTreeSet<Name>> {
    let Basis { desired, observed, options, .. } = *basis;
    let mut networks = BTreeSet::new();
    for (name, sight) in &observed.containers {
        let key = Key::new(Kind::Container, name.clone());
        let report = desired.containers.get(name).is_some_and(|object| object.policy.drift == DriftPolicy::Report);
        let kept =
            !desired.contains(&key) && observed.ledger.get(&key).is_some_and(|policy| keeps(&key, policy, options));
        let stays = desired.held.contains_key(&key) || observed.overrides.contains_key(name) || report || kept;
        match sight {
            Sight::Unreadable(_) => return None,
            Sight::Found { observed, .. } if stays => {
                networks.extend(observed.spec.networks.iter().map(|attachment| attachment.name.clone()));
            }
            Sight::Found { .. } | Sight::Absent => {}
        }
    }
    Some(networks)
}
