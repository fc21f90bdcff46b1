//! What a test could leave on the host: found, named, and for a sandbox removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_host::{Instance, Paths};

use crate::ask::cgroup_roots;

/// Removes a sandbox's directory and the cgroups of its installations.
pub fn remove(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let instances: BTreeSet<String> =
        entries.map(|entry| Instance::of(&Paths::new(entry.path(), "/")).as_str().to_owned()).collect();
    for root in cgroup_roots() {
        for instance in &instances {
            remove_cgroup(&root.join(instance));
        }
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("{} stays: {error}", directory.display());
    }
}

/// Removes a cgroup with all below it. A process that was just killed keeps it busy for a moment.
fn remove_cgroup(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = fs::remove_dir(path) {
        match error.kind() {
            io::ErrorKind::NotFound => return,
            _ if Instant::now() > deadline => return eprintln!("{} stays: {error}", path.display()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Lists everything on the host that bears evenkeel's name or a test's, one line each.
pub fn list() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains("evenkeel")).map(|line| format!("mount {line}")));
    for root in cgroup_roots() {
        found.extend(
            directories(&root)
                .iter()
                .filter(|path| named_evenkeel(path))
                .map(|path| format!("cgroup {}", path.display())),
        );
    }
    found.extend(
        directories(Path::new("/tmp"))
            .iter()
            .filter(|path| named_evenkeel(path))
            .map(|path| format!("directory {}", path.display())),
    );
    found.extend(
        directories(Path::new("/run/netns")).iter().map(|path| format!("network namespace {}", path.display())),
    );
    found.extend(
        output(&["ip", "-o", "link"])
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .filter(|name| !name.starts_with("lo"))
            .map(|name| format!("link {name}")),
    );
    found.extend(output(&["nft", "list", "tables"]).lines().map(|line| format!("nftables {line}")));
    found.extend(processes());
    found
}

/// Lists the processes whose program is evenkeel's or a registry for tests. The asking process is not among them.
fn processes() -> Vec<String> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| *pid != own);
    let named = pids.filter_map(|pid| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let name = program.file_name()?.to_str()?.trim_end_matches(" (deleted)").to_owned();
        let ours = name.starts_with("evenkeel") || name == "docker-registry" || name == "runc";
        ours.then(|| format!("process {name} {pid}"))
    });
    named.collect()
}

fn named_evenkeel(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("evenkeel"))
}

fn directories(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect()
}

/// Gives what a program says, nothing where it is not installed.
fn output(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
