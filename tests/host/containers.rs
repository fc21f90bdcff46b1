//! Containers against the real kernel, once with the built-in runtime and once with runc: what `Containers` makes and
//! says, asked in `/proc`, the cgroup files and the container's own words.

mod confinement;
mod exec;
mod life;
mod limits;
mod mounts;
mod oci;
mod unified;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use evenkeel_host::container::logs::{self, LogQuery};
use evenkeel_host::container::{ContainerError, Containers, NetworkJoin, NewContainer, RuntimeProgram};
use evenkeel_host::error_chain;
use evenkeel_plan::{HostNames, ObservedContainer, ObservedImage, ObservedSwap, RunState, Sight};
use evenkeel_schema::{ContainerSpec, Digest, ImageConfig, ImageSource, Name};
use evenkeel_tests::program::built;
use evenkeel_tests::rootfs::busybox_directory;
use evenkeel_tests::{Sandbox, eventually, sandboxed};

/// Makes one test per runtime out of each check.
macro_rules! with_both_runtimes {
    ($($check:ident),* $(,)?) => {
        mod built_in {
            $(#[test] fn $check() { crate::containers::on_site(crate::containers::built_in_runtime(), super::$check) })*
        }
        mod runc {
            $(#[test] fn $check() { crate::containers::on_site(crate::containers::runc(), super::$check) })*
        }
    };
}
pub(crate) use with_both_runtimes;

/// An installation's containers in a sandbox, with one image of busybox.
pub struct Site<'a> {
    pub sandbox: &'a Sandbox,
    pub containers: Containers,
    pub image: ObservedImage,
    pub lower: PathBuf,
    tokio: tokio::runtime::Runtime,
}

pub fn built_in_runtime() -> RuntimeProgram {
    RuntimeProgram::other(built("evenkeel-oci"))
}

pub fn runc() -> RuntimeProgram {
    RuntimeProgram::other("/usr/sbin/runc")
}

/// Runs a check on containers in namespaces of its own.
pub fn on_site(runtime: RuntimeProgram, check: impl FnOnce(&Site)) {
    sandboxed(|sandbox| {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let lower = sandbox.directory().join("layer");
        fs::create_dir(&lower).expect("a layer");
        busybox_directory(&lower);
        let containers = Containers::with_shim(&sandbox.paths(), &sandbox.instance(), runtime, built("evenkeel-shim"));
        let environment = [("PATH", "/bin:/sbin"), ("FROM_IMAGE", "yes")];
        let config = ImageConfig {
            cmd: vec!["/bin/sh".to_owned()],
            env: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..ImageConfig::default()
        };
        let image = ObservedImage {
            id: digest('1'),
            digest: digest('2'),
            source: ImageSource::Rootfs { path: lower.clone(), config: config.clone() },
            config,
            layers: vec![digest('3')],
            size: 0,
            damage: Vec::new(),
            layers_lost: false,
            upstream: None,
        };
        let site = Site { sandbox, containers, image, lower, tokio: tokio.expect("a runtime") };
        check(&site);
        // Whatever the check was about: nothing of any container may stay.
        let names = site.containers.list().expect("the list");
        for name in &names {
            site.wait(site.containers.remove(name)).expect("removal");
        }
        site.nothing_is_left();
    });
}

pub fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("64 digits")
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Reads a container's `spec`.
#[track_caller]
pub fn spec(yaml: &str) -> ContainerSpec {
    serde_yaml::from_str(&format!("image: busybox\n{yaml}")).expect(yaml)
}

/// Gives the manifest of a container that runs a line of shell, and goes on running. As process 1, `sleep` is deaf to
/// SIGTERM: it is not waited for long.
pub fn shell(line: &str) -> String {
    let line = serde_json::to_string(&format!("{line}; exec sleep 1000")).expect("text");
    format!("command: [/bin/sh, -c, {line}]\nstopTimeout: 50ms\n")
}

impl Site<'_> {
    pub fn wait<T>(&self, deed: impl Future<Output = T>) -> T {
        self.tokio.block_on(deed)
    }

    pub fn create(&self, container: &str, spec: &ContainerSpec) -> Result<(), ContainerError> {
        self.create_with_hosts(container, spec, &Arc::default())
    }

    pub fn create_with_hosts(
        &self,
        container: &str,
        spec: &ContainerSpec,
        hosts: &Arc<HostNames>,
    ) -> Result<(), ContainerError> {
        let container = name(container);
        self.wait(self.containers.create(&self.new_container(&container, spec, hosts)))
    }

    pub fn update(&self, container: &str, spec: &ContainerSpec, hosts: &Arc<HostNames>) -> Result<(), ContainerError> {
        let container = name(container);
        self.wait(self.containers.update(&self.new_container(&container, spec, hosts)))
    }

    fn new_container<'a>(
        &'a self,
        name: &'a Name,
        spec: &'a ContainerSpec,
        hosts: &'a Arc<HostNames>,
    ) -> NewContainer<'a> {
        let network = NetworkJoin::Namespace(self.sandbox.netns("containers"));
        NewContainer { name, spec, image: &self.image, lower: vec![self.lower.clone()], network, hosts }
    }

    /// Makes a container and starts it; it must run.
    #[track_caller]
    pub fn run(&self, container: &str, yaml: &str) -> u32 {
        self.create(container, &spec(yaml)).expect("create");
        self.start(container)
    }

    #[track_caller]
    pub fn start(&self, container: &str) -> u32 {
        if let Err(error) = self.wait(self.containers.start(&name(container))) {
            panic!("start of {container}: {}", error_chain(&error));
        }
        match self.observe(container).state {
            RunState::Running { pid, .. } => pid,
            other => panic!("{container} does not run: {other:?}\n{}", self.log(container)),
        }
    }

    #[track_caller]
    pub fn observe(&self, container: &str) -> ObservedContainer {
        match self.wait(self.containers.observe(&name(container))) {
            Sight::Found { observed, owned: true } => observed,
            other => panic!("{container}: {other:?}"),
        }
    }

    /// Says what the kernel tells of a container's swap where its memory is limited, or is not: nothing without a file for it.
    pub fn swap(&self, container: &str, limited: bool) -> ObservedSwap {
        let cgroups = evenkeel_tests::ask::cgroups(self.sandbox.instance().as_str(), container);
        let files = ["memory.swap.max", "memory.memsw.limit_in_bytes"];
        match cgroups.iter().any(|cgroup| files.iter().any(|file| cgroup.join(file).exists())) {
            false => ObservedSwap::Unaccounted,
            true if limited => ObservedSwap::Limited(0),
            true => ObservedSwap::Unlimited,
        }
    }

    /// Gives what the container has written to standard output and error.
    pub fn log(&self, container: &str) -> String {
        let path = self.sandbox.paths().container_state(&name(container)).join("logs/current.log");
        let lines =
            logs::read(&path, &LogQuery::default()).map(|lines| lines.filter_map(Result::ok).collect::<Vec<_>>());
        lines.unwrap_or_default().into_iter().map(|line| line.log).collect()
    }

    /// Waits until the container has written a text, and gives all that it has written.
    #[track_caller]
    pub fn log_with(&self, container: &str, text: &str) -> String {
        eventually(&format!("`{text}` in the log of {container}"), || {
            let log = self.log(container);
            if log.contains(text) { Ok(log) } else { Err(log) }
        })
    }

    #[track_caller]
    pub fn remove(&self, container: &str) {
        if let Err(error) = self.wait(self.containers.remove(&name(container))) {
            panic!("removal of {container}: {}", error_chain(&error));
        }
    }

    /// Requires that no container has left a mount, cgroup, process, file or state.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        let paths = self.sandbox.paths();
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        let run = paths.run().to_string_lossy().into_owned();
        let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(&run)).collect();
        assert!(ours.is_empty(), "mounts: {ours:?}");
        for root in evenkeel_tests::ask::cgroup_roots() {
            let cgroup = root.join(self.sandbox.instance().as_str());
            assert!(!cgroup.exists(), "cgroup {}", cgroup.display());
        }
        for directory in
            [paths.root().join("containers"), paths.run().join("containers"), paths.statuses(), paths.runtime_state()]
        {
            let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
            // Of no container: the filters that the runtime compiled.
            let own = |name: &std::ffi::OsString| name == ".filters";
            let left: Vec<_> = entries.map(|entry| entry.file_name()).filter(|name| !own(name)).collect();
            assert!(left.is_empty(), "{}: {left:?}", directory.display());
        }
        let shims = evenkeel_tests::run(std::process::Command::new("pgrep").args(["-f", "evenkeel-shim|sleep 1000"]));
        assert_eq!(shims.stdout, "", "processes");
    }
}
