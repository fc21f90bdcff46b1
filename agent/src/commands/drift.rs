//! `drift`: how does the host differ from what was applied last, or from these manifests, and since when?

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use evenkeel_plan::Plan;

use super::output::show;
use super::plan::Allow;
use super::{Failure, existing, runtime, style, validate};
use crate::ledger::Ledger;
use crate::report::{Clock, DriftReport, blind, seen};
use crate::session::Session;
use crate::settings::{Format, Settings};
use crate::source::{self, Intent};

/// Report how the host differs from what was applied
#[derive(Debug, Args)]
#[command(after_help = "Signs: ~ differs, - missing or not running, + there without a manifest, ! held or not seen.

Examples:
  evenkeel drift                     against what was applied last
  evenkeel drift -f manifests/       against manifests as they are now
  evenkeel drift -o json

Exit codes: 0 in sync, 1 differences, 2 error, 3 not everything could be looked at.")]
pub struct DriftArgs {
    /// File or directory of manifests, in place of what was applied last
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

pub async fn run(arguments: &DriftArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let intent = match (&arguments.file, session.ledger()) {
        (Some(file), ledger) => source::read(&existing(file)?, ledger, false)?,
        (None, Some(ledger)) => Intent { desired: Arc::new(ledger.wanted()?), ..Intent::default() },
        (None, None) => {
            let root = settings.paths.root().display();
            let message = format!("nothing was ever applied to {root}");
            return Err(Failure::new(message, "name the manifests with -f, or apply them first"));
        }
    };
    validate::show_problems(&intent.problems, settings);
    let (_, plan) = session.plan(&intent.desired, &Allow::default().options()).await?;
    let clock = Clock::now();
    if arguments.file.is_none() {
        record(settings, &plan, clock);
    }
    let records = session.ledger().map(Ledger::open_drift).transpose()?.unwrap_or_default();
    let report = DriftReport::new(&intent.desired, &plan, &records, intent.errors());
    show(arguments.output, &report, || report.text(clock, style(settings)))?;
    Ok(report.exit_code())
}

/// Notes since when it is so. A report that cannot be noted is a report all the same.
fn record(settings: &Settings, plan: &Plan, clock: Clock) {
    let recorded = Ledger::open(&settings.paths)
        .and_then(|ledger| ledger.record_drift(&seen(plan), &blind(plan), &clock.timestamp()));
    if let Err(error) = recorded {
        tracing::debug!(%error, "the drift was not recorded");
    }
}
