//! A further process in a running container, by the runtime's own `exec`.

use std::process::Command;

use evenkeel_schema::Name;

use super::error::Failure;
use super::inside::Inside;
use super::{ContainerError, Containers, Shared, user};

/// How a process is run beside the container's own; what is not stated is as the container has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// With a terminal of its own.
    pub tty: bool,
    /// Added to the container's environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`, by the container's own files.
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

impl Containers {
    /// Gives the command that runs the process; its exit status is the process's. The caller spawns it with its own
    /// standard streams.
    pub fn exec_command(
        &self,
        name: &Name,
        command: &[String],
        options: &ExecOptions,
    ) -> Result<Command, ContainerError> {
        self.0.exec_command(name, command, options).map_err(|failure| ContainerError::of(name, failure))
    }
}

impl Shared {
    fn exec_command(&self, name: &Name, command: &[String], options: &ExecOptions) -> Result<Command, Failure> {
        if self.running_process(name)?.is_none() {
            return Err(Failure::NotRunning);
        }
        if command.is_empty() {
            return Err(Failure::NoCommand);
        }
        let mut runtime = Command::new(&self.runtime.program);
        runtime.args(&self.runtime_line()[1..]).arg("exec");
        if options.tty {
            runtime.arg("--tty");
            let stated = options.env.iter().any(|variable| variable.starts_with("TERM="));
            if !stated && let Ok(term) = std::env::var("TERM") {
                runtime.args(["--env", &format!("TERM={term}")]);
            }
        }
        if let Some(wanted) = &options.user {
            let rootfs = self.rootfs(name);
            let inside = Inside::open(&rootfs).map_err(|source| Failure::File { path: rootfs, source })?;
            let identity = user::look_up(&inside, Some(wanted))?;
            runtime.args(["--user", &format!("{}:{}", identity.uid, identity.gid)]);
            for group in &identity.groups {
                runtime.args(["--additional-gids", &group.to_string()]);
            }
            runtime.args(["--env", &format!("HOME={}", identity.home)]);
        }
        for variable in &options.env {
            runtime.args(["--env", variable]);
        }
        if let Some(directory) = &options.working_dir {
            runtime.args(["--cwd", directory]);
        }
        runtime.arg(name.as_str()).args(command);
        Ok(runtime)
    }
}
