//! What can happen to a host: lines of shell, each about one object that is drawn with it.

use std::fs;

use evenkeel_tests::random::Random;
use evenkeel_tests::{Run, Sandbox, ask, program};

use super::wanted::{Wanted, pick};

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Damage {
    object: String,
    /// The link of a network.
    link: String,
    line: &'static str,
    /// Chooses among the files of the store.
    nth: u64,
}

/// To a network's own link.
const NETWORK: [&str; 11] = [
    "ip link del $link",
    "ip link set $link down",
    "ip link set $link down; ip link set $link name lost0; ip link set lost0 up",
    "ip link set $link address 02:00:00:00:00:99",
    "ip link set $link mtu 1290",
    "ip addr flush dev $link",
    "ip addr add 10.200.0.1/24 dev $link",
    "ip route flush dev $link",
    "ip -6 route flush dev $link",
    "ip route add 10.201.0.0/24 dev $link",
    "ip route flush dev $link; ip link set $link down",
];

/// To the host as a whole.
const HOST: [&str; 12] = [
    "echo 0 >/proc/sys/net/ipv4/ip_forward",
    "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
    "nft delete table inet $table",
    "nft flush table inet $table",
    "nft flush ruleset",
    "nft add chain inet $table mine; nft add rule inet $table mine tcp dport 4242 drop",
    "for kind in maps sets; do nft list $kind | while read word name rest; do case $word in map|set) nft flush $word inet $table $name;; \
     esac; done; done",
    "nft list chains | while read word name rest; do case $word in chain) nft flush chain inet $table $name;; esac; done",
    "ip link set parent0 down",
    "printf rubbish >$root/state.db-wal",
    "rm -f $root/state.db-shm $root/state.db-wal; printf rubbish >$root/state.db-shm",
    "for mount in $(grep -o \"$runs[^ ]*\" /proc/mounts | tac); do umount -l $mount; done; rm -rf $runs",
];

/// To a container: its process, its shim, their files, its namespace, its mounts, its cgroup.
const CONTAINER: [&str; 41] = [
    "kill -9 $pid",
    "kill -9 $shim",
    "kill -9 $shim $pid",
    "kill -STOP $shim",
    "kill -STOP $shim; kill -9 $pid",
    "kill -STOP $shim; rm $run/shim.sock $status",
    "kill -STOP $shim; : >$status",
    "rm $run/shim.sock",
    "rm $run/shim.sock $run/shim.sock.lock",
    "rm $run/shim.sock $run/shim.sock.lock $status",
    "rm $run/shim.sock; kill -9 $pid",
    "rm $status",
    ": >$status",
    "head -c 25 $status >$run/cut; cat $run/cut >$status; rm $run/cut",
    "rm $state/created.json",
    "rm $state/created.json; kill -STOP $shim",
    "rm $state/created.json $status",
    "rm $state/created.json; kill -9 $shim",
    "rm $state/created.json $run/created.json",
    ": >$state/created.json",
    "rm $run/created.json",
    ": >$run/created.json",
    "rm $run/config.json $run/shim.json",
    ": >$run/config.json",
    "rm $run/hosts",
    ": >$run/hosts",
    "rm -rf $oci",
    "umount -l $run/rootfs",
    "umount -l $netns",
    "umount -l $netns; rm $netns",
    "umount -l $run/rootfs; umount -l $netns; rm -rf --one-file-system $run",
    // What is mounted there stays.
    "rm -rf --one-file-system $run || true",
    "rm -rf --one-file-system $state",
    "rm -rf $state/upper",
    "rm -rf $state/logs",
    "nsenter --net=$netns ip link del eth0",
    "nsenter --net=$netns ip link set eth0 down",
    "nsenter --net=$netns ip addr flush dev eth0",
    "nsenter --net=$netns ip route flush dev eth0",
    "nsenter --net=$netns sh -c 'ip link set eth0 down; ip link set eth0 name lost0'",
    "for file in $limits; do echo 20000000 >$file || true; done",
];

const VOLUME: [&str; 6] = [
    "chmod 777 $volume",
    "chown 5:6 $volume",
    "rm -rf $volume",
    "rm -rf $volume; echo mine >$volume",
    "rm -rf $volume; ln -s /tmp $volume",
    "rm -rf $root.aside; mv $volume $root.aside",
];

