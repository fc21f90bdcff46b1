//! The program `evenkeel`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists: the runtime clones this process (see `evenkeel::oci`).
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "oci") {
        std::process::exit(evenkeel::oci::run(std::env::args_os().skip(1)));
    }
    evenkeel::commands::main()
}
