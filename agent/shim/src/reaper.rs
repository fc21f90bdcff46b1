//! The children that ended: those that the shim started, and the orphans that a subreaper inherits.

use std::collections::BTreeMap;

use evenkeel_shim::process::{ExitStatus, try_wait_for_any};

/// Exits that were collected and that nobody asked for yet.
#[derive(Debug, Default)]
pub struct Reaper {
    ended: BTreeMap<u32, ExitStatus>,
}

impl Reaper {
    /// Collects every child that has ended, without waiting.
    pub fn reap(&mut self) {
        while let Some((pid, status)) = try_wait_for_any() {
            self.ended.insert(pid, status);
        }
    }

    /// Takes the exit of one process, if it has been collected.
    pub fn take(&mut self, pid: u32) -> Option<ExitStatus> {
        self.ended.remove(&pid)
    }

    /// Whether a process's exit has been collected.
    pub fn has(&self, pid: u32) -> bool {
        self.ended.contains_key(&pid)
    }

    /// Forgets the exits of all but these: nobody will ask for an orphan's.
    pub fn forget_others(&mut self, wanted: &[Option<u32>]) {
        self.ended.retain(|pid, _| wanted.contains(&Some(*pid)));
    }
}
