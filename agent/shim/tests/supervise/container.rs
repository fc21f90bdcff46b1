//! A container to be supervised: its bundle, its shim's configuration, and a way to ask the shim.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use evenkeel_shim::cgroup::CgroupDirectory;
use evenkeel_shim::{
    Config, Exit, LogConfig, LogLine, Phase, Reply, Request, RestartConfig, RestartPolicy, Status, StopConfig, process,
};
use serde_json::json;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const APPLETS: [&str; 12] =
    ["sh", "ls", "cat", "sleep", "seq", "true", "echo", "setsid", "dd", "tail", "kill", "touch"];

/// A container, its shim, and everything of theirs on the host until it is dropped.
pub struct Container {
    pub directory: TempDir,
    pub config: Config,
    /// Bytes of memory it may have.
    memory: Option<u64>,
    command: Vec<String>,
    shims: Vec<u32>,
}

impl Container {
    /// Describes a container that runs a shell script. Nothing is started.
    pub fn new(script: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("evenkeel-shim-").tempdir().unwrap();
        let id = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        let file = |name: &str| directory.path().join(name);
        let config = Config {
            runtime: vec!["runc".into(), "--root".into(), file("oci").to_str().unwrap().into()],
            bundle: file("bundle"),
            status: file("status.json"),
            socket: file("shim.sock"),
            log: LogConfig { path: file("log"), max_size: 10 << 20, max_files: 2 },
            restart: RestartConfig {
                policy: RestartPolicy::Never,
                max_retries: None,
                initial_ms: 100,
                max_ms: 400,
                reset_ms: 10_000,
            },
            stop: StopConfig { signal: libc::SIGTERM, timeout_ms: 10_000 },
            health: None,
            cgroups: cgroups(&id),
            id,
        };
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Container { directory, config, memory: None, command, shims: Vec::new() }
    }

    pub fn restarting(mut self, policy: RestartPolicy) -> Self {
        self.config.restart.policy = policy;
        self
    }

    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Replaces the runtime by a script that may call the real one, whose command line is `$real`.
    pub fn with_runtime(mut self, script: &str) -> Self {
        let program = self.path("runtime.sh");
        let real = self.config.runtime.join(" ");
        fs::write(&program, format!("#!/bin/sh\ncd {}\nreal='{real}'\n{script}\n", self.path("").display())).unwrap();
        self.config.runtime = vec!["/bin/sh".into(), program.to_str().unwrap().into()];
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes bundle and configuration, and starts the shim.
    pub fn spawn(&mut self) -> Status {
        self.write_bundle();
        let output = self.spawn_with(&[]);
        assert!(output.status.success(), "{output:?}");
        self.status()
    }

    /// Starts the shim with further arguments, whatever comes of it.
    pub fn spawn_with(&mut self, arguments: &[&str]) -> Output {
        self.write_config();
        let output = self.shim_command().args(arguments).output().unwrap();
        self.note_shim();
        output
    }

    pub fn shim_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-shim"));
        command.arg(self.path("shim.json"));
        command
    }

    /// Remembers the present shim, to be ended at last.
    pub fn note_shim(&mut self) {
        if self.config.status.exists() {
            let pid = self.status().shim_pid;
            self.shims.push(pid);
        }
    }

    pub fn write_config(&self) {
        fs::write(self.path("shim.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
    }

    pub fn write_bundle(&self) {
        let rootfs = self.config.bundle.join("rootfs");
        for directory in ["bin", "proc", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(directory)).unwrap();
        }
        if !rootfs.join("bin/busybox").exists() {
            let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
            fs::copy(busybox.expect("busybox-static is installed"), rootfs.join("bin/busybox")).unwrap();
            for applet in APPLETS {
                symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
            }
        }
        let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let resources = self.memory.map(|limit| json!({"memory": {"limit": limit, "swap": limit}}));
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": self.command, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            ],
            "linux": {"namespaces": namespaces, "cgroupsPath": format!("/{}", self.config.id), "resources": resources},
        });
        fs::write(self.config.bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    }

