//! `logs`: what did a container write?

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use evenkeel_host::container::logs::{LogQuery, read};
use evenkeel_schema::{Key, Kind, Name, TimeSpan};
use evenkeel_shim::{LogLine, Stream};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, names};
use crate::settings::{Format, Settings};

/// Show what a container wrote to its standard output and error
#[derive(Debug, Args)]
#[command(
    after_help = "What it wrote to its standard error goes to this program's standard error. As JSON, each line is an object of its
own with log, stream and time; as YAML, an item of one list.

Examples:
  evenkeel logs web
  evenkeel logs -f --tail 20 web
  evenkeel logs -t --since 10m container/web
  evenkeel logs -o json web"
)]
pub struct LogsArgs {
    /// The container, as web or container/web
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Go on with what it writes from now
    #[arg(short, long)]
    pub follow: bool,
    /// Show only so many of the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Show only lines since a time (RFC 3339) or a length of time ago, as 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<OffsetDateTime>,
    /// Show the time of every line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// Reads a time, or a length of time that has passed.
fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let span: TimeSpan = text
        .parse()
        .map_err(|_| "write a time as 2026-03-01T12:00:00Z or a length of time as 10m or 1h30m".to_owned())?;
    OffsetDateTime::now_utc()
        .checked_sub(span.0.try_into().map_err(|_| "too long ago")?)
        .ok_or("too long ago".to_owned())
}

pub async fn run(arguments: &LogsArgs, settings: &Settings) -> Result<u8, Failure> {
    let name = names::container(&arguments.container)?;
    if !settings.paths.container_state(&name).is_dir() {
        let known = super::inspect::known(settings)?;
        if known.contains(&Key::new(Kind::Container, name.clone())) {
            let message = format!("container/{name} was never made, so it has no output");
            return Err(Failure::new(message, "`evenkeel drift` says what stands in its way"));
        }
        return Err(names::unknown(&arguments.container, &known));
    }
    let query = LogQuery { tail: arguments.tail, since: arguments.since, ..LogQuery::default() };
    let mut reader = read(&log_path(&name, settings), &query)?;
    for line in reader.by_ref() {
        if !write(&line?, arguments)? {
            return Ok(0);
        }
    }
    if !arguments.follow {
        return Ok(0);
    }
    loop {
        let line = tokio::select! {
            line = reader.follow() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(0),
        };
        if !write(&line, arguments)? {
            return Ok(0);
        }
    }
}

/// Finds the log where the shim was told to write it.
fn log_path(name: &Name, settings: &Settings) -> PathBuf {
    let told = std::fs::read(settings.paths.container_run(name).join("shim.json")).ok();
    let told = told.and_then(|text| serde_json::from_slice::<evenkeel_shim::Config>(&text).ok());
    told.map_or_else(|| settings.paths.container_state(name).join("logs/current.log"), |config| config.log.path)
}

/// Writes a line, as text to the stream it came from; `false` where nobody reads any more.
fn write(line: &LogLine, arguments: &LogsArgs) -> Result<bool, Failure> {
    let text = match arguments.output {
        Format::Text if arguments.timestamps => format!("{} {}", line.time, line.log),
        Format::Text => line.log.clone(),
        // One line each: whoever reads them while they come knows where each ends.
        Format::Json => serde_json::to_string(line)? + "\n",
        Format::Yaml => serde_yaml::to_string(&[serde_json::to_value(line)?])?,
    };
    let written = if arguments.output == Format::Text && line.stream == Stream::Stderr {
        std::io::stderr().lock().write_all(text.as_bytes())
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
