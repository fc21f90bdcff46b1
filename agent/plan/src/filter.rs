//! What the firewall table is to say, and what of it differs for which object.
//!
//! The table is written whole or not at all, but a difference in it is somebody's: a network's masquerading, a
//! container's port. So each is attributed to an object and a field, and what is nobody's to the first that needs the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{DriftPolicy, Driver, Kind, Name, Policy, PortMapping};
use ipnet::IpNet;

use crate::container::addresses_of;
use crate::decide::{Options, keeps};
use crate::network::{sight, will_exist};
use crate::{
    Desired, Differences, Drift, Endpoint, Firewall, FirewallNetwork, Key, Observed, ObservedFirewall, ObservedLink,
    PublishedPort, Remedy, Sight, bridge_link,
};

/// The table with its differences.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub firewall: Firewall,
    /// Whether the kernel's table differs.
    pub differs: bool,
    /// Why the kernel's table could not be read.
    pub unreadable: Option<String>,
    drifts: BTreeMap<Key, Vec<Drift>>,
    needs: BTreeSet<Key>,
}

impl Filter {
    /// Derives the table and compares it with the kernel's.
    pub(crate) fn derive(
        desired: &Desired,
        observed: &Observed,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
        options: &Options,
    ) -> Filter {
        let networks = networks(desired, observed);
        let ports = ports(desired, observed, endpoints, &networks);
        let mut filter = Filter { firewall: Firewall { networks, ports }, ..Filter::default() };
        filter.needs = filter.needing();
        let kernel = match &observed.firewall {
            Sight::Unreadable(message) => {
                filter.unreadable = Some(message.clone());
                ObservedFirewall::default()
            }
            Sight::Absent => ObservedFirewall::default(),
            Sight::Found { observed, .. } => observed.clone(),
        };
        if filter.unreadable.is_none() {
            filter.keep(desired, observed, &kernel, endpoints, options);
            filter.attribute(desired, observed, &kernel, endpoints, options);
            filter.leave_to_report(desired, observed, &kernel, endpoints);
            filter.compare(observed);
        }
        filter
    }

    /// Takes out the parts of objects that are not there and are not going to be.
    pub(crate) fn leave_out(&mut self, absent: &BTreeSet<Key>, observed: &Observed) {
        let is_absent = |kind, name: &Name| absent.contains(&Key::new(kind, name.clone()));
        self.firewall.networks.retain(|network| !is_absent(Kind::Network, &network.network));
        self.firewall.ports.retain(|port| !is_absent(Kind::Container, &port.container));
        self.compare(observed);
    }

    fn compare(&mut self, observed: &Observed) {
        self.differs = match &observed.firewall {
            Sight::Found { observed, .. } => self.firewall.is_empty() || self.firewall.normal_form() != *observed,
            Sight::Absent => !self.firewall.is_empty(),
            Sight::Unreadable(_) => false,
        };
    }

