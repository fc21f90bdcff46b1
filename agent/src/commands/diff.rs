//! `diff`: how does the host differ from these manifests, in the form of diff(1)?

use std::path::PathBuf;

use clap::Args;
use evenkeel_plan::Key;

use super::output::show;
use super::plan::Allow;
use super::{Failure, existing, runtime, style, validate};
use crate::report::{DriftReport, diff};
use crate::session::Session;
use crate::settings::{Format, Settings};
use crate::source;

/// Show how the host differs from manifests, field by field
#[derive(Debug, Args)]
#[command(after_help = "Lines with - are what the host has, lines with + what the manifests say.

Examples:
  evenkeel diff -f manifests/
  evenkeel diff -f manifests/ -o json

Exit codes: 0 in sync, 1 differences, 2 error, 3 not everything could be looked at.")]
pub struct DiffArgs {
    /// File or directory of manifests
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: PathBuf,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

pub async fn run(arguments: &DiffArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let intent = source::read(&existing(&arguments.file)?, session.ledger(), false)?;
    validate::show_problems(&intent.problems, settings);
    let (_, plan) = session.plan(&intent.desired, &Allow::default().options()).await?;
    let (entries, records) = match session.ledger() {
        Some(ledger) => (ledger.entries()?, ledger.open_drift()?),
        None => Default::default(),
    };
    let report = DriftReport::new(&intent.desired, &plan, &records, intent.errors());
    let applied = |key: &Key| entries.get(key).map(|entry| entry.object.clone());
    show(arguments.output, &report, || diff(&intent.desired, &plan, applied, style(settings)))?;
    Ok(report.exit_code())
}
