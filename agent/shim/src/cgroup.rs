//! What the container's cgroup says and takes: kills by the OOM killer, and the order to kill everything in it.
//!
//! Makes and removes no cgroup; the runtime does.

use std::fs;
use std::path::PathBuf;

/// Counts the processes that the OOM killer has ended in a container's cgroup; 0 where it keeps no count.
pub fn oom_kills(cgroups: &[(String, PathBuf)]) -> u64 {
    let count = |file: PathBuf| counter(&fs::read_to_string(file).ok()?, "oom_kill");
    let counts = cgroups.iter().filter_map(|(controller, directory)| match controller.as_str() {
        "" => count(directory.join("memory.events")),
        "memory" => count(directory.join("memory.oom_control")),
        _ => None,
    });
    counts.max().unwrap_or(0)
}

/// Kills every process of a container's cgroup v2; says whether there was one that can.
pub fn kill(cgroups: &[(String, PathBuf)]) -> bool {
    cgroups
        .iter()
        .filter(|(controller, _)| controller.is_empty())
        .any(|(_, directory)| fs::write(directory.join("cgroup.kill"), "1").is_ok())
}

/// Finds a number in lines of a key and a value.
fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
