//! What can go wrong with a container, with its name and the path or mount it went wrong on.

use std::io;
use std::path::PathBuf;

use evenkeel_schema::{Digest, Name};
use oci_spec::OciSpecError;

use super::cgroup::CgroupError;
use super::idmap::IdMapError;
use super::process::ProcessError;
use super::rootfs::RootfsError;
use super::shim::ShimError;
use super::user::UserError;
use crate::mountinfo::MountTableError;
use crate::volume::fill::FillError;

/// An error of one container, or of all.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("container {name}")]
    Container {
        name: Name,
        #[source]
        failure: Box<Failure>,
    },
    #[error("there is no shim to keep containers with")]
    NoShim(#[source] ShimError),
    #[error("containers cannot be listed: {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ContainerError {
    /// Puts a container's name to a failure.
    pub(crate) fn of(name: &Name, failure: impl Into<Failure>) -> ContainerError {
        ContainerError::Container { name: name.clone(), failure: Box::new(failure.into()) }
    }
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("mount {target}: {path} does not exist on the host")]
    MissingSource { target: String, path: PathBuf },
    #[error("mount {target}: {path}")]
    Source { target: String, path: PathBuf, source: io::Error },
    #[error("mount {target}: the directory of volume {volume} does not exist: {path}")]
    MissingVolume { target: String, volume: Name, path: PathBuf },
    #[error("mount {target}: cannot map ids of {path}")]
    IdMap { target: String, path: PathBuf, source: IdMapError },
    #[error("mount {target}")]
    Fill { target: String, source: FillError },
    #[error("there is no command: neither the manifest nor the image states one")]
    NoCommand,
    #[error("working directory `{0}`: not an absolute path")]
    RelativeWorkingDirectory(String),
    #[error("it was made from image {made}, not {wanted}: it must be removed first")]
    OtherImage { made: Digest, wanted: Digest },
    #[error("it is not made: there is no {path}")]
    NotMade { path: PathBuf },
    #[error("it does not run")]
    NotRunning,
    #[error("process {pid} does not end")]
    Lingers { pid: u32 },
    #[error("a shim that never says who it is listens at {path}")]
    PlaceTaken { path: PathBuf },
    #[error("process {pid} cannot be sent signal {signal}")]
    Signal { pid: u32, signal: i32, source: io::Error },
    /// What the shim answered; mostly the runtime's own words.
    #[error("{0}")]
    Refused(String),
    #[error("cannot start the runtime {program}")]
    Runtime { program: PathBuf, source: io::Error },
    #[error("the runtime failed: {message}")]
    RuntimeFailed { message: String },
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Mounts(#[from] MountTableError),
    #[error(transparent)]
    Shim(#[from] ShimError),
    #[error("its bundle")]
    Bundle(#[from] OciSpecError),
    #[error("its task was broken off")]
    Cancelled,
}
