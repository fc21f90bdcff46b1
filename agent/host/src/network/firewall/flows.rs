//! Forgets UDP flows that go another way than the table says now.
//!
//! The kernel asks the table about the first packet of a flow only (conntrack). A client that keeps sending from one
//! port would reach a container's former address, or nobody, for as long as it sends. TCP needs nothing of this: a
//! connection is with one end and ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_plan::Firewall;
use evenkeel_schema::Protocol;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlaBuffer, NlasIterator};
use netlink_sys::Socket;

use super::nfnetlink::{Netfilter, receive, send};

/// Where packets to a local address and UDP port are to go.
#[derive(Debug, Default)]
pub(super) struct Ways {
    local: BTreeSet<IpAddr>,
    subnets: Vec<IpNet>,
    /// By the one host address that is published and by port; every address and family where there is none.
    targets: BTreeMap<(Option<IpAddr>, bool, u16), (IpAddr, u16)>,
}

/// One UDP flow as it began, and where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    family: u8,
    pub to: (IpAddr, u16),
    pub answered_by: (IpAddr, u16),
    /// The attributes that name it when it is to be deleted.
    name: Vec<u8>,
}

impl Ways {
    /// Takes the ways from a firewall and the addresses that the host has itself.
    pub(super) fn of(firewall: &Firewall, local: BTreeSet<IpAddr>) -> Ways {
        let udp = firewall.ports.iter().filter(|published| published.port.protocol == Protocol::Udp);
        let way = |published: &evenkeel_plan::PublishedPort| {
            let (port, target) = (published.port, published.target);
            ((port.host_ip, target.is_ipv4(), port.host_port), (target, port.container_port))
        };
        let subnets = firewall.networks.iter().flat_map(|network| network.subnets.clone()).collect();
        Ways { local, subnets, targets: udp.map(way).collect() }
    }

    /// Tells whether a flow goes where its next packet would not be sent if it were the first.
    pub(super) fn is_stale(&self, flow: &Flow) -> bool {
        let (address, port) = flow.to;
        if !self.local.contains(&address) && !address.is_loopback() {
            return false;
        }
        let family = address.is_ipv4();
        let target = self.targets.get(&(Some(address), family, port));
        match target.or_else(|| self.targets.get(&(None, family, port))) {
            // See the table: that address is left to the host.
            _ if address == IpAddr::V6(Ipv6Addr::LOCALHOST) => false,
            Some(target) => flow.answered_by != *target,
            // Not published any more, where it was ours.
            None => flow.answered_by != flow.to && self.subnets.iter().any(|net| net.contains(&flow.answered_by.0)),
        }
    }
}

/// Deletes stale flows; says how many there were. Blocks for as long as the kernel lists its flows.
pub(super) fn forget_stale(netfilter: &Netfilter, ways: &Ways) -> io::Result<usize> {
    netfilter.ask(|socket| {
        let stale: Vec<Flow> = list(socket)?.into_iter().filter(|flow| ways.is_stale(flow)).collect();
        for flow in &stale {
            send(socket, DELETE, NLM_F_REQUEST | NLM_F_ACK, flow.family, &flow.name)?;
            match receive(socket, |_, _| {}) {
                // It ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(stale.len())
    })
}

/// Types of messages: `NFNL_SUBSYS_CTNETLINK` in the upper byte, `IPCTNL_MSG_CT_*` in the lower.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
/// Attributes of a flow (`enum ctattr_type`) and of a direction of it.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;

fn list(socket: &Socket) -> io::Result<Vec<Flow>> {
    send(socket, GET, NLM_F_REQUEST | NLM_F_DUMP, libc::AF_UNSPEC as u8, &[])?;
    let mut flows = Vec::new();
    receive(socket, |family, body| flows.extend(flow(family, body)))?;
    Ok(flows)
}

/// Reads a flow, if it is one of UDP.
pub(super) fn flow(family: u8, attributes: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut name) = (None, None, Vec::new());
    for attribute in NlasIterator::new(attributes).filter_map(Result::ok) {
        match attribute.kind() {
            TUPLE_ORIGINAL => original = ends(attribute.value()),
            TUPLE_REPLY => reply = ends(attribute.value()),
            ID => {}
            _ => continue,
        }
        if attribute.kind() != TUPLE_REPLY {
            put(&mut name, &attribute);
        }
    }
    let ((_, to), (answered_by, _)) = (original?, reply?);
    Some(Flow { family, to, answered_by, name })
}

/// Copies an attribute with its padding.
fn put(attributes: &mut Vec<u8>, attribute: &NlaBuffer<&[u8]>) {
    attributes.extend(attribute.length().to_ne_bytes());
    // The flag says that there are attributes within.
    let nested = if attribute.nested_flag() { libc::NLA_F_NESTED as u16 } else { 0 };
    attributes.extend((attribute.kind() | nested).to_ne_bytes());
    attributes.extend(attribute.value());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

type End = (IpAddr, u16);

/// Reads source and destination of one direction, if it is one of UDP.
fn ends(tuple: &[u8]) -> Option<(End, End)> {
    let (mut source, mut destination, mut ports, mut udp) = (None, None, (0, 0), false);
    for part in NlasIterator::new(tuple).filter_map(Result::ok) {
        for field in NlasIterator::new(part.value()).filter_map(Result::ok) {
            match (part.kind(), field.kind()) {
                (TUPLE_IP, 1 | 3) => source = address(field.value()),
                (TUPLE_IP, 2 | 4) => destination = address(field.value()),
                (TUPLE_PROTOCOL, 1) => udp = field.value() == [UDP],
                (TUPLE_PROTOCOL, 2) => ports.0 = port(field.value())?,
                (TUPLE_PROTOCOL, 3) => ports.1 = port(field.value())?,
                _ => {}
            }
        }
    }
    udp.then_some(((source?, ports.0), (destination?, ports.1)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let six = || <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    four.or_else(|_| six()).ok()
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}
