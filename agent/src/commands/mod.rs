//! The verbs of the command line, one file each.
//!
//! A verb reads its arguments, calls the stages and shows what came of it. Nothing is decided about the host here.

mod apply;
mod apply_events;
mod diff;
mod drift;
mod exec;
mod failure;
mod inspect;
mod logs;
mod names;
mod output;
mod plan;
mod ps;
mod run;
mod start;
mod status;
mod stop;
mod validate;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use evenkeel_host::container::RuntimeProgram;
use tracing_subscriber::EnvFilter;

pub use failure::Failure;

use crate::memory;
use crate::report::Style;
use crate::settings::{GlobalArgs, Settings};

/// Keeps one Linux host true to a directory of manifests
///
/// evenkeel pulls images, makes networks and volumes and runs containers as YAML manifests state them, watches the
/// host, repairs what drifts, and says exactly what differed. It needs no other daemon.
#[derive(Debug, Parser)]
#[command(
    name = "evenkeel",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Environment: EVENKEEL_ROOT, EVENKEEL_RUN, EVENKEEL_RUNTIME and EVENKEEL_CONFIG stand for the flags of their names.

Start with:
  evenkeel validate -f manifests/    are the manifests right?
  evenkeel plan -f manifests/        what would be done?
  evenkeel apply -f manifests/       do it once
  evenkeel run --manifests manifests/   and keep it so"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Apply(apply::ApplyArgs),
    Diff(diff::DiffArgs),
    Drift(drift::DriftArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Ps(ps::PsArgs),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Inspect(inspect::InspectArgs),
    Stop(stop::StopArgs),
    Start(start::StartArgs),
}

impl Verb {
    fn changes_the_host(&self) -> bool {
        match self {
            Verb::Apply(arguments) => !arguments.dry_run,
            Verb::Run(_) | Verb::Exec(_) | Verb::Stop(_) | Verb::Start(_) => true,
            Verb::Validate(_) | Verb::Plan(_) | Verb::Diff(_) | Verb::Drift(_) => false,
            Verb::Status(_) | Verb::Ps(_) | Verb::Logs(_) | Verb::Inspect(_) => false,
        }
    }

    /// Gives the exit code of a failure that names none of its own.
    fn failure_code(&self) -> u8 {
        match self {
            Verb::Validate(_) | Verb::Apply(_) | Verb::Diff(_) | Verb::Drift(_) => 2,
            // What docker and podman use for a failure that is not the command's own.
            Verb::Exec(_) => 125,
            _ => 1,
        }
    }
}

/// Whether the runtime of tasks has all its threads.
static RUNTIME_STANDS: AtomicBool = AtomicBool::new(false);

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = cli.verb.failure_code();
    std::panic::set_hook(Box::new(move |panic| report_panic(panic, code)));
    let color = cli.global.color;
    start_log(&cli);
    let code = match std::panic::catch_unwind(|| dispatch(&cli)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            output::tell(&failure.render(Style::new(color.decide(&std::io::stderr()))));
            cli.verb.failure_code()
        }
        // The hook has told it.
        Err(_) => cli.verb.failure_code(),
    };
    ExitCode::from(code)
}

fn dispatch(cli: &Cli) -> Result<u8, Failure> {
    let settings = Settings::decide(&cli.global)?;
    if cli.verb.changes_the_host() && !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("links, mounts and cgroups can be changed by root only", failure::NEEDS_ROOT));
    }
    // Neither needs a runtime, and `exec` becomes another program: one thread only.
    match &cli.verb {
        Verb::Validate(arguments) => return validate::run(arguments, &settings),
        Verb::Exec(arguments) => return exec::run(arguments, &settings),
        _ => {}
    }
    memory::share_heap();
    let runtime = match &cli.verb {
        Verb::Run(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        // Shorter than a thread takes to start, and what takes long is done by threads for blocking work.
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    RUNTIME_STANDS.store(true, Ordering::Relaxed);
    let code = runtime.block_on(async {
        match &cli.verb {
            Verb::Validate(arguments) => validate::run(arguments, &settings),
            Verb::Exec(arguments) => exec::run(arguments, &settings),
            Verb::Plan(arguments) => plan::run(arguments, &settings).await,
            Verb::Apply(arguments) => apply::run(arguments, &settings).await,
            Verb::Diff(arguments) => diff::run(arguments, &settings).await,
            Verb::Drift(arguments) => drift::run(arguments, &settings).await,
            Verb::Run(arguments) => run::run(arguments, &settings).await,
            Verb::Status(arguments) => status::run(arguments, &settings).await,
            Verb::Ps(arguments) => ps::run(arguments, &settings).await,
            Verb::Logs(arguments) => logs::run(arguments, &settings).await,
            Verb::Inspect(arguments) => inspect::run(arguments, &settings).await,
            Verb::Stop(arguments) => stop::run(arguments, &settings).await,
            Verb::Start(arguments) => start::run(arguments, &settings).await,
        }
    });
    // A blocking read of some file system must not keep the program from ending.
    runtime.shutdown_background();
    code
}

/// Sends what the stages say of their work to the standard error.
fn start_log(cli: &Cli) {
    let level = match (&cli.verb, cli.global.verbose) {
        // The agent's log is its output.
        (Verb::Run(_), 0) => "evenkeel=info,warn",
        (_, 0) => "error",
        (_, 1) => "evenkeel=debug,evenkeel_host=debug,info",
        (_, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("EVENKEEL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // systemd's journal has the time, the unit and no color of its own.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It is told with `eprintln`, which panics where the standard error is closed: the agent outlives its terminal.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_target(cli.global.verbose > 1)
        .with_ansi(!journal && cli.global.color.decide(&std::io::stderr()));
    if journal { log.without_time().init() } else { log.init() }
}

/// Says that a panic is a bug of ours, in place of a backtrace that helps nobody at a terminal. One is none: the runtime of
/// tasks has no other way to say that the kernel gives it no thread.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>, code: u8) {
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    if message.starts_with("OS can't spawn worker thread") {
        let text = format!("error: {message}\nhint: {}\n", failure::TOO_MANY_PROCESSES);
        output::tell(&text);
        if !RUNTIME_STANDS.load(Ordering::Relaxed) {
            // It is still being made; taken apart now, it would wait for ever for the threads that it has.
            std::process::exit(code.into());
        }
        return;
    }
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    output::tell(&format!(
        "error: this is a bug in evenkeel {}: {message} ({place})\n\
         hint: please report it with the command line and the output under RUST_BACKTRACE=1\n",
        env!("CARGO_PKG_VERSION"),
    ));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        output::tell(&std::backtrace::Backtrace::force_capture().to_string());
    }
}

/// Makes sure that a source which a person named is there: for a person, a slip is an error and no lost source.
fn existing(path: &Path) -> Result<PathBuf, Failure> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => {
            let context = format!("cannot read the manifests at {}", path.display());
            Err(Failure::from(anyhow::Error::new(error).context(context)))
        }
    }
}

/// Gives the runtime that containers run with.
fn runtime(settings: &Settings) -> Result<RuntimeProgram, Failure> {
    match &settings.runtime {
        Some(command) => Ok(RuntimeProgram { program: command.program.clone(), arguments: command.arguments.clone() }),
        None => Ok(RuntimeProgram::built_in()?),
    }
}

/// The style of the standard output.
fn style(settings: &Settings) -> Style {
    Style::new(settings.color.decide(&std::io::stdout()))
}
