//! What this runtime keeps of a container: `<root>/<id>/`, with `record.json`, a [`Record`], and the [`gate`] at which
//! the made process waits for its start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use evenkeel_host::container::cgroup::Cgroup;
use evenkeel_host::container::process::start_time;
use evenkeel_shim::{fail_point, gate};
use serde::{Deserialize, Serialize};

use super::OciError;

/// Where a container is in its life, in the words of the specification (runtime.md, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` is at work, or was cut off.
    Creating,
    /// Its process waits for `start`.
    Created,
    Running,
    Stopped,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
        }
    }
}

/// What is known of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The bundle that the caller gave.
    pub bundle: PathBuf,
    /// `linux.cgroupsPath`, or the runtime's default.
    pub cgroup: PathBuf,
    /// The first process with its start time (field 22 of `/proc/<pid>/stat`), since a pid alone may be used again.
    pub process: Option<(i32, u64)>,
    /// `ociVersion` of the bundle.
    pub version: String,
    pub annotations: HashMap<String, String>,
    /// RFC 3339.
    pub created: String,
}

/// The directory of one container under the runtime's root.
#[derive(Clone, Debug)]
pub struct ContainerDirectory {
    pub id: String,
    pub path: PathBuf,
}

impl ContainerDirectory {
    pub fn new(root: &Path, id: &str) -> Result<ContainerDirectory, OciError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(OciError::Id { id: id.to_owned() });
        }
        Ok(ContainerDirectory { id: id.to_owned(), path: root.join(id) })
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// Names the pipe at which the made process waits.
    pub fn gate(&self) -> PathBuf {
        gate::path(&self.path)
    }

    pub fn write_record(&self, record: &Record) -> Result<(), OciError> {
        write_json(&self.record_path(), record)
    }

    /// Reads the record; `None` where `create` did not come so far.
    pub fn read_record(&self) -> Result<Option<Record>, OciError> {
        let path = self.record_path();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| OciError::Json { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OciError::File { path, source }),
        }
    }

    /// Reads the record of a container that is there, and says where it is in its life. A pid that was used again is not taken for
    /// its process.
    pub fn load(&self) -> Result<(Record, Status), OciError> {
        let record = self.read_record()?.ok_or_else(|| OciError::NoContainer { id: self.id.clone() })?;
        let status = match record.process {
            None => Status::Creating,
            Some((pid, started)) if start_time(pid.unsigned_abs()) != Some(started) => Status::Stopped,
            Some(_) if self.gate().exists() => Status::Created,
            Some(_) => Status::Running,
        };
        Ok((record, status))
    }

    /// Kills what runs in the container's cgroup and removes cgroup and directories. What is not there is no error, and of a
    /// damaged record nothing is known: whoever asks for the container's cgroup by another name has to look there.
    pub fn sweep(&self) -> Result<(), OciError> {
        let record = match self.read_record() {
            Err(OciError::Json { .. }) => None,
            other => other?,
        };
        if let Some(record) = record {
            let failed = |source| OciError::Cgroup { id: self.id.clone(), source };
            let cgroup = Cgroup::of_host(&record.cgroup).map_err(failed)?;
            cgroup.kill_and_remove().map_err(failed)?;
            fail_point!("oci.cgroup.removed");
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OciError::File { path: self.path.clone(), source: error });
            }
            _ => {}
        }
        fail_point!("oci.directory.removed");
        Ok(())
    }
}

/// Writes JSON so that a reader sees the whole of it or nothing.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), OciError> {
    let failed = |source| OciError::File { path: path.to_owned(), source };
    let json = serde_json::to_vec(value).map_err(|source| OciError::Json { path: path.to_owned(), source })?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, json).map_err(failed)?;
    fail_point!("oci.file.written");
    std::fs::rename(&temporary, path).map_err(failed)
}
