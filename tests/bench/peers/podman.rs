//! Podman: no daemon, conmon and runc for each container, netavark for its network.

use std::path::PathBuf;
use std::process::Command;

use evenkeel_tests::{Sandbox, run};

use super::{COMMAND, IMAGE, Missing, Place, installed, succeed};

const PEER: &str = "podman";

/// An installation of Podman with [`IMAGE`]; its containers are removed when dropped.
pub struct Podman {
    place: Place,
}

impl Podman {
    pub fn prepare(sandbox: &Sandbox) -> Result<Podman, Missing> {
        installed(PEER, &["podman", "conmon", "runc"])?;
        let podman = Podman { place: Place::new(sandbox, PEER) };
        let imported = run(podman.command(&["import"]).arg(podman.place.rootfs()).arg(IMAGE));
        match imported.succeeded() {
            true => Ok(podman),
            false => Err(Missing { peer: PEER, reason: format!("`podman import` fails: {}", imported.stderr.trim()) }),
        }
    }

    /// Prepares a command on this installation.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command("podman");
        let path = |name: &str| -> PathBuf { self.place.directory.join(name) };
        command
            .arg("--root")
            .arg(path("data"))
            .arg("--runroot")
            .arg(path("run"))
            .arg("--tmpdir")
            .arg(path("tmp"))
            .arg("--network-config-dir")
            .arg(path("networks"))
            .args(["--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", "--events-backend", "file"])
            .args(["--runtime", "runc"])
            .args(arguments);
        command
    }

    /// Runs `podman run --detach`, on Podman's own bridge unless `options` say otherwise.
    pub fn run_detached(&self, name: &str, options: &[&str]) {
        let mut command = self.command(&["run", "--detach", "--name", name, "--cgroup-parent", &self.place.cgroup]);
        command.args(options).arg(IMAGE).args(COMMAND);
        succeed(&mut command, &self.place.directory.join("run.log"));
    }

    pub fn remove(&self, names: &[&str]) {
        run(self.command(&["rm", "--force", "--time", "0"]).args(names)).expect_code(0);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(run(&mut self.command(&["rm", "--force", "--all", "--time", "0"])));
    }
}
