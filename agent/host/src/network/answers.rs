//! What rtnetlink answers, brought to the few fields that are looked at here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_plan::MacAddress;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoMacVlan, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, MacVlanMode, State,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{Address, Link, Route};

pub(super) fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.operational = state == State::Up,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddress),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Link(index) => link.below = Some(index),
            LinkAttribute::LinkNetNsId(_) => link.below_elsewhere = true,
            LinkAttribute::Controller(index) => link.bridge = Some(index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind.to_string().into(),
                        LinkInfo::Data(InfoData::MacVlan(data)) => {
                            link.macvlan_mode = data.iter().find_map(macvlan_mode);
                        }
                        LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
                            link.hairpin = data.contains(&InfoBridgePort::HairpinMode(true));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn macvlan_mode(info: &InfoMacVlan) -> Option<String> {
    let InfoMacVlan::Mode(mode) = info else { return None };
    Some(match mode {
        MacVlanMode::Private => "private".to_owned(),
        MacVlanMode::Vepa => "vepa".to_owned(),
        MacVlanMode::Bridge => "bridge".to_owned(),
        MacVlanMode::Passthrough => "passthru".to_owned(),
        MacVlanMode::Source => "source".to_owned(),
        other => format!("{other:?}"),
    })
}

pub(super) fn address(answer: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let (mut local, mut prefix) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => prefix = Some(*address),
            _ => {}
        }
    }
    let ip = local.or(prefix)?;
    let link_local = match ip {
        // Somebody may run a subnet of these on purpose, then with a wider scope.
        IpAddr::V4(ip) => ip.is_link_local() && message.header.scope == AddressScope::Link,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let net = IpNet::new(ip, message.header.prefix_len).ok()?;
    (!link_local).then_some(Address { index: message.header.index, net })
}

pub(super) fn route(answer: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut gateway, mut source, mut output, mut priority) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => output = Some(*index),
            RouteAttribute::Priority(metric) => priority = *metric,
            RouteAttribute::Table(number) => table = *number,
            // The first of several ways stands for all: whoever asks wants to know where the prefix goes.
            RouteAttribute::MultiPath(hops) => output = hops.first().map(|hop| hop.interface_index),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.kind == RouteType::Multicast {
        return None;
    }
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        gateway,
        source,
        output,
        automatic: matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra),
        priority,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
