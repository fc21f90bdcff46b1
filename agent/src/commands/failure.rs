//! Errors at the edge: what went wrong in one style, and what to do about it.
//!
//! Libraries say what failed; only here is it known what a person at a terminal can do, so only here are hints.

use std::io::ErrorKind;

use crate::agent::control::ControlError;
use crate::ledger::LedgerError;
use crate::lock::LockError;
use crate::report::Style;
use crate::settings::SettingsError;

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
    if let Some(error) = error.downcast_ref::<LockError>() {
        return match error {
            LockError::Held { holder, .. } if holder.verb == "run" => Some(
                "the agent keeps this root; `evenkeel apply` asks it, `evenkeel status` shows what it does".to_owned(),
            ),
            LockError::Held { .. } | LockError::HeldByUnknown { .. } => {
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
            _ => None,
        };
    }
    if let Some(SettingsError::NoRuntime { .. }) = error.downcast_ref() {
        return Some("leave out --runtime to use the built-in one".to_owned());
    }
    if let Some(ControlError::Speak { .. }) = error.downcast_ref() {
        return Some("is the agent running? `evenkeel status` tells".to_owned());
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let denied = io.kind() == ErrorKind::PermissionDenied;
    (denied && !nix::unistd::geteuid().is_root()).then(|| "evenkeel needs root: try again with sudo".to_owned())
}