    /// Asks the shim, and waits for its answer.
    pub fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request).expect("the shim answers")
    }

    pub fn try_ask(&self, request: &Request) -> Option<Reply> {
        let mut stream = UnixStream::connect(&self.config.socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(&[serde_json::to_vec(request).ok()?, b"\n".to_vec()].concat()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Starts shim and container; gives the main process.
    pub fn start(&mut self) -> u32 {
        self.spawn();
        let reply = self.ask(&Request::Start);
        assert_eq!(reply.error, None);
        match self.status().phase {
            Phase::Running { pid, .. } => pid,
            // Short scripts may be over already.
            _ => 0,
        }
    }

    pub fn status(&self) -> Status {
        serde_json::from_slice(&fs::read(&self.config.status).unwrap()).unwrap()
    }

    /// Waits until the status file says something.
    pub fn wait_until<T>(&self, what: &str, look: impl Fn(&Status) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if let Some(found) = look(&status) {
                return found;
            }
            assert!(Instant::now() < deadline, "not {what}: {status:?}\n{}", self.own_log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nothing more will happen by itself.
    pub fn wait_for_exit(&self) -> Exit {
        self.wait_until("exited", |status| match &status.phase {
            Phase::Exited { exit, .. } => Some(exit.clone()),
            _ => None,
        })
    }

    pub fn wait_for_another_run(&self, before: u32) -> u32 {
        self.wait_until("running again", |status| match status.phase {
            Phase::Running { pid, .. } if pid != before => Some(pid),
            _ => None,
        })
    }

    /// Reads the log, the older file first.
    pub fn log(&self) -> Vec<LogLine> {
        let text = ["log.1", "log"].map(|name| fs::read_to_string(self.path(name)).unwrap_or_default()).concat();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the log holds a line with this text.
    pub fn wait_for_line(&self, text: &str) -> LogLine {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.log.trim_end() == text) {
                return line;
            }
            assert!(Instant::now() < deadline, "no line {text:?} in {:?}\n{}", self.log(), self.own_log());
            sleep(Duration::from_millis(5));
        }
    }

    pub fn own_log(&self) -> String {
        fs::read_to_string(self.path("shim.log")).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.note_shim();
        for pid in &self.shims {
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if program.ends_with("evenkeel-shim") {
                kill(*pid, libc::SIGKILL);
            }
        }
        let root = self.path("oci");
        if root.join(&self.config.id).exists() {
            let _ = Command::new("runc").arg("--root").arg(root).args(["delete", "--force", &self.config.id]).output();
        }
        for directory in cgroups(&self.config.id) {
            let _ = fs::remove_dir(directory.path);
        }
    }
}

/// Gives the cgroup directories of a container, in whichever hierarchies this host has.
fn cgroups(id: &str) -> Vec<CgroupDirectory> {
    let root = Path::new("/sys/fs/cgroup");
    match root.join("cgroup.controllers").exists() {
        true => vec![CgroupDirectory { controller: None, path: root.join(id) }],
        false => ["memory", "pids"]
            .map(|name| CgroupDirectory { controller: Some(name.to_owned()), path: root.join(name).join(id) })
            .to_vec(),
    }
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: kill(2) with a process id and a signal.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Waits until a process is gone.
pub fn wait_until_gone(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while process::start_time(pid).is_some() {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        sleep(Duration::from_millis(5));
    }
}

/// Gives a field of `/proc/<pid>/status`.
pub fn process_field(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap().trim().to_owned()
}

/// Gives the clock ticks that a process has had of a processor (proc_pid_stat(5), fields 14 and 15).
pub fn processor_ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Field 2 is a name that may hold spaces and parentheses.
    let fields = text.rsplit(')').next().unwrap().split_ascii_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
