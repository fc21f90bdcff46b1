//! Tells whether the suite left anything on the host.
//!
//! `evenkeel-test-leftovers --before FILE` notes what bears evenkeel's name; `--check FILE` names what has come since and exits 1
//! where there is anything.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use evenkeel_tests::leftovers::list;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--before", file] => {
            fs::write(file, list().into_iter().collect::<Vec<_>>().join("\n")).map(|()| BTreeSet::new())
        }
        ["--check", file] => fs::read_to_string(file).map(|before| new_since(&before)),
        _ => {
            eprintln!("usage: evenkeel-test-leftovers --before FILE | --check FILE");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(new) if new.is_empty() => ExitCode::SUCCESS,
        Ok(new) => {
            for line in new {
                eprintln!("left over: {line}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", arguments[1]);
            ExitCode::from(2)
        }
    }
}

/// Gives what is there that was not before. What is about to go has a few seconds.
fn new_since(before: &str) -> BTreeSet<String> {
    let before: BTreeSet<String> = before.lines().map(str::to_owned).collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let new: BTreeSet<String> = list().difference(&before).cloned().collect();
        if new.is_empty() || Instant::now() > deadline {
            return new;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
