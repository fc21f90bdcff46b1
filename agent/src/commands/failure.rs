//! Errors at the edge: what went wrong in one style, and what to do about it.
//!
//! Libraries say what failed; only here is it known what a person at a terminal can do, so only here are hints.

use nix::errno::Errno;
use rusqlite::ErrorCode;

use super::output::tell;
use crate::agent::AgentError;
use crate::agent::control::ControlError;
use crate::ledger::LedgerError;
use crate::lock::LockError;
use crate::report::Style;
use crate::session::SessionError;
use crate::settings::{Settings, SettingsError};

pub(super) const NEEDS_ROOT: &str = "evenkeel needs root: try again with sudo";
/// What can be done where no thread or process can be started (EAGAIN of clone(2)).
pub(super) const TOO_MANY_PROCESSES: &str =
    "no more processes can be started: raise their number (`ulimit -u`, `TasksMax=` of a unit, `pids.max` of a cgroup)";
const NO_SPACE: &str = "make room on that file system and run it again; what runs goes on meanwhile";
const READ_ONLY: &str = "mount that file system for writing, or choose another directory with --root and --run";

/// An error on its way to the terminal.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

impl<E> From<E> for Failure
where
    E: Into<anyhow::Error>,
{
    fn from(error: E) -> Self {
        let error = error.into();
        let hint = error.chain().find_map(hint);
        Failure { error, hint }
    }
}

impl Failure {
    /// Makes an error of words alone, with a hint.
    pub fn new(message: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Failure { error: anyhow::anyhow!("{message}"), hint: Some(hint.into()) }
    }

    /// Tells all failures but the last, which is left to whoever tells what a verb came to. Without any the exit code is 0.
    pub fn of_several(failures: impl IntoIterator<Item = Failure>, settings: &Settings) -> Result<u8, Failure> {
        let mut failures = failures.into_iter().peekable();
        while let Some(failure) = failures.next() {
            if failures.peek().is_none() {
                return Err(failure);
            }
            tell(&failure.render(Style::new(settings.color.decide(&std::io::stderr()))));
        }
        Ok(0)
    }

    /// Renders `error: …` with its causes and `hint: …`.
    pub fn render(&self, style: Style) -> String {
        let mut text = format!("{} {}", style.bad("error:"), self.error);
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors of libraries repeat their source.
            if !said.ends_with(&cause) {
                text += &format!(": {cause}");
            }
            said = cause;
        }
        text.push('\n');
        if let Some(hint) = &self.hint {
            text += &format!("{} {hint}\n", style.change("hint:"));
        }
        text
    }
}

/// Says what can be done about a known error.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    // Both stand in for what they carry, which is therefore no cause of theirs.
    if let Some(AgentError::Session(error)) = error.downcast_ref() {
        return hint(error);
    }
    match error.downcast_ref::<SessionError>() {
        Some(SessionError::Lock(error)) => return hint(error),
        Some(SessionError::Ledger(error)) => return hint(error),
        Some(SessionError::Observe(_)) | None => {}
    }
    if let Some(error) = error.downcast_ref::<LockError>() {
        return match error {
            LockError::Held { holder, .. } if holder.verb == "run" => Some(
                "the agent keeps this root; `evenkeel apply` asks it, `evenkeel status` shows what it does".to_owned(),
            ),
            LockError::Held { .. } | LockError::HeldByOther { .. } => {
                Some("wait until it is done, or choose another root with --root and --run".to_owned())
            }
            LockError::Directory { .. } | LockError::File { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<LedgerError>() {
        return match error {
            LedgerError::Newer { .. } => Some("use the release that wrote it, or a later one".to_owned()),
            LedgerError::Corrupt { .. } => Some(
                "nothing was changed; restore the file (with its -wal) from a backup, or move both away and apply again"
                    .to_owned(),
            ),
            LedgerError::NotALedger { .. } => Some("choose another directory with --root".to_owned()),
            LedgerError::Name { .. } | LedgerError::Value { .. } | LedgerError::Object { .. } => {
                Some("nothing was changed; restore the file from a backup".to_owned())
            }
            LedgerError::Open { source, .. } | LedgerError::Read { source, .. } | LedgerError::Write { source, .. } => {
                match source.sqlite_error_code() {
                    Some(ErrorCode::DiskFull) => Some(NO_SPACE.to_owned()),
                    Some(ErrorCode::ReadOnly) => Some(READ_ONLY.to_owned()),
                    _ => None,
                }
            }
            LedgerError::Access { .. } | LedgerError::Directory { .. } | LedgerError::Encode { .. } => None,
        };
    }
    if let Some(SettingsError::NoRuntime { .. }) = error.downcast_ref() {
        return Some("leave out --runtime to use the built-in one".to_owned());
    }
    if let Some(ControlError::Speak { .. }) = error.downcast_ref() {
        return Some("is the agent running? `evenkeel status` tells".to_owned());
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let hint = match io.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) if !nix::unistd::geteuid().is_root() => NEEDS_ROOT,
        Some(Errno::EMFILE | Errno::ENFILE) => "raise the number of open files (`ulimit -n`, `LimitNOFILE=` of a unit)",
        Some(Errno::EAGAIN) => TOO_MANY_PROCESSES,
        Some(Errno::ENOSPC | Errno::EDQUOT) => NO_SPACE,
        Some(Errno::EROFS) => READ_ONLY,
        _ => return None,
    };
    Some(hint.to_owned())
}
