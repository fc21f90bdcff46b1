//! The peers: runc alone, and conmon over runc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_tests::{Sandbox, ask, rootfs, run};

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

/// Podman's and CRI-O's supervisor.
pub struct Conmon {
    program: PathBuf,
}

impl Conmon {
    /// Finds it where Debian puts it.
    pub fn find() -> Option<Conmon> {
        let program = PathBuf::from("/usr/bin/conmon");
        program.exists().then_some(Conmon { program })
    }

    /// Starts every bundle under a conmon of its own and gives their processes.
    pub fn run_all(&self, runc: &Runc) -> Vec<u64> {
        let program = run(Command::new("sh").args(["-c", "command -v runc"])).expect_code(0).stdout.trim().to_owned();
        let start = |bundle: &PathBuf| {
            let pid_file = bundle.join("conmon.pid");
            let mut command = Command::new(&self.program);
            command.args(["--api-version", "1", "--cid", id(bundle), "--cuuid", id(bundle), "--runtime", &program]);
            command.arg("--runtime-arg").arg("--root").arg("--runtime-arg").arg(&runc.state);
            command.arg("--bundle").arg(bundle).arg("--conmon-pidfile").arg(&pid_file);
            command.arg("--container-pidfile").arg(bundle.join("container.pid"));
            command.arg("--log-path").arg(format!("k8s-file:{}", bundle.join("log").display()));
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.expect("conmon").success(), "{command:?}");
            let pid = ask::eventually("conmon tells its process", || {
                fs::read_to_string(&pid_file)
                    .map_err(|error| error.to_string())?
                    .trim()
                    .parse()
                    .map_err(|_| "empty".into())
            });
            ask::eventually("conmon's container is there", || {
                let state = run(runc.command().args(["state", id(bundle)]));
                if state.succeeded() { Ok(()) } else { Err(state.to_string()) }
            });
            run(runc.command().args(["start", id(bundle)])).expect_code(0);
            pid
        };
        runc.bundles.iter().map(start).collect()
    }
}
