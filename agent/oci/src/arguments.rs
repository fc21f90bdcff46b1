//! The command line of the runtime, compatible with runc's where a supervisor uses it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenkeel_schema::Signal;

/// An OCI runtime: makes one container from one bundle.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-oci", version)]
pub struct Arguments {
    /// Directory of the runtime's own state.
    #[arg(long, default_value = "/run/evenkeel/oci")]
    pub root: PathBuf,
    /// File to which errors are added.
    #[arg(long)]
    pub log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Not supported; named here so that asking for it is an error with a reason.
    #[arg(long)]
    pub systemd_cgroup: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container; its command waits for `start`.
    Create(Create),
    /// Let the command of a made container run.
    Start { id: String },
    /// Print the state as JSON.
    State { id: String },
    /// Send a signal to the container's first process.
    Kill {
        /// To every process of the container.
        #[arg(long, short)]
        all: bool,
        id: String,
        #[arg(default_value = "TERM", value_parser = parse_signal)]
        signal: i32,
    },
    /// Remove what is left of a container.
    Delete {
        /// Kill it first; a container that is not there is no error.
        #[arg(long, short)]
        force: bool,
        id: String,
    },
    /// Run a further process in a container.
    Exec(Exec),
}

#[derive(Debug, Args)]
pub struct Create {
    /// The bundle, a directory with config.json.
    #[arg(long, short, default_value = ".")]
    pub bundle: PathBuf,
    /// Where the first process's id is written.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// The process as JSON (OCI runtime specification, `process`); the other options are then ignored.
    #[arg(long, short)]
    pub process: Option<PathBuf>,
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    #[arg(long, short)]
    pub tty: bool,
    /// Do not wait for the process.
    #[arg(long, short)]
    pub detach: bool,
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    #[arg(long, short)]
    pub env: Vec<String>,
    #[arg(long)]
    pub cwd: Option<PathBuf>,
    /// UID or UID:GID.
    #[arg(long, short, value_parser = parse_user)]
    pub user: Option<(u32, Option<u32>)>,
    #[arg(long, short = 'g')]
    pub additional_gids: Vec<u32>,
    pub id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

fn parse_signal(text: &str) -> Result<i32, String> {
    text.parse::<Signal>().map(|signal| signal.0).map_err(|error| error.to_string())
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), String> {
    let wrong = |_| format!("`{text}` is not UID or UID:GID in numbers");
    match text.split_once(':') {
        None => Ok((text.parse().map_err(wrong)?, None)),
        Some((uid, gid)) => Ok((uid.parse().map_err(wrong)?, Some(gid.parse().map_err(wrong)?))),
    }
}
