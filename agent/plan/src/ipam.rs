//! One network's addresses: which are taken, which stays leased, which is free next.
//!
//! Deterministic: the same reservations and requests in the same order give the same addresses. Where leases are
//! kept between runs is no concern of this module.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_schema::{Name, NetworkSpec, Subnet};
use ipnet::IpNet;

use crate::{gateway, shim_address};

/// The addresses of one network.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    subnets: Vec<Range<'a>>,
    /// Gateways, auxiliary addresses, the host shim's: never handed out.
    reserved: BTreeSet<IpAddr>,
    taken: BTreeMap<IpAddr, &'a Name>,
    /// Addresses of containers that are about to go or to leave: handed out only when nothing else is free.
    leaving: &'a BTreeSet<IpAddr>,
}

/// One subnet with the part of it that dynamic addresses come from.
#[derive(Debug)]
struct Range<'a> {
    subnet: &'a Subnet,
    range: IpNet,
    /// Every address of the range below this one was looked at and is not free: nothing is looked at twice.
    next: Option<u128>,
}

impl<'a> Pool<'a> {
    /// Sets up a network's addresses with everything reserved that the network itself needs.
    pub(crate) fn new(spec: &'a NetworkSpec, leaving: &'a BTreeSet<IpAddr>) -> Self {
        let mut reserved: BTreeSet<IpAddr> = shim_address(spec).map(|address| address.addr()).into_iter().collect();
        let mut subnets = Vec::new();
        for subnet in &spec.subnets {
            reserved.extend(gateway(subnet, spec.driver));
            reserved.extend(subnet.aux_addresses.values());
            let net = subnet.subnet;
            // RFC 3021 and RFC 6164: a point-to-point subnet has no address to spare for itself.
            if net.prefix_len() + 1 < net.max_prefix_len() {
                reserved.insert(net.network());
                if net.addr().is_ipv4() {
                    reserved.insert(net.broadcast());
                }
            }
            let range = subnet.ip_range.unwrap_or(net).trunc();
            subnets.push(Range { subnet, range, next: Some(number(range.network())) });
        }
        Pool { subnets, reserved, taken: BTreeMap::new(), leaving }
    }

    pub(crate) fn subnet(&self, index: usize) -> &'a Subnet {
        self.subnets[index].subnet
    }

    /// Lists the subnets of one family by their index.
    pub(crate) fn family(&self, v4: bool) -> impl Iterator<Item = usize> + '_ {
        let of_family = move |(_, range): &(usize, &Range<'_>)| range.range.addr().is_ipv4() == v4;
        self.subnets.iter().enumerate().filter(of_family).map(|(index, _)| index)
    }

    /// Finds the subnet that an address belongs to.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<usize> {
        self.subnets.iter().position(|range| range.subnet.subnet.contains(&address))
    }

    /// Takes a stated address; gives the container that has it where it is taken.
    pub(crate) fn take(&mut self, address: IpAddr, container: &'a Name) -> Result<(), &'a Name> {
        match self.taken.get(&address) {
            Some(other) if *other != container => Err(other),
            _ => {
                self.taken.insert(address, container);
                Ok(())
            }
        }
    }

    /// Keeps a leased address where it is still in its subnet's range and not taken.
    pub(crate) fn renew(&mut self, subnet: usize, leases: &BTreeSet<IpAddr>, container: &'a Name) -> Option<IpAddr> {
        let range = &self.subnets[subnet].range;
        let valid = |address: &&IpAddr| {
            range.contains(*address) && !self.is_taken(address) && !self.reserved.contains(*address)
        };
        let address = *leases.iter().find(valid)?;
        self.taken.insert(address, container);
        Some(address)
    }

    /// Hands out the first free address of a subnet's range; `None` where the range is used up.
    pub(crate) fn allocate(&mut self, subnet: usize, container: &'a Name) -> Option<IpAddr> {
        let range = self.subnets[subnet].range;
        let last = number(range.broadcast());
        while let Some(candidate) = self.subnets[subnet].next {
            let address = address(candidate, range);
            self.subnets[subnet].next = (candidate < last).then(|| candidate + 1);
            if !self.is_taken(&address) && !self.reserved.contains(&address) && !self.leaving.contains(&address) {
                self.taken.insert(address, container);
                return Some(address);
            }
        }
        let free = |address: &&IpAddr| {
            range.contains(*address) && !self.is_taken(address) && !self.reserved.contains(*address)
        };
        let address = *self.leaving.iter().find(free)?;
        self.taken.insert(address, container);
        Some(address)
    }

    /// Gives the range that a subnet's dynamic addresses come from.
    pub(crate) fn range(&self, subnet: usize) -> IpNet {
        self.subnets[subnet].range
    }

    fn is_taken(&self, address: &IpAddr) -> bool {
        self.taken.contains_key(address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The inverse of [`number`] within a range, whose family it takes.
fn address(number: u128, range: IpNet) -> IpAddr {
    match range {
        // Numbers come from within the range, so those of an IPv4 range fit 32 bits.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}
