//! A further process in a running container, by the runtime's own `exec`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use evenkeel_schema::Name;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Spec, User};

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
        let process = self.process_json(name, command, options)?;
        let path = format!("/proc/self/fd/{}", process.as_raw_fd());
        let line = self.runtime_line_of(name);
        let mut runtime = Command::new(&line[0]);
        runtime.args(&line[1..]).args(["exec", "--process", &path, name.as_str()]);
        // SAFETY: fcntl is async-signal-safe. The closure owns the file, which is so open as long as the command is.
        unsafe {
            runtime.pre_exec(move || {
                fcntl(&process, FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            });
        }
        Ok(runtime)
    }

    /// Writes the process, the container's own with what is stated otherwise, to a file in memory: in arguments an
    /// environment would be everyone's to read.
    fn process_json(&self, name: &Name, command: &[String], options: &ExecOptions) -> Result<File, Failure> {
        let path = self.run(name).join("config.json");
        let bundle = Spec::load(&path)?;
        let mut process = bundle.process().clone().unwrap_or_default();
        process.set_args(Some(command.to_vec()));
        process.set_terminal(Some(options.tty));
        let mut added = Vec::new();
        if let Some(term) = std::env::var("TERM").ok().filter(|_| options.tty) {
            added.push(format!("TERM={term}"));
        }
        if let Some(wanted) = &options.user {
            let rootfs = self.rootfs(name);
            let inside = Inside::open(&rootfs).map_err(|source| Failure::File { path: rootfs, source })?;
            let identity = user::look_up(&inside, Some(wanted))?;
            let mut user = User::default();
            user.set_uid(identity.uid);
            user.set_gid(identity.gid);
            user.set_additional_gids(Some(identity.groups));
            process.set_user(user);
            added.push(format!("HOME={}", identity.home));
        }
        added.extend(options.env.iter().cloned());
        let mut environment: Vec<String> = Vec::new();
        for variable in process.env().iter().flatten().chain(&added) {
            let name = variable.split('=').next();
            environment.retain(|other| other.split('=').next() != name);
            environment.push(variable.clone());
        }
        process.set_env(Some(environment));
        if let Some(directory) = &options.working_dir {
            process.set_cwd(directory.into());
        }
        let failed = |source| Failure::File { path: "memfd:process.json".into(), source };
        let json = serde_json::to_vec(&process).map_err(|source| Failure::Json { path: path.clone(), source })?;
        let file = memfd_create(c"process.json", MFdFlags::MFD_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(file);
        file.write_all(&json).map_err(failed)?;
        Ok(file)
    }
}
