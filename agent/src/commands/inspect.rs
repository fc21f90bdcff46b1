//! `inspect`: everything that is known of one object.

use std::path::PathBuf;

use clap::Args;
use evenkeel_plan::{Key, Kind, Observed, Sight, Step};
use serde::Serialize;
use serde_json::Value;

use super::output::show;
use super::plan::Allow;
use super::{Failure, names, runtime};
use crate::ledger::{EntryState, Ledger};
use crate::report::without_secrets;
use crate::session::Session;
use crate::settings::{Format, Settings};

/// Show everything that is known of one object: its manifest, what the host has, and what would be done
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel inspect web
  evenkeel inspect network/mynet -o json")]
pub struct InspectArgs {
    /// The object, as network/mynet, or its name alone where only one object has it
    #[arg(value_name = "OBJECT")]
    pub object: String,
    /// Form of the output; text is yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    object: Key,
    /// How far the last deed on it came.
    recorded: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    manifest: Value,
    observed: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// Lists every object that was applied.
pub fn known(settings: &Settings) -> Result<Vec<Key>, Failure> {
    let ledger = Ledger::open_read_only(&settings.paths)?;
    Ok(ledger.map(|ledger| ledger.entries()).transpose()?.unwrap_or_default().into_keys().collect())
}

pub async fn run(arguments: &InspectArgs, settings: &Settings) -> Result<u8, Failure> {
    let session = Session::open(&settings.paths, runtime(settings)?).await?;
    let Some(ledger) = session.ledger() else { return Err(names::unknown(&arguments.object, &[])) };
    let mut entries = ledger.entries()?;
    let known: Vec<Key> = entries.keys().cloned().collect();
    let key = names::object(&arguments.object, &known)?;
    let desired = ledger.last_stated()?;
    let (observed, plan) = session.plan(&desired, &Allow::default().options()).await?;
    let Some(entry) = entries.remove(&key) else { return Err(names::unknown(&arguments.object, &known)) };
    let inspection = Inspection {
        recorded: match entry.state {
            EntryState::Applying => "applying",
            EntryState::Applied => "applied",
            EntryState::Deleting => "deleting",
            EntryState::Kept => "kept",
        },
        file: entry.file,
        manifest: without_secrets(entry.object),
        observed: without_secrets(seen(&observed, &key)?),
        step: plan.steps.into_iter().find(|step| step.key == key),
        stopped: observed.overrides.get(&key.name).filter(|_| key.kind == Kind::Container).map(|o| o.since.clone()),
        object: key,
    };
    let format = if arguments.output == Format::Text { Format::Yaml } else { arguments.output };
    show(format, &inspection, String::new)?;
    Ok(0)
}

/// Gives what the host has of an object: `null` where it has nothing.
fn seen(observed: &Observed, key: &Key) -> Result<Value, Failure> {
    fn value<T: Serialize>(sight: Option<&Sight<T>>) -> Result<Value, serde_json::Error> {
        match sight {
            None | Some(Sight::Absent) => Ok(Value::Null),
            Some(sight) => serde_json::to_value(sight),
        }
    }
    Ok(match key.kind {
        Kind::Image => value(observed.images.get(&key.name))?,
        Kind::Volume => value(observed.volumes.get(&key.name))?,
        Kind::Network => value(observed.networks.get(&key.name))?,
        Kind::Container => value(observed.containers.get(&key.name))?,
    })
}
