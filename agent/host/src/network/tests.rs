//! What needs no kernel: frames, and the sorting of messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_plan::MacAddress;

use super::announce::{checksum, gratuitous_arp, neighbour_advertisement};
use super::watch::{Hint, hints_in, route_hint, table_hint};

const MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x2a]);

#[test]
fn a_gratuitous_arp_asks_everyone_for_ones_own_address() {
    let frame = gratuitous_arp(MAC, Ipv4Addr::new(10, 0, 36, 200));
    assert_eq!(
        hex::encode(&frame),
        concat!(
            "ffffffffffff02000000002a0806",
            "0001080006040001",
            "02000000002a",
            "0a0024c8",
            "000000000000",
            "0a0024c8",
        )
    );
}

#[test]
fn an_unsolicited_advertisement_overrides_and_sums_up() {
    let address: Ipv6Addr = "fd77::2".parse().expect("an address");
    let frame = neighbour_advertisement(MAC, address);
    let (ethernet, packet) = frame.split_at(14);
    assert_eq!(hex::encode(ethernet), "33330000000102000000002a86dd");
    let (header, message) = packet.split_at(40);
    assert_eq!((header[6], header[7]), (58, 255), "ICMPv6 with the hop limit that receivers require");
    assert_eq!((message[0], message[4]), (136, 0x20));
    assert_eq!(message[8..24], address.octets());
    assert_eq!(message[24..26], [2, 1]);
    // Summed up together with its checksum a message gives zero (RFC 1071).
    let mut whole = header[8..40].to_vec();
    whole.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    whole.extend(message);
    assert_eq!(checksum(whole.iter()), 0);
}

/// A netlink message of this type.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = 16 + body.len() as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

#[test]
fn messages_of_one_datagram_become_one_hint_of_each_kind() {
    let mut datagram = message(libc::RTM_NEWLINK, &[0; 17]);
    datagram.extend(message(libc::RTM_NEWADDR, &[0; 8]));
    datagram.extend(message(libc::RTM_DELLINK, &[0; 16]));
    // The main table, then the local one.
    datagram.extend(message(libc::RTM_NEWROUTE, &[2, 24, 0, 0, 255, 0, 0, 0]));
    assert_eq!(hints_in(&datagram, route_hint), [Hint::Link, Hint::Address]);
    datagram.extend(message(libc::RTM_DELROUTE, &[2, 24, 0, 0, 254, 0, 0, 0]));
    assert_eq!(hints_in(&datagram, route_hint), [Hint::Link, Hint::Address, Hint::Route]);
}

#[test]
fn what_cannot_matter_and_what_is_cut_short_gives_no_hint() {
    assert_eq!(hints_in(&message(libc::RTM_NEWLINK, &[libc::AF_BRIDGE as u8; 16]), route_hint), []);
    assert_eq!(hints_in(&message(libc::RTM_NEWNEIGH, &[0; 16]), route_hint), []);
    assert_eq!(hints_in(&message(libc::RTM_NEWROUTE, &[2]), route_hint), []);
    let cut = message(libc::RTM_NEWLINK, &[0; 16]);
    assert_eq!(hints_in(&cut[..10], route_hint), []);
}

#[test]
fn only_our_own_table_gives_a_hint() {
    let named = |name: &str| {
        let mut body = vec![1, 0, 0, 0];
        body.extend((4 + name.len() as u16 + 1).to_ne_bytes());
        body.extend(1_u16.to_ne_bytes());
        body.extend(name.as_bytes());
        body.push(0);
        body
    };
    const NEW_RULE: u16 = (10 << 8) | 6;
    assert_eq!(table_hint(NEW_RULE, &named("evenkeel"), "evenkeel"), Some(Hint::Firewall));
    assert_eq!(table_hint(NEW_RULE, &named("evenkeel-1a2b3c4d"), "evenkeel"), None);
    assert_eq!(table_hint((10 << 8) | 15, &named("evenkeel"), "evenkeel"), None, "the end of a transaction");
    assert_eq!(table_hint((1 << 8) | 6, &named("evenkeel"), "evenkeel"), None, "another subsystem");
    assert_eq!(table_hint(NEW_RULE, &[1, 0], "evenkeel"), None);
}
