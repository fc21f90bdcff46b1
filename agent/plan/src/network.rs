//! Networks: what differs between a manifest and the links, addresses and routes of the host.
//!
//! The part of a network that lies in the firewall table is compared in `filter` and handed in.

use std::collections::BTreeSet;

use evenkeel_schema::{Driver, Kind, Name, NetworkSpec, Object, Policy};
use ipnet::IpNet;

use crate::decide::{Resource, is_ours, not_ours};
use crate::{
    BRIDGE_SETTINGS, Differences, Drift, Key, LinkKind, Observed, ObservedLink, ObservedNetwork, Remedy, Sight, Why,
    bridge_addresses, bridge_link, network_mac, shim_address, shim_link, shim_routes,
};

/// One desired network.
pub(crate) struct Network<'a> {
    pub name: &'a Name,
    pub object: &'a Object<NetworkSpec>,
    pub observed: &'a Observed,
    /// What of it differs in the firewall table.
    pub filter: &'a [Drift],
    /// Why the firewall table could not be read, where the network needs it.
    pub filter_unreadable: Option<&'a str>,
}

/// Gives a network as it was seen. One that nothing on the host belongs to, as a macvlan network before its shim, is absent.
pub(crate) fn sight<'a>(observed: &'a Observed, name: &Name) -> &'a Sight<ObservedNetwork> {
    match observed.networks.get(name) {
        None => &Sight::Absent,
        Some(sight @ Sight::Found { observed: network, owned: false }) => match &network.link {
            Some(link) if !is_anothers(observed, name, &link.name) => sight,
            _ => &Sight::Absent,
        },
        Some(sight) => sight,
    }
}

/// Tells whether a link is that of another network of ours, which has to give it up first.
fn is_anothers(observed: &Observed, name: &Name, link: &str) -> bool {
    observed.networks.iter().any(|(other, sight)| match sight {
        Sight::Found { observed, owned: true } if other != name => {
            observed.link.as_ref().is_some_and(|found| found.name == link)
        }
        _ => false,
    })
}

impl Network<'_> {
    fn spec(&self) -> &NetworkSpec {
        &self.object.spec
    }

    /// Names the link that the network itself has on the host.
    fn link_name(&self) -> Option<String> {
        match self.spec().driver {
            Driver::Bridge => Some(bridge_link(self.name, self.spec())),
            Driver::Macvlan => shim_link(self.name, self.spec()),
        }
    }

    /// Compares the hardware address, which is derived so that neighbours need not learn a new one after a repair.
    fn mac(&self, field: &str, link: &ObservedLink, differences: &mut Differences) {
        if let Some(mac) = &link.mac {
            differences.field(field, &network_mac(&self.observed.instance, self.name), mac, Remedy::Live);
        }
    }

    /// Finds a route of the host that a subnet of a network that is still to be made would cut into.
    fn route_overlap(&self) -> Option<String> {
        self.route_that(|subnet, route| subnet.contains(route) || route.contains(subnet))
    }

    /// Finds a route of the host that takes packets away from a bridge that is there. A wider one does not: the kernel
    /// follows the longest prefix.
    fn route_over_it(&self) -> Option<String> {
        match self.spec().driver {
            Driver::Bridge => self.route_that(|subnet, route| subnet.contains(route)),
            Driver::Macvlan => None,
        }
    }

    fn route_that(&self, collides: impl Fn(&IpNet, &IpNet) -> bool) -> Option<String> {
        let parent = self.spec().parent.as_ref().map(ToString::to_string);
        for (route, link) in &self.observed.host_routes {
            // A default route overlaps everything, and a macvlan network lies in its parent's own subnet by design.
            if route.prefix_len() == 0 || parent.as_ref() == Some(link) {
                continue;
            }
            let cuts = |subnet: &IpNet| collides(subnet, route);
            if let Some(subnet) = self.spec().subnets.iter().map(|subnet| &subnet.subnet).find(|subnet| cuts(subnet)) {
                return Some(format!("subnet {subnet} overlaps the host's route {route} dev {link}"));
            }
        }
        None
    }

    fn bridge_drift(&self, observed: &ObservedNetwork, differences: &mut Differences) {
        let (spec, name) = (self.spec(), bridge_link(self.name, self.spec()));
        match &observed.link {
            None => differences.push("link", Some(name), None, Remedy::Live),
            Some(link) if link.kind != LinkKind::Bridge => {
                differences.field("driver", &LinkKind::Bridge, &link.kind, Remedy::Replace);
            }
            Some(link) => {
                differences.field("bridge", &name, &link.name, Remedy::Replace);
                up("link.up", link, differences);
                self.mac("link.mac", link, differences);
                mtu(spec, link, differences);
                let addresses = bridge_addresses(spec);
                differences.members("addresses", &addresses, &link.addresses, Remedy::Live);
                unrouted("routes", &addresses, &link.name, &link.unrouted, differences);
                for (family, setting, value) in BRIDGE_SETTINGS {
                    // A kernel without IPv6 has none of its settings.
                    if let Some(found) = observed.settings.get(setting) {
                        differences.field(&format!("sysctl.{family}.{setting}"), &value, &found.as_str(), Remedy::Live);
                    }
                }
            }
        }
        if !spec.internal {
            let has = |v4: bool| spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4() == v4);
            if has(true) {
                differences.field("forwarding.ipv4", &true, &observed.forwarding_v4, Remedy::Live);
            }
            if has(false) {
                differences.field("forwarding.ipv6", &true, &observed.forwarding_v6, Remedy::Live);
            }
        }
    }

    fn macvlan_drift(&self, observed: &ObservedNetwork, differences: &mut Differences) {
        let spec = self.spec();
        if let Some(parent) = &observed.parent {
            up("parent.up", parent, differences);
        }
        let (link, name) = match (&observed.link, shim_link(self.name, spec)) {
            (None, None) => return,
            (None, Some(name)) => return differences.push("shim", Some(name), None, Remedy::Live),
            (Some(link), _) if link.kind != LinkKind::Macvlan => {
                return differences.field("driver", &LinkKind::Macvlan, &link.kind, Remedy::Replace);
            }
            // Nothing that runs hangs on a shim, so making it anew costs nothing and needs no second way.
            (Some(link), None) => return differences.push("shim", None, Some(link.name.clone()), Remedy::Replace),
            (Some(link), Some(name)) => (link, name),
        };
        differences.field("shim.name", &name, &link.name, Remedy::Replace);
        if let (Some(desired), Some(found)) = (&spec.parent, &link.parent) {
            differences.field("parent", &desired.as_str(), &found.as_str(), Remedy::Replace);
        }
        if let Some(mode) = &link.macvlan_mode {
            differences.field("shim.mode", &"bridge", &mode.as_str(), Remedy::Replace);
        }
        up("shim.up", link, differences);
        self.mac("shim.mac", link, differences);
        mtu(spec, link, differences);
        differences.members("shim.address", &shim_address(spec), &link.addresses, Remedy::Live);
        let over = |routes: &BTreeSet<IpNet>| -> Vec<String> {
            routes.iter().map(|route| format!("{route} dev {}", link.name)).collect()
        };
        differences.members("shim.routes", &over(&shim_routes(spec)), &over(&link.routes), Remedy::Live);
    }
}

