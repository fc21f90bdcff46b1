//! `ps`: which containers are there, and how are they?

use clap::Args;

use super::Failure;
use super::output::{show, table};
use super::runtime;
use crate::report::{Clock, ContainerRow, container_rows};
use crate::session::Session;
use crate::settings::{Format, Settings};

/// List containers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel ps
  evenkeel ps -o json")]
pub struct PsArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

pub async fn run(arguments: &PsArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let clock = Clock::now();
    let rows = match session.ledger() {
        Some(ledger) => {
            let desired = ledger.last_stated()?;
            let observed = session.observe(&desired).await?;
            container_rows(&desired, &observed, clock)
        }
        None => Vec::new(),
    };
    show(arguments.output, &rows, || text(&rows, clock))?;
    Ok(0)
}

fn text(rows: &[ContainerRow], clock: Clock) -> String {
    let line = |row: &ContainerRow| {
        let uptime = row.started_at.as_deref().map(|at| clock.since(at).unwrap_or_else(|| "0s".to_owned()));
        vec![
            row.name.to_string(),
            row.image.clone(),
            row.state.clone(),
            row.ports.join(", "),
            row.addresses.join(", "),
            row.restarts.to_string(),
            uptime.unwrap_or_default(),
        ]
    };
    let headings = ["NAME", "IMAGE", "STATE", "PORTS", "ADDRESSES", "RESTARTS", "UPTIME"];
    let mut text = table(&headings, rows.iter().map(line).collect());
    for row in rows {
        if let Some(hint) = &row.hint {
            text += &format!("hint: {}: {hint}\n", row.name);
        }
    }
    text
}
