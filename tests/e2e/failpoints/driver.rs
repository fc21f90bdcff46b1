//! Who brings the host in sync: a person's `apply`, or the agent.

use std::process::Stdio;

use evenkeel_tests::{Run, Sandbox, ask, run};

/// Who brings the host in sync.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Apply,
    /// An agent that is asked for a pass, and told to end when it is done.
    Agent,
}

impl Driver {
    pub fn run(self, sandbox: &Sandbox, environment: &[(&str, String)]) -> Run {
        let manifests = sandbox.manifests();
        let manifests = manifests.to_str().expect("a path in UTF-8");
        let apply = ["apply", "-f", manifests, "--allow-empty"];
        if self == Driver::Apply {
            return run(sandbox.command(&apply).envs(environment.iter().cloned()));
        }
        let mut command = sandbox.command(&["run", "--manifests", manifests, "--allow-empty"]);
        let mut agent =
            command.envs(environment.iter().cloned()).stderr(Stdio::null()).spawn().expect("the agent starts");
        let socket = sandbox.paths().agent_socket();
        let mut asked = ask::eventually("the agent listens or is dead", || {
            if agent.try_wait().expect("its exit status").is_some() {
                return Ok(None);
            }
            match std::os::unix::net::UnixStream::connect(&socket) {
                Ok(_) => Ok(Some(sandbox.evenkeel(&apply))),
                Err(error) => Err(error.to_string()),
            }
        });
        let pid = nix::unistd::Pid::from_raw(agent.id().cast_signed());
        // One that was killed already has ended.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let status = agent.wait().expect("its exit status");
        let mut result = asked.take().unwrap_or_else(|| Run {
            command: format!("{command:?}"),
            code: None,
            stdout: String::new(),
            stderr: String::new(),
        });
        if !status.success() {
            result.code = None;
        }
        result
    }
}
