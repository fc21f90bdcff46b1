//! What the container's cgroup says and takes: kills by the OOM killer, and the order to kill everything in it.
//!
//! Makes and removes no cgroup; the runtime does.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One of a container's cgroup directories. In a configuration it is the pair of controller and path, `""` for cgroup v2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, PathBuf)", into = "(String, PathBuf)")]
pub struct CgroupDirectory {
    /// A controller of cgroup v1 (`memory`, `pids`); `None` for cgroup v2.
    pub controller: Option<String>,
    pub path: PathBuf,
}

impl From<(String, PathBuf)> for CgroupDirectory {
    fn from((controller, path): (String, PathBuf)) -> Self {
        CgroupDirectory { controller: Some(controller).filter(|name| !name.is_empty()), path }
    }
}

impl From<CgroupDirectory> for (String, PathBuf) {
    fn from(directory: CgroupDirectory) -> Self {
        (directory.controller.unwrap_or_default(), directory.path)
    }
}

/// Counts the processes that the OOM killer has ended in a container's cgroup; 0 where it keeps no count.
pub fn oom_kills(cgroups: &[CgroupDirectory]) -> u64 {
    let counts = cgroups.iter().filter_map(|directory| {
        let file = match directory.controller.as_deref() {
            None => "memory.events",
            Some("memory") => "memory.oom_control",
            Some(_) => return None,
        };
        counter(&fs::read_to_string(directory.path.join(file)).ok()?, "oom_kill")
    });
    counts.max().unwrap_or(0)
}

/// Kills every process of a container's cgroup v2; says whether there was one that can.
pub fn kill(cgroups: &[CgroupDirectory]) -> bool {
    let mut unified = cgroups.iter().filter(|directory| directory.controller.is_none());
    unified.any(|directory| fs::write(directory.path.join("cgroup.kill"), "1").is_ok())
}

/// Finds a number in lines of a key and a value.
fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
