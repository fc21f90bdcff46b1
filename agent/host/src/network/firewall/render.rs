//! Writes the table in nft's language: a fixed part, and the sets and maps that it looks things up in.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use evenkeel_plan::{Firewall, PublishedPort};
use ipnet::IpNet;

use super::nft::Script;
use crate::network::NetworkError;

/// The chains. Every rule has a comment: it names the rule where it is missing or altered.
///
/// Where a packet comes from is asked by address in `postrouting`: what bridge netfilter hands there has no interface of
/// arrival.
const CHAINS: &str = r#"
  chain raw {
    type filter hook prerouting priority -300; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop comment "keep loopback addresses from coming in over a bridge"
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip daddr 127.0.0.0/8 return comment "publish nothing on loopback to the outside"
    fib daddr type local jump publish comment "publish ports to the outside and to containers"
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return comment "leave [::1] to the host"
    fib daddr type local jump publish comment "publish ports to the host itself"
  }
  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @addressed4 comment "ports of one IPv4 address"
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4 comment "ports of every IPv4 address"
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @addressed6 comment "ports of one IPv6 address"
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6 comment "ports of every IPv6 address"
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @within accept comment "let a network talk within itself"
    iifname @internal drop comment "keep internal networks in"
    oifname @internal drop comment "keep others out of internal networks"
    ct state established,related accept comment "let answers through"
    ct status dnat accept comment "let published ports through"
    iifname @bridges oifname @bridges drop comment "keep networks apart"
    ip daddr @nat4 drop comment "keep what is not published from IPv4 networks with NAT"
    ip6 daddr @nat6 drop comment "keep what is not published from IPv6 networks with NAT"
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip saddr . oifname @home4 masquerade comment "bring answers within an IPv4 network back through the host"
    ct status dnat ip6 saddr . oifname @home6 masquerade comment "bring answers within an IPv6 network back through the host"
    ct status dnat fib saddr type local oifname @bridges masquerade comment "let containers answer the host itself"
    ip saddr @nat4 oifname != @bridges masquerade comment "masquerade IPv4 networks"
    ip6 saddr @nat6 oifname != @bridges masquerade comment "masquerade IPv6 networks"
  }
"#;

/// Sets and maps with their types, in the order in which [`elements`] fills them.
const SETS: [(&str, &str, &str); 11] = [
    ("set", "bridges", "type ifname;"),
    ("set", "internal", "type ifname;"),
    ("set", "within", "type ifname . ifname;"),
    ("set", "home4", "type ipv4_addr . ifname; flags interval;"),
    ("set", "home6", "type ipv6_addr . ifname; flags interval;"),
    ("set", "nat4", "type ipv4_addr; flags interval;"),
    ("set", "nat6", "type ipv6_addr; flags interval;"),
    ("map", "published4", "type inet_proto . inet_service : ipv4_addr . inet_service;"),
    ("map", "published6", "type inet_proto . inet_service : ipv6_addr . inet_service;"),
    ("map", "addressed4", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;"),
    ("map", "addressed6", "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;"),
];

/// How a transaction begins, by what it is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stead {
    /// Whatever there is, is replaced: adding before deleting makes the deletion succeed whether there is a table or not.
    ///
    /// A transaction with a deletion is waited for until no processor can see the old table any more, some 15 ms.
    Any,
    /// Nothing; where there is a table after all, the transaction fails.
    Nothing,
}

/// Writes the transaction that makes the table as it is to be, or removes it where the firewall is empty.
pub(super) fn render(table: &str, firewall: &Firewall, stead: Stead) -> Result<Script, NetworkError> {
    let mut text = match stead {
        Stead::Any => format!("add table inet {table}\ndelete table inet {table}\n"),
        Stead::Nothing => format!("create table inet {table}\n"),
    };
    if *firewall != Firewall::default() {
        write_table(&mut text, table, &elements(firewall)?);
    }
    Ok(Script { table: table.to_owned(), text })
}

/// Writes the table with empty sets.
pub(super) fn render_fixed(table: &str) -> String {
    let mut text = String::new();
    write_table(&mut text, table, &Default::default());
    text
}

fn write_table(text: &mut String, table: &str, elements: &[Vec<String>; SETS.len()]) {
    let mut put = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("a String takes all that is written");
    put(format_args!("table inet {table} {{\n"));
    for ((word, name, kind), elements) in SETS.iter().zip(elements) {
        put(format_args!("  {word} {name} {{ {kind}"));
        if !elements.is_empty() {
            put(format_args!(" elements = {{ {} }}", elements.join(", ")));
        }
        put(format_args!(" }}\n"));
    }
    put(format_args!("{CHAINS}}}\n"));
}

/// Lists the elements of every set and map, in the order of [`SETS`].
fn elements(firewall: &Firewall) -> Result<[Vec<String>; SETS.len()], NetworkError> {
    let bridges: BTreeSet<&str> = firewall.networks.iter().map(|network| network.bridge.as_str()).collect();
    for bridge in &bridges {
        // nft knows no way to write a quotation mark within quotation marks, and takes an asterisk for "any ending".
        if bridge.contains(['"', '\\', '*']) {
            return Err(NetworkError::UnwritableName { link: (*bridge).to_owned() });
        }
    }
    let internal = firewall.networks.iter().filter(|network| network.internal);
    // A network that is left as it is may stand in the list in two parts.
    let internal: BTreeSet<&str> = internal.map(|network| network.bridge.as_str()).collect();
    let quoted = |name: &str| format!("\"{name}\"");
    let (mut home, mut nat): ([Vec<String>; 2], [Vec<String>; 2]) = Default::default();
    for network in &firewall.networks {
        for subnet in network.subnets.iter().map(IpNet::trunc) {
            let family = usize::from(subnet.addr().is_ipv6());
            home[family].push(format!("{subnet} . \"{}\"", network.bridge));
            if network.nat {
                nat[family].push(subnet.to_string());
            }
        }
    }
    let ([home4, home6], [nat4, nat6]) = (home, nat);

    let mut ports: [Vec<String>; 4] = Default::default();
    for port in &firewall.ports {
        let [published4, published6, addressed4, addressed6] = &mut ports;
        let (list, element) = match (port.port.host_ip, port.target) {
            (None, IpAddr::V4(_)) => (published4, element(port, None)),
            (None, IpAddr::V6(_)) => (published6, element(port, None)),
            (Some(ip @ IpAddr::V4(_)), IpAddr::V4(_)) => (addressed4, element(port, Some(ip))),
            (Some(ip @ IpAddr::V6(_)), IpAddr::V6(_)) => (addressed6, element(port, Some(ip))),
            (Some(_), _) => return Err(NetworkError::MixedFamilies { port: port.port, target: port.target }),
        };
        list.push(element);
    }
    let [published4, published6, addressed4, addressed6] = ports;
    Ok([
        bridges.iter().copied().map(quoted).collect(),
        internal.into_iter().map(quoted).collect(),
        bridges.iter().map(|bridge| format!("\"{bridge}\" . \"{bridge}\"")).collect(),
        home4,
        home6,
        nat4,
        nat6,
        published4,
        published6,
        addressed4,
        addressed6,
    ])
}

fn element(published: &PublishedPort, host_ip: Option<IpAddr>) -> String {
    let PublishedPort { port, target, .. } = published;
    let host_ip = host_ip.map(|ip| format!("{ip} . ")).unwrap_or_default();
    format!("{host_ip}{} . {} : {target} . {}", port.protocol, port.host_port, port.container_port)
}