const STORE: [&str; 6] =
    ["rm $blob", ": >$blob", "rm -rf $layer", "rm -rf $layer; rm $blob", "rm $record", "rm $root/images/index.json"];

impl Damage {
    pub fn draw(random: &mut Random, wanted: &Wanted) -> Damage {
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<String>>();
        let containers = names(wanted.containers.keys().collect());
        let networks = names(wanted.networks.keys().collect());
        let volumes = names(wanted.volumes.keys().collect());
        let nth = random.below(1 << 16);
        let (object, line) = match random.below(10) {
            0 | 1 => (pick(random, &networks).clone(), *pick(random, &NETWORK)),
            2 => ("host".to_owned(), *pick(random, &HOST)),
            3 => ("store".to_owned(), *pick(random, &STORE)),
            4 if !volumes.is_empty() => (pick(random, &volumes).clone(), *pick(random, &VOLUME)),
            _ => (pick(random, &containers).clone(), *pick(random, &CONTAINER)),
        };
        let link = wanted.networks.get(&object).map(|network| network.link(&object)).unwrap_or_default();
        Damage { object, link, line, nth }
    }

    /// Lets it happen, as far as what it happens to is still there after what happened before; gives what came of its line.
    pub fn happen(&self, sandbox: &Sandbox) -> Run {
        let (paths, instance) = (sandbox.paths(), sandbox.instance());
        let name = self.object.parse().expect("a name");
        let run = paths.container_run(&name);
        let status = fs::read_to_string(paths.status(&name)).ok();
        let status: serde_json::Value = status.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let pid = |value: &serde_json::Value| value.as_u64().map(|pid| pid.to_string()).unwrap_or_default();
        let cgroups = ask::cgroups(instance.as_str(), &self.object);
        let limits = ["pids.max", "memory.max", "memory.limit_in_bytes", "cpu.cfs_quota_us"];
        let limits = cgroups.iter().flat_map(|directory| limits.map(|file| directory.join(file)));
        let limits: Vec<String> = limits.filter(|file| file.exists()).map(|file| file.display().to_string()).collect();
        let nth = |directory: std::path::PathBuf| {
            let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
            let mut entries: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
            entries.sort();
            let length = u64::try_from(entries.len()).unwrap_or(0).max(1);
            entries.into_iter().nth(usize::try_from(self.nth % length).unwrap_or(0)).unwrap_or_default()
        };
        let mut command = std::process::Command::new("sh");
        command.args(["-c", self.line]).env("link", &self.link).env("table", instance.as_str());
        command
            .env("root", paths.root())
            .env("runs", paths.run())
            .env("run", &run)
            .env("state", paths.container_state(&name));
        command.env("status", paths.status(&name)).env("netns", paths.network_namespace(&name));
        command.env("oci", paths.runtime_state().join(name.as_str())).env("volume", paths.volume(&name));
        command
            .env("pid", pid(&status["phase"]["pid"]))
            .env("shim", pid(&status["shimPid"]))
            .env("limits", limits.join(" "));
        command.env("blob", nth(paths.images().join("blobs/sha256"))).env("layer", nth(paths.layers()));
        command.env("record", nth(paths.images().join("names")));
        let came = program::run(&mut command);
        // A killed process is gone before the next look, so that every run of a seed is the same.
        for killed in [&status["phase"]["pid"], &status["shimPid"]].into_iter().filter_map(serde_json::Value::as_u64) {
            let killed = u32::try_from(killed).expect("a pid");
            let asked = self.line.contains("kill -9");
            let started = std::time::Instant::now();
            while asked && ask::start_time(killed).is_some() && started.elapsed().as_millis() < 50 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        came
    }

    /// Does what the program said has to be done by hand, where it did say so.
    pub fn obey(&self, sandbox: &Sandbox, said: &Run) {
        let record = sandbox.paths().container_state(&self.object.parse().expect("a name")).join("created.json");
        if fs::metadata(&record).is_ok_and(|record| record.len() == 0)
            && said.stdout.contains(&record.display().to_string())
        {
            fs::remove_file(&record).expect("the damaged record");
        }
    }
}
