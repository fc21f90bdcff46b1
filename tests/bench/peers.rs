//! The peer: runc alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_tests::{Sandbox, rootfs, run};

/// Bundles of one root file system each, run by runc without a supervisor.
pub struct Runc {
    state: PathBuf,
    bundles: Vec<PathBuf>,
}

impl Runc {
    pub fn prepare(sandbox: &Sandbox, count: usize) -> Runc {
        let directory = sandbox.directory().join("runc");
        let bundle = |index: usize| {
            let bundle = directory.join(format!("r{index}"));
            let root = bundle.join("rootfs");
            fs::create_dir_all(&root).expect("a bundle");
            rootfs::busybox_directory(&root);
            run(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle)).expect_code(0);
            let path = bundle.join("config.json");
            let mut config: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).expect("the configuration")).expect("its JSON");
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = serde_json::json!(["/bin/sleep", "100000"]);
            // Below the sandbox's own cgroup, which is removed with it.
            let name = format!("/{}/r{index}", sandbox.instance().as_str());
            config["linux"]["cgroupsPath"] = name.into();
            fs::write(path, config.to_string()).expect("the configuration");
            bundle
        };
        Runc { state: directory.join("state"), bundles: (0..count).map(bundle).collect() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state);
        command
    }

    /// Starts all, one after the other, as a script would.
    pub fn run_all(&self) {
        for bundle in &self.bundles {
            let mut command = self.command();
            command.args(["run", "--detach", "--bundle"]).arg(bundle).arg(id(bundle));
            // Its output would be the container's: a pipe would never end.
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.expect("runc").success(), "{command:?}");
        }
    }

    pub fn delete_all(&self) {
        for bundle in &self.bundles {
            run(self.command().args(["delete", "--force", id(bundle)])).expect_code(0);
        }
    }
}

fn id(bundle: &Path) -> &str {
    bundle.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8")
}
