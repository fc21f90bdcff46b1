//! `evenkeel-oci`: an OCI runtime on the command line, with the verbs and flags of runc that a supervisor uses.
//!
//! It carries out the bundles that evenkeel writes, and refuses by name what it does not carry out. There is no image,
//! network or log here: a bundle comes in, a container goes out. The verbs follow the OCI runtime specification's
//! operations; how a container comes to be is told in [`create`], [`init`] and [`command`], in that order.
//!
//! One thread: it clones itself, which is sound only so.

// They panic where nothing can be written, and what follows, as the log that the caller reads, would be lost.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod bundle;
mod cgroup;
mod command;
mod console;
mod create;
mod delete;
mod error;
mod exec;
mod init;
mod kill;
mod mounts;
mod privileges;
mod process;
mod record;
mod rootfs;
mod seccomp;
mod start;
mod state;

use std::io::Write;

use clap::Parser;

use arguments::{Arguments, LogFormat, Verb};
pub use error::OciError;

/// Exit status where the runtime itself fails, as runc's.
const FAILURE: i32 = 1;

fn main() {
    std::process::exit(run());
}

fn run() -> i32 {
    let arguments = match Arguments::try_parse() {
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
            let message = evenkeel_host::error_chain(&error).replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "{message}");
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
        Verb::Create(create) => create::create(root, create).map(|()| 0),
        Verb::Start { id } => start::start(root, id).map(|()| 0),
        Verb::State { id } => state::print(root, id).map(|()| 0),
        Verb::Kill { all, id, signal } => kill::kill(root, id, *signal, *all).map(|()| 0),
        Verb::Delete { force, id } => delete::delete(root, id, *force).map(|()| 0),
        Verb::Exec(exec) => exec::exec(root, exec),
    }
}

fn write_log(path: &std::path::Path, format: LogFormat, message: &str) {
    let time = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| String::new());
    let line = match format {
        LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}\n"),
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": "error", "msg": message, "time": time }))
        }
    };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        let _ = writeln!(std::io::stderr(), "cannot write the log {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests;
