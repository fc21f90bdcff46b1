//! Names, addresses and routes that follow from a network's manifest alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_schema::{Driver, Name, NetworkSpec, ShimAddress, ShimRoutes, Subnet, fnv1a};
use ipnet::IpNet;

use crate::MacAddress;

/// Longest name of a link, in bytes (netdevice(7), `IFNAMSIZ` less its zero).
pub const MAX_LINK_NAME: usize = 15;

/// What a bridge has under `net/<family>/conf/<link>` of sysctl(8): family, setting, value. What is published on 127.0.0.1
/// comes back over the bridge (the firewall table drops such addresses on the way in), and no router's word is taken
/// from a container.
pub const BRIDGE_SETTINGS: [(&str, &str, &str); 2] = [("ipv4", "route_localnet", "1"), ("ipv6", "accept_ra", "0")];

/// Names the bridge of a network: stated, or `ek-` and the network's name, shortened with a hash where it is too long.
pub fn bridge_link(network: &Name, spec: &NetworkSpec) -> String {
    if let Some(bridge) = &spec.bridge {
        return bridge.to_string();
    }
    let name = format!("ek-{network}");
    if name.len() <= MAX_LINK_NAME {
        return name;
    }
    format!("{}{:04x}", &name[..MAX_LINK_NAME - 4], hash(&[network.as_str()]) & 0xffff)
}

/// Names the host shim of a macvlan network: stated, or `<network>-shim`. The loader refuses a longer default.
pub fn shim_link(network: &Name, spec: &NetworkSpec) -> Option<String> {
    let shim = spec.shim.as_ref()?;
    Some(shim.name.as_ref().map_or_else(|| format!("{network}-shim"), ToString::to_string))
}

/// Names the host's end of a container's veth pair, or the interim name of its macvlan link.
pub fn endpoint_link(instance: &str, container: &Name, network: &Name) -> String {
    format!("ek{:012x}", hash(&[instance, container.as_str(), network.as_str()]) & 0xffff_ffff_ffff)
}

/// Derives a locally administered hardware address from container and network.
pub fn endpoint_mac(instance: &str, container: &Name, network: &Name) -> MacAddress {
    let [_, _, a, b, c, d, e, f] = hash(&[instance, network.as_str(), container.as_str(), "mac"]).to_be_bytes();
    MacAddress([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// Names a network's own link until it bears our mark: it is made under this name, marked, then renamed, so that no
/// unmarked link of the final name is ever ours.
pub fn interim_link(instance: &str, network: &Name) -> String {
    format!("ekn{:011x}", hash(&[instance, network.as_str(), "interim"]) & 0xfff_ffff_ffff)
}

/// Derives a locally administered hardware address for a network's own link, bridge or host shim.
pub fn network_mac(instance: &str, network: &Name) -> MacAddress {
    let [_, _, a, b, c, d, e, f] = hash(&[instance, network.as_str(), "own mac"]).to_be_bytes();
    MacAddress([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// Gives a subnet's gateway: stated, or a bridge's own first address.
pub fn gateway(subnet: &Subnet, driver: Driver) -> Option<IpAddr> {
    let first = || match subnet.subnet {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).wrapping_add(1))),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).wrapping_add(1))),
    };
    subnet.gateway.or_else(|| (driver == Driver::Bridge).then(first))
}

/// Lists the addresses of a bridge: every subnet's gateway with the subnet's prefix length.
pub fn bridge_addresses(spec: &NetworkSpec) -> BTreeSet<IpNet> {
    let with_prefix = |subnet: &Subnet| {
        let gateway = gateway(subnet, spec.driver)?;
        IpNet::new(gateway, subnet.subnet.prefix_len()).ok()
    };
    spec.subnets.iter().filter_map(with_prefix).collect()
}

/// Gives the address of the host shim, with a full-length prefix.
pub fn shim_address(spec: &NetworkSpec) -> Option<IpNet> {
    match &spec.shim.as_ref()?.address {
        ShimAddress::Address(address) => Some(IpNet::from(*address)),
        ShimAddress::AuxAddress(name) => {
            spec.subnets.iter().find_map(|subnet| subnet.aux_addresses.get(name)).map(|address| IpNet::from(*address))
        }
    }
}

/// Lists what the host reaches through its shim. `auto` leaves out the family that the shim has no address of: over
/// IPv6 nobody answers for an address of another link, so such a route would lead nowhere.
pub fn shim_routes(spec: &NetworkSpec) -> BTreeSet<IpNet> {
    match spec.shim.as_ref().map(|shim| &shim.routes) {
        None => BTreeSet::new(),
        Some(ShimRoutes::Listed(routes)) => routes.iter().map(IpNet::trunc).collect(),
        Some(ShimRoutes::Auto) => {
            let same_family = |net: &IpNet| {
                shim_address(spec).is_some_and(|address| address.addr().is_ipv4() == net.addr().is_ipv4())
            };
            let ranges = spec.subnets.iter().map(|subnet| subnet.ip_range.unwrap_or(subnet.subnet).trunc());
            ranges.filter(same_family).collect()
        }
    }
}

/// FNV-1a over the parts, each ended by a zero, then mixed: stable across releases, since names on the host depend on it.
fn hash(parts: &[&str]) -> u64 {
    let mut state = fnv1a(parts.iter().flat_map(|part| part.bytes().chain([0])));
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ (state >> 33)
}
