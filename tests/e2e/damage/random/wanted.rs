//! What a host is to be: objects of all four kinds, drawn from a seed, changed, and written as manifests.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_tests::Sandbox;
use evenkeel_tests::random::Random;
use serde_json::{Value, json};

/// A bridge network, or the macvlan network with its shim.
#[derive(Clone, Debug)]
pub struct Network {
    pub bridge: bool,
    /// Second byte of its IPv4 subnet, `10.<number>.0.0/24`.
    pub number: u64,
    pub ipv6: bool,
    pub mtu: Option<u64>,
    pub internal: bool,
}

#[derive(Clone, Debug)]
pub struct Volume {
    pub owner: u64,
    pub mode: &'static str,
    pub kept: bool,
}

#[derive(Clone, Debug)]
pub struct Container {
    pub image: &'static str,
    pub networks: Vec<String>,
    /// The first network's address is stated.
    pub fixed: bool,
    pub volumes: Vec<String>,
    pub port: Option<u64>,
    pub memory: Option<u64>,
    pub pids: Option<u64>,
    pub cpus: bool,
    pub word: u64,
    pub number: u64,
}

/// The whole; names are kind and number, as `b0`, `m0`, `v1`, `c2`.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    pub containers: BTreeMap<String, Container>,
    /// Volumes that some manifest stated once.
    volumes_ever: BTreeSet<String>,
}

pub fn chance(random: &mut Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

/// Picks one of a list that is not empty.
pub fn pick<'l, T>(random: &mut Random, list: &'l [T]) -> &'l T {
    &list[usize::try_from(random.below(list.len() as u64)).expect("a small number")]
}

impl Wanted {
    /// Gives the least set with every kind in it.
    pub fn one_of_each() -> Wanted {
        let mut random = Random::new(0);
        let mut wanted = Wanted::default();
        wanted.networks.insert("b0".to_owned(), Network::draw(&mut random, true, 80));
        wanted.volumes.insert("v0".to_owned(), Volume::draw(&mut random));
        let container = Container { volumes: vec!["v0".to_owned()], ..Container::draw(&mut random, &wanted, 0) };
        wanted.containers.insert("c0".to_owned(), container);
        wanted
    }

    pub fn draw(random: &mut Random) -> Wanted {
        let mut wanted = Wanted::default();
        for number in 0..=random.below(2) {
            wanted.networks.insert(format!("b{number}"), Network::draw(random, true, 80 + number));
        }
        if !chance(random, 3) {
            wanted.networks.insert("m0".to_owned(), Network::draw(random, false, 90));
        }
        for number in 0..random.below(3) {
            wanted.volumes.insert(format!("v{number}"), Volume::draw(random));
        }
        for number in 0..=random.below(3) {
            let container = Container::draw(random, &wanted, number);
            wanted.containers.insert(format!("c{number}"), container);
        }
        wanted
    }

    /// Changes the manifests in one point, and says which.
    pub fn change(&mut self, random: &mut Random) -> String {
        let containers: Vec<String> = self.containers.keys().cloned().collect();
        let volumes: Vec<String> = self.volumes.keys().cloned().collect();
        let networks: Vec<String> = self.networks.keys().cloned().collect();
        let name = pick(random, &containers).clone();
        let container = self.containers.get_mut(&name).expect("it was just listed");
        match random.below(10) {
            0 => container.word += 1,
            1 => container.memory = Some(32 + random.below(32)),
            2 => container.pids = if container.pids.is_some() { None } else { Some(40) },
            3 => container.image = if container.image == "busybox" { "other" } else { "busybox" },
            4 => container.port = container.port.map(|port| port + 100),
            5 if containers.len() > 1 => drop(self.containers.remove(&name)),
            6 => {
                let number = 3 + random.below(2);
                let new = Container::draw(random, self, number);
                self.containers.insert(format!("c{number}"), new);
                return format!("change: c{number} is new");
            }
            7 if !volumes.is_empty() => {
                let name = pick(random, &volumes);
                self.volumes.remove(name);
                self.containers.values_mut().for_each(|container| container.volumes.retain(|volume| volume != name));
                return format!("change: {name} is wanted no more");
            }
            8 if !volumes.is_empty() => {
                let name = pick(random, &volumes);
                let volume = self.volumes.get_mut(name).expect("it was just listed");
                volume.mode = if volume.mode == "0750" { "0701" } else { "0750" };
                return format!("change: {name} has another mode");
            }
            _ => {
                let name = pick(random, &networks);
                let network = self.networks.get_mut(name).expect("it was just listed");
                network.mtu = Some(1300 + random.below(100));
                return format!("change: {name} has another mtu");
            }
        }
        format!("change: {name} is now {:?}", self.containers.get(&name))
    }

