//! Shims whose files are gone, found by their command lines.
//!
//! That takes a look at every process of the host, and may be asked for each container at once, as after a reboot: so one look
//! serves all who ask within a second.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::process::ProcessId;
use super::shim::PROGRAM;

/// How long a look at all processes counts.
const FRESHNESS: Duration = Duration::from_secs(1);

/// The shims of the last look, by the configuration that they run on.
#[derive(Debug, Default)]
pub struct ShimIndex(Mutex<Option<Look>>);

#[derive(Debug)]
struct Look {
    at: Instant,
    shims: HashMap<PathBuf, ProcessId>,
    /// Configurations on which a shim was started since.
    outdated: HashSet<PathBuf>,
}

impl ShimIndex {
    /// Finds the shim that runs on a configuration. Blocks for as long as a look at all processes takes.
    pub fn find(&self, config: &Path) -> Option<ProcessId> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.as_ref().is_some_and(|look| look.at.elapsed() < FRESHNESS && !look.outdated.contains(config)) {
            *last = Some(Look { at: Instant::now(), shims: all_shims(), outdated: HashSet::new() });
        }
        let shim = last.as_ref()?.shims.get(config).copied();
        // It may have ended since, and its number belong to another.
        shim.filter(|shim| shim.is_alive() && config_of(shim.pid).as_deref() == Some(config))
    }

    /// Takes note that a shim was started, which the last look may have come too early for.
    pub fn note_start(&self, config: PathBuf) {
        if let Some(look) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            look.outdated.insert(config);
        }
    }
}

fn all_shims() -> HashMap<PathBuf, ProcessId> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((config_of(pid)?, ProcessId::of(pid)?))).collect()
}

/// Gives the configuration that a shim runs on; `None` for a process that is no shim.
fn config_of(pid: u32) -> Option<PathBuf> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    words.next().filter(|program| program.ends_with(PROGRAM))?;
    words.next().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    /// A process with a shim's command line.
    fn start(config: &Path) -> Child {
        let mut command = Command::new("sh");
        let child = command.arg0(PROGRAM).arg(config).spawn().expect("a shell that waits for its script");
        while config_of(child.id()).is_none() {
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn a_shim_is_found_by_its_configuration_as_long_as_it_lives() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("shim.json");
        nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).expect("a script that never comes");
        let index = ShimIndex::default();
        assert_eq!(index.find(&config), None);
        let mut child = start(&config);
        index.note_start(config.clone());
        assert_eq!(index.find(&config), ProcessId::of(child.id()));
        assert_eq!(index.find(&directory.path().join("other.json")), None);
        child.kill().expect("its end");
        child.wait().expect("its end");
        assert_eq!(index.find(&config), None);
    }
}
