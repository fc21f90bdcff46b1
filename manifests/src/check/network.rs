//! Networks by themselves: subnets with what lies in them, and what goes with which driver.

use std::net::IpAddr;

use evenkeel_plan::{MAX_LINK_NAME, shim_link};
use evenkeel_schema::{Driver, HostShim, NetworkSpec, ShimAddress, ShimRoutes, Subnet};
use ipnet::IpNet;

use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};
use crate::suggest;

/// Smallest maximum transmission unit of IPv4 (RFC 791) and IPv6 (RFC 8200).
const LEAST_MTU: (u32, u32) = (68, 1280);

pub(super) fn check(document: &Document, network: &NetworkSpec, findings: &mut Findings<'_>) {
    let mut spoil = |finding| findings.spoil(&[document.culprit()], finding);
    if network.subnets.is_empty() && !document.partial {
        let finding = Finding::new(document.value(&way!["spec", "subnets"]), "a network needs at least one subnet");
        spoil(finding.help("write `subnets: [{subnet: 10.1.0.0/24}]`"));
    }
    for (index, subnet) in network.subnets.iter().enumerate() {
        check_subnet(document, index, subnet, network.driver, &mut spoil);
    }
    check_driver(document, network, &mut spoil);
    if let Some(shim) = network.shim.as_ref().filter(|_| network.driver == Driver::Macvlan) {
        check_shim(document, network, shim, &mut spoil);
    }
    if let Some(mtu) = network.mtu {
        let least =
            if network.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()) { LEAST_MTU.1 } else { LEAST_MTU.0 };
        if !(least..=65535).contains(&mtu) {
            let message = format!("an mtu of this network is from {least} to 65535 bytes, found {mtu}");
            spoil(Finding::new(document.value(&way!["spec", "mtu"]), message));
        }
    }
}

fn check_subnet(document: &Document, index: usize, subnet: &Subnet, driver: Driver, spoil: &mut impl FnMut(Finding)) {
    let own = subnet.subnet.trunc();
    let own_spot = document.value(&way!["spec", "subnets", index, "subnet"]);
    without_host_bits(own_spot, subnet.subnet, spoil);
    // A bridge takes one address itself, and an IPv4 subnet loses two more.
    if driver == Driver::Bridge && own.prefix_len() + 2 > own.max_prefix_len() {
        let message = format!("`{own}` has no room for a gateway and a container");
        spoil(Finding::new(own_spot, message));
    }
    if let Some(gateway) = subnet.gateway {
        let at = document.value(&way!["spec", "subnets", index, "gateway"]);
        check_member(at, "gateway", gateway, own, own_spot, spoil);
    }
    if let Some(range) = subnet.ip_range {
        let at = document.value(&way!["spec", "subnets", index, "ipRange"]);
        without_host_bits(at, range, spoil);
        if !own.contains(&range.trunc()) {
            let finding = Finding::new(at, format!("ipRange `{range}` lies outside its subnet `{own}`"));
            spoil(finding.label("outside").also(own_spot, "the subnet"));
        }
    }
    for (name, address) in &subnet.aux_addresses {
        let at = document.value(&way!["spec", "subnets", index, "auxAddresses", name]);
        check_member(at, &format!("auxAddress `{name}`"), *address, own, own_spot, spoil);
    }
}

fn check_member(
    at: Spot,
    role: &str,
    address: IpAddr,
    subnet: IpNet,
    subnet_spot: Spot,
    spoil: &mut impl FnMut(Finding),
) {
    if !subnet.contains(&address) {
        let finding = Finding::new(at, format!("{role} `{address}` lies outside its subnet `{subnet}`"));
        spoil(finding.label("outside").also(subnet_spot, "the subnet"));
    } else if let Some(what) = reserved(address, subnet) {
        spoil(Finding::new(at, format!("{role} `{address}` is the {what} of `{subnet}`")));
    }
}

/// Says what an address of a subnet is that no host may have.
pub(super) fn reserved(address: IpAddr, subnet: IpNet) -> Option<&'static str> {
    // RFC 3021: a /31 has two hosts and nothing else.
    let IpNet::V4(net) = subnet else { return None };
    if net.prefix_len() >= 31 {
        None
    } else if address == net.network() {
        Some("network address")
    } else if address == net.broadcast() {
        Some("broadcast address")
    } else {
        None
    }
}

