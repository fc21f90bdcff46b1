//! Every container's interfaces, with all addresses decided.
//!
//! Stated addresses come first, then leases that still hold, then free ones; so a new container never takes what a
//! manifest states for another, whatever the order of files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{Driver, Kind, Name, NetworkAttachment};
use ipnet::IpNet;

use crate::ipam::Pool;
use crate::{Desired, Endpoint, Key, Observed, bridge_link, endpoint_link, endpoint_mac, gateway};

/// Ports that the kernel gives a bridge (`BR_MAX_PORTS` less the one that it keeps).
const BRIDGE_PORTS: usize = 1023;

/// The interfaces of every desired container, and which of them cannot be.
#[derive(Debug, Default)]
pub(crate) struct Addressing {
    pub endpoints: BTreeMap<Name, Vec<Endpoint>>,
    /// Containers for which an address is taken, or a range or a bridge's ports are used up, in words.
    pub conflicts: BTreeMap<Name, String>,
}

/// An address of one attachment: its subnet, and the address once it is decided.
#[derive(Clone, Copy, Debug)]
struct Slot {
    subnet: usize,
    address: Option<IpAddr>,
    stated: bool,
}

/// One membership on its way to an [`Endpoint`].
struct Membership<'a> {
    container: &'a Name,
    attachment: &'a NetworkAttachment,
    slots: Vec<Slot>,
}

impl Addressing {
    /// Decides every address.
    pub(crate) fn decide(desired: &Desired, observed: &Observed) -> Addressing {
        let leaving = leaving(desired, observed);
        let mut pools: BTreeMap<&Name, Pool<'_>> =
            desired.networks.iter().map(|(name, object)| (name, Pool::new(&object.spec, &leaving))).collect();
        let mut addressing = Addressing::default();
        let mut memberships = memberships(desired, &mut pools, &mut addressing.conflicts);
        renew(&mut memberships, &mut pools, observed);
        allocate(&mut memberships, &mut pools, &mut addressing.conflicts);
        crowd(desired, observed, &mut addressing.conflicts);
        for name in desired.containers.keys() {
            addressing.endpoints.insert(name.clone(), Vec::new());
        }
        for membership in &memberships {
            let (Some(network), Some(pool)) =
                (desired.networks.get(&membership.attachment.name), pools.get(&membership.attachment.name))
            else {
                continue;
            };
            let endpoints = addressing.endpoints.entry(membership.container.clone()).or_default();
            let endpoint = endpoint(&observed.instance, membership, &network.spec, pool, endpoints);
            endpoints.push(endpoint);
        }
        addressing
    }
}

/// Collects the addresses in use by containers that are not desired, or leased for networks that are left.
fn leaving(desired: &Desired, observed: &Observed) -> BTreeSet<IpAddr> {
    let mut leaving = BTreeSet::new();
    for (container, networks) in &observed.leases {
        let stays = |network: &Name| {
            let object = desired.containers.get(container);
            object.is_some_and(|object| object.spec.networks.iter().any(|attachment| attachment.name == *network))
        };
        let left = networks.iter().filter(|(network, _)| !stays(network));
        leaving.extend(left.flat_map(|(_, addresses)| addresses));
    }
    for (container, sight) in &observed.containers {
        if !desired.containers.contains_key(container) {
            let interfaces = sight.found().and_then(|found| found.interfaces.as_ref());
            let addresses = interfaces.into_iter().flatten().flat_map(|interface| &interface.addresses);
            leaving.extend(addresses.map(IpNet::addr));
        }
    }
    leaving
}

/// Lays out every membership with its stated addresses taken.
fn memberships<'a>(
    desired: &'a Desired,
    pools: &mut BTreeMap<&Name, Pool<'a>>,
    conflicts: &mut BTreeMap<Name, String>,
) -> Vec<Membership<'a>> {
    // A container on hold keeps its addresses, so it comes before those whose manifests could still be changed.
    let is_held = |name: &Name| desired.held.contains_key(&Key::new(Kind::Container, name.clone()));
    let (held, free): (Vec<_>, Vec<_>) = desired.containers.iter().partition(|(name, _)| is_held(name));
    let mut memberships = Vec::new();
    for (container, object) in held.into_iter().chain(free) {
        if object.spec.network_mode.is_some() {
            continue;
        }
        for attachment in &object.spec.networks {
            let Some(pool) = pools.get_mut(&attachment.name) else { continue };
            let mut slots = Vec::new();
            for (v4, stated) in [(true, attachment.ipv4.map(IpAddr::V4)), (false, attachment.ipv6.map(IpAddr::V6))] {
                let Some(address) = stated else {
                    slots.extend(pool.family(v4).map(|subnet| Slot { subnet, address: None, stated: false }));
                    continue;
                };
                let problem = match (pool.subnet_of(address), pool.take(address, container)) {
                    (Some(subnet), Ok(())) => {
                        slots.push(Slot { subnet, address: Some(address), stated: true });
                        continue;
                    }
                    (None, _) => format!("{address} is in no subnet of network/{}", attachment.name),
                    (_, Err(other)) => format!("{address} on network/{} belongs to container/{other}", attachment.name),
                };
                conflicts.entry(container.clone()).or_insert(problem);
            }
            slots.sort_by_key(|slot| slot.subnet);
            memberships.push(Membership { container, attachment, slots });
        }
    }
    memberships
}

