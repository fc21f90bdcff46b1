//! The agent's socket: how another verb asks the running agent, one JSON object a line.
//!
//! A request is one line; the answers are any number of [`Answer::Step`] lines and one last line of another kind. The
//! socket is only for the root user (mode 0600) and carries no secret.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_plan::{Key, Outcome, Report};
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::reconcile::Deed;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "request")]
pub enum Request {
    /// Who are you, and what came of the last pass?
    Status,
    /// Make a pass now. `path` is what the asker wants applied, canonical; it must be the agent's own source.
    #[serde(rename_all = "camelCase")]
    Apply { path: Option<PathBuf>, allow_data_loss: bool, allow_empty: bool, no_prune: bool },
    /// Something changed that the agent may not notice by itself: look again, without waiting for it.
    Wake,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub enum Answer {
    /// A step began (`outcome` is `None`) or ended.
    #[serde(rename_all = "camelCase")]
    Step {
        key: Key,
        deed: Deed,
        outcome: Option<Outcome>,
        milliseconds: u64,
    },
    Report(Box<Report>),
    Status(AgentStatus),
    /// The request was heard.
    Heard,
    /// The pass that was asked for came to nothing, for this reason.
    #[serde(rename_all = "camelCase")]
    Failed {
        message: String,
    },
    /// The request cannot be met.
    #[serde(rename_all = "camelCase")]
    Refused {
        message: String,
    },
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    pub pid: u32,
    pub manifests: PathBuf,
    /// RFC 3339.
    pub started_at: String,
    pub last_pass: Option<LastPass>,
    /// Objects whose repair failed or did not last, with the time of the next try (RFC 3339).
    pub waiting: BTreeMap<Key, String>,
}

/// What came of an agent's last pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastPass {
    /// When it ended, RFC 3339.
    pub at: String,
    pub revision: String,
    pub milliseconds: u64,
    pub in_sync: bool,
    pub complete: bool,
    pub problems: Vec<String>,
}

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot speak with the agent on {}", path.display())]
    Speak { path: PathBuf, source: io::Error },
    #[error("the agent on {} went away before it answered", path.display())]
    Gone { path: PathBuf },
    #[error("the agent on {} answers in words of another release", path.display())]
    Words { path: PathBuf, source: serde_json::Error },
}

/// Opens the socket, taking the place of one that a dead agent left. The root's lock must be held.
pub fn listen(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Listen { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fail_point!("agent.bound");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Asks the agent; `None` where none listens. Each step's line is handed to `step`, the last line is returned.
pub async fn ask(
    path: &Path,
    request: &Request,
    mut step: impl FnMut(&Answer),
) -> Result<Option<Answer>, ControlError> {
    let failed = |source| ControlError::Speak { path: path.to_owned(), source };
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let (read, mut write) = stream.into_split();
    write.write_all(&line(request)).await.map_err(failed)?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let answer =
            serde_json::from_str(&line).map_err(|source| ControlError::Words { path: path.to_owned(), source })?;
        match answer {
            Answer::Step { .. } => step(&answer),
            last => return Ok(Some(last)),
        }
    }
    Err(ControlError::Gone { path: path.to_owned() })
}

/// Reads the one request of a connection.
pub(super) async fn read_request(stream: &mut UnixStream) -> Result<Request, String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const LONGEST: usize = 64 * 1024;
    let mut text = Vec::new();
    let mut reader = BufReader::new(stream);
    let read = async {
        loop {
            let chunk = reader.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            text.extend_from_slice(&chunk[..taken]);
            let done = end.is_some() || taken == 0 || text.len() > LONGEST;
            reader.consume(taken);
            if done {
                return io::Result::Ok(());
            }
        }
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Err(_) => return Err("no request came within 5 s".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(())) => {}
    }
    serde_json::from_slice(&text).map_err(|error| format!("not a request of this release: {error}"))
}

/// Writes one value as a line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    // Plain data with text keys always becomes JSON; an empty line would be refused by the other side.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
