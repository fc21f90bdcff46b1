//! Programs: where the built ones lie, and how one is run to its end.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Finds a program of the workspace beside the running test.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running program's own path");
    let deps = test.parent().expect("a program lies in a directory");
    let directory = if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps };
    let path = directory.join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// Runs a command to its end and keeps what it said.
pub fn run(command: &mut Command) -> Run {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?} does not start: {error}"),
    };
    Run {
        command: format!("{command:?}"),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What the suite itself is told by.
const OF_THE_SUITE: [&str; 5] = [
    "EVENKEEL_DAMAGE_",
    // Which points are walked; `EVENKEEL_FAIL_POINT` itself is the tests' alone to set.
    "EVENKEEL_FAIL_POINTS",
    "EVENKEEL_FUZZ_",
    "EVENKEEL_TEST_",
    "EVENKEEL_VM_",
];

/// Takes away what the person who runs the suite has set for evenkeel.
///
/// What stays is listed, not what goes: a setting that comes new with a release must not reach the tests.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if name.starts_with("EVENKEEL_") && !OF_THE_SUITE.iter().any(|own| name.starts_with(own)) {
            command.env_remove(name);
        }
    }
    command
}

/// Puts a command below another program, as `prlimit --nofile=20`: with its arguments and all that was set for it.
pub fn wrapped(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper.stdin(Stdio::null());
    wrapper
}

/// Runs a line of shell and requires success.
pub fn sh(line: &str) -> Run {
    run(Command::new("sh").args(["-ec", line])).expect_code(0)
}

/// Runs a program to its end, requires success, and gives the most memory that it held at a time, in MiB.
pub fn peak_memory(command: &mut Command) -> f64 {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().expect("the program starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0.0_f64;
    loop {
        // The kernel keeps the peak; only what comes in the last moments can be missed.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        if let Some(ended) = child.try_wait().expect("its exit status") {
            assert!(ended.success(), "{command:?}: {ended}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program in a network namespace given by its path.
pub fn run_in(netns: &Path, program: &[&str]) -> Run {
    let mut option = std::ffi::OsString::from("--net=");
    option.push(netns);
    run(Command::new("nsenter").arg(option).arg("--").args(program))
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Run {
    pub command: String,
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Requires an exit status.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Run {
        assert!(self.code == Some(code), "expected exit status {code}\n{self}");
        self
    }

    /// Requires a text in the standard output.
    #[track_caller]
    pub fn says(self, text: &str) -> Run {
        assert!(!text.is_empty(), "every output contains an empty text");
        assert!(self.stdout.contains(text), "expected `{text}` on the standard output\n{self}");
        self
    }

    /// Requires a text in the standard error output.
    #[track_caller]
    pub fn complains(self, text: &str) -> Run {
        assert!(!text.is_empty(), "every output contains an empty text");
        assert!(self.stderr.contains(text), "expected `{text}` on the standard error output\n{self}");
        self
    }

    /// Gives the one line of the standard output that tells of an object's failure, as `image/app`.
    #[track_caller]
    pub fn failure(&self, object: &str) -> &str {
        let start = format!("failed: {object}: ");
        let lines: Vec<&str> = self.stdout.lines().filter(|line| line.starts_with(&start)).collect();
        let [line] = lines[..] else { panic!("one line was expected that begins with `{start}`\n{self}") };
        line
    }

    /// Reads the standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("not JSON: {error}\n{self}"),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("ended by a signal".to_owned(), |code| format!("exit status {code}"));
        write!(f, "$ {}\n{code}\n--- stdout\n{}--- stderr\n{}", self.command, self.stdout, self.stderr)
    }
}
