//! Taking a container away: processes, the runtime's state, mounts, cgroups, directories.
//!
//! Every step is taken whether or not anything says that it is needed, and none minds that there is nothing: so it works
//! on a container that was made in part, and can be begun again wherever it was cut off. The state directory, by
//! which a container is known, goes last.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_schema::Name;
use evenkeel_shim::Request;
use evenkeel_shim::fail_point;

use super::cgroup::Cgroup;
use super::error::Failure;
use super::rootfs::detach_below;
use super::{ContainerError, Containers, Shared, shim};
use crate::mountpoint::detach;
use crate::tree;

/// How long a shim may have its place while it goes by itself.
const PATIENCE: Duration = Duration::from_secs(10);

impl Containers {
    /// Removes a container with everything it has on the host.
    pub async fn remove(&self, name: &Name) -> Result<(), ContainerError> {
        // A status that cannot be read is no reason to keep the container; what lives is found by the cgroup then.
        if self.shim_is_alive(name).await.unwrap_or(false) {
            // A shim that does not obey is killed below, and so are the container's processes.
            let _ = self.ask(name, &Request::Shutdown).await;
            fail_point!("container.shutdown");
        }
        self.blocking(name, |shared, name| shared.sweep(name).map_err(|failure| ContainerError::of(name, failure)))
            .await
    }
}

impl Shared {
    pub(super) fn sweep(&self, name: &Name) -> Result<(), Failure> {
        self.end_shim(name)?;
        let _place = self.take_shim_place(name)?;
        fail_point!("container.shim.ended");
        let cgroup = Cgroup::of_host(&self.cgroup_path(name))?;
        cgroup.kill_and_remove()?;
        fail_point!("container.cgroup.removed");
        if let Some(process) = self.running_process(name)? {
            // In no cgroup of ours any more: someone moved it. It is awaited, since it may write to what goes next.
            process.end()?;
        }
        self.forget_in_runtime(name)?;
        fail_point!("container.runtime.forgotten");
        let (run, state) = (self.run(name), self.state(name));
        let rootfs = self.rootfs(name);
        detach(&rootfs).map_err(|source| Failure::File { path: rootfs, source })?;
        fail_point!("container.unmounted");
        remove_tree(&run)?;
        fail_point!("container.run.removed");
        for path in [evenkeel_shim::status_on_its_way(&self.paths.status(name)), self.paths.status(name)] {
            remove_file(&path)?;
        }
        fail_point!("container.status.removed");
        remove_tree(&state)
    }

    /// Ends a shim that is still there, before the container's processes: it would start them again.
    fn end_shim(&self, name: &Name) -> Result<(), Failure> {
        let Some(status) = self.status(name).unwrap_or(None) else { return self.end_stray(name) };
        let shim = shim::process_of(&status);
        // After a Shutdown it is about to go.
        if shim.await_end(Duration::from_millis(500)) { Ok(()) } else { shim.end() }
    }

    /// Keeps shims from starting until the container is gone. One that an agent started just before it was killed has no
    /// status yet, and is ended as soon as it has.
    fn take_shim_place(&self, name: &Name) -> Result<Option<File>, Failure> {
        let socket = self.socket(name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match shim::take_place(&socket) {
                Ok(Some(place)) => return Ok(Some(place)),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => return Err(Failure::PlaceTaken { path: socket }),
                // No run directory, no shim.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(Failure::File { path: socket, source }),
            }
            self.end_shim(name)?;
        }
    }

    /// Lets the runtime drop its own state; its processes are dead and its cgroups gone by now.
    fn forget_in_runtime(&self, name: &Name) -> Result<(), Failure> {
        let known = self.runtime_state(name);
        if !known.exists() {
            return Ok(());
        }
        let line = self.runtime_line_of(name);
        let output = Command::new(&line[0])
            .args(&line[1..])
            .args(["delete", "--force", name.as_str()])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Runtime { program: line[0].clone().into(), source })?;
        // A runtime may refuse a state that was cut off half-written; the state is in directories of ours.
        remove_tree(&known).map_err(|failure| match output.status.success() {
            true => failure,
            false => Failure::RuntimeFailed { message: String::from_utf8_lossy(&output.stderr).trim().to_owned() },
        })
    }
}

/// Removes a directory, and before it what is mounted in it: never anything through a mount, which is someone's data.
fn remove_tree(path: &Path) -> Result<(), Failure> {
    let removed = match tree::remove(path) {
        // The table of all mounts is read only where there is one that nobody knows of: it is long where there are many containers.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EBUSY)) => {
            detach_below(path)?;
            tree::remove(path)
        }
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
