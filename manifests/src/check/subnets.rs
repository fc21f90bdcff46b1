//! Subnets that overlap: within a network, between bridges, and between macvlan networks of one parent.
//!
//! A bridge and a macvlan network may state the same subnet, and so may macvlan networks of different parents: these are
//! different wires.

use evenkeel_schema::{Driver, Name, NetworkSpec};
use ipnet::IpNet;

use super::World;
use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};

/// What carries a network's frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wire<'a> {
    /// The host itself, which routes between its bridges.
    Bridges,
    Parent(&'a str),
    /// The parent is not known.
    Unknown(&'a Name),
}

/// One subnet with the wire that it is on.
struct Stretch<'a> {
    wire: Wire<'a>,
    subnet: IpNet,
    document: &'a Document,
    at: Spot,
}

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for (document, network) in world.networks.values() {
        for (index, subnet) in network.subnets.iter().enumerate() {
            let at = document.value(&way!["spec", "subnets", index, "subnet"]);
            stretches.push(Stretch {
                wire: wire(&document.key.name, network),
                subnet: subnet.subnet.trunc(),
                document,
                at,
            });
        }
    }
    // Sorted like this, a subnet stands right behind the one that holds it or behind others that it holds.
    stretches.sort_by_key(|stretch| (stretch.wire, stretch.subnet.network(), stretch.subnet.prefix_len(), stretch.at));
    let mut outer: Option<&Stretch<'_>> = None;
    for stretch in &stretches {
        match outer {
            Some(outer) if outer.wire == stretch.wire && outer.subnet.contains(&stretch.subnet) => {
                report(outer, stretch, findings);
            }
            _ => outer = Some(stretch),
        }
    }
}

fn wire<'a>(name: &'a Name, network: &'a NetworkSpec) -> Wire<'a> {
    match (network.driver, &network.parent) {
        (Driver::Bridge, _) => Wire::Bridges,
        (Driver::Macvlan, Some(parent)) => Wire::Parent(parent.as_str()),
        (Driver::Macvlan, None) => Wire::Unknown(name),
    }
}

fn report(one: &Stretch<'_>, other: &Stretch<'_>, findings: &mut Findings<'_>) {
    let (first, second) = if one.at <= other.at { (one, other) } else { (other, one) };
    let whose = if first.document.id == second.document.id {
        "of the same network".to_owned()
    } else {
        format!("of network `{}`", first.document.key.name)
    };
    let message = format!("subnet `{}` overlaps with `{}` {whose}", second.subnet, first.subnet);
    let finding = Finding::new(second.at, message).also(first.at, "overlaps with this");
    findings.spoil(&[first.document.culprit(), second.document.culprit()], finding);
}
