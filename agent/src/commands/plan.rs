//! `plan`: what would be done? Changes nothing.

use std::path::PathBuf;

use clap::Args;
use evenkeel_plan::Options;

use super::output::show;
use super::{Failure, existing, runtime, style, validate};
use crate::report::PlanReport;
use crate::session::Session;
use crate::settings::{Format, Settings};
use crate::source;

/// Show what apply would do, and change nothing
#[derive(Debug, Args)]
#[command(after_help = "Signs: + create, ~ update in place, -/+ delete and make anew, - delete, = left as it is.

Examples:
  evenkeel plan -f manifests/
  evenkeel plan -f manifests/ --detailed-exitcode && echo nothing to do

Exit codes: 0 done, 1 error, or not everything could be looked at; with --detailed-exitcode 2 there is something to do.")]
pub struct PlanArgs {
    /// File or directory of manifests
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: PathBuf,
    /// Exit with 2 where there is something to do
    #[arg(long)]
    pub detailed_exitcode: bool,
    #[command(flatten)]
    pub allow: Allow,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// What a person allows.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Allow {
    /// Allow steps that lose data
    #[arg(long)]
    pub yes: bool,
    /// Delete everything where the manifests state nothing at all
    #[arg(long)]
    pub allow_empty: bool,
    /// Leave objects that no manifest states any more
    #[arg(long)]
    pub no_prune: bool,
}

impl Allow {
    /// Gives the same to the planner.
    pub fn options(self) -> Options {
        Options { allow_data_loss: self.yes, prune: !self.no_prune }
    }
}

pub async fn run(arguments: &PlanArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let report = plan(&session, &existing(&arguments.file)?, arguments.allow, settings).await?;
    show(arguments.output, &report, || report.text(style(settings)))?;
    if !report.problems.is_empty() || !report.complete {
        return Ok(1);
    }
    Ok(if arguments.detailed_exitcode && report.has_work { 2 } else { 0 })
}

/// Plans a source, and shows its problems.
pub async fn plan(
    session: &Session,
    path: &std::path::Path,
    allow: Allow,
    settings: &Settings,
) -> Result<PlanReport, Failure> {
    let intent = source::read(path, session.ledger(), allow.allow_empty)?;
    validate::show_problems(&intent.problems, settings);
    let (_, plan) = session.plan(&intent.desired, &allow.options()).await?;
    Ok(PlanReport::new(&intent.desired.source, plan, intent.errors()))
}
