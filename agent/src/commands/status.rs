//! `status`: how is everything, the agent included?

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use evenkeel_host::error_chain;
use evenkeel_plan::{Name, Override, Source};
use serde::Serialize;

use super::output::{show, table};
use super::plan::Allow;
use super::{Failure, runtime, style};
use crate::agent::control::{self, AgentStatus, Answer, ControlError, Request};
use crate::lock;
use crate::report::{Clock, ObjectRow, Style, object_rows};
use crate::session::Session;
use crate::settings::{Format, Settings};

/// How long the agent may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show every object with its state, and whether the agent runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel status
  evenkeel status -o json")]
pub struct StatusArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// `None` where no agent runs.
    agent: Option<AgentStatus>,
    /// Whoever holds the root's lock.
    lock: Option<lock::Holder>,
    source: Option<Source>,
    objects: Vec<ObjectRow>,
    firewall_differs: bool,
    /// Whether everything could be looked at.
    complete: bool,
    /// What of the host, or of the agent, could not be looked at.
    problems: Vec<String>,
    /// Containers stopped by hand.
    overrides: BTreeMap<Name, Override>,
}

pub async fn run(arguments: &StatusArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let clock = Clock::now();
    // An agent that cannot be asked keeps nobody from seeing the host.
    let (agent, problem) = match agent(settings).await {
        Ok(agent) => (agent, None),
        Err(error) => (None, Some(error_chain(&error))),
    };
    let mut status = Status {
        agent,
        lock: lock::holder(&settings.paths),
        source: None,
        objects: Vec::new(),
        firewall_differs: false,
        complete: problem.is_none(),
        problems: problem.into_iter().collect(),
        overrides: BTreeMap::new(),
    };
    if let Some(ledger) = session.ledger() {
        let desired = ledger.wanted()?;
        let (observed, plan) = session.plan(&desired, &Allow::default().options()).await?;
        status.source = ledger.source()?;
        status.objects = object_rows(&observed, &plan, clock);
        status.firewall_differs = plan.firewall_differs;
        status.complete &= plan.complete();
        status.problems.extend(plan.problems());
        status.overrides = observed.overrides;
    }
    show(arguments.output, &status, || text(&status, clock, style(settings)))?;
    Ok(0)
}

/// Asks the agent of the root how it is. One that does not answer is none.
async fn agent(settings: &Settings) -> Result<Option<AgentStatus>, ControlError> {
    let socket = settings.paths.agent_socket();
    let asked = tokio::time::timeout(PATIENCE, control::ask(&socket, &Request::Status, |_| {}));
    match asked.await {
        Ok(Ok(Some(Answer::Status(status)))) => Ok(Some(status)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(None),
    }
}

fn text(status: &Status, clock: Clock, style: Style) -> String {
    let mut text = String::new();
    let since = |at: &str| clock.since(at).map_or_else(|| "just now".to_owned(), |ago| format!("{ago} ago"));
    match (&status.agent, &status.lock) {
        (Some(agent), _) => {
            let _ = writeln!(
                text,
                "{} {} (process {}, started {}), follows {}",
                style.bold("Agent:"),
                style.good("running"),
                agent.pid,
                since(&agent.started_at),
                agent.manifests.display()
            );
            if let Some(pass) = &agent.last_pass {
                let verdict = match (pass.in_sync, pass.complete) {
                    (true, _) => "everything is as it should be",
                    (false, true) => "not everything is as it should be",
                    (false, false) => "not everything could be looked at",
                };
                let _ = writeln!(text, "       last pass {}: {verdict}", since(&pass.at));
                for (key, at) in &agent.waiting {
                    let next = clock.until(at).unwrap_or_else(|| at.clone());
                    let _ = writeln!(text, "       {} {key} is tried again in {next}", style.change("~"));
                }
                for problem in &pass.problems {
                    let _ = writeln!(text, "       {} {problem}", style.bad("!"));
                }
            }
        }
        (None, Some(holder)) => {
            let _ = writeln!(
                text,
                "{} does not answer; `evenkeel {}` (process {}) is at work",
                style.bold("Agent:"),
                holder.verb,
                holder.pid
            );
        }
        (None, None) => {
            let _ = writeln!(text, "{} {}", style.bold("Agent:"), style.change("not running"));
        }
    }
    if let Some(source) = &status.source {
        let revision = if source.revision.is_empty() { "" } else { ", revision " };
        let _ = writeln!(text, "{} {}{revision}{}", style.bold("Source:"), source.path.display(), source.revision);
    }
    for (name, stop) in &status.overrides {
        let _ = writeln!(
            text,
            "{} container/{name} was stopped by hand {}; `evenkeel start {name}` ends that",
            style.change("Stopped:"),
            since(&stop.since)
        );
    }
    for problem in &status.problems {
        let _ = writeln!(text, "{} {problem}", style.bad("!"));
    }
    if status.objects.is_empty() {
        text += "Nothing was applied yet.\n";
        return text;
    }
    text.push('\n');
    let row = |row: &ObjectRow| vec![row.object.to_string(), row.state.clone(), row.detail.clone()];
    let mut rows: Vec<Vec<String>> = status.objects.iter().map(row).collect();
    if status.firewall_differs {
        let detail = "the packet filter's table is not as the objects need it";
        rows.push(["firewall", "drifted", detail].map(str::to_owned).into());
    }
    text += &table(&["OBJECT", "STATE", "DETAIL"], rows);
    text
}
