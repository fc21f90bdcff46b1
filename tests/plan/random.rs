//! Random manifests whose references hold, and random things that happen to a host.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_manifests::load;
use evenkeel_plan::{
    Desired, Exit, Key, Name, Observed, ObservedFirewall, ObservedLink, Override, RunState, ShimTrouble, Sight,
};
use evenkeel_tests::model::{Host, digest_of};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The dice of one object; what they mean is up to its kind.
pub type Dice = [u8; 6];

/// The dice of one directory of manifests: an object is there where its entry is.
#[derive(Clone, Debug)]
pub struct Draw {
    images: Vec<Option<Dice>>,
    volumes: Vec<Option<Dice>>,
    networks: Vec<Option<Dice>>,
    containers: Vec<Option<Dice>>,
}

pub fn draw() -> impl Strategy<Value = Draw> {
    let some = |most: usize| prop::collection::vec(prop::option::weighted(0.7, any::<Dice>()), 0..=most);
    (some(3), some(3), some(4), some(6)).prop_map(|(images, volumes, networks, containers)| Draw {
        images,
        volumes,
        networks,
        containers,
    })
}

/// Names of the entries that are there, with their place and dice.
fn there(prefix: &str, list: &[Option<Dice>]) -> Vec<(usize, String, Dice)> {
    let entries = list.iter().enumerate();
    entries.filter_map(|(index, dice)| Some((index, format!("{prefix}{index}"), (*dice)?))).collect()
}

fn pick<T>(list: &[T], die: u8) -> Option<&T> {
    if list.is_empty() { None } else { list.get(usize::from(die) % list.len()) }
}

fn document(kind: &str, name: &str, spec: Value, policy: Value) -> Value {
    json!({"apiVersion": "evenkeel/v1", "kind": kind, "metadata": {"name": name}, "spec": spec, "policy": policy})
}

impl Draw {
    /// Writes the manifests and reads them as the program does.
    pub fn desired(&self) -> Desired {
        let mut documents = Vec::new();
        // An image that is always there, so that every container has one.
        let mut images = vec!["base".to_owned()];
        documents.push(document("Image", "base", json!({"archive": "/srv/base.tar"}), json!({})));
        for (index, name, dice) in there("i", &self.images) {
            let spec = match dice[0] % 3 {
                0 => json!({"reference": format!("registry.example/i{index}:{}", dice[1] % 2)}),
                1 => json!({"archive": format!("/srv/{}.tar", dice[1] % 2)}),
                _ => json!({"rootfs": "/srv/root.tar", "config": {"cmd": [format!("run{}", dice[1] % 2)]}}),
            };
            documents.push(document("Image", &name, spec, prune(dice[2])));
            images.push(name);
        }
        let mut volumes = Vec::new();
        for (_, name, dice) in there("v", &self.volumes) {
            let spec =
                json!({"owner": format!("{}:0", dice[0] % 2), "mode": if dice[1] % 2 == 0 { "0700" } else { "0755" }});
            documents.push(document("Volume", &name, spec, prune(dice[2])));
            volumes.push(name);
        }
        let mut networks = Vec::new();
        for (index, name, dice) in there("n", &self.networks) {
            documents.push(document("Network", &name, network(index, dice), prune(dice[5])));
            networks.push((index, name, is_bridge(dice)));
        }
        let containers = there("c", &self.containers);
        for (place, (index, name, dice)) in containers.iter().enumerate() {
            let spec = container(*index, *dice, &images, &volumes, &networks, &containers[..place]);
            documents.push(document("Container", name, spec, prune(dice[5] / 4)));
        }
        let text: Vec<String> = documents.iter().map(Value::to_string).collect();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("all.yaml"), text.join("\n---\n")).expect("it can be written to");
        let loaded = load(folder.path());
        assert!(!loaded.has_errors(), "{}", evenkeel_manifests::render(&loaded.problems, false));
        loaded.desired
    }
}

fn prune(die: u8) -> Value {
    if die.is_multiple_of(8) { json!({"prune": "keep"}) } else { json!({"prune": "delete"}) }
}

