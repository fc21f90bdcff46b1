//! What is in a namespace, listed at one go by a thread that is in it.
//!
//! For looking at many namespaces: no runtime, no connection that lives on, four questions on one socket. Work in a
//! namespace goes over `netlink.rs`.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::answers::{address, link, route};
use super::netlink::{Address, DUMP_ATTEMPTS, Link, Route, all_addresses, all_links, main_routes, socket};

/// The kernel fills no more than this with one part of a list (netlink(7)).
const PART_SIZE: usize = 32 * 1024;

/// The links of a namespace with all that hangs on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Inventory {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

impl Inventory {
    /// Lists the namespace that the calling thread is in. The error comes with what could not be listed.
    pub fn of_thread() -> Result<Inventory, (&'static str, io::Error)> {
        let mut lists = Lists::open().map_err(|error| ("links", error))?;
        let links = lists.read(&all_links()).map_err(|error| ("links", error))?;
        let addresses = lists.read(&all_addresses()).map_err(|error| ("addresses", error))?;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            match lists.read(&main_routes(family, None)) {
                Ok(answers) => routes.extend(answers),
                // A namespace has no main table before its first route.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(("routes", error)),
            }
        }
        Ok(Inventory {
            links: links.into_iter().filter_map(link).collect(),
            addresses: addresses.into_iter().filter_map(address).collect(),
            routes: routes.into_iter().filter_map(route).collect(),
        })
    }
}

/// A socket that is asked for one list after the other.
struct Lists {
    socket: Socket,
    part: Vec<u8>,
}

impl Lists {
    fn open() -> io::Result<Lists> {
        let socket = socket()?;
        socket.set_non_blocking(false)?;
        Ok(Lists { socket, part: vec![0; PART_SIZE] })
    }

    /// Reads a whole list; one that the kernel says was torn by a change is asked for again.
    fn read(&mut self, question: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.try_read(question) {
                Ok((answers, false)) => return Ok(answers),
                Ok((_, true)) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the kernel's list changed during every attempt to read it"))
    }

    fn try_read(&mut self, question: &RouteNetlinkMessage) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut message = NetlinkMessage::from(question.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let (mut answers, mut torn) = (Vec::new(), false);
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.part, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = &self.part[..length];
            while !rest.is_empty() {
                let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages lie at multiples of four bytes.
                let size = (reply.header.length as usize).next_multiple_of(4).clamp(4, rest.len());
                rest = &rest[size..];
                torn |= reply.header.flags & NLM_F_DUMP_INTR != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok((answers, torn)),
                    _ => {}
                }
            }
        }
    }
}
