//! `start`: starts a container that was stopped by hand, and ends the record of that stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use evenkeel_host::error_chain;
use evenkeel_plan::{Options, Outcome, Step};
use evenkeel_schema::{Key, Kind, Name};

use super::apply_events::Teller;
use super::output::print;
use super::stop::{known, open, poke};
use super::{Failure, runtime};
use crate::fetch::Patience;
use crate::ledger::Ledger;
use crate::lock::{LockError, RootLock};
use crate::reconcile::Manner;
use crate::report::reason;
use crate::session::LockedSession;
use crate::settings::{Format, Settings};

/// Start containers that were stopped by hand
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel start web")]
pub struct StartArgs {
    /// Containers, as web or container/web
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

pub async fn run(arguments: &StartArgs, settings: &Settings) -> Result<u8, Failure> {
    let names = known(&arguments.containers, settings)?;
    let ledger = Ledger::open(&settings.paths)?;
    for name in &names {
        ledger.clear_override(name)?;
    }
    let started = match RootLock::acquire(&settings.paths, "start") {
        Ok(lock) => make(&names, lock, settings).await?,
        // The agent, or an apply: what it does includes everything beside the process itself.
        Err(LockError::Held { .. } | LockError::HeldByOther { .. }) => start(&names, settings).await?,
        Err(error) => return Err(error.into()),
    };
    let mut failures = Vec::new();
    for (name, started) in started {
        match started {
            Started::Now => print(&format!("started container/{name}\n"))?,
            Started::Before => print(&format!("container/{name} runs already\n"))?,
            Started::Later => print(&format!("container/{name} is left to the agent, which makes it first\n"))?,
            Started::Not(why) => {
                let hint = "`evenkeel logs` shows what it said, `evenkeel inspect` what is in the way";
                failures.push(Failure::new(format!("container/{name} did not start: {why}"), hint));
            }
        }
    }
    Failure::of_several(failures, settings)
}

/// What came of a container's start.
enum Started {
    Now,
    /// There was nothing to do.
    Before,
    /// Whoever holds the root's lock does it.
    Later,
    Not(String),
}

/// Has the shims start these containers, and the agent look at them.
async fn start(names: &[Name], settings: &Settings) -> Result<BTreeMap<Name, Started>, Failure> {
    let containers = open(settings)?;
    let mut all = BTreeMap::new();
    for name in names {
        // One that is not mounted since the last boot has to be made first.
        let started = match settings.paths.container_run(name).is_dir() {
            false => Started::Later,
            true => match containers.start(name).await {
                Ok(_) => Started::Now,
                Err(error) => Started::Not(error_chain(&error)),
            },
        };
        all.insert(name.clone(), started);
    }
    poke(settings).await;
    Ok(all)
}

/// Does what a pass would do to these containers, ports and mounts included, and to nothing else.
async fn make(names: &[Name], lock: RootLock, settings: &Settings) -> Result<BTreeMap<Name, Started>, Failure> {
    let session = LockedSession::open(&settings.paths, runtime(settings)?, lock).await?;
    let mut desired = session.ledger().last_stated()?;
    // Where it was applied from stays as it is recorded.
    desired.source = session.ledger().source()?.unwrap_or_default();
    let wanted = |key: &Key| key.kind == Kind::Container && names.contains(&key.name);
    let entries = session.ledger().entries()?;
    let others = entries.into_keys().filter(|key| !wanted(key)).map(|key| (key, Outcome::Applied));
    let options = Options { allow_data_loss: false, prune: false };
    let manner = Manner { options, patience: Patience::Whole, resting: others.collect() };
    let report = session.apply(&Arc::new(desired), &manner, Arc::new(Teller::new(settings, Format::Json))).await?;
    let started = |step: &Step| match (report.outcomes.get(&step.key), reason(&step.action)) {
        (Some(Outcome::Failed { error }), _) => Started::Not(error.clone()),
        (Some(Outcome::Blocked { by }), _) => Started::Not(format!("it needs {by}")),
        (Some(Outcome::Applied), _) => Started::Now,
        (None, Some(reason)) => Started::Not(reason),
        (None, None) => Started::Before,
    };
    let steps = report.plan.steps.iter().filter(|step| wanted(&step.key));
    Ok(steps.map(|step| (step.key.name.clone(), started(step))).collect())
}
