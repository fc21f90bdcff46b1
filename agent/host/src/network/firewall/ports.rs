//! Published ports that another program of the host listens on: the table would take its packets away from it.
//!
//! Nothing is decided about such a port here; it is told with the program's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_plan::Firewall;
use evenkeel_schema::{Name, PortMapping, Protocol};

/// A published port that a program of the host listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortConflict {
    pub container: Name,
    pub port: PortMapping,
    /// The address that the program listens on.
    pub listener: IpAddr,
    /// The program's name and process id, where a process could be found.
    pub program: Option<(String, u32)>,
}

/// A socket that takes packets for a port.
struct Listener {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// `st` of a listening TCP socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";
/// `st` of a UDP socket that is not connected in `/proc/net/udp`.
const UDP_UNCONNECTED: &str = "07";

/// Lists the published ports that a socket of this network namespace listens on.
pub fn port_conflicts(firewall: &Firewall) -> Vec<PortConflict> {
    if firewall.ports.is_empty() {
        return Vec::new();
    }
    let tables = [
        ("tcp", Protocol::Tcp, TCP_LISTEN),
        ("tcp6", Protocol::Tcp, TCP_LISTEN),
        ("udp", Protocol::Udp, UDP_UNCONNECTED),
        ("udp6", Protocol::Udp, UDP_UNCONNECTED),
    ];
    let mut listeners = Vec::new();
    for (file, protocol, state) in tables {
        // Without IPv6 there is no such file, and without a file there is no listener.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        listeners.extend(text.lines().skip(1).filter_map(|line| listener(line, protocol, state)));
    }
    let mut found = Vec::new();
    for published in &firewall.ports {
        let port = published.port;
        for listener in listeners.iter().filter(|listener| collides(listener, &port, published.target)) {
            found.push((published, listener));
        }
    }
    let owners = owners(&found.iter().map(|(_, listener)| listener.inode).collect());
    let conflict = |(published, listener): (&evenkeel_plan::PublishedPort, &Listener)| PortConflict {
        container: published.container.clone(),
        port: published.port,
        listener: listener.address,
        program: owners.get(&listener.inode).cloned(),
    };
    let conflicts: BTreeSet<PortConflict> = found.into_iter().map(conflict).collect();
    conflicts.into_iter().collect()
}

fn collides(listener: &Listener, port: &PortMapping, target: IpAddr) -> bool {
    let same_family = match listener.address {
        // Such a socket takes IPv4 as well, unless it says otherwise; that cannot be seen here.
        IpAddr::V6(address) if address.is_unspecified() => true,
        address => address.is_ipv4() == target.is_ipv4(),
    };
    let same_address = port
        .host_ip
        .is_none_or(|ip| ip.is_unspecified() || listener.address.is_unspecified() || listener.address == ip);
    listener.protocol == port.protocol && listener.port == port.host_port && same_family && same_address
}

/// Reads one line of proc(5)'s `/proc/net/tcp` and its kin.
fn listener(line: &str, protocol: Protocol, state: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    Some(Listener {
        protocol,
        address: address_of(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Reads an address as the kernel prints it there: words of 32 bits in the machine's own order.
pub(super) fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            words.iter().flatten().zip(&mut bytes).for_each(|(from, to)| *to = *from);
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

/// Finds the processes that hold these sockets, by inode.
fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, (String, u32)> {
    let mut owners = BTreeMap::new();
    if inodes.is_empty() {
        return owners;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    for process in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().filter_map(Result::ok);
        for descriptor in descriptors {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let Some(inode) = socket_inode(&target.to_string_lossy()) else { continue };
            if inodes.contains(&inode) && !owners.contains_key(&inode) {
                let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
                owners.insert(inode, (name.trim().to_owned(), process));
            }
        }
    }
    owners
}

/// Reads `socket:[12345]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