/// Keeps every lease that still holds, before anything new is handed out.
fn renew<'a>(memberships: &mut [Membership<'a>], pools: &mut BTreeMap<&Name, Pool<'a>>, observed: &Observed) {
    for membership in memberships {
        let leases =
            observed.leases.get(membership.container).and_then(|leases| leases.get(&membership.attachment.name));
        let (Some(leases), Some(pool)) = (leases, pools.get_mut(&membership.attachment.name)) else { continue };
        for slot in membership.slots.iter_mut().filter(|slot| slot.address.is_none()) {
            slot.address = pool.renew(slot.subnet, leases, membership.container);
        }
    }
}

fn allocate<'a>(
    memberships: &mut [Membership<'a>],
    pools: &mut BTreeMap<&Name, Pool<'a>>,
    conflicts: &mut BTreeMap<Name, String>,
) {
    for membership in memberships {
        let network = &membership.attachment.name;
        let Some(pool) = pools.get_mut(network) else { continue };
        for slot in membership.slots.iter_mut().filter(|slot| slot.address.is_none()) {
            slot.address = pool.allocate(slot.subnet, membership.container);
            if slot.address.is_none() {
                let problem = format!("network/{network} has no free address left in {}", pool.range(slot.subnet));
                conflicts.entry(membership.container.clone()).or_insert(problem);
            }
        }
    }
}

/// Finds the containers for which a bridge has no port left: of those that are not there yet, the last by name.
fn crowd(desired: &Desired, observed: &Observed, conflicts: &mut BTreeMap<Name, String>) {
    let bridges = desired.networks.iter().filter(|(_, object)| object.spec.driver == Driver::Bridge);
    for (network, _) in bridges {
        let joins = |attachments: &[NetworkAttachment]| attachments.iter().any(|one| one.name == *network);
        let joined = desired.containers.iter().filter(|(_, object)| joins(&object.spec.networks));
        let mut members: Vec<&Name> = joined.map(|(name, _)| name).collect();
        if members.len() <= BRIDGE_PORTS {
            continue;
        }
        let is_new = |name: &Name| observed.containers.get(name).is_none_or(|sight| sight.found().is_none());
        members.sort_by_key(|name| (is_new(name), *name));
        for name in members.split_off(BRIDGE_PORTS) {
            let problem =
                format!("network/{network} is a bridge, which has {BRIDGE_PORTS} ports, and others have them all");
            conflicts.entry(name.clone()).or_insert(problem);
        }
    }
}

fn endpoint(
    instance: &str,
    membership: &Membership<'_>,
    spec: &evenkeel_schema::NetworkSpec,
    pool: &Pool<'_>,
    before: &[Endpoint],
) -> Endpoint {
    let (container, network) = (membership.container, &membership.attachment.name);
    let decided = membership.slots.iter().filter_map(|slot| Some((slot, slot.address?)));
    let mut addresses = Vec::new();
    let mut leased = Vec::new();
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (slot, address) in decided {
        let subnet = pool.subnet(slot.subnet);
        // A prefix length taken from a subnet of the same family is never too long.
        addresses.extend(IpNet::new(address, subnet.subnet.prefix_len()));
        if !slot.stated {
            leased.push(address);
        }
        // The first network of each family that leads out has the default route; an internal one leads nowhere.
        let others = before.iter().flat_map(|endpoint| &endpoint.gateways).chain(&gateways);
        let have_one = others.into_iter().any(|gateway| gateway.is_ipv4() == address.is_ipv4());
        if !have_one && !spec.internal {
            gateways.extend(gateway(subnet, spec.driver));
        }
    }
    let attached_to = match spec.driver {
        Driver::Bridge => bridge_link(network, spec),
        Driver::Macvlan => spec.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    Endpoint {
        container: container.clone(),
        network: network.clone(),
        interface: format!("eth{}", before.len()),
        host_interface: endpoint_link(instance, container, network),
        driver: spec.driver,
        attached_to,
        mtu: spec.mtu,
        mac: endpoint_mac(instance, container, network),
        addresses,
        leased,
        gateways,
    }
}
