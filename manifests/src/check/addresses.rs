//! Addresses of one network: each belongs to one, and a container's lies in a subnet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use evenkeel_plan::gateway;
use evenkeel_schema::{Name, NetworkAttachment, NetworkSpec, ShimAddress};

use super::World;
use super::network::reserved;
use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};

/// Who has an address.
struct Holder<'a> {
    at: Spot,
    role: String,
    document: &'a Document,
}

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let mut static_addresses: BTreeMap<&Name, Vec<(IpAddr, Holder<'_>)>> = BTreeMap::new();
    for (document, container) in world.containers.values() {
        for (index, attachment) in container.networks.iter().enumerate() {
            let Some(network) = world.networks.get(&attachment.name) else { continue };
            for (field, address) in stated(attachment) {
                let at = document.value(&way!["spec", "networks", index, field]);
                check_subnet(document, at, address, network, findings);
                let role = format!("container `{}`", document.key.name);
                static_addresses.entry(&attachment.name).or_default().push((address, Holder { at, role, document }));
            }
        }
    }
    for (name, (document, network)) in &world.networks {
        let mut holders = of_network(document, network);
        let mut of_containers = static_addresses.remove(name).unwrap_or_default();
        of_containers.sort_by_key(|(_, holder)| holder.at);
        holders.extend(of_containers);
        check_twice(holders, findings);
    }
}

fn stated(attachment: &NetworkAttachment) -> impl Iterator<Item = (&'static str, IpAddr)> {
    let ipv4 = attachment.ipv4.map(|address| ("ipv4", IpAddr::V4(address)));
    let ipv6 = attachment.ipv6.map(|address| ("ipv6", IpAddr::V6(address)));
    ipv4.into_iter().chain(ipv6)
}

fn check_subnet(
    document: &Document,
    at: Spot,
    address: IpAddr,
    (of, network): &(&Document, &NetworkSpec),
    findings: &mut Findings<'_>,
) {
    let name = &of.key.name;
    let finding = match network.subnets.iter().find(|subnet| subnet.subnet.contains(&address)) {
        Some(subnet) => match reserved(address, subnet.subnet) {
            Some(what) => Finding::new(at, format!("`{address}` is the {what} of `{}`", subnet.subnet.trunc())),
            None => return,
        },
        // The subnet that it belongs to may be one that was wrong.
        None if of.partial => return,
        None => {
            let finding = Finding::new(at, format!("`{address}` lies outside every subnet of network `{name}`"));
            finding.label("outside").also(of.field(&way!["spec", "subnets"]), "its subnets")
        }
    };
    findings.spoil(&[document.culprit()], finding);
}

/// Lists what a network itself takes: gateways, auxAddresses, the shim's address.
fn of_network<'a>(document: &'a Document, network: &NetworkSpec) -> Vec<(IpAddr, Holder<'a>)> {
    let mut holders = Vec::new();
    let mut add = |address, at, role| holders.push((address, Holder { at, role, document }));
    for (index, subnet) in network.subnets.iter().enumerate() {
        if let Some(address) = gateway(subnet, network.driver) {
            let (field, role) = match subnet.gateway {
                Some(_) => ("gateway", "the gateway"),
                None => ("subnet", "the gateway (a bridge's first address)"),
            };
            add(address, document.value(&way!["spec", "subnets", index, field]), role.to_owned());
        }
    }
    for (index, subnet) in network.subnets.iter().enumerate() {
        for (name, address) in &subnet.aux_addresses {
            let at = document.value(&way!["spec", "subnets", index, "auxAddresses", name]);
            add(*address, at, format!("auxAddress `{name}`"));
        }
    }
    if let Some(ShimAddress::Address(address)) = network.shim.as_ref().map(|shim| &shim.address) {
        // It may be stated as an auxAddress as well, which keeps it free.
        if !network.subnets.iter().any(|subnet| subnet.aux_addresses.values().any(|aux| aux == address)) {
            add(*address, document.value(&way!["spec", "shim", "address"]), "the host's shim".to_owned());
        }
    }
    holders
}

fn check_twice(holders: Vec<(IpAddr, Holder<'_>)>, findings: &mut Findings<'_>) {
    let mut first: BTreeMap<IpAddr, Holder<'_>> = BTreeMap::new();
    for (address, holder) in holders {
        match first.get(&address) {
            None => drop(first.insert(address, holder)),
            Some(other) => {
                let message = format!("address `{address}` is given twice: to {} and to {}", other.role, holder.role);
                let finding =
                    Finding::new(holder.at, message).label(holder.role.clone()).also(other.at, other.role.clone());
                // A container that takes what is the network's own does not put the network on hold.
                let own = other.document.key.kind == holder.document.key.kind;
                let culprits = [holder.document.culprit(), other.document.culprit()];
                findings.spoil(if own { &culprits } else { &culprits[..1] }, finding);
            }
        }
    }
}
