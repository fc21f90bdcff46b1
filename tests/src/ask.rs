//! Questions to the kernel, and waiting for their answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Run, run, run_in};

/// How long [`eventually`] waits: long enough for a busy machine, since only a failing test ever waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a check gives `Ok` and hands its value back; fails with its last `Err` otherwise.
#[track_caller]
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > PATIENCE => panic!("{what}: not after {PATIENCE:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Requires that a check holds for the whole of a time.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Err(why) = check() {
            panic!("{what}: broken after {:?}: {why}", start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks `ip -j`; nothing, as for a link that is not there, is an empty list.
pub fn ip_json(arguments: &[&str]) -> Value {
    parse_list(&run(Command::new("ip").arg("-j").args(arguments)))
}

/// Asks `ip -j` in a network namespace.
pub fn ip_json_in(netns: &Path, arguments: &[&str]) -> Value {
    parse_list(&run_in(netns, &[&["ip", "-j"], arguments].concat()))
}

fn parse_list(answer: &Run) -> Value {
    if answer.stdout.trim().is_empty() { Value::Array(Vec::new()) } else { answer.json() }
}

/// Lists the addresses of a link with their prefix length, link-local IPv6 ones not included.
pub fn addresses(link: &str) -> Vec<String> {
    addresses_of(&ip_json(&["address", "show", "dev", link]))
}

/// As [`addresses`], in a network namespace.
pub fn addresses_in(netns: &Path, link: &str) -> Vec<String> {
    addresses_of(&ip_json_in(netns, &["address", "show", "dev", link]))
}

fn addresses_of(answer: &Value) -> Vec<String> {
    let infos = answer.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array()).flatten();
    let global = infos.filter(|info| info["scope"] != "link");
    let mut list: Vec<String> =
        global.map(|info| format!("{}/{}", info["local"].as_str().unwrap_or_default(), info["prefixlen"])).collect();
    list.sort();
    list
}

/// Tells whether a link of this name is there.
pub fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
        || !ip_json(&["link", "show", "dev", name]).as_array().is_none_or(Vec::is_empty)
}

/// Lists the destinations of the routes over a link.
pub fn routes(link: &str) -> Vec<String> {
    let answer = ip_json(&["route", "show", "dev", link]);
    let destinations = answer.as_array().into_iter().flatten().filter_map(|route| route["dst"].as_str());
    destinations.map(str::to_owned).collect()
}

/// Asks `nft -j list table inet <table>`; `None` where there is no such table.
pub fn nft_table(table: &str) -> Option<Value> {
    let answer = run(Command::new("nft").args(["-j", "list", "table", "inet", table]));
    answer.succeeded().then(|| answer.json())
}

/// Gets a page with busybox's wget, from a network namespace or from here.
pub fn wget(netns: Option<&Path>, url: &str) -> Run {
    wget_within(3, netns, url)
}

/// As [`wget`], for one who waits so many seconds.
pub fn wget_within(seconds: u32, netns: Option<&Path>, url: &str) -> Run {
    // Debian 12's busybox-static crashes under its own option for this, `-T`.
    let command = ["timeout", &seconds.to_string(), "busybox", "wget", "-q", "-O", "-", url];
    match netns {
        Some(netns) => run_in(netns, &command),
        None => run(Command::new(command[0]).args(&command[1..])),
    }
}

/// Gets a page, waiting until the server is there.
#[track_caller]
pub fn page(netns: Option<&Path>, url: &str) -> String {
    eventually(&format!("a page from {url}"), || {
        let answer = wget(netns, url);
        if answer.succeeded() { Ok(answer.stdout) } else { Err(answer.to_string()) }
    })
}

/// Sends one echo request and tells whether it came back; a busy machine may take its time.
pub fn ping(netns: Option<&Path>, address: &str) -> bool {
    let command = ["busybox", "ping", "-c", "1", "-W", "10", address];
    let answer = match netns {
        Some(netns) => run_in(netns, &command),
        None => run(Command::new(command[0]).args(&command[1..])),
    };
    answer.succeeded()
}

/// Gives field 22 of `/proc/<pid>/stat`, the start time in clock ticks; `None` where there is no such process or only its
/// exit status is left.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses itself.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields[0] == "Z" { None } else { fields[19].parse().ok() }
}

/// Gives the clock ticks that a process was on a processor: `utime` and `stime` of proc_pid_stat(5).
#[track_caller]
pub fn processor_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}

/// Lists the directories of a container's cgroup: one on cgroup v2, one for each mounted controller on v1.
pub fn cgroups(instance: &str, container: &str) -> Vec<PathBuf> {
    cgroup_roots().into_iter().map(|root| root.join(instance).join(container)).filter(|path| path.is_dir()).collect()
}

/// Finds a file of a container's cgroup, by its v2 or its v1 name, whichever is there.
#[track_caller]
pub fn cgroup_file(instance: &str, container: &str, v2: &str, v1: &str) -> PathBuf {
    let directories = cgroups(instance, container);
    let files = directories.iter().flat_map(|directory| [directory.join(v1), directory.join(v2)]);
    match files.into_iter().find(|file| file.exists()) {
        Some(file) => file,
        None => panic!("neither {v1} nor {v2} in {directories:?}"),
    }
}

/// Lists where cgroup hierarchies are mounted.
pub fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| matches!(fields[2], "cgroup" | "cgroup2")).map(|fields| PathBuf::from(fields[1])).collect()
}
