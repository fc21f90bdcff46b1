//! `apply`: makes the host as the manifests say, by itself or by the agent that keeps the root.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use evenkeel_manifests::Problem;
use evenkeel_plan::{Action, Outcome, Report, Why};
use serde::Serialize;

use super::apply_events::Teller;
use super::output::show;
use super::plan::{Allow, plan};
use super::{Failure, existing, runtime, style, validate};
use crate::agent::control::{self, Answer, Request};
use crate::lock::RootLock;
use crate::reconcile::Events;
use crate::reconcile::Manner;
use crate::report::summary;
use crate::session::{LockedSession, Session};
use crate::settings::{Format, Settings};
use crate::source;

/// Make the host as the manifests say
///
/// Creates, repairs, replaces and deletes what differs, in the order of dependencies. An object whose manifest cannot
/// be read is left as it is; everything else goes on. Where the agent runs on the same root, it is asked to do it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel apply -f manifests/
  evenkeel apply -f manifests/ --dry-run     show what would be done
  evenkeel apply -f manifests/ --yes         allow steps that lose data
  evenkeel apply                             ask the running agent for a pass now

Exit codes: 0 everything is as the manifests say, 1 some steps failed or are held, 2 nothing could be done.")]
pub struct ApplyArgs {
    /// File or directory of manifests; the agent's own where one runs
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub allow: Allow,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied<'a> {
    #[serde(flatten)]
    report: &'a Report,
    succeeded: bool,
    seconds: f64,
    /// Problems of the manifests with their places; `problems` has them as lines.
    manifest_problems: &'a [Problem],
}

pub async fn run(arguments: &ApplyArgs, settings: &Settings) -> Result<u8, Failure> {
    let path = arguments.file.as_deref().map(existing).transpose()?;
    if arguments.dry_run {
        return dry_run(arguments, path, settings).await;
    }
    let started = Instant::now();
    let events = Arc::new(Teller::new(settings, arguments.output));
    let asked = ask_agent(arguments, path.as_deref(), &events, settings).await?;
    let (report, problems) = match (asked, path) {
        (Some(report), _) => (report, Vec::new()),
        (None, None) => {
            return Err(Failure::new("no agent runs here that could be asked", "name the manifests with -f"));
        }
        (None, Some(path)) => {
            let lock = RootLock::acquire(&settings.paths, "apply")?;
            // Nobody listens there: an agent that was killed left it.
            let _ = std::fs::remove_file(settings.paths.agent_socket());
            let session = LockedSession::open(&settings.paths, runtime(settings)?, lock).await?;
            let intent = source::read(&path, Some(session.ledger()), arguments.allow.allow_empty)?;
            validate::show_problems(&intent.problems, settings);
            let options = arguments.allow.options();
            let told = Arc::clone(&events) as Arc<dyn Events>;
            let mut report = session.apply(&intent.desired, &Manner::asked(options), told).await?;
            report.complete &= intent.distrust.is_none();
            report.problems.extend(intent.errors());
            (report, intent.problems)
        }
    };
    events.close();
    let succeeded = succeeded(&report);
    let took = started.elapsed();
    let applied = Applied { report: &report, succeeded, seconds: took.as_secs_f64(), manifest_problems: &problems };
    show(arguments.output, &applied, || summary(&report, took, style(settings)))?;
    Ok(if succeeded { 0 } else { 1 })
}

async fn dry_run(arguments: &ApplyArgs, path: Option<PathBuf>, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let last = session.ledger().map(crate::ledger::Ledger::source).transpose()?.flatten();
    let path = path.or(last.map(|last| last.path));
    let path = path.ok_or_else(|| Failure::new("nothing was ever applied here", "name the manifests with -f"))?;
    let report = plan(&session, &existing(&path)?, arguments.allow, settings).await?;
    show(arguments.output, &report, || report.text(style(settings)))?;
    Ok(if report.problems.is_empty() && report.complete { 0 } else { 1 })
}

/// Has the agent of the root make the pass; `None` where none runs.
async fn ask_agent(
    arguments: &ApplyArgs,
    path: Option<&std::path::Path>,
    events: &Teller,
    settings: &Settings,
) -> Result<Option<Report>, Failure> {
    let request = Request::Apply {
        path: path.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned())),
        allow_data_loss: arguments.allow.yes,
        allow_empty: arguments.allow.allow_empty,
        no_prune: arguments.allow.no_prune,
    };
    let answer = control::ask(&settings.paths.agent_socket(), &request, |step| events.step(step)).await?;
    match answer {
        None => Ok(None),
        Some(Answer::Report(report)) => Ok(Some(*report)),
        Some(Answer::Failed { message }) => Err(Failure::from(anyhow::anyhow!("the agent's pass failed: {message}"))),
        Some(Answer::Refused { message }) => {
            let hint = "change the manifests there, or stop the agent first";
            Err(Failure::new(message, hint))
        }
        Some(_) => Err(Failure::new("the agent answered something else than was asked", "is it of another release?")),
    }
}

/// Tells whether the host is now as the manifests say, as far as a person did not want otherwise.
fn succeeded(report: &Report) -> bool {
    let wanted =
        |why: &Why| matches!(why, Why::Kept | Why::ReportOnly { .. } | Why::Stopped { .. } | Why::Restarting { .. });
    let held = report.plan.steps.iter().any(|step| matches!(&step.action, Action::Hold(why) if !wanted(why)));
    let failed = report.outcomes.values().any(|outcome| *outcome != Outcome::Applied);
    !held && !failed && report.problems.is_empty() && report.complete
}