fn network(index: usize, dice: Dice) -> Value {
    let bridge = is_bridge(dice);
    let mut subnets = vec![json!({"subnet": format!("10.{index}.0.0/24"), "ipRange": format!("10.{index}.0.64/26")})];
    if dice[1].is_multiple_of(3) {
        subnets.push(json!({"subnet": format!("fd00:{index}::/64")}));
    }
    let mut spec = json!({"driver": if bridge { "bridge" } else { "macvlan" }});
    if bridge {
        spec["nat"] = json!(dice[2].is_multiple_of(2));
        spec["internal"] = json!(dice[3].is_multiple_of(4));
        if dice[4].is_multiple_of(2) {
            spec["bridge"] = json!(format!("br{index}"));
        }
    } else {
        spec["parent"] = json!(if dice[2].is_multiple_of(2) { "ens34" } else { "ens35" });
        subnets[0]["auxAddresses"] = json!({"host": format!("10.{index}.0.63")});
        if dice[3].is_multiple_of(2) {
            spec["shim"] = json!({"address": "host"});
        }
    }
    if dice[4].is_multiple_of(3) {
        spec["mtu"] = json!(1400);
    }
    spec["subnets"] = json!(subnets);
    spec
}

/// Tells whether these dice make a bridge network, which ports can be published from.
fn is_bridge(dice: Dice) -> bool {
    !dice[0].is_multiple_of(3)
}

fn container(
    index: usize,
    dice: Dice,
    images: &[String],
    volumes: &[String],
    networks: &[(usize, String, bool)],
    before: &[(usize, String, Dice)],
) -> Value {
    let mut spec = json!({"image": pick(images, dice[0])});
    if let Some(volume) = pick(volumes, dice[1]).filter(|_| dice[1].is_multiple_of(2)) {
        spec["mounts"] = json!([{"volume": volume, "target": "/data"}, {"tmpfs": true, "target": "/run"}]);
    }
    // One in five shares another's network; that one has its own.
    let holder = pick(before, dice[2]).filter(|(_, _, theirs)| dice[2].is_multiple_of(5) && !shares(*theirs));
    if let Some((_, holder, _)) = holder {
        spec["networkMode"] = json!(format!("container:{holder}"));
    } else if !shares(dice) {
        let joined: Vec<&(usize, String, bool)> = networks.iter().skip(usize::from(dice[2]) % 3).take(2).collect();
        let attachment = |(place, (number, name, _)): (usize, &&(usize, String, bool))| {
            let mut attachment = json!({"name": name});
            if place == 0 && dice[3].is_multiple_of(2) {
                attachment["ipv4"] = json!(format!("10.{number}.0.{}", 10 + index));
            }
            if dice[3].is_multiple_of(3) {
                attachment["aliases"] = json!([format!("alias{index}")]);
            }
            attachment
        };
        spec["networks"] = json!(joined.iter().enumerate().map(attachment).collect::<Vec<_>>());
        if dice[4].is_multiple_of(2) && joined.iter().any(|(_, _, bridge)| *bridge) {
            spec["ports"] = json!([format!("{}:80", 8000 + index)]);
        }
    }
    match dice[4] % 4 {
        0 => spec["resources"] = json!({"memory": 100_000_000 + u32::from(dice[4]), "cpus": 1.5, "pids": 100}),
        1 => spec["security"] = json!({"readOnlyRootfs": true, "capDrop": ["ALL"], "noNewPrivileges": true}),
        2 => spec["env"] = json!({"A": dice[5].to_string()}),
        _ => spec["command"] = json!(["run", dice[5].to_string()]),
    }
    if let Some((_, other, _)) = pick(before, dice[5]).filter(|_| dice[5].is_multiple_of(3)) {
        spec["dependsOn"] = json!([{"container": other}]);
    }
    if dice[0].is_multiple_of(4) {
        spec["restart"] = json!({"policy": "onFailure"});
    }
    spec
}

/// Tells whether these dice give a container another's network.
fn shares(dice: Dice) -> bool {
    dice[2].is_multiple_of(5)
}

/// One thing that happens to a host: what, and to which of those that it can happen to.
pub type Damage = (u8, u8);

