//! What can go wrong in the runtime, with the container and path it went wrong on.

use std::path::PathBuf;

use evenkeel_host::container::cgroup::CgroupError;

use super::cgroup::MakeError;
use super::seccomp::FilterError;

/// An error of one verb.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("not supported: {what}")]
    Unsupported { what: &'static str },
    #[error("container {id}: not a container id: letters, digits, `_`, `+`, `-` and `.`, not beginning with `.`")]
    Id { id: String },
    #[error("container {id} does not exist")]
    NoContainer { id: String },
    #[error("container {id} exists already")]
    Exists { id: String },
    #[error("container {id} is {status}, not {wanted}")]
    Status { id: String, status: &'static str, wanted: &'static str },
    #[error("{path}: no `{field}`")]
    MissingField { path: PathBuf, field: &'static str },
    #[error("{path}: {what} is not supported")]
    BundleUnsupported { path: PathBuf, what: String },
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("container {id}: {what}")]
    System {
        id: String,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// What the container's own process said before it could run the command.
    #[error("{message}")]
    Process { message: String, exit_status: Option<i32> },
    #[error("container {id}")]
    Cgroup {
        id: String,
        #[source]
        source: CgroupError,
    },
    #[error("container {id}: cgroup")]
    MakeCgroup {
        id: String,
        #[source]
        source: MakeError,
    },
    /// The kernel ended its process, before it could say anything, for want of memory within the container's limit.
    #[error("container {id}: `resources.memory` is too small for it to start")]
    OutOfMemory { id: String },
    #[error("container {id}: its process ended without a word before it could run the command: {how}")]
    Silent { id: String, how: String },
    #[error("container {id}: seccomp filter")]
    Filter {
        id: String,
        #[source]
        source: FilterError,
    },
    #[error("exec in container {id}: no command given")]
    NoCommand { id: String },
}

impl OciError {
    /// Gives the exit status that says more than "failed": 126 and 127 as a shell's.
    pub fn exit_status(&self) -> Option<i32> {
        match self {
            OciError::Process { exit_status, .. } => *exit_status,
            _ => None,
        }
    }
}
