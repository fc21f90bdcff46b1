//! One test's own namespaces, directories and cgroups.
//!
//! A test calls [`sandboxed`]; that starts this same test once more through the program `evenkeel-test-sandbox`, which
//! puts it into a new mount, network and PID namespace below a small init. So a test may do to its host what it
//! likes: when the init ends, for whatever reason, the kernel ends every process and takes every mount, link and rule
//! with it. Only cgroups and the directory outlast that; the program removes them from outside.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use evenkeel_host::{Instance, Paths};
use evenkeel_schema::Name;

use crate::program::{Run, built, run, without_settings};
use crate::rootfs;

/// The variable that tells a test that it is inside already, and where its directory is.
pub const VARIABLE: &str = "EVENKEEL_TEST_SANDBOX";

/// Every sandbox's directory lies here, with this prefix.
pub const PREFIX: &str = "/tmp/evenkeel-test-";

/// Runs a test in namespaces of its own.
///
/// The link `lo` is up, `/run` is an empty tmpfs, `/proc` is of the new PID namespace. The test fails where the one
/// inside fails; without root it fails with what to do about it.
pub fn sandboxed(test: impl FnOnce(&Sandbox)) {
    enter(|| vec![test_name(), "--exact".into(), "--nocapture".into(), "--include-ignored".into()], test);
}

/// Runs a part of a program that is not a libtest in namespaces of its own. `arguments` must lead the program to this part alone.
pub fn sandboxed_part(arguments: Vec<String>, part: impl FnOnce(&Sandbox)) {
    enter(|| arguments, part);
}

fn enter(arguments: impl FnOnce() -> Vec<String>, test: impl FnOnce(&Sandbox)) {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        fs::remove_file(pending(directory.as_ref())).expect("the file that waits for this test to begin");
        return test(&Sandbox { directory: directory.into(), rootfs: Cell::new(false) });
    }
    assert!(nix::unistd::geteuid().is_root(), "this test makes namespaces and links: run the suite as root");
    let directory = tempfile::Builder::new()
        .prefix(Path::new(PREFIX).file_name().expect("the constant ends in a file name"))
        .tempdir_in("/tmp")
        .expect("a directory in /tmp");
    // The program outside removes it, after the mounts in it are gone.
    let directory = directory.keep();
    // libtest is content with running no test at all: the file tells whether this one began.
    let pending = pending(&directory);
    fs::write(&pending, "").expect("a file in /tmp");
    // What is built in there goes with the sandbox, also where the test is killed.
    let scratch = directory.join("tmp");
    fs::create_dir(&scratch).expect("a directory in /tmp");
    let mut command = Command::new(built("evenkeel-test-sandbox"));
    command.arg(&directory).arg(std::env::current_exe().expect("the test's own path")).args(arguments());
    let closed = without_settings(&mut command).env("TMPDIR", &scratch).env(VARIABLE, &directory);
    let status = closed.status().expect("the sandbox starts");
    let pending_still = fs::remove_file(&pending).is_ok();
    assert!(status.success(), "the test failed in its sandbox: {status}");
    assert!(!pending_still, "the test never began in its sandbox");
}

/// Names the file that is there until the test begins.
fn pending(directory: &Path) -> PathBuf {
    directory.with_extension("pending")
}

/// Names the running test: libtest names the thread after it, or was told exactly one on its command line.
fn test_name() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            let flags = ["--exact", "--nocapture", "--include-ignored", "--ignored"];
            let name = arguments.into_iter().find(|argument| !flags.contains(&argument.as_str()));
            name.expect("a single-threaded run names its test on the command line")
        }
    }
}

/// The inside of a sandbox, from the test's side.
pub struct Sandbox {
    directory: PathBuf,
    rootfs: Cell<bool>,
}

impl Sandbox {
    /// The sandbox's own directory; everything in it goes with the test.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// State and run directory of the sandbox's installation.
    pub fn paths(&self) -> Paths {
        Paths::new(self.directory.join("root"), self.directory.join("run"))
    }

    /// The name by which the installation marks what it makes on the host.
    pub fn instance(&self) -> Instance {
        Instance::of(&self.paths())
    }

    /// The directory of manifests, made at its first use.
    pub fn manifests(&self) -> PathBuf {
        let path = self.directory.join("manifests");
        fs::create_dir_all(&path).expect("the directory of manifests");
        path
    }

    /// Writes a manifest, `name` relative to the directory of manifests.
    pub fn manifest(&self, name: &str, text: &str) -> PathBuf {
        let path = self.manifests().join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("its directory");
        fs::write(&path, text).expect("the manifest");
        path
    }