/// Lets something happen to the host.
pub fn damage(host: &mut Host, (what, which): Damage) {
    let observed = &mut host.observed;
    match what % 12 {
        0 | 1 => network(observed, what, which),
        2..=7 => containers(observed, what % 12, which),
        8 => found(&mut observed.volumes, which, |volume| volume.owner.uid = 77),
        9 => drop(one(&mut observed.volumes, which).map(|sight| *sight = Sight::Absent)),
        10 => observed.firewall = Sight::Absent,
        _ => {
            if let Sight::Found { observed: ObservedFirewall { nat, ports, foreign, .. }, .. } = &mut observed.firewall
            {
                nat.pop_first();
                ports.pop_last();
                foreign.push("counter".to_owned());
            }
        }
    }

    fn network(observed: &mut Observed, what: u8, which: u8) {
        let mut gone = None;
        found(&mut observed.networks, which, |network| match &mut network.link {
            link @ Some(_) if what.is_multiple_of(12) => gone = link.take(),
            Some(ObservedLink { addresses, unrouted, .. }) if which.is_multiple_of(2) => {
                unrouted.extend(addresses.iter().map(ipnet::IpNet::trunc));
            }
            Some(ObservedLink { up, addresses, routes, mtu, .. }) => {
                *up = false;
                *mtu = 999;
                addresses.clear();
                routes.clear();
                network.forwarding_v4 = false;
            }
            None => {}
        });
        if let Some(link) = gone {
            // What the kernel does to the ports of a bridge that goes.
            for sight in observed.containers.values_mut() {
                let Sight::Found { observed, .. } = sight else { continue };
                for interface in observed.interfaces.iter_mut().flatten() {
                    interface.bridge.take_if(|bridge| *bridge == link.name);
                }
            }
        }
    }
}

fn containers(observed: &mut Observed, what: u8, which: u8) {
    let exit = Exit {
        code: 137,
        signal: Some(9),
        oom_killed: false,
        daemonized: false,
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    found(&mut observed.containers, which, |container| match what {
        2 => {
            container.state = RunState::Exited { exit, restarts: 0, gave_up: false };
            container.process = None;
        }
        3 if which.is_multiple_of(2) => {
            container.record_lost = true;
            container.shim_trouble = Some(ShimTrouble::Stopped);
            for interface in container.interfaces.iter_mut().flatten() {
                interface.unrouted = interface.addresses.iter().map(ipnet::IpNet::trunc).collect();
            }
        }
        3 => container.interfaces.iter_mut().flatten().for_each(|interface| interface.addresses.clear()),
        4 => drop(container.interfaces.as_mut().and_then(Vec::pop)),
        5 => container.hosts = Arc::default(),
        6 => {
            container.limits.iter_mut().for_each(|limits| limits.memory = Some(4096));
            container.shim_alive = false;
        }
        _ => {
            container.interfaces = None;
            container.process.iter_mut().for_each(|process| process.mount_points.clear());
        }
    });
}

fn one<T>(map: &mut BTreeMap<Name, Sight<T>>, which: u8) -> Option<&mut Sight<T>> {
    let length = map.len().max(1);
    map.values_mut().nth(usize::from(which) % length)
}

fn found<T>(map: &mut BTreeMap<Name, Sight<T>>, which: u8, change: impl FnOnce(&mut T)) {
    if let Some(Sight::Found { observed, .. }) = one(map, which) {
        change(observed);
    }
}

/// Lets an image's source move on: the tag now names other content.
pub fn move_tag(host: &mut Host, which: u8) {
    found(&mut host.observed.images, which, |image| image.upstream = Some(Ok(digest_of("moved"))));
}

/// Stops a container by hand, as the verb does.
pub fn stop(host: &mut Host, which: u8) -> Option<Key> {
    let names: Vec<Name> = host.observed.containers.keys().cloned().collect();
    let name = pick(&names, which)?.clone();
    host.observed.overrides.insert(name.clone(), Override { since: "2026-01-01T00:00:00Z".to_owned() });
    Some(Key::new(evenkeel_plan::Kind::Container, name))
}
