//! One rtnetlink connection to one network namespace, and the messages that are asked of it.
//!
//! Answers are brought to the few fields that are looked at (`answers.rs`). Nothing is decided here, and nothing is kept:
//! every question goes to the kernel. A dump that the kernel says was torn by a change is asked for again.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::sync::Arc;

use evenkeel_plan::{LinkKind, MacAddress};
use futures_util::StreamExt;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, TokioSocket};
use rtnetlink::Handle;

use super::answers::{address, link, route};

/// How often a torn dump is asked for again before that is an error: the host would have to change without a pause.
pub(super) const DUMP_ATTEMPTS: usize = 20;

/// A connection to one namespace; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    handle: Handle,
    /// The kernel refuses a second dump on a socket while one is under way (`EBUSY`).
    dumping: Arc<tokio::sync::Mutex<()>>,
    _connection: Arc<Connection>,
}

/// The task that moves messages; it ends with the last clone.
#[derive(Debug)]
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A link, as far as anyone here asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub macvlan_mode: Option<String>,
    /// Index of the link below, or of the other end of a veth pair (`IFLA_LINK`).
    pub below: Option<u32>,
    /// Index of the bridge that it is a port of (`IFLA_MASTER`).
    pub bridge: Option<u32>,
    /// Whether `below` counts in another namespace (`IFLA_LINK_NETNSID`).
    pub below_elsewhere: bool,
    /// Whether its bridge sends frames back where they came from.
    pub hairpin: bool,
    pub up: bool,
    /// Whether it takes packets (RFC 2863): some moments after it is up, and only then does its bridge forward for it.
    pub operational: bool,
    pub loopback: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    pub alias: Option<String>,
}

/// An address of a link. Link-local ones that the kernel or a zero-configuration daemon made are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub index: u32,
    pub net: IpNet,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    /// The address that the host has in packets over it, where it states one.
    pub source: Option<IpAddr>,
    pub output: Option<u32>,
    /// Made by the kernel itself for an address, or from a router's advertisement.
    pub automatic: bool,
    pub priority: u32,
}

impl Route {
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

impl Netlink {
    /// Connects to the namespace that the calling thread is in.
    pub fn open() -> io::Result<Netlink> {
        Netlink::over(socket()?)
    }