    /// Takes a manifest away: an empty file would be held, not deleted.
    pub fn withdraw(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).expect("the manifest");
    }

    /// Takes every manifest away.
    pub fn withdraw_all(&self) {
        self.withdraw_where(|_| true);
    }

    /// Takes those manifests away whose files have such a name.
    pub fn withdraw_where(&self, such: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(self.manifests()).expect("the manifests") {
            let entry = entry.expect("an entry");
            if such(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).expect("a manifest");
            }
        }
    }

    /// Prepares a command of the program under test on this installation: global options first.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.command_of(&built("evenkeel"), &self.paths(), arguments)
    }

    /// As [`Sandbox::command`], with the program at another place or with another installation.
    pub fn command_of<S: AsRef<OsStr>>(&self, program: &Path, paths: &Paths, arguments: &[S]) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(paths.root()).arg("--run").arg(paths.run());
        command.args(arguments).stdin(Stdio::null());
        // Neither what the person who runs the suite has set nor the host's configuration file is the test's.
        without_settings(&mut command).env("EVENKEEL_CONFIG", "/dev/null");
        command.env("NO_COLOR", "1").env("COLUMNS", "200");
        command
    }

    /// Runs a verb of the program under test to its end.
    pub fn evenkeel<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Run {
        run(&mut self.command(arguments))
    }

    /// Runs `apply -f` on the directory of manifests and requires success.
    pub fn apply(&self) -> Run {
        self.apply_with(&[])
    }

    pub fn apply_with(&self, more: &[&str]) -> Run {
        self.verb_on_manifests("apply", more).expect_code(0)
    }

    /// Runs a verb with `-f` and the directory of manifests.
    pub fn verb_on_manifests(&self, verb: &str, more: &[&str]) -> Run {
        let manifests = self.manifests();
        let mut arguments = vec![verb, "-f", manifests.to_str().expect("a path in UTF-8")];
        arguments.extend(more);
        self.evenkeel(&arguments)
    }

    /// Starts the agent on the directory of manifests; its output goes to `agent.log` in the sandbox's directory.
    pub fn agent(&self, more: &[&str]) -> Agent {
        let log = fs::File::options().create(true).append(true).open(self.directory.join("agent.log"));
        let log = log.expect("the agent's log file");
        let mut command = self.command(&["run", "--manifests"]);
        command.arg(self.manifests()).args(more);
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.process_group(0);
        Agent { child: command.spawn().expect("the agent starts"), log: self.directory.join("agent.log") }
    }

    /// Gives a tarball of busybox as a root file system; a page at `/www/index.html` says `hello`.
    pub fn rootfs(&self) -> PathBuf {
        let path = self.directory.join("busybox.tar.gz");
        if !self.rootfs.replace(true) {
            rootfs::busybox(&path);
        }
        path
    }

    /// A manifest of the image `busybox`, made from [`Sandbox::rootfs`].
    pub fn busybox_image(&self) -> String {
        format!(
            "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{name: busybox}}\nspec:\n  rootfs: {}\n  \
             config: {{cmd: [/bin/sh], env: {{PATH: /bin:/sbin:/usr/bin:/usr/sbin}}}}\n",
            self.rootfs().display()
        )
    }

    /// The network namespace of a container of this installation.
    pub fn container_netns(&self, container: &str) -> PathBuf {
        self.paths().network_namespace(&container.parse::<Name>().expect("a container's name"))
    }

    /// Makes the link `name` with its other end `name-peer` in the network namespace `lan`: a stand-in for a network card.
    pub fn wire(&self, name: &str) -> PathBuf {
        let lan = self.netns("lan");
        let peer = format!("{name}-peer");
        run(Command::new("ip").args(["link", "add", name, "type", "veth", "peer", "name", &peer, "netns", "lan"]))
            .expect_code(0);
        run(Command::new("ip").args(["link", "set", name, "up"])).expect_code(0);
        run(Command::new("ip").args(["-n", "lan", "link", "set", &peer, "up"])).expect_code(0);
        lan
    }

    /// Gives the path of a named network namespace, made at its first use, with loopback up.
    pub fn netns(&self, name: &str) -> PathBuf {
        let path = Path::new("/run/netns").join(name);
        if !path.exists() {
            run(Command::new("ip").args(["netns", "add", name])).expect_code(0);
            run(Command::new("ip").args(["-n", name, "link", "set", "lo", "up"])).expect_code(0);
        }
        path
    }
}

/// A running agent; ends with the test.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives what it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the agent's log file")
    }

    /// Tells whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its exit status").is_none()
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("a signal to our own child");
        self.child.wait().expect("its exit status");
    }

    /// Asks it to end, as systemd would, and gives its exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal to our own child");
        self.child.wait().expect("its exit status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A test that panics shows what the agent said; one that passes stays quiet.
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        // Ended already, or ended by the init in a moment: nothing is to be done about an error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
