//! runc alone, without a supervisor, an image or a network.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use evenkeel_tests::{Sandbox, rootfs, run};

use super::{COMMAND, Missing, Place, installed, succeed};

const PEER: &str = "runc";

/// Bundles of one root file system each.
pub struct Runc {
    place: Place,
}

impl Runc {
    /// Makes the bundles `r0`, `r1`, ….
    pub fn prepare(sandbox: &Sandbox, count: usize) -> Result<Runc, Missing> {
        installed(PEER, &["runc"])?;
        let runc = Runc { place: Place::new(sandbox, PEER) };
        for index in 0..count {
            let bundle = runc.bundle(index);
            let root = bundle.join("rootfs");
            fs::create_dir_all(&root).expect("a bundle");
            rootfs::busybox_directory(&root);
            run(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle)).expect_code(0);
            let path = bundle.join("config.json");
            let mut config: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).expect("the configuration")).expect("its JSON");
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = serde_json::json!(COMMAND);
            config["linux"]["cgroupsPath"] = format!("{}/r{index}", runc.place.cgroup).into();
            fs::write(path, config.to_string()).expect("the configuration");
        }
        Ok(runc)
    }

    fn bundle(&self, index: usize) -> PathBuf {
        self.place.directory.join(format!("r{index}"))
    }

    fn command(&self) -> Command {
        let mut command = self.place.command("runc");
        command.arg("--root").arg(self.place.directory.join("state"));
        command
    }

    /// Runs `runc run --detach` on a bundle.
    pub fn run_detached(&self, index: usize) {
        let mut command = self.command();
        command.args(["run", "--detach", "--bundle"]).arg(self.bundle(index)).arg(format!("r{index}"));
        succeed(&mut command, &self.place.directory.join("run.log"));
    }

    pub fn delete(&self, index: usize) {
        run(self.command().args(["delete", "--force", &format!("r{index}")])).expect_code(0);
    }
}
