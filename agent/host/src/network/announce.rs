//! Tells neighbours which hardware address an address is at now: gratuitous ARP (RFC 5227, section 3) and unsolicited
//! neighbour advertisements (RFC 4861, section 7.2.6).
//!
//! Without it a host that spoke to the address's former holder would send to that for minutes. One frame per address
//! is sent on the link, in the namespace of the calling thread; nothing is waited for.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use evenkeel_plan::MacAddress;
use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetworkError;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// Announces addresses of one link, and gives the socket: its closing waits until the kernel has no more use for it.
pub(super) fn announce(
    index: u32,
    interface: &str,
    mac: MacAddress,
    addresses: &BTreeSet<IpNet>,
) -> Result<OwnedFd, NetworkError> {
    send(index, addresses.iter().map(|net| frame(mac, net.addr())))
        .map_err(|source| NetworkError::Announce { interface: interface.to_owned(), source })
}

fn send(index: u32, frames: impl Iterator<Item = Vec<u8>>) -> io::Result<OwnedFd> {
    // Protocol 0: this socket sends and is given nothing to read.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    for frame in frames {
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: both pointers lead to live values of the lengths given beside them.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            let error = io::Error::last_os_error();
            // The link went down or its queue is full: neighbours will ask.
            if !matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS | libc::EAGAIN)) {
                return Err(error);
            }
        }
    }
    Ok(socket)
}

fn frame(mac: MacAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => neighbour_advertisement(mac, address),
    }
}

/// An ARP request for one's own address, to everyone.
pub(super) fn gratuitous_arp(mac: MacAddress, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths of their addresses, operation "request".
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// An advertisement with the override flag and the target link-layer address, to all nodes.
pub(super) fn neighbour_advertisement(mac: MacAddress, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let length = message.len() as u16;
    let mut pseudo_header = Vec::with_capacity(40);
    pseudo_header.extend(address.octets());
    pseudo_header.extend(ALL_NODES.octets());
    pseudo_header.extend(u32::from(length).to_be_bytes());
    pseudo_header.extend([0, 0, 0, ICMPV6]);
    let sum = checksum(pseudo_header.iter().chain(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Hop limit 255, or receivers ignore it.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: MacAddress, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(90);
    frame.extend(to);
    frame.extend(from.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The Internet checksum (RFC 1071) over an even number of bytes.
pub(super) fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u16 {
    let mut sum: u32 = bytes.enumerate().map(|(at, byte)| u32::from(*byte) << (8 * (1 - at % 2))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