    /// Talks over a socket, to the namespace that it was opened in. Needs a runtime.
    pub fn over(socket: Socket) -> io::Result<Netlink> {
        // SAFETY: the descriptor was just given up by its owner, so this is its only one.
        let socket = unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) };
        let (mut connection, handle, _) = rtnetlink::from_socket(socket);
        // Without these a connection that died looks like one that said yes.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let task = tokio::spawn(connection);
        Ok(Netlink { handle, dumping: Arc::default(), _connection: Arc::new(Connection(task)) })
    }

    pub async fn links(&self) -> io::Result<Vec<Link>> {
        Ok(self.dump(&all_links()).await?.into_iter().filter_map(link).collect())
    }

    pub async fn link_by_name(&self, name: &str) -> io::Result<Option<Link>> {
        self.one_link(0, Some(LinkAttribute::IfName(name.to_owned()))).await
    }

    pub async fn link_by_index(&self, index: u32) -> io::Result<Option<Link>> {
        self.one_link(index, None).await
    }

    async fn one_link(&self, index: u32, name: Option<LinkAttribute>) -> io::Result<Option<Link>> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        question.attributes.extend(name);
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(question));
        message.header.flags = NLM_F_REQUEST;
        match self.ask(message).await {
            Ok((answers, _)) => Ok(answers.into_iter().find_map(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the addresses of one link, or of all.
    pub async fn addresses(&self, index: Option<u32>) -> io::Result<Vec<Address>> {
        let mut question = AddressMessage::default();
        question.header.index = index.unwrap_or(0);
        let answers = self.dump(&RouteNetlinkMessage::GetAddress(question)).await?;
        let all = answers.into_iter().filter_map(address);
        Ok(all.filter(|address| index.is_none_or(|index| address.index == index)).collect())
    }

    /// Lists the main table's routes over one link, or all.
    pub async fn routes(&self, index: Option<u32>) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            match self.dump(&main_routes(family, index)).await {
                Ok(answers) => routes.extend(answers.into_iter().filter_map(route)),
                // A namespace has no main table before its first route.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        routes.retain(|route| index.is_none_or(|index| route.output == Some(index)));
        Ok(routes)
    }

    pub async fn create_link(&self, message: LinkMessage) -> io::Result<()> {
        self.tell(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await
    }

    /// Changes what belongs to a link's kind, which `set_link` passes over.
    pub async fn change_link(&self, message: LinkMessage) -> io::Result<()> {
        self.tell(RouteNetlinkMessage::NewLink(message), 0).await
    }

    pub async fn set_link(&self, message: LinkMessage) -> io::Result<()> {
        self.tell(RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Deletes a link; one that is gone already is fine.
    pub async fn delete_link(&self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        gone_is_fine(self.tell(RouteNetlinkMessage::DelLink(message), 0).await)
    }

    /// Adds an address; one that is there already is fine.
    pub async fn add_address(&self, index: u32, net: IpNet) -> io::Result<()> {
        let message = address_message(index, net);
        match self.tell(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    pub async fn remove_address(&self, index: u32, net: IpNet) -> io::Result<()> {
        gone_is_fine(self.tell(RouteNetlinkMessage::DelAddress(address_message(index, net)), 0).await)
    }

    /// Adds a route in front of those of the same destination; one that is there already is fine.
    pub async fn add_route(&self, route: &Route) -> io::Result<()> {
        match self.tell(RouteNetlinkMessage::NewRoute(route_message(route)), NLM_F_CREATE).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    pub async fn remove_route(&self, route: &Route) -> io::Result<()> {
        let mut message = route_message(route);
        // Whoever made it: these stand for "any" in a deletion.
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        message.header.flags = RouteFlags::empty();
        gone_is_fine(self.tell(RouteNetlinkMessage::DelRoute(message), 0).await)
    }

    /// Gives a namespace a number in this one; one that has a number keeps it.
    pub async fn number_namespace(&self, namespace: &File) -> io::Result<()> {
        let mut message = NsidMessage::default();
        let descriptor = namespace.as_raw_fd() as u32;
        // -1: the kernel chooses.
        message.attributes = vec![NsidAttribute::Fd(descriptor), NsidAttribute::Id(-1)];
        match self.tell(RouteNetlinkMessage::NewNsId(message), 0).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    async fn tell(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.ask(message).await.map(|_| ())
    }

    async fn dump(&self, question: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let _one_at_a_time = self.dumping.lock().await;
        for _ in 0..DUMP_ATTEMPTS {
            let mut message = NetlinkMessage::from(question.clone());
            message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            match self.ask(message).await {
                Ok((answers, false)) => return Ok(answers),
                Ok((_, true)) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the kernel's list changed during every attempt to read it"))
    }

    /// Sends one message and gathers all that comes back, and whether the kernel says it was torn.
    async fn ask(&self, message: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let lost = || io::Error::new(io::ErrorKind::NotConnected, "the netlink connection is gone");
        let single = message.header.flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut replies = self.handle.clone().request(message).map_err(|_| lost())?;
        let (mut answers, mut torn, mut complete) = (Vec::new(), false, false);
        while let Some(reply) = replies.next().await {
            torn |= reply.header.flags & NLM_F_DUMP_INTR != 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(answer) => {
                    answers.push(answer);
                    complete |= single;
                }
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(done) if done.code < 0 => return Err(io::Error::from_raw_os_error(-done.code)),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => complete = true,
                _ => {}
            }
        }
        if complete { Ok((answers, torn)) } else { Err(lost()) }
    }
}

/// Asks for every link, without counters.
pub(super) fn all_links() -> RouteNetlinkMessage {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(question)
}

/// Asks for every address.
pub(super) fn all_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Asks for the main table's routes of one family, over one link or all.
pub(super) fn main_routes(family: AddressFamily, index: Option<u32>) -> RouteNetlinkMessage {
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.table = RouteHeader::RT_TABLE_MAIN;
    question.attributes.extend(index.map(RouteAttribute::Oif));
    RouteNetlinkMessage::GetRoute(question)
}

/// Opens an rtnetlink socket in the namespace that the calling thread is in.
pub(super) fn socket() -> io::Result<Socket> {
    let socket = Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    // Lets the kernel filter dumps by link and table, instead of ignoring the filter silently.
    socket.set_netlink_get_strict_chk(true)?;
    socket.set_cap_ack(true)?;
    Ok(socket)
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EADDRNOTAVAIL | libc::ESRCH)) => Ok(()),
        other => other,
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Whose address it is was decided before; waiting a second for a duplicate would only delay the start.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
    }
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = match route.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    header.destination_prefix_length = route.destination.prefix_len();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = if route.automatic { RouteProtocol::Kernel } else { RouteProtocol::Static };
    header.kind = RouteType::Unicast;
    header.scope = match (&route.destination, route.gateway) {
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if !route.is_default() {
        message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    if let Some(gateway) = route.gateway {
        // A gateway may lie outside of every subnet of the link, as some hosting networks have it.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.priority != 0 {
        message.attributes.push(RouteAttribute::Priority(route.priority));
    }
    message.attributes.extend(route.output.map(RouteAttribute::Oif));
    message
}
