//! Messages about links, and what any link of ours is brought to: mark, hardware address, size, state, addresses.
//!
//! Which values those are is the caller's matter: a network's own link (`own_link.rs`) or a container's interface
//! (`endpoint.rs`).

use std::collections::BTreeSet;

use evenkeel_plan::MacAddress;
use evenkeel_shim::fail_point;
use ipnet::IpNet;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};

use super::NetworkError;
use super::netlink::{Link, Netlink, Route};

/// The largest packet of a bridge network that states nothing.
pub(super) const ETHERNET_MTU: u32 = 1500;
/// Metric of the routes that the kernel makes with IPv6 addresses (`IP6_RT_PRIO_ADDRCONF`).
const CONNECTED_METRIC_V6: u32 = 256;

/// What a link is to be; what is `None` is left as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub alias: Option<&'a str>,
    pub mac: Option<MacAddress>,
    pub mtu: Option<u32>,
    pub bridge: Option<u32>,
    /// Whether it is to do without an IPv6 address of its own. It is told so with whatever else it is told.
    pub unaddressed: bool,
}

/// Brings a link to what it is to be and up, in one message; says whether anything had to be changed.
pub(super) async fn bring(netlink: &Netlink, link: &Link, wanted: &Wanted<'_>) -> Result<bool, NetworkError> {
    let mut message = about(link.index);
    let attributes = &mut message.attributes;
    if let Some(alias) = wanted.alias.filter(|alias| link.alias.as_deref() != Some(*alias)) {
        attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    if let Some(mac) = wanted.mac.filter(|mac| link.mac != Some(*mac)) {
        attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| link.mtu != *mtu) {
        attributes.push(LinkAttribute::Mtu(mtu));
    }
    if let Some(bridge) = wanted.bridge.filter(|bridge| link.bridge != Some(*bridge)) {
        attributes.push(LinkAttribute::Controller(bridge));
    }
    if attributes.is_empty() && link.up {
        return Ok(false);
    }
    if wanted.unaddressed {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
    }
    set_up(&mut message);
    let fail = |source| NetworkError::Link { deed: "set", link: link.name.clone(), source };
    netlink.set_link(message).await.map_err(fail)?;
    Ok(true)
}

/// Lets a bridge send frames back through the port that they came from.
pub(super) async fn turn_back(netlink: &Netlink, port: &Link) -> Result<(), NetworkError> {
    if port.hairpin {
        return Ok(());
    }
    let mut message = about(port.index);
    let data = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let infos = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)];
    message.attributes.push(LinkAttribute::LinkInfo(infos));
    let fail = |source| NetworkError::Link { deed: "set", link: port.name.clone(), source };
    netlink.change_link(message).await.map_err(fail)
}

/// What became of a link's addresses.
pub(super) struct Addresses {
    pub added: BTreeSet<IpNet>,
    /// Whether any was removed, which takes routes along.
    pub removed: bool,
}

/// Gives a link exactly these addresses, link-local ones left aside.
pub(super) async fn bring_addresses(
    netlink: &Netlink,
    link: &Link,
    mut current: BTreeSet<IpNet>,
    wanted: &BTreeSet<IpNet>,
) -> Result<Addresses, NetworkError> {
    let fail = |net: &IpNet| {
        let (address, link) = (net.to_string(), link.name.clone());
        move |source| NetworkError::Address { deed: "remove", address, link, source }
    };
    let mut removed = false;
    for net in current.difference(wanted) {
        netlink.remove_address(link.index, *net).await.map_err(fail(net))?;
        fail_point!("link.address.removed");
        removed = true;
    }
    if removed {
        // The first IPv4 address of a subnet takes the others of it along.
        current = addresses(netlink, link).await?;
    }
    let added: BTreeSet<IpNet> = wanted.difference(&current).copied().collect();
    for net in &added {
        add_address(netlink, link, *net).await?;
    }
    Ok(Addresses { added, removed })
}

/// Gives a link an address.
pub(super) async fn add_address(netlink: &Netlink, link: &Link, net: IpNet) -> Result<(), NetworkError> {
    netlink.add_address(link.index, net).await.map_err(|source| match net {
        // The kernel's only reason for this error here.
        IpNet::V6(_) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            NetworkError::NoIpv6 { address: net.to_string(), link: link.name.clone() }
        }
        _ => NetworkError::Address { deed: "add", address: net.to_string(), link: link.name.clone(), source },
    })?;
    fail_point!("link.address.added");
    Ok(())
}

/// Lists the addresses of one link.
pub(super) async fn addresses(netlink: &Netlink, link: &Link) -> Result<BTreeSet<IpNet>, NetworkError> {
    let list = netlink.addresses(Some(link.index)).await;
    let list = list.map_err(|source| NetworkError::List { what: "addresses", source })?;
    Ok(list.iter().map(|address| address.net).collect())
}

/// Lists the subnets of a link's addresses that no route over the link leads to: the kernel makes one with every address, and
/// never again.
pub(super) fn unrouted<'a>(
    link: &'a Link,
    addresses: impl IntoIterator<Item = &'a IpNet> + 'a,
    routes: &'a [Route],
) -> impl Iterator<Item = &'a IpNet> + 'a {
    let leads = |subnet: IpNet| {
        let over = |route: &Route| route.output == Some(link.index) && route.gateway.is_none();
        routes.iter().any(|route| over(route) && route.destination == subnet)
    };
    let subnets = addresses.into_iter().filter(|net| net.prefix_len() < net.max_prefix_len());
    subnets.filter(move |net| link.up && !leads(net.trunc()))
}

/// Makes the routes again that the kernel made with a link's addresses, as it made them.
pub(super) async fn bring_connected(
    netlink: &Netlink,
    link: &Link,
    addresses: &BTreeSet<IpNet>,
    routes: &[Route],
) -> Result<(), NetworkError> {
    for net in unrouted(link, addresses, routes) {
        let (source, priority) = match net {
            IpNet::V4(net) => (Some(net.addr().into()), 0),
            IpNet::V6(_) => (None, CONNECTED_METRIC_V6),
        };
        let (destination, output) = (net.trunc(), Some(link.index));
        let route = Route { destination, gateway: None, source, output, automatic: true, priority };
        netlink.add_route(&route).await.map_err(|source| NetworkError::Route {
            deed: "add",
            destination: destination.to_string(),
            link: link.name.clone(),
            source,
        })?;
        fail_point!("link.route.added");
    }
    Ok(())
}

/// A message about an existing link.
pub(super) fn about(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// A message that brings a link up.
pub(super) fn up(index: u32) -> LinkMessage {
    let mut message = about(index);
    set_up(&mut message);
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// A message that makes a link of this name.
pub(super) fn new_link(name: &str, mac: MacAddress, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Address(mac.0.to_vec()), LinkAttribute::Mtu(mtu)];
    message
}

/// Makes the new link a bridge.
pub(super) fn as_bridge(mut message: LinkMessage) -> LinkMessage {
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    message
}

/// Makes the new link a macvlan link whose stations reach each other without the parent's switch.
pub(super) fn as_macvlan(mut message: LinkMessage, parent: u32) -> LinkMessage {
    let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]);
    message.attributes.push(LinkAttribute::Link(parent));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(data)]));
    message
}