/// Notes the subnets of stated addresses whose route is gone. Where the address itself is, it comes back with the address.
pub(crate) fn unrouted<'a>(
    field: &str,
    addresses: impl IntoIterator<Item = &'a IpNet>,
    link: &str,
    unrouted: &BTreeSet<IpNet>,
    differences: &mut Differences,
) {
    for subnet in addresses.into_iter().map(IpNet::trunc).filter(|subnet| unrouted.contains(subnet)) {
        differences.push(field, Some(format!("{subnet} dev {link}")), None, Remedy::Live);
    }
}

fn up(field: &str, link: &ObservedLink, differences: &mut Differences) {
    differences.field(field, &true, &link.up, Remedy::Live);
}

/// Compares the MTU where the manifest states one; the kernel chooses it otherwise.
fn mtu(spec: &NetworkSpec, link: &ObservedLink, differences: &mut Differences) {
    if let Some(mtu) = spec.mtu {
        differences.field("mtu", &mtu, &link.mtu, Remedy::Live);
    }
}

impl Resource for Network<'_> {
    type Observed = ObservedNetwork;

    fn key(&self) -> Key {
        Key::new(Kind::Network, self.name.clone())
    }

    fn policy(&self) -> Policy {
        self.object.policy
    }

    fn place(&self) -> String {
        self.link_name().map_or_else(|| self.key().to_string(), |link| format!("link {link}"))
    }

    fn needs(&self) -> BTreeSet<Key> {
        BTreeSet::new()
    }

    fn obstacle(&self, observed: Option<&ObservedNetwork>) -> Option<Why> {
        let name = self.link_name();
        let foreign =
            |name: &String| self.observed.foreign_links.contains(name) && !is_anothers(self.observed, self.name, name);
        if let Some(name) = name.filter(foreign)
            && !is_ours(false, &self.policy())
        {
            return Some(not_ours(&format!("link {name}")));
        }
        let Some(observed) = observed else {
            return self.route_overlap().map(|message| Why::Conflict { message });
        };
        match &self.spec().parent {
            Some(parent) if self.spec().driver == Driver::Macvlan && observed.parent.is_none() => {
                Some(Why::Conflict { message: format!("the parent link {parent} is not there") })
            }
            _ => None,
        }
    }

    fn drift(&self, observed: &ObservedNetwork) -> Vec<Drift> {
        let mut differences = Differences::new();
        match self.spec().driver {
            Driver::Bridge => self.bridge_drift(observed, &mut differences),
            Driver::Macvlan => self.macvlan_drift(observed, &mut differences),
        }
        let mut drifts = differences.into_vec();
        drifts.extend_from_slice(self.filter);
        drifts
    }

    fn unsettled(&self, _: &ObservedNetwork) -> Option<Why> {
        if let Some(message) = self.route_over_it() {
            return Some(Why::Conflict { message });
        }
        let message = self.filter_unreadable?;
        Some(Why::Unreadable { message: format!("the firewall table: {message}") })
    }
}

/// Tells whether a network is going to be there: one that is in the way of something else is left out of the firewall.
pub(crate) fn will_exist(name: &Name, object: &Object<NetworkSpec>, observed: &Observed) -> bool {
    match sight(observed, name) {
        Sight::Found { owned, .. } => is_ours(*owned, &object.policy),
        Sight::Unreadable(_) => true,
        Sight::Absent => {
            let network = Network { name, object, observed, filter: &[], filter_unreadable: None };
            network.obstacle(None).is_none()
        }
    }
}
