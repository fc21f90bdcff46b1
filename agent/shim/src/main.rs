//! `evenkeel-shim CONFIG`: the supervisor of one container.
//!
//! One thread, no runtime library, no container library: what it needs of both is a loop and a child process. It goes
//! to the background, listens on its socket, and starts the container when it is asked to the first time.

// They panic where nothing can be written, and nobody would start the container again.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod backoff;
mod clock;
mod daemon;
mod health;
mod log;
mod output;
mod reaper;
mod runtime;
mod server;
mod status;
mod supervisor;
mod survivors;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use daemon::{LockedSocket, StartError};
use evenkeel_shim::EXIT_LOCKED;
use evenkeel_shim::fail_point;
use supervisor::Supervisor;

/// The shim's own log, beside its configuration.
const OWN_LOG: &str = "shim.log";
/// How long a verb of the runtime may take, unless told otherwise.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(60);
const USAGE: &str = "usage: evenkeel-shim CONFIG [--runtime-timeout SECONDS]";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let config = arguments.next().map(PathBuf::from);
    let timeout = match (arguments.next(), arguments.next()) {
        (None, None) => Some(RUNTIME_TIMEOUT),
        (Some(option), Some(value)) if option == "--runtime-timeout" => {
            value.to_str().and_then(|text| text.parse().ok()).map(Duration::from_secs)
        }
        _ => None,
    };
    let (Some(config), Some(timeout), None) = (config, timeout, arguments.next()) else {
        let _ = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match supervise(config, timeout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit status tells the same where stderr is gone.
            let _ = match std::error::Error::source(&error) {
                Some(source) => writeln!(io::stderr(), "evenkeel-shim: {error}: {source}"),
                None => writeln!(io::stderr(), "evenkeel-shim: {error}"),
            };
            if matches!(error, StartError::Locked { .. }) { ExitCode::from(EXIT_LOCKED) } else { ExitCode::FAILURE }
        }
    }
}

fn supervise(config_path: PathBuf, runtime_timeout: Duration) -> Result<(), StartError> {
    daemon::shed_inheritance();
    let config_path =
        std::path::absolute(&config_path).map_err(|source| StartError::Read { path: config_path.clone(), source })?;
    let config = daemon::load(&config_path)?;
    let socket = LockedSocket::take(&config.socket)?;
    fail_point!("shim.listening");
    let caller = daemon::detach(&config_path.with_file_name(OWN_LOG))?;
    fail_point!("shim.detached");
    let mut supervisor = Supervisor::new(config_path, config, socket, runtime_timeout)?;
    supervisor.announce()?;
    fail_point!("shim.announced");
    caller.release();
    supervisor.run();
    Ok(())
}