    /// Writes a file for each object, and removes those of objects that are wanted no more.
    pub fn write(&mut self, sandbox: &Sandbox) {
        self.volumes_ever.extend(self.volumes.keys().cloned());
        let images = sandbox.busybox_image();
        let other =
            images.replace("{name: busybox}", "{name: other}").replace("env: {PATH", "env: {OTHER: \"1\", PATH");
        let mut files = BTreeMap::from([("images".to_owned(), format!("{images}---\n{other}"))]);
        for (name, network) in &self.networks {
            files.insert(name.clone(), document("Network", name, &network.spec(), &json!({})));
        }
        for (name, volume) in &self.volumes {
            let spec = json!({"owner": format!("{0}:{0}", volume.owner), "mode": volume.mode});
            let policy = if volume.kept { json!({}) } else { json!({"prune": "delete"}) };
            files.insert(name.clone(), document("Volume", name, &spec, &policy));
        }
        for (name, container) in &self.containers {
            files.insert(name.clone(), document("Container", name, &container.spec(self), &json!({})));
        }
        sandbox.withdraw_where(|name| !files.contains_key(name.trim_end_matches(".yaml")));
        for (name, text) in files {
            sandbox.manifest(&format!("{name}.yaml"), &text);
        }
    }

    /// Has nothing wanted any more; volumes that were kept are stated once more, to be deleted.
    pub fn forget(&mut self, sandbox: &Sandbox) {
        let draw = || Volume { owner: 0, mode: "0755", kept: false };
        self.volumes = self.volumes_ever.iter().map(|name| (name.clone(), draw())).collect();
        self.containers.clear();
        self.networks.clear();
        self.write(sandbox);
        sandbox.verb_on_manifests("apply", &["--yes"]).expect_code(0);
        sandbox.withdraw_all();
    }
}

fn document(kind: &str, name: &str, spec: &Value, policy: &Value) -> String {
    json!({"apiVersion": "evenkeel/v1", "kind": kind, "metadata": {"name": name}, "spec": spec, "policy": policy})
        .to_string()
}

impl Network {
    fn draw(random: &mut Random, bridge: bool, number: u64) -> Network {
        Network {
            bridge,
            number,
            ipv6: bridge && chance(random, 2),
            mtu: chance(random, 3).then_some(1400),
            internal: bridge && chance(random, 4),
        }
    }

    /// The link that the network has on the host.
    pub fn link(&self, name: &str) -> String {
        if self.bridge { format!("ek-{name}") } else { format!("{name}-shim") }
    }

    fn spec(&self) -> Value {
        let number = self.number;
        let mut subnets = vec![json!({"subnet": format!("10.{number}.0.0/24")})];
        if self.ipv6 {
            subnets.push(json!({"subnet": format!("fd{number}::/64")}));
        }
        let mut spec = if self.bridge {
            json!({"driver": "bridge", "internal": self.internal})
        } else {
            subnets[0]["gateway"] = json!(format!("10.{number}.0.254"));
            subnets[0]["ipRange"] = json!(format!("10.{number}.0.192/27"));
            subnets[0]["auxAddresses"] = json!({"host": format!("10.{number}.0.223")});
            json!({"driver": "macvlan", "parent": "parent0", "shim": {"address": "host"}})
        };
        spec["subnets"] = json!(subnets);
        if let Some(mtu) = self.mtu {
            spec["mtu"] = json!(mtu);
        }
        spec
    }
}

impl Volume {
    fn draw(random: &mut Random) -> Volume {
        Volume {
            owner: 1000 + random.below(2),
            mode: ["0750", "0701"][usize::from(chance(random, 2))],
            kept: chance(random, 2),
        }
    }
}

impl Container {
    fn draw(random: &mut Random, wanted: &Wanted, number: u64) -> Container {
        let networks: Vec<String> = wanted.networks.keys().filter(|_| !chance(random, 3)).cloned().collect();
        let volumes = wanted.volumes.keys().filter(|_| chance(random, 2)).cloned().collect();
        let published = networks.iter().any(|name| wanted.networks[name].bridge && !wanted.networks[name].internal);
        Container {
            image: ["busybox", "other"][usize::from(chance(random, 2))],
            fixed: chance(random, 2),
            volumes,
            port: (published && !chance(random, 3)).then_some(8000 + number),
            networks,
            memory: chance(random, 2).then_some(64),
            pids: chance(random, 2).then_some(50),
            cpus: chance(random, 2),
            word: 0,
            number,
        }
    }

    fn spec(&self, wanted: &Wanted) -> Value {
        let attachment = |(place, name): (usize, &String)| {
            let number = wanted.networks[name].number;
            let address = format!("10.{number}.0.{}", 200 + self.number);
            if place == 0 && self.fixed { json!({"name": name, "ipv4": address}) } else { json!({"name": name}) }
        };
        let mount = |name: &String| json!({"volume": name, "target": format!("/{name}")});
        let mut spec = json!({
            "image": self.image,
            "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
            "env": {"WORD": self.word.to_string()},
            "networks": self.networks.iter().enumerate().map(attachment).collect::<Vec<_>>(),
            "mounts": self.volumes.iter().map(mount).collect::<Vec<_>>(),
            "stopSignal": "KILL",
            "restart": {"backoff": {"initial": "50ms", "max": "100ms"}},
            "resources": {},
        });
        if let Some(port) = self.port {
            spec["ports"] = json!([format!("{port}:80")]);
        }
        let resources = &mut spec["resources"];
        if let Some(memory) = self.memory {
            resources["memory"] = json!(format!("{memory}Mi"));
        }
        if let Some(pids) = self.pids {
            resources["pids"] = json!(pids);
        }
        if self.cpus {
            resources["cpus"] = json!(0.5);
        }
        spec
    }
}
