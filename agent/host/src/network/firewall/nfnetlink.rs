//! nfnetlink: what the kernel's packet filter and flow table are asked without a program between.

use std::io;
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

/// `struct nfgenmsg`: family, version, resource id.
const NFGENMSG: usize = 4;
/// `NFNL_SUBSYS_NFTABLES` in the upper byte, `NFT_MSG_GETGEN` in the lower.
const GET_GENERATION: u16 = (10 << 8) | 16;
/// `NFT_MSG_GETTABLE` of the same subsystem.
const GET_TABLE: u16 = (10 << 8) | 1;
/// `NFTA_TABLE_NAME`.
const TABLE_NAME: u16 = 1;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFTA_GEN_ID`, a number in network byte order.
const GENERATION: u16 = 1;

/// One socket for all questions, opened in the calling thread's network namespace with the first.
///
/// The close of such a socket waits until the kernel has freed what the last transaction took out of its tables, 3 to 15 ms
/// after a deletion: none is opened for a single question.
#[derive(Debug, Default)]
pub(in crate::network) struct Netfilter(Mutex<Option<Socket>>);

impl Netfilter {
    /// Puts a question, or several, to the kernel.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Socket) -> io::Result<T>) -> io::Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match kept.take() {
            Some(socket) => socket,
            None => connect()?,
        };
        let answer = question(&socket);
        // After any other error there may be answers left that nobody took.
        if answer.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound) {
            *kept = Some(socket);
        }
        answer
    }

    /// Asks for the number of the last transaction that changed any table of this network namespace.
    ///
    /// As long as it stays the same, a listing made at it is still what the kernel has.
    pub(super) fn generation(&self) -> io::Result<u32> {
        let mut generation = None;
        self.ask(|socket| {
            send(socket, GET_GENERATION, NLM_F_REQUEST | NLM_F_ACK, libc::AF_UNSPEC as u8, &[])?;
            receive(socket, |_, attributes| {
                let mut all = NlasIterator::new(attributes).filter_map(Result::ok);
                let number = all.find(|attribute| attribute.kind() == GENERATION);
                generation = number.and_then(|number| number.value().try_into().ok()).map(u32::from_be_bytes);
            })
        })?;
        let none = || io::Error::new(io::ErrorKind::InvalidData, "the kernel gave no generation of its tables");
        generation.ok_or_else(none)
    }

    /// Asks whether there is a table of family `inet` with this name.
    pub(super) fn has_table(&self, name: &str) -> io::Result<bool> {
        // struct nlattr: length and type, then the name with its zero byte, filled up to four bytes.
        let mut attribute = ((4 + name.len() + 1) as u16).to_ne_bytes().to_vec();
        attribute.extend(TABLE_NAME.to_ne_bytes());
        attribute.extend(name.as_bytes());
        attribute.resize((4 + name.len() + 1).next_multiple_of(4), 0);
        let asked = self.ask(|socket| {
            send(socket, GET_TABLE, NLM_F_REQUEST | NLM_F_ACK, INET, &attribute)?;
            receive(socket, |_, _| {})
        });
        match asked {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// Sends one message of a subsystem's type about a family.
pub(super) fn send(socket: &Socket, kind: u16, flags: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
    let length = 16 + NFGENMSG + attributes.len();
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    socket.send_to(&message, &netlink_sys::SocketAddr::new(0, 0), 0).map(|_| ())
}

/// Takes messages up to the end of the answer: an acknowledgement, an error, or the end of a list.
pub(super) fn receive(socket: &Socket, mut take: impl FnMut(u8, &[u8])) -> io::Result<()> {
    loop {
        let mut buffer = Vec::with_capacity(64 * 1024);
        socket.recv_from(&mut buffer, 0)?;
        let mut datagram = buffer.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            let body = message.payload();
            let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
            match message.message_type() {
                netlink_packet_core::NLMSG_ERROR | netlink_packet_core::NLMSG_DONE if code < 0 => {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                netlink_packet_core::NLMSG_ERROR | netlink_packet_core::NLMSG_DONE => return Ok(()),
                _ if body.len() > NFGENMSG => take(body[0], &body[NFGENMSG..]),
                _ => {}
            }
            datagram = datagram.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
