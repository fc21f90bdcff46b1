//! Which names a container finds at which addresses: the lines of every hosts file, derived from the networks.
//!
//! The names of a network are kept once and shared by all its containers, since a thousand containers of one
//! network would otherwise hold a million lines. Loopback lines are the runtime's own and stand in none of this.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_schema::{ContainerSpec, Name, NetworkMode};
use serde::{Deserialize, Serialize};

use crate::{Desired, Endpoint};

/// Lines of a hosts file: names by address.
pub type HostNames = BTreeMap<IpAddr, BTreeSet<String>>;

/// Every desired container's hosts file beyond loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hosts {
    /// By network: the names of its containers by address.
    networks: BTreeMap<Name, Arc<HostNames>>,
    /// By container: which networks it sees, and its own lines.
    containers: BTreeMap<Name, HostsFile>,
}

/// What one container's hosts file is put together from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HostsFile {
    networks: Vec<Name>,
    /// Its hostname at its own addresses, and `dns.hosts`.
    own: HostNames,
}

/// Which lines were compared with which already: all containers of a network share theirs, and so do the hosts files that are
/// the same, so that a thousand lines are not compared a thousand times.
///
/// Known by where they are, so it may not outlive what is compared.
#[derive(Debug, Default)]
pub(crate) struct Alike(RefCell<BTreeMap<(*const HostNames, *const HostNames), bool>>);

impl Alike {
    fn are(&self, one: &Arc<HostNames>, other: &Arc<HostNames>) -> bool {
        let pair = (Arc::as_ptr(one), Arc::as_ptr(other));
        *self.0.borrow_mut().entry(pair).or_insert_with(|| one == other)
    }
}

impl Hosts {
    /// Derives every hosts file from the manifests and the addresses that were decided.
    pub(crate) fn derive(desired: &Desired, endpoints: &BTreeMap<Name, Vec<Endpoint>>) -> Hosts {
        let mut hosts = Hosts::default();
        for (name, object) in &desired.containers {
            let mut file = HostsFile::default();
            for endpoint in endpoints.get(name).into_iter().flatten() {
                let attachment = object.spec.networks.iter().find(|attachment| attachment.name == endpoint.network);
                let aliases = attachment.into_iter().flat_map(|attachment| &attachment.aliases).map(String::as_str);
                let names: Vec<&str> = [name.as_str()].into_iter().chain(aliases).collect();
                let network = Arc::make_mut(hosts.networks.entry(endpoint.network.clone()).or_default());
                for address in &endpoint.addresses {
                    network.entry(address.addr()).or_default().extend(names.iter().map(|name| (*name).to_owned()));
                    if let Some(hostname) = &object.spec.hostname {
                        file.own.entry(address.addr()).or_default().insert(hostname.clone());
                    }
                }
                file.networks.push(endpoint.network.clone());
            }
            for (host, address) in &object.spec.dns.hosts {
                file.own.entry(*address).or_default().insert(host.clone());
            }
            hosts.containers.insert(name.clone(), file);
        }
        hosts.share(desired);
        hosts
    }

    /// Gives containers in another's network namespace that one's lines besides their own.
    fn share(&mut self, desired: &Desired) {
        for (name, object) in &desired.containers {
            let Some(holder) = namespace_holder(desired, name, &object.spec) else { continue };
            let Some(shared) = self.containers.get(holder).cloned() else { continue };
            let file = self.containers.entry(name.clone()).or_default();
            file.networks = shared.networks;
            for (address, names) in shared.own {
                file.own.entry(address).or_default().extend(names);
            }
        }
    }

    /// Gives one container's lines; those of a network are shared where they are all that it has.
    pub fn of(&self, container: &Name) -> Arc<HostNames> {
        if let Some(HostsFile { networks, own }) = self.containers.get(container)
            && let ([network], true) = (networks.as_slice(), own.is_empty())
            && let Some(lines) = self.networks.get(network)
        {
            return Arc::clone(lines);
        }
        let mut lines = HostNames::new();
        for (address, name) in self.pairs(container) {
            lines.entry(address).or_default().insert(name.to_owned());
        }
        Arc::new(lines)
    }

    /// Tells, where that can be had cheaply, that a hosts file has exactly a container's lines.
    ///
    /// Most containers are on one network and have no lines of their own, so that theirs are the network's. `false`
    /// says nothing: compare the [`pairs`](Hosts::pairs).
    pub(crate) fn are_plainly(&self, container: &Name, lines: &Arc<HostNames>, alike: &Alike) -> bool {
        let Some(HostsFile { networks, own }) = self.containers.get(container) else { return lines.is_empty() };
        match networks.as_slice() {
            [] => *own == **lines,
            [network] if own.is_empty() => self.networks.get(network).is_some_and(|all| alike.are(all, lines)),
            _ => false,
        }
    }

    /// Gives one container's lines as sorted pairs, which a thousand containers are compared by without a copy.
    pub(crate) fn pairs(&self, container: &Name) -> Vec<(IpAddr, &str)> {
        let Some(file) = self.containers.get(container) else { return Vec::new() };
        let networks = file.networks.iter().filter_map(|network| self.networks.get(network).map(|lines| &**lines));
        let lines = networks.chain([&file.own]).flatten();
        let mut pairs: Vec<(IpAddr, &str)> =
            lines.flat_map(|(address, names)| names.iter().map(|name| (*address, name.as_str()))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }
}

/// Names the container whose network namespace this one is in, over any number of `container:` hops.
pub fn namespace_holder<'a>(desired: &'a Desired, name: &Name, spec: &'a ContainerSpec) -> Option<&'a Name> {
    let next = |spec: &'a ContainerSpec| match &spec.network_mode {
        Some(NetworkMode::Container(next)) => Some(next),
        _ => None,
    };
    let mut holder = next(spec)?;
    // A ring is refused by the loader; here it must only end, and no chain is longer than all containers.
    for _ in 0..desired.containers.len() {
        if holder == name {
            return None;
        }
        match desired.containers.get(holder).and_then(|object| next(&object.spec)) {
            Some(further) => holder = further,
            None => return Some(holder),
        }
    }
    None
}
