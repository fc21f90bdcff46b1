//! `kill`: a signal to the first process, or to all.
//!
//! libcontainer's own kill trusts the pid alone and calls the container stopped after any signal at all.

use std::path::Path;

use evenkeel_host::container::cgroup::Cgroup;
use evenkeel_host::container::process::signal_process;
use libcontainer::container::ContainerStatus;

use super::OciError;
use super::record::{Place, status_word};

pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), OciError> {
    let place = Place::new(root, id)?;
    let (container, record) = place.load()?;
    let system = |source| OciError::System { id: place.id.clone(), what: "cannot send the signal", source };
    if all {
        let failed = |source| OciError::Cgroup { id: place.id.clone(), source };
        let cgroup = Cgroup::of_host(&record.cgroup).map_err(failed)?;
        return cgroup.signal(signal).map_err(failed);
    }
    let Some((pid, started)) = record.process.filter(|_| container.status() != ContainerStatus::Stopped) else {
        let status = status_word(ContainerStatus::Stopped);
        return Err(OciError::Status { id: place.id, status, wanted: "running" });
    };
    match signal_process(pid.unsigned_abs(), started, signal).map_err(system)? {
        true => Ok(()),
        false => Err(OciError::Status { id: place.id.clone(), status: "stopped", wanted: "running" }),
    }
}