fn without_host_bits(at: Spot, net: IpNet, spoil: &mut impl FnMut(Finding)) {
    if net != net.trunc() {
        let finding = Finding::new(at, format!("`{net}` has bits set beyond its prefix"));
        spoil(finding.help(format!("write {}, or a longer prefix", net.trunc())));
    }
}

fn check_driver(document: &Document, network: &NetworkSpec, spoil: &mut impl FnMut(Finding)) {
    let driver = document.value(&way!["spec", "driver"]);
    let field = |name: &str| document.field(&way!["spec", name]);
    match network.driver {
        Driver::Macvlan => {
            if network.parent.is_none() && !document.partial {
                let finding = Finding::new(driver, "a macvlan network needs a `parent`");
                spoil(finding.help("write the host's link that its containers share, as `parent: eth0`"));
            }
            if network.bridge.is_some() {
                let finding = Finding::new(field("bridge"), "a macvlan network has no `bridge`");
                spoil(finding.also(driver, "the driver").help("leave it out, or write `driver: bridge`"));
            }
            if document.states(&way!["spec", "nat"]) {
                spoil(Finding::warning(field("nat"), "`nat` has no effect on a macvlan network"));
            }
        }
        Driver::Bridge => {
            if network.parent.is_some() {
                let finding = Finding::new(field("parent"), "a bridge network has no `parent`");
                spoil(finding.also(driver, "the driver").help("leave it out, or write `driver: macvlan`"));
            }
            if network.shim.is_some() {
                let finding = Finding::new(field("shim"), "a bridge network has no `shim`");
                spoil(
                    finding
                        .also(driver, "the driver")
                        .help("leave it out: the host reaches a bridge's containers anyway"),
                );
            }
        }
    }
}

fn check_shim(document: &Document, network: &NetworkSpec, shim: &HostShim, spoil: &mut impl FnMut(Finding)) {
    let at = document.value(&way!["spec", "shim", "address"]);
    match &shim.address {
        ShimAddress::AuxAddress(name) => {
            let names = || network.subnets.iter().flat_map(|subnet| subnet.aux_addresses.keys()).map(String::as_str);
            if !names().any(|known| known == name) && !document.partial {
                let finding = Finding::new(at, format!("`{name}` is neither an address nor the name of an auxAddress"));
                let near = suggest::nearest(name, names()).map(|near| format!("did you mean `{near}`?"));
                let help = "reserve an address for it, as `auxAddresses: {host: 10.0.36.223}`";
                spoil(finding.help(near.unwrap_or_else(|| help.to_owned())));
            }
        }
        ShimAddress::Address(address) => match network.subnets.iter().find(|subnet| subnet.subnet.contains(address)) {
            Some(subnet) => {
                if let Some(what) = reserved(*address, subnet.subnet) {
                    spoil(Finding::new(
                        at,
                        format!("the shim's address `{address}` is the {what} of `{}`", subnet.subnet.trunc()),
                    ));
                }
            }
            None if document.partial => {}
            None => {
                let finding = Finding::new(
                    at,
                    format!("the shim's address `{address}` lies outside every subnet of its network"),
                );
                spoil(finding.also(document.field(&way!["spec", "subnets"]), "the subnets"));
            }
        },
    }
    let link = shim_link(&document.key.name, network).unwrap_or_default();
    if link.len() > MAX_LINK_NAME {
        let message =
            format!("the shim's name would be `{link}`, longer than the {MAX_LINK_NAME} characters of a link's name");
        let finding = Finding::new(document.field(&way!["spec", "shim"]), message);
        spoil(finding.help("give it a shorter one: `shim: {name: …}`"));
    }
    if network.parent.as_ref().is_some_and(|parent| parent.as_str() == link) {
        let finding =
            Finding::new(document.field(&way!["spec", "shim"]), format!("the shim is called as its parent, `{link}`"));
        spoil(finding.also(document.value(&way!["spec", "parent"]), "the parent"));
    }
    if let ShimRoutes::Listed(routes) = &shim.routes {
        for (index, route) in routes.iter().enumerate() {
            without_host_bits(document.value(&way!["spec", "shim", "routes", index]), *route, spoil);
        }
    }
}
