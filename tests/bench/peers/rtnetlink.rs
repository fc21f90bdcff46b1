//! The few rtnetlink(7) messages of a bridge and its ports, sent without waiting longer than for each answer.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A socket in the namespace that the thread was in when it was opened.
pub struct Rtnetlink(Socket);

impl Rtnetlink {
    pub fn open() -> Rtnetlink {
        let socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
        socket.connect(&SocketAddr::new(0, 0)).expect("the kernel's end");
        Rtnetlink(socket)
    }

    /// Makes a bridge that is up and gives its index.
    pub fn bridge(&mut self, name: &str) -> u32 {
        let mut message = up(name);
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.tell(RouteNetlinkMessage::NewLink(message));
        self.index(name)
    }

    /// Makes a veth pair: one end a port of the bridge here, the other one in the namespace of a process.
    pub fn veth(&mut self, name: &str, bridge: u32, inside: &str, pid: u32) {
        // It cannot be up before the pair is whole.
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(inside.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsPid(pid));
        let mut message = up(name);
        message.attributes.push(LinkAttribute::Controller(bridge));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.tell(RouteNetlinkMessage::NewLink(message));
    }

    /// Brings a link up and gives its index.
    pub fn bring_up(&mut self, name: &str) -> u32 {
        let index = self.index(name);
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.tell(RouteNetlinkMessage::SetLink(message));
        index
    }

    pub fn address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = prefix;
        let address = IpAddr::from(address);
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.tell(RouteNetlinkMessage::NewAddress(message));
    }

    pub fn default_route(&mut self, index: u32, gateway: Ipv4Addr) {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
        self.tell(RouteNetlinkMessage::NewRoute(message));
    }

    /// Gives the index of a link of this name.
    pub fn index(&mut self, name: &str) -> u32 {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(question), NLM_F_REQUEST) {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => link.header.index,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn tell(&mut self, message: RouteNetlinkMessage) {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.ask(message, flags) {
            NetlinkPayload::Error(answer) if answer.code.is_none() => {}
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> NetlinkPayload<RouteNetlinkMessage> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.0.send(&buffer, 0).expect("the kernel takes it");
        let mut answer = Vec::with_capacity(16 * 1024);
        self.0.recv(&mut answer, 0).expect("the kernel's answer");
        NetlinkMessage::deserialize(&answer).expect("a netlink message").payload
    }
}

fn up(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}
