//! Networks of the model host.

use evenkeel_plan::{
    Action, LinkKind, Name, ObservedLink, Sight, Step, bridge_addresses, bridge_link, network_mac, shim_address,
    shim_link, shim_routes,
};
use evenkeel_schema::{Driver, NetworkSpec};

use super::{Host, found};

impl Host {
    pub(super) fn network(&mut self, name: &Name, spec: &NetworkSpec, step: &Step) {
        if matches!(step.action, Action::Replace(_)) {
            self.remove_network(name);
        }
        let before = self.observed.networks.get(name).and_then(Sight::found);
        let mut network = before.cloned().unwrap_or_default();
        network.link = link(name, spec, network.link);
        network.parent = parent(spec);
        if spec.driver == Driver::Bridge && !spec.internal {
            network.forwarding_v4 |= spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4());
            network.forwarding_v6 |= spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6());
        }
        self.observed.networks.insert(name.clone(), found(network));
    }

    /// Takes a network's link away, and with a bridge every container's place on it.
    pub(super) fn remove_network(&mut self, name: &Name) {
        let removed = self.observed.networks.remove(name);
        let link = removed.as_ref().and_then(Sight::found).and_then(|network| network.link.as_ref());
        self.cut_off(link.map(|link| link.name.clone()).as_deref());
    }

    /// Does what the kernel does to the ports of a bridge that goes.
    pub fn cut_off(&mut self, bridge: Option<&str>) {
        for sight in self.observed.containers.values_mut() {
            let Sight::Found { observed, .. } = sight else { continue };
            for interface in observed.interfaces.iter_mut().flatten() {
                if interface.bridge.as_deref() == bridge {
                    interface.bridge = None;
                }
            }
        }
    }
}

/// Gives the parent that a manifest names; the model host has every link that anyone asks for.
pub(super) fn parent(spec: &NetworkSpec) -> Option<ObservedLink> {
    let name = spec.parent.as_ref()?.to_string();
    Some(ObservedLink { name, up: true, mtu: 1500, ..ObservedLink::default() })
}

/// Completes a network's own link in place: what a link cannot change while it lives stays as it is.
fn link(name: &Name, spec: &NetworkSpec, before: Option<ObservedLink>) -> Option<ObservedLink> {
    let mut link = match (before, spec.driver) {
        (Some(before), _) => before,
        (None, Driver::Bridge) => {
            ObservedLink { name: bridge_link(name, spec), kind: LinkKind::Bridge, ..ObservedLink::default() }
        }
        (None, Driver::Macvlan) => ObservedLink {
            name: shim_link(name, spec)?,
            kind: LinkKind::Macvlan,
            macvlan_mode: Some("bridge".to_owned()),
            parent: spec.parent.as_ref().map(ToString::to_string),
            ..ObservedLink::default()
        },
    };
    link.up = true;
    link.unrouted.clear();
    link.mac = Some(network_mac("evenkeel", name));
    link.mtu = spec.mtu.unwrap_or(1500);
    match spec.driver {
        Driver::Bridge => link.addresses = bridge_addresses(spec),
        Driver::Macvlan => {
            link.addresses = shim_address(spec).into_iter().collect();
            link.routes = shim_routes(spec);
        }
    }
    Some(link)
}
