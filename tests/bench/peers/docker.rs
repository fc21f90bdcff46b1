//! Docker: dockerd with its own containerd, the command line and docker-compose.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_tests::{Sandbox, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{COMMAND, IMAGE, Missing, Place, installed, succeed};

/// How long the daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
const PEER: &str = "docker";

/// A running Docker daemon, with [`IMAGE`] unless it is for pulls; ends with all its containers when dropped.
pub struct Docker {
    place: Place,
    daemon: Child,
}

impl Docker {
    /// Starts the daemon in a network namespace of its own.
    pub fn start(sandbox: &Sandbox) -> Result<Docker, Missing> {
        let docker = Docker::daemon(Place::new(sandbox, PEER), &[])?;
        let tarball = docker.place.rootfs();
        run(docker.command(&["import"]).arg(tarball).arg(IMAGE)).expect_code(0);
        Ok(docker)
    }

    /// Starts a daemon without networks or images that reaches the sandbox's loopback.
    pub fn for_pulls(sandbox: &Sandbox) -> Result<Docker, Missing> {
        let place = Place::on_loopback(sandbox, "docker-pull");
        Docker::daemon(place, &["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
    }

    /// Starts the daemon and waits until it answers.
    fn daemon(place: Place, options: &[&str]) -> Result<Docker, Missing> {
        installed(PEER, &["dockerd", "containerd", "docker", "iptables"])?;
        let log_path = place.directory.join("dockerd.log");
        let log = File::create(&log_path).expect("the daemon's log");
        let mut command = place.daemon("dockerd");
        command
            .arg("--data-root")
            .arg(place.directory.join("data"))
            .arg("--exec-root")
            .arg(place.directory.join("exec"))
            .arg("--pidfile")
            .arg(place.directory.join("dockerd.pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket(&place).display()))
            .arg("--cgroup-parent")
            .arg(&place.cgroup)
            .args(["--storage-driver", "overlay2", "--log-level", "warn"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(log);
        let missing = |reason| Missing { peer: PEER, reason };
        let daemon = command.spawn().map_err(|error| missing(format!("dockerd does not start: {error}")))?;
        let mut docker = Docker { place, daemon };
        let deadline = Instant::now() + PATIENCE;
        while !run(&mut docker.command(&["version"])).succeeded() {
            let ended = docker.daemon.try_wait().expect("our own child").is_some();
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("it does not answer").to_owned();
                return Err(missing(format!("dockerd: {last}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(docker)
    }

    /// Prepares the command line's program on this daemon.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("docker");
        command.args(arguments);
        command
    }

    fn program(&self, program: &str) -> Command {
        let mut command = self.place.command(program);
        command.env("DOCKER_HOST", format!("unix://{}", socket(&self.place).display()));
        command
    }

    /// Runs `docker run --detach`, on Docker's own bridge unless `options` say otherwise.
    pub fn run_detached(&self, name: &str, options: &[&str]) {
        let mut command = self.command(&["run", "--detach", "--name", name]);
        command.args(options).arg(IMAGE).args(COMMAND);
        succeed(&mut command, &self.place.directory.join("run.log"));
    }

    pub fn remove(&self, names: &[&str]) {
        run(self.command(&["rm", "--force"]).args(names)).expect_code(0);
    }

    /// Writes a project of `count` containers on one bridge network and gives its file.
    pub fn compose_project(&self, count: usize) -> Result<PathBuf, Missing> {
        installed("docker-compose", &["docker-compose"])?;
        let directory = self.place.directory.join(format!("project{count}"));
        fs::create_dir_all(&directory).expect("the project's directory");
        let mut text = "version: '3'\nservices:\n".to_owned();
        for index in 0..count {
            let line =
                writeln!(text, "  c{index}: {{image: {IMAGE}, command: {COMMAND:?}, networks: [lan], init: false}}");
            line.expect("a String takes everything");
        }
        text += "networks:\n  lan: {ipam: {config: [{subnet: 10.88.0.0/16}]}}\n";
        let path = directory.join("docker-compose.yml");
        fs::write(&path, text).expect("the project");
        Ok(path)
    }

    /// Runs `docker-compose up --detach` on a project.
    pub fn compose_up(&self, project: &Path) {
        let mut command = self.program("docker-compose");
        command.env("COMPOSE_HTTP_TIMEOUT", "600").arg("--file").arg(project).args(["up", "--detach"]);
        succeed(&mut command, &self.place.directory.join("compose.log"));
    }

    /// Takes a project away, as far as Docker does: now and then its network still has endpoints, and goes with the sandbox.
    pub fn compose_down(&self, project: &Path) {
        let mut command = self.program("docker-compose");
        command.env("COMPOSE_HTTP_TIMEOUT", "600").arg("--file").arg(project).args(["down", "--timeout", "0"]);
        run(&mut command);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let names = run(&mut self.command(&["ps", "--quiet", "--all"])).stdout;
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            drop(run(self.command(&["rm", "--force"]).args(names)));
        }
        // Asked to end, it takes its containerd with it. What stays goes with the sandbox.
        let _ = kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM);
        drop(self.daemon.wait());
    }
}

fn socket(place: &Place) -> PathBuf {
    place.directory.join("docker.sock")
}
