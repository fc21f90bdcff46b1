//! `kill`: a signal to the first process, or to all.

use std::path::Path;

use evenkeel_host::container::cgroup::Cgroup;
use evenkeel_host::container::process::ProcessId;

use super::OciError;
use super::record::{ContainerDirectory, Status};

pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), OciError> {
    let container = ContainerDirectory::new(root, id)?;
    let (record, status) = container.load()?;
    let system = |source| OciError::System { id: container.id.clone(), what: "cannot send the signal", source };
    if all {
        let failed = |source| OciError::Cgroup { id: container.id.clone(), source };
        let cgroup = Cgroup::of_host(&record.cgroup).map_err(failed)?;
        return cgroup.signal(signal).map_err(failed);
    }
    let stopped = || {
        let status = Status::Stopped.word();
        OciError::Status { id: container.id.clone(), status, wanted: "running" }
    };
    let Some((pid, started)) = record.process.filter(|_| status != Status::Stopped) else { return Err(stopped()) };
    let process = ProcessId { pid: pid.unsigned_abs(), start_time: started };
    match process.try_signal(signal).map_err(system)? {
        true => Ok(()),
        false => Err(stopped()),
    }
}
