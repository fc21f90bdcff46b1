//! `evenkeel oci`: an OCI runtime on the command line, with the verbs and flags of runc that a supervisor uses.
//!
//! The work in the kernel is libcontainer's, up to the last step before execve(2), which is [`executor`]'s: it
//! applies what libcontainer leaves out or leaves to its caller (system call filters of `exec`ed processes, signals,
//! a missing working directory, clear words for a missing command). The verbs follow the OCI runtime specification's
//! operations. There is no image, network or log here: a bundle comes in, a container goes out.
//!
//! libcontainer clones itself, which is sound in a single-threaded process only: [`run`] is called before any thread
//! or async runtime exists.

mod adapt;
mod arguments;
mod console;
mod create;
mod delete;
mod error;
mod exec;
mod executor;
mod filter;
mod kill;
mod record;
mod report;
mod start;
mod state;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use arguments::{Arguments, Verb};
pub use error::OciError;
use report::Report;

/// Exit status where the runtime itself fails, as runc's.
const FAILURE: i32 = 1;

/// Runs one verb and gives the exit status of the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do where even stderr is gone.
            let _ = error.print();
            return error.exit_code();
        }
    };
    match perform(&arguments) {
        Ok(status) => status,
        Err(error) => {
            let message = chain(&error);
            eprintln!("{message}");
            if let Some(log) = &arguments.log {
                write_log(log, arguments.log_format, &message);
            }
            error.exit_status().unwrap_or(FAILURE)
        }
    }
}

fn perform(arguments: &Arguments) -> Result<i32, OciError> {
    if arguments.systemd_cgroup {
        return Err(OciError::Unsupported { what: "--systemd-cgroup: cgroups are made directly" });
    }
    let root = &arguments.root;
    match &arguments.verb {
        Verb::Create(create) => create::create(root, create, &Report::install()?).map(|()| 0),
        Verb::Start { id } => start::start(root, id).map(|()| 0),
        Verb::State { id } => state::print(root, id).map(|()| 0),
        Verb::Kill { all, id, signal } => kill::kill(root, id, *signal, *all).map(|()| 0),
        Verb::Delete { force, id } => delete::delete(root, id, *force).map(|()| 0),
        Verb::Exec(exec) => exec::exec(root, exec, &Report::install()?),
    }
}

/// Puts an error and all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    evenkeel_host::error_chain(error).replace('\n', " ")
}

fn write_log(path: &std::path::Path, format: arguments::LogFormat, message: &str) {
    let time = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| String::new());
    let line = match format {
        arguments::LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}\n"),
        arguments::LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": "error", "msg": message, "time": time }))
        }
    };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot write the log {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests;
