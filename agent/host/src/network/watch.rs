//! Hears from the kernel that something of the network changed.
//!
//! A hint only says where to look again, never what changed: one may come late, twice, or for what this process did
//! itself, and coalescing is the receiver's matter. What cannot concern us is left out where that is told by a few bytes.

use std::future::poll_fn;
use std::io;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, TokioSocket};
use tokio::sync::mpsc;

use super::{NetworkError, Networks};

/// Where to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    Link,
    Address,
    Route,
    Firewall,
    /// More happened than could be told: look at everything.
    Overrun,
}

/// Multicast groups of rtnetlink(7): links, addresses and routes of both families.
const ROUTE_GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// `NFNLGRP_NFTABLES` of nfnetlink.
const NFTABLES_GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message's type.
const NFTABLES_SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`, which ends each transaction and names no table.
const NEW_GENERATION: u16 = 15;
/// The length of `struct nfgenmsg`, before the attributes.
const NFGENMSG: usize = 4;
/// Hints that wait for the receiver. Beyond them the kernel's own buffer fills, and then the hint is `Overrun`.
const WAITING: usize = 256;
/// Longer than any one message of these groups.
const BUFFER: usize = 64 * 1024;

impl Networks {
    /// Watches links, addresses and routes of this namespace and of those of its containers, and our firewall table.
    ///
    /// Ends when the receiver is dropped. Needs a runtime.
    pub fn watch(&self) -> Result<mpsc::Receiver<Hint>, NetworkError> {
        let fail = |what| move |source| NetworkError::Watch { what, source };
        let routes = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS).map_err(fail("links, addresses and routes"))?;
        // Without this right the containers' namespaces are looked at by the timer only.
        if let Err(error) = routes.socket_ref().set_listen_all_namespaces(true) {
            tracing::debug!(%error, "changes inside containers' network namespaces are not told");
        }
        let tables = subscribe(NETLINK_NETFILTER, &[NFTABLES_GROUP]).map_err(fail("firewall tables"))?;
        let (hints, receiver) = mpsc::channel(WAITING);
        let table = self.instance.as_str().to_owned();
        tokio::spawn(forward(routes, hints.clone(), route_hint));
        tokio::spawn(forward(tables, hints, move |kind, body| table_hint(kind, body, &table)));
        Ok(receiver)
    }
}

fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    for group in groups {
        socket.socket_ref().add_membership(*group)?;
    }
    // As much as an unprivileged limit gives; a larger burst is an overrun, which is handled.
    socket.socket_ref().set_rx_buf_sz(4 * 1024 * 1024_i32)?;
    Ok(socket)
}

/// Turns messages into hints until nobody wants them. Hints of one kind in one datagram are one.
async fn forward(socket: TokioSocket, hints: mpsc::Sender<Hint>, hint: impl Fn(u16, &[u8]) -> Option<Hint>) {
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        let received = tokio::select! {
            received = poll_fn(|context| socket.poll_recv_from(context, &mut buffer)) => received,
            () = hints.closed() => return,
        };
        let found = match received {
            Ok(_) => hints_in(&buffer, &hint),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => vec![Hint::Overrun],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the kernel's changes are not told any more");
                // The receiver's timer still looks; once more now, since something may be lost.
                let _ = hints.send(Hint::Overrun).await;
                return;
            }
        };
        for hint in found {
            if hints.send(hint).await.is_err() {
                return;
            }
        }
    }
}

pub(super) fn hints_in(mut datagram: &[u8], hint: impl Fn(u16, &[u8]) -> Option<Hint>) -> Vec<Hint> {
    let mut found = Vec::new();
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        if let Some(hint) = hint(message.message_type(), message.payload())
            && !found.contains(&hint)
        {
            found.push(hint);
        }
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    found
}

/// Reads the first bytes of a message of rtnetlink: family, and of a route the table.
pub(super) fn route_hint(kind: u16, body: &[u8]) -> Option<Hint> {
    match kind {
        // A bridge port's state, which comes in addition to the link's own message.
        libc::RTM_NEWLINK | libc::RTM_DELLINK if body.first() == Some(&(libc::AF_BRIDGE as u8)) => None,
        libc::RTM_NEWLINK | libc::RTM_DELLINK => Some(Hint::Link),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Hint::Address),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => (body.get(4) == Some(&libc::RT_TABLE_MAIN)).then_some(Hint::Route),
        _ => None,
    }
}

/// Reads the first attribute of a message of nftables: for every kind of object it is the table's name.
pub(super) fn table_hint(kind: u16, body: &[u8], table: &str) -> Option<Hint> {
    if kind >> 8 != NFTABLES_SUBSYSTEM || kind & 0xff == NEW_GENERATION {
        return None;
    }
    // Length and type, two bytes each, then the text with its ending zero.
    let name = body.get(NFGENMSG + 4..)?;
    let name = name.split(|byte| *byte == 0).next()?;
    (name == table.as_bytes()).then_some(Hint::Firewall)
}