    /// Lists what of one object differs in the table.
    pub(crate) fn drifts(&self, key: &Key) -> &[Drift] {
        self.drifts.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Says why the part of the table that one object needs could not be read.
    pub(crate) fn unreadable_for(&self, key: &Key) -> Option<&str> {
        self.unreadable.as_deref().filter(|_| self.needs.contains(key))
    }

    /// Lists the objects that have a part in the table.
    fn needing(&self) -> BTreeSet<Key> {
        let networks = self.firewall.networks.iter().map(|network| Key::new(Kind::Network, network.network.clone()));
        let ports = self.firewall.ports.iter().map(|port| Key::new(Kind::Container, port.container.clone()));
        networks.chain(ports).collect()
    }

    fn attribute(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        kernel: &ObservedFirewall,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
        options: &Options,
    ) {
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
        let unknown = self.superfluous(desired, observed, kernel, endpoints, &mut drifts);
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

    /// Attributes ports that are published but not to be, and puts into words what belongs to no desired object.
    fn superfluous(
        &self,
        desired: &Desired,
        observed: &Observed,
        kernel: &ObservedFirewall,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
        drifts: &mut BTreeMap<Key, Differences>,
    ) -> Vec<String> {
        let wanted: BTreeSet<(PortMapping, IpAddr)> =
            self.firewall.ports.iter().map(|port| (port.port, port.target)).collect();
        let mut unknown = Vec::new();
        let mut extra = kernel.ports.difference(&wanted).peekable();
        if extra.peek().is_some() {
            let holder = |endpoint: &Endpoint| {
                let container = endpoint.container.clone();
                endpoint.addresses.iter().map(move |address| (address.addr(), container.clone())).collect::<Vec<_>>()
            };
            let by_address: BTreeMap<IpAddr, Name> = endpoints.values().flatten().flat_map(holder).collect();
            let by_port: BTreeMap<PortMapping, &Name> =
                self.firewall.ports.iter().map(|port| (port.port, &port.container)).collect();
            for (port, target) in extra {
                let text = format!("{port} to {target}");
                match by_port.get(port).copied().or(by_address.get(target)) {
                    Some(container) if desired.containers.contains_key(container) => {
                        let differences = drifts.entry(Key::new(Kind::Container, container.clone())).or_default();
                        differences.push("ports", None, Some(text), Remedy::Live);
                    }
                    _ => unknown.push(text),
                }
            }
        }
        // What a desired network's link of before had is explained by what differs in the network itself.
        let before = desired.networks.keys().filter_map(|name| sight(observed, name).found()?.link.as_ref());
        let before: Vec<&ObservedLink> = before.collect();
        let networks = &self.firewall.networks;
        let mut subnets: BTreeSet<IpNet> = networks.iter().flat_map(|network| &network.subnets).copied().collect();
        subnets.extend(before.iter().flat_map(|link| &link.addresses).map(IpNet::trunc));
        let mut bridges: BTreeSet<&String> = networks.iter().map(|network| &network.bridge).collect();
        bridges.extend(before.iter().map(|link| &link.name));
        let nat = kernel.nat.iter().filter(|subnet| !subnets.contains(subnet));
        unknown.extend(nat.map(|subnet| format!("masquerade {subnet}")));
        let cut_off = kernel.internal.iter().filter(|bridge| !bridges.contains(bridge));
        unknown.extend(cut_off.map(|bridge| format!("cut off {bridge}")));
        let others = kernel.bridges.iter().filter(|bridge| !bridges.contains(bridge));
        unknown.extend(others.map(|bridge| format!("bridge {bridge}")));
        let strays = kernel.subnets.iter().filter(|(subnet, bridge)| {
            let wanted = networks.iter().any(|one| one.bridge == *bridge && one.subnets.contains(subnet));
            !wanted && !accounts_for(&before, subnet, bridge)
        });
        unknown.extend(strays.map(|(subnet, bridge)| format!("{subnet} of {bridge}")));
        unknown
    }

    /// Leaves the parts of objects under `drift: report` as the kernel has them.
    fn leave_to_report(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        kernel: &ObservedFirewall,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
    ) {
        self.firewall.networks.retain_mut(|network| {
            let policy = desired.networks.get(&network.network).map(|object| object.policy.drift);
            if policy != Some(DriftPolicy::Report) || sight(observed, &network.network).found().is_none() {
                return true;
            }
            network.nat = network.subnets.iter().any(|subnet| kernel.nat.contains(subnet));
            network.internal = kernel.internal.contains(&network.bridge);
            kernel.bridges.contains(&network.bridge)
        });
        let reported: BTreeSet<&Name> = desired
            .containers
            .iter()
            .filter(|(name, object)| {
                let found = observed.containers.get(*name).and_then(Sight::found).is_some();
                object.policy.drift == DriftPolicy::Report && found
            })
            .map(|(name, _)| name)
            .collect();
        if reported.is_empty() {
            return;
        }
        self.firewall
            .ports
            .retain(|port| !reported.contains(&port.container) || kernel.ports.contains(&(port.port, port.target)));
        for name in reported {
            let addresses: BTreeSet<IpAddr> = endpoints.get(name).into_iter().flatten().flat_map(addresses).collect();
            self.retain_ports(name, |target| addresses.contains(target), kernel);
        }
    }

    /// Leaves the parts of objects whose manifests went and whose policy keeps them as the kernel has them.
    fn keep(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        kernel: &ObservedFirewall,
        endpoints: &BTreeMap<Name, Vec<Endpoint>>,
        options: &Options,
    ) {
        let in_use = lingering_networks(desired, observed, options);
        for (key, policy) in gone(desired, observed) {
            if matches!(observed.containers.get(&key.name), Some(Sight::Unreadable(_))) && key.kind == Kind::Container {
                // Nobody knows its addresses: what leads to no container that is known may lead to it.
                let known: BTreeSet<IpAddr> = endpoints.values().flatten().flat_map(addresses).collect();
                self.retain_ports(&key.name, |target| !known.contains(target), kernel);
                continue;
            }
            let used = key.kind == Kind::Network && in_use.as_ref().is_none_or(|in_use| in_use.contains(&key.name));
            if !keeps(key, policy, options) && !used {
                continue;
            }
            match key.kind {
                Kind::Network => {
                    let link = sight(observed, &key.name).found().and_then(|network| network.link.as_ref());
                    let Some(link) = link.filter(|link| kernel.bridges.contains(&link.name)) else { continue };
                    let subnets: Vec<IpNet> = link.addresses.iter().map(IpNet::trunc).collect();
                    self.firewall.networks.push(FirewallNetwork {
                        network: key.name.clone(),
                        bridge: link.name.clone(),
                        nat: subnets.iter().any(|subnet| kernel.nat.contains(subnet)),
                        internal: kernel.internal.contains(&link.name),
                        subnets,
                    });
                }
                Kind::Container => {
                    let found = observed.containers.get(&key.name).and_then(Sight::found);
                    let addresses: BTreeSet<IpAddr> = found.into_iter().flat_map(addresses_of).collect();
                    self.retain_ports(&key.name, |target| addresses.contains(target), kernel);
                }
                Kind::Image | Kind::Volume => {}
            }
        }
    }

    fn retain_ports(&mut self, container: &Name, theirs: impl Fn(&IpAddr) -> bool, kernel: &ObservedFirewall) {
        let wanted: BTreeSet<(PortMapping, IpAddr)> =
            self.firewall.ports.iter().map(|port| (port.port, port.target)).collect();
        for (port, target) in kernel.ports.iter().filter(|(_, target)| theirs(target)) {
            if !wanted.contains(&(*port, *target)) {
                let (port, target) = (*port, *target);
                self.firewall.ports.insert(PublishedPort { container: container.clone(), port, target });
            }
        }
    }
}

/// Lists what the ledger holds and no manifest states any more.
pub(crate) fn gone<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = (&'a Key, &'a Policy)> {
    observed.ledger.iter().filter(|(key, _)| !desired.contains(key) && !desired.held.contains_key(*key))
}

/// Lists the networks that containers are on which stay as they are; `None` where that cannot be seen of one.
fn lingering_networks(desired: &Desired, observed: &Observed, options: &Options) -> Option<BTreeSet<Name>> {
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

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().map(IpNet::addr)
}

/// Tells whether a link of before accounts for a subnet of its bridge.
fn accounts_for(before: &[&ObservedLink], subnet: &IpNet, bridge: &str) -> bool {
    before.iter().any(|link| link.name == bridge && link.addresses.iter().any(|address| address.trunc() == *subnet))
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

/// Lists the bridge networks that are going to be there.
fn networks(desired: &Desired, observed: &Observed) -> Vec<FirewallNetwork> {
    let bridges = desired
        .networks
        .iter()
        .filter(|(name, object)| object.spec.driver == Driver::Bridge && will_exist(name, object, observed));
    let network = |(name, object): (&Name, &evenkeel_schema::Object<evenkeel_schema::NetworkSpec>)| FirewallNetwork {
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
                    ports.insert(PublishedPort { container: name.clone(), port: *port, target: *target });
                }
            }
        }
    }
    ports
}
