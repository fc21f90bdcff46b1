//! The table's text, and listings as nft has written them in different releases.

use std::collections::BTreeSet;

use evenkeel_plan::{Firewall, FirewallNetwork, ObservedFirewall, PublishedPort};
use evenkeel_schema::{Name, PortMapping};
use serde_json::{Value, json};

use super::flows::{Flow, Ways, flow};
use super::ports::address_of;
use super::read::Listing;
use super::render::{Stead, render};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn network(name: &str, bridge: &str, subnets: &[&str]) -> FirewallNetwork {
    FirewallNetwork {
        network: self::name(name),
        bridge: bridge.to_owned(),
        subnets: subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect(),
        nat: true,
        internal: false,
    }
}

fn published(port: &str, target: &str) -> PublishedPort {
    let (port, target) = (port.parse().expect("a port"), target.parse().expect("an address"));
    PublishedPort { container: name("web"), port, target }
}

#[test]
fn an_empty_firewall_removes_the_table() {
    let script = render("evenkeel", &Firewall::default(), Stead::Any).expect("written");
    assert_eq!(script.text, "add table inet evenkeel\ndelete table inet evenkeel\n");
}

#[test]
fn everything_that_differs_between_hosts_stands_in_sets() {
    let firewall = Firewall {
        networks: vec![network("shop", "ek-shop", &["10.77.0.0/24", "fd77::/64"])],
        ports: [
            published("8080:80", "10.77.0.2"),
            published("8080:80", "fd77::2"),
            published("127.0.0.1:53:5353/udp", "10.77.0.2"),
            published("[fd09::1]:443:8443", "fd77::2"),
        ]
        .into(),
    };
    let text = render("evenkeel", &firewall, Stead::Nothing).expect("written").text;
    for line in [
        r#"set bridges { type ifname; elements = { "ek-shop" } }"#,
        r#"set internal { type ifname; }"#,
        r#"set within { type ifname . ifname; elements = { "ek-shop" . "ek-shop" } }"#,
        r#"set home6 { type ipv6_addr . ifname; flags interval; elements = { fd77::/64 . "ek-shop" } }"#,
        "set nat4 { type ipv4_addr; flags interval; elements = { 10.77.0.0/24 } }",
        "map published4 { type inet_proto . inet_service : ipv4_addr . inet_service; \
         elements = { tcp . 8080 : 10.77.0.2 . 80 } }",
        "elements = { tcp . 8080 : fd77::2 . 80 }",
        "elements = { 127.0.0.1 . udp . 53 : 10.77.0.2 . 5353 }",
        "elements = { fd09::1 . tcp . 443 : fd77::2 . 8443 }",
    ] {
        assert!(text.contains(line), "`{line}` is not in\n{text}");
    }
}

#[test]
fn what_would_not_be_written_as_meant_is_refused() {
    for bridge in ["a\" . \"b", "ek*", "ek\\"] {
        let firewall = Firewall { networks: vec![network("shop", bridge, &[])], ports: BTreeSet::new() };
        let error = render("evenkeel", &firewall, Stead::Nothing).expect_err("a name that breaks out");
        assert!(error.to_string().contains(bridge), "{error}");
    }
    let firewall = Firewall { networks: Vec::new(), ports: [published("127.0.0.1:80:80", "fd77::2")].into() };
    let error = render("evenkeel", &firewall, Stead::Nothing).expect_err("two families");
    assert_eq!(
        error.to_string(),
        "port 127.0.0.1:80:80/tcp is published on an address of another family than its target fd77::2"
    );
}

/// A listing with these objects, each `(kind, body)`.
fn listing(objects: &[(&str, Value)]) -> Listing {
    let objects: Vec<Value> = objects.iter().map(|(kind, body)| json!({*kind: body})).collect();
    Listing::parse("evenkeel", &json!({"nftables": objects}).to_string()).expect("a listing")
}

fn rule(handle: u64, comment: &str, verdict: &str) -> (&'static str, Value) {
    ("rule", json!({"chain": "forward", "handle": handle, "comment": comment, "expr": [{verdict: null}]}))
}

fn chain() -> (&'static str, Value) {
    ("chain", json!({"name": "forward", "handle": 1, "hook": "forward", "prio": 0}))
}

#[test]
fn rules_are_missing_altered_strange_or_in_another_order() {
    let fresh = listing(&[chain(), rule(2, "a", "accept"), rule(3, "b", "drop")]);
    let found = |rules: &[(&str, Value)]| listing(&[&[chain()], rules].concat()).compare(&fresh);
    assert_eq!(found(&[rule(7, "a", "accept"), rule(8, "b", "drop")]), ObservedFirewall::default());
    assert_eq!(found(&[rule(7, "a", "accept")]).damage, ["forward: rule \"b\" is missing"]);
    assert_eq!(found(&[rule(7, "a", "drop"), rule(8, "b", "drop")]).damage, ["forward: rule \"a\" is altered"]);
    assert_eq!(found(&[rule(7, "b", "drop"), rule(8, "a", "accept")]).damage, ["forward: rules are in another order"]);
    // Once more the same is not ours either.
    let twice = found(&[rule(7, "a", "accept"), rule(8, "b", "drop"), rule(9, "b", "drop")]);
    assert_eq!((twice.damage, twice.foreign), (vec![], vec!["forward: rule 9".to_owned()]));
}

