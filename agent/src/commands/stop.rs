//! `stop`: stops a container until it is started by hand.

use std::time::Duration;

use clap::Args;
use evenkeel_host::Instance;
use evenkeel_host::container::Containers;
use evenkeel_plan::Override;
use evenkeel_schema::{Key, Kind, Name};
use evenkeel_shim::fail_point;

use super::output::print;
use super::{Failure, names, runtime};
use crate::agent::control::{self, Request};
use crate::ledger::Ledger;
use crate::report::Clock;
use crate::settings::Settings;

/// The longest time to wait for an end: a year, which no clock's range is too short for.
const LONGEST: u64 = 365 * 24 * 60 * 60;

/// Stop containers, and leave them stopped until they are started by hand
///
/// The stop is recorded: neither the agent nor `apply` starts the container again before `evenkeel start` does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel stop web
  evenkeel stop -t 30 web db")]
pub struct StopArgs {
    /// Containers, as web or container/web
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Seconds until the container is killed [default: its stopTimeout]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=LONGEST))]
    pub timeout: Option<u64>,
}

pub async fn run(arguments: &StopArgs, settings: &Settings) -> Result<u8, Failure> {
    let names = known(&arguments.containers, settings)?;
    let ledger = Ledger::open(&settings.paths)?;
    let containers = open(settings)?;
    let timeout = arguments.timeout.map(Duration::from_secs);
    let mut stops = Vec::new();
    for name in names {
        let (ledger, containers) = (ledger.clone(), containers.clone());
        let stop = async move {
            let stopped = stop(&ledger, &containers, &name, timeout).await;
            (name, stopped)
        };
        stops.push(tokio::spawn(stop));
    }
    let mut failures = Vec::new();
    for stop in stops {
        match stop.await? {
            (name, Ok(())) => print(&format!("stopped container/{name}\n"))?,
            (_, Err(failure)) => failures.push(failure),
        }
    }
    poke(settings).await;
    Failure::of_several(failures, settings)
}

async fn stop(ledger: &Ledger, containers: &Containers, name: &Name, timeout: Option<Duration>) -> Result<(), Failure> {
    // Recorded first: an agent that sees the container end must not start it again.
    ledger.set_override(name, &Override { since: Clock::now().timestamp() })?;
    fail_point!("stop.noted");
    Ok(containers.stop(name, timeout).await?)
}

/// Reads the names of containers that were applied.
pub fn known(texts: &[String], settings: &Settings) -> Result<Vec<Name>, Failure> {
    let known = super::inspect::known(settings)?;
    texts
        .iter()
        .map(|text| {
            let name = names::container(text)?;
            let key = Key::new(Kind::Container, name.clone());
            if known.contains(&key) { Ok(name) } else { Err(names::unknown(text, &known)) }
        })
        .collect()
}

pub fn open(settings: &Settings) -> Result<Containers, Failure> {
    Ok(Containers::open(&settings.paths, &Instance::of(&settings.paths), runtime(settings)?)?)
}

/// Lets the agent see at once what was done. It would find out by itself, so a failure is of no weight.
pub async fn poke(settings: &Settings) {
    if let Err(error) = control::ask(&settings.paths.agent_socket(), &Request::Wake, |_| {}).await {
        tracing::debug!(%error, "the agent was not told");
    }
}
