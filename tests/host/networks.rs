//! Networks against the real kernel: what `Networks` makes, says and repairs, asked with `ip`, `nft` and packets.

mod bridge;
mod firewall;
mod macvlan;
mod namespace;
mod packets;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use evenkeel_host::network::{NetworkView, Networks};
use evenkeel_plan::{Endpoint, ObservedNetwork, Sight, bridge_link, endpoint_link, endpoint_mac, gateway};
use evenkeel_schema::{Driver, Name, NetworkSpec};
use evenkeel_tests::ask::{ip_json, ip_json_in};
use evenkeel_tests::{Sandbox, run, sandboxed};
use ipnet::IpNet;
use serde_json::Value;

/// An installation's networks in a sandbox, with the runtime that drives them.
pub struct Site<'a> {
    pub sandbox: &'a Sandbox,
    pub networks: Networks,
    runtime: tokio::runtime::Runtime,
}

/// Runs a test on networks in namespaces of its own.
pub fn on_site(test: impl FnOnce(&Site)) {
    sandboxed(|sandbox| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let networks = runtime.block_on(Networks::open(&sandbox.paths(), &sandbox.instance())).expect("rtnetlink");
        test(&Site { sandbox, networks, runtime });
    });
}

impl Site<'_> {
    pub fn wait<T>(&self, deed: impl Future<Output = T>) -> T {
        self.runtime.block_on(deed)
    }

    pub fn ensure(&self, network: &str, spec: &NetworkSpec) {
        self.wait(self.networks.ensure(&name(network), spec)).expect(network);
    }

    /// Looks at one network, none of which the ledger holds.
    pub fn observe(&self, network: &str, spec: &NetworkSpec) -> Sight<ObservedNetwork> {
        self.view(&[(network, spec)], &[]).networks.remove(network).expect("it was asked for")
    }

    pub fn view(&self, networks: &[(&str, &NetworkSpec)], owned: &[&str]) -> NetworkView {
        let wanted: BTreeMap<Name, NetworkSpec> =
            networks.iter().map(|(network, spec)| (name(network), (*spec).clone())).collect();
        let owned: BTreeSet<Name> = owned.iter().map(|network| name(network)).collect();
        self.wait(self.networks.observe(&wanted, &owned))
    }

    /// Says what a container's interface in a network is to be; the first has the default route.
    pub fn endpoint(
        &self,
        container: &str,
        network: &str,
        spec: &NetworkSpec,
        nth: usize,
        addresses: &[&str],
    ) -> Endpoint {
        let (container, network) = (name(container), name(network));
        let instance = self.sandbox.instance();
        let gateways = spec.subnets.iter().filter_map(|subnet| gateway(subnet, spec.driver));
        Endpoint {
            interface: format!("eth{nth}"),
            host_interface: endpoint_link(instance.as_str(), &container, &network),
            driver: spec.driver,
            attached_to: match spec.driver {
                Driver::Bridge => bridge_link(&network, spec),
                Driver::Macvlan => spec.parent.as_ref().expect("a parent").to_string(),
            },
            mtu: spec.mtu,
            mac: endpoint_mac(instance.as_str(), &container, &network),
            addresses: addresses.iter().map(|address| net(address)).collect(),
            leased: Vec::new(),
            gateways: if nth == 0 { gateways.collect() } else { Vec::new() },
            container,
            network,
        }
    }

    /// Makes a container's namespace with these interfaces, and gives its path.
    pub fn container(&self, endpoints: &[Endpoint]) -> PathBuf {
        let container = &endpoints[0].container;
        self.wait(self.networks.join(container, endpoints))
            .unwrap_or_else(|error| panic!("{}: {error}", container.as_str()))
    }
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("an address with its prefix length")
}

pub fn spec(yaml: &str) -> NetworkSpec {
    serde_yaml::from_str(yaml).expect("a network's spec")
}

/// Runs `ip` and requires that it succeeds.
#[track_caller]
pub fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split_whitespace())).expect_code(0);
}

/// Takes out the number of a network's link, which is another one where the link was made anew.
pub fn without_index(mut sight: Sight<ObservedNetwork>) -> Sight<ObservedNetwork> {
    if let Sight::Found { observed, .. } = &mut sight
        && let Some(link) = &mut observed.link
    {
        link.index = 0;
    }
    sight
}

/// Gives all that `ip` says of links, addresses and routes, here and in namespaces.
pub fn everything(namespaces: &[&PathBuf]) -> Vec<Value> {
    let questions: [&[&str]; 4] = [&["-d", "link"], &["-d", "address"], &["-d", "route"], &["-6", "-d", "route"]];
    let here = questions.iter().map(|question| ip_json(question));
    let there = namespaces.iter().flat_map(|path| questions.iter().map(|question| ip_json_in(path, question)));
    let mut all: Vec<Value> = here.chain(there).collect();
    all.iter_mut().for_each(drop_clocks);
    all
}

/// Takes out what changes by itself: timers of bridges, lifetimes, and how far the kernel is with a link or an address.
fn drop_clocks(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(drop_clocks),
        Value::Object(fields) => {
            let by_itself = |name: &str| ["operstate", "tentative"].contains(&name);
            let clock = |name: &str| name.ends_with("_timer") || name.ends_with("_life_time");
            fields.retain(|name, _| !clock(name) && !by_itself(name));
            fields.values_mut().for_each(drop_clocks);
        }
        _ => {}
    }
}
