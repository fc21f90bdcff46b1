//! `start`: starts a container that was stopped by hand, and ends the record of that stop.

use clap::Args;

use super::Failure;
use super::stop::{known, open, poke};
use crate::ledger::Ledger;
use crate::settings::Settings;

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
    let containers = open(settings)?;
    for name in &names {
        ledger.clear_override(name)?;
        if !settings.paths.container_run(name).is_dir() {
            let message = format!("container/{name} is not there: nothing is mounted for it since the last boot");
            return Err(Failure::new(message, "`evenkeel apply` or the agent makes it again"));
        }
        containers.start(name).await?;
        super::output::print(&format!("started container/{name}\n"))?;
    }
    poke(settings).await;
    Ok(0)
}
