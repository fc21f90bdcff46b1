//! `run`: the agent. Keeps the root true to a directory of manifests until it is told to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use evenkeel_host::image::{Progress, Quiet};
use evenkeel_schema::TimeSpan;

use super::{Failure, runtime};
use crate::agent::{self, AgentOptions};
use crate::lock::RootLock;
use crate::reconcile::Events;
use crate::session::LockedSession;
use crate::settings::Settings;
use crate::source;

/// Keep the host true to a directory of manifests
///
/// Applies the directory at its start, at every change of it, and whenever the host drifts from it. Containers go on when the
/// agent ends or is killed; the next one takes them over as they are.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM and SIGINT end it, SIGHUP makes it read the directory again. Under systemd use the unit
evenkeel.service (Type=notify).

Examples:
  evenkeel run --manifests /etc/evenkeel/manifests
  evenkeel run --manifests manifests/ --resync 10s -v"
)]
pub struct RunArgs {
    /// Directory of manifests [default: `manifests` of the configuration file]
    #[arg(short = 'f', long, value_name = "DIR", env = "EVENKEEL_MANIFESTS", hide_env = true)]
    pub manifests: Option<PathBuf>,
    /// Time between two looks without a cause [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub resync: Option<TimeSpan>,
    /// Delete everything where the manifests state nothing at all
    #[arg(long)]
    pub allow_empty: bool,
}

/// Says nothing: the agent logs its passes itself.
struct Silent;

impl Events for Silent {
    fn progress(&self) -> &dyn Progress {
        &Quiet
    }
}

pub async fn run(arguments: &RunArgs, settings: &Settings) -> Result<u8, Failure> {
    let manifests = arguments.manifests.clone().or_else(|| settings.manifests.clone()).ok_or_else(|| {
        Failure::new("no directory of manifests is named", "use --manifests, or `manifests` in the configuration file")
    })?;
    let resync = arguments.resync.map_or(settings.resync, |span| span.0);
    if resync < Duration::from_secs(1) {
        let place = if arguments.resync.is_some() { "--resync" } else { "`resync` of the configuration file" };
        let hint = "one second is the least; changes are noticed at once anyway";
        return Err(Failure::new(format!("{place} is too short"), hint));
    }
    let lock = RootLock::acquire(&settings.paths, "run")?;
    let session = LockedSession::open(&settings.paths, runtime(settings)?, lock).await?;
    let options = AgentOptions { manifests: source::canonical(&manifests), resync, allow_empty: arguments.allow_empty };
    agent::run(session, options, Arc::new(Silent)).await?;
    Ok(0)
}