#[test]
fn a_foreign_rule_is_told_in_its_own_words() {
    let fresh = listing(&[chain()]);
    let found = listing(&[chain(), rule(9, "mine", "accept")]);
    let mut observed = found.compare(&fresh);
    assert!(found.has_unnamed(&observed));
    let text = "\tchain forward { # handle 1\n\t\tip saddr 10.0.0.1 accept # handle 9\n\t}\n";
    found.name_foreign(&mut observed, text);
    assert_eq!(observed.foreign, ["forward: ip saddr 10.0.0.1 accept"]);
}

#[test]
fn elements_are_read_in_every_form() {
    let objects = [
        ("set", json!({"name": "bridges", "elem": ["ek-a", {"elem": {"val": "ek-b", "timeout": 5}}]})),
        ("set", json!({"name": "within", "elem": [{"concat": ["ek-a", "ek-a"]}, {"concat": ["ek-b", "ek-b"]}]})),
        ("set", json!({"name": "nat4", "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.0.2.1"]})),
        (
            "map",
            json!({"name": "published4", "elem": [
                [{"concat": ["tcp", 80]}, {"concat": ["10.0.0.2", 8080]}],
                [{"concat": [17, 53]}, {"concat": ["10.0.0.2", 53]}],
                [{"concat": ["sctp", 9]}, {"concat": ["10.0.0.2", 9]}],
            ]}),
        ),
    ];
    let all = listing(&objects);
    let observed = all.compare(&all);
    assert_eq!(observed.bridges, ["ek-a".to_owned(), "ek-b".to_owned()].into());
    assert_eq!(observed.damage, [""; 0]);
    let nets: Vec<String> = observed.nat.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32"]);
    let ports: Vec<String> = observed.ports.iter().map(|(port, _): &(PortMapping, _)| port.to_string()).collect();
    assert_eq!(ports, ["53:53/udp", "80:8080/tcp"]);
    assert_eq!(observed.foreign.len(), 1, "{:?}", observed.foreign);
}

/// An attribute of netlink.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// One direction of a flow over IPv4, as conntrack lists it.
fn direction(kind: u16, protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
    let addresses = [attribute(1, &source.0), attribute(2, &destination.0)].concat();
    let ports =
        [attribute(1, &[protocol]), attribute(2, &source.1.to_be_bytes()), attribute(3, &destination.1.to_be_bytes())];
    attribute(kind, &[attribute(0x8001, &addresses), attribute(0x8002, &ports.concat())].concat())
}

fn flow_to(host: [u8; 4], port: u16, answered_by: ([u8; 4], u16)) -> Flow {
    let client = ([192, 168, 9, 2], 4000);
    let both = [direction(0x8001, 17, client, (host, port)), direction(0x8002, 17, answered_by, client)].concat();
    flow(2, &both).expect("a flow of UDP")
}

#[test]
fn a_flow_is_stale_where_its_next_packet_would_go_elsewhere() {
    let firewall = Firewall {
        networks: vec![network("shop", "ek-shop", &["10.77.0.0/24"])],
        ports: [published("53:5353/udp", "10.77.0.2"), published("127.0.0.1:99:99/udp", "10.77.0.3")].into(),
    };
    let ways = Ways::of(&firewall, ["192.168.9.1".parse().expect("an address")].into());
    let (host, web, db) = ([192, 168, 9, 1], [10, 77, 0, 2], [10, 77, 0, 3]);
    assert!(!ways.is_stale(&flow_to(host, 53, (web, 5353))), "as published");
    assert!(ways.is_stale(&flow_to(host, 53, (web, 53))), "another port of the container");
    assert!(ways.is_stale(&flow_to(host, 53, (db, 5353))), "another container");
    assert!(ways.is_stale(&flow_to(host, 53, (host, 53))), "the host itself, before the port was published");
    assert!(ways.is_stale(&flow_to(host, 99, (db, 99))), "published on another address only");
    assert!(!ways.is_stale(&flow_to([127, 0, 0, 1], 99, (db, 99))), "published on that address");
    assert!(!ways.is_stale(&flow_to(host, 1234, (host, 1234))), "the host's own");
    assert!(!ways.is_stale(&flow_to([8, 8, 8, 8], 53, ([8, 8, 8, 8], 53))), "not to the host at all");
}

#[test]
fn only_flows_of_udp_are_read() {
    let (client, host) = (([192, 168, 9, 2], 4000), ([192, 168, 9, 1], 53));
    let tcp = [direction(0x8001, 6, client, host), direction(0x8002, 6, host, client)].concat();
    assert_eq!(flow(2, &tcp), None);
    assert_eq!(flow(2, &direction(0x8001, 17, client, host)), None, "half a flow");
    assert_eq!(flow(2, &[9, 0]), None);
}

#[test]
fn addresses_of_proc_net_are_in_the_machines_order() {
    let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
    assert_eq!(address_of(&word([127, 0, 0, 1])), Some("127.0.0.1".parse().expect("an address")));
    let nothing = word([0; 4]);
    let six = format!("{}{nothing}{nothing}{}", word([0xfd, 0x77, 0, 0]), word([0, 0, 0, 2]));
    assert_eq!(address_of(&six), Some("fd77::2".parse().expect("an address")));
    let mapped = format!("{nothing}{nothing}{}{}", word([0, 0, 0xff, 0xff]), word([10, 0, 0, 1]));
    assert_eq!(address_of(&mapped), Some("10.0.0.1".parse().expect("an address")));
    assert_eq!(address_of("12"), None);
}
