//! `exec`: runs a command in a container.
//!
//! The runtime does it. This program becomes the runtime (execve(2)), so that terminal, signals and exit status
//! need nobody in between.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use clap::Args;
use evenkeel_host::container::ExecOptions;

use super::{Failure, stop};
use crate::settings::Settings;

/// Run a command in a running container
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel exec web ls -l /
  evenkeel exec -it web sh
  evenkeel exec -e LANG=C -w /tmp -u 1000 web env

Exit codes: the command's own; 125 evenkeel failed, 126 the command cannot be run, 127 there is no such command.")]
pub struct ExecArgs {
    /// Pass on the standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable, as NAME=VALUE, or NAME to pass on one's own
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User to run as: a name or number, or user:group
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Directory to run in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The container, as web or container/web
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

pub fn run(arguments: &ExecArgs, settings: &Settings) -> Result<u8, Failure> {
    let name = stop::known(std::slice::from_ref(&arguments.container), settings)?.remove(0);
    if arguments.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::new("the standard input is not a terminal", "leave out -t"));
    }
    let passed_on = |one: &String| match one.contains('=') {
        true => Some(one.clone()),
        false => std::env::var(one).ok().map(|value| format!("{one}={value}")),
    };
    let options = ExecOptions {
        tty: arguments.tty,
        env: arguments.env.iter().filter_map(passed_on).collect(),
        user: arguments.user.clone(),
        working_dir: arguments.workdir.clone(),
    };
    let mut command = stop::open(settings)?.exec_command(&name, &arguments.command, &options)?;
    if !arguments.interactive && !arguments.tty {
        command.stdin(Stdio::null());
    }
    let error = command.exec();
    let program = command.get_program().to_string_lossy().into_owned();
    Err(anyhow::Error::new(error).context(format!("cannot run {program}")).into())
}
