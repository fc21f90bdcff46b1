//! What this runtime keeps of a container beside libcontainer's own state: `<root>/.bundle/<id>/`.
//!
//! `config.json` is the bundle as libcontainer gets it (see [`super::adapt`]), `record.json` is a [`Record`].

use std::path::{Path, PathBuf};

use evenkeel_host::container::cgroup::Cgroup;
use evenkeel_host::container::process::start_time;
use evenkeel_shim::fail_point;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::OciError;

/// The part of a container's state that libcontainer does not keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The bundle that the caller gave.
    pub bundle: PathBuf,
    /// `linux.cgroupsPath`, or the runtime's default.
    pub cgroup: PathBuf,
    /// The first process with its start time (field 22 of `/proc/<pid>/stat`), since a pid alone may be used again.
    pub process: Option<(i32, u64)>,
}

/// The directories of one container under the runtime's root.
#[derive(Clone, Debug)]
pub struct Place {
    pub id: String,
    /// libcontainer's.
    pub state: PathBuf,
    /// Ours.
    pub bundle: PathBuf,
}

impl Place {
    pub fn new(root: &Path, id: &str) -> Result<Place, OciError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(OciError::Id { id: id.to_owned() });
        }
        Ok(Place { id: id.to_owned(), state: root.join(id), bundle: root.join(".bundle").join(id) })
    }

    /// Tells whether anything of the container is there.
    pub fn exists(&self) -> bool {
        self.state.exists() || self.bundle.exists()
    }

    fn record_path(&self) -> PathBuf {
        self.bundle.join("record.json")
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

    /// Loads libcontainer's state, with a status that a reused pid does not falsify.
    pub fn load(&self) -> Result<(Container, Record), OciError> {
        let record = self.read_record()?.filter(|_| self.state.exists());
        let record = record.ok_or_else(|| OciError::NoContainer { id: self.id.clone() })?;
        let mut container = Container::load(self.state.clone()).map_err(|source| OciError::Container {
            id: self.id.clone(),
            detail: "its state cannot be read".to_owned(),
            source: Box::new(source),
        })?;
        let alive = record.process.is_some_and(|(pid, started)| start_time(pid.unsigned_abs()) == Some(started));
        if !alive {
            container.state.pid = None;
            container.set_status(ContainerStatus::Stopped);
        }
        Ok((container, record))
    }

    /// The bundle as the caller gave it.
    pub fn original_spec(&self, record: &Record) -> Result<Spec, OciError> {
        let path = record.bundle.join("config.json");
        Spec::load(&path).map_err(|source| OciError::Bundle { path, source })
    }

    /// Kills what runs in the container's cgroup and removes cgroup and directories. What is not there is no error.
    pub fn sweep(&self) -> Result<(), OciError> {
        if let Some(record) = self.read_record()? {
            let failed = |source| OciError::Cgroup { id: self.id.clone(), source };
            let cgroup = Cgroup::of_host(&record.cgroup).map_err(failed)?;
            cgroup.kill_and_remove().map_err(failed)?;
            fail_point!("oci.cgroup.removed");
        }
        for path in [&self.state, &self.bundle] {
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OciError::File { path: path.clone(), source: error });
                }
                _ => {}
            }
            fail_point!("oci.directory.removed");
        }
        Ok(())
    }
}

/// Writes JSON so that a reader sees the whole of it or nothing.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), OciError> {
    let failed = |source| OciError::File { path: path.to_owned(), source };
    let json = serde_json::to_vec(value).map_err(|source| OciError::Json { path: path.to_owned(), source })?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, json).map_err(failed)?;
    fail_point!("oci.file.written");
    std::fs::rename(&temporary, path).map_err(failed)
}

/// Names a status in the specification's words.
pub fn status_word(status: ContainerStatus) -> &'static str {
    match status {
        ContainerStatus::Creating => "creating",
        ContainerStatus::Created => "created",
        ContainerStatus::Running => "running",
        ContainerStatus::Stopped => "stopped",
        ContainerStatus::Paused => "paused",
    }
}
