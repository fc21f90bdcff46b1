//! A bundle's `config.json`, read once into what this runtime carries out.
//!
//! What it does not carry out is refused by name: a bundle that asks for more confinement than its container would get is an
//! error, never a warning. The words are those of the OCI runtime specification (config.md, config-linux.md).

use std::path::{Path, PathBuf};

use evenkeel_host::container::capabilities::available;
use evenkeel_host::container::cgroup::CPU_PERIOD;
use evenkeel_schema::{Bytes, MilliCpus, Resources};
use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxNamespaceType, LinuxResources, LinuxSeccomp, LinuxSeccompAction, Process, Spec,
};

use super::OciError;
use super::mounts::Mount;
use super::privileges::{CapabilitySets, User};

/// Where a command is looked for without a PATH, as execvp(3) does.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container as it is to be made.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub version: String,
    pub rootfs: PathBuf,
    pub read_only: bool,
    pub hostname: Option<String>,
    pub mounts: Vec<Mount>,
    pub masked: Vec<String>,
    pub read_only_paths: Vec<String>,
    /// `CLONE_NEW*` of the namespaces that are made with the process.
    pub namespaces: u64,
    /// Whether it gets a cgroup namespace, which begins once it is in its cgroup.
    pub cgroup_namespace: bool,
    /// A network namespace to join.
    pub network: Option<PathBuf>,
    /// Absolute from the root of every hierarchy.
    pub cgroup: PathBuf,
    pub resources: Resources,
    pub devices: Vec<LinuxDeviceCgroup>,
    pub process: ProcessSpec,
}

/// One process as it is to be: the container's first, or a further one.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// At least the command.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    pub cwd: PathBuf,
    pub user: User,
    /// `None` keeps what there is.
    pub capabilities: Option<CapabilitySets>,
    pub no_new_privileges: bool,
    pub oom_score: Option<i32>,
    pub terminal: bool,
    pub window: Option<Window>,
    pub seccomp: Option<LinuxSeccomp>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub rows: u16,
    pub columns: u16,
}

/// Says of a part of a file that it is not supported, or missing.
struct Judge<'a>(&'a Path);

impl Judge<'_> {
    fn missing(&self, field: &'static str) -> OciError {
        OciError::MissingField { path: self.0.to_owned(), field }
    }

    fn unsupported(&self, what: impl Into<String>) -> OciError {
        OciError::BundleUnsupported { path: self.0.to_owned(), what: what.into() }
    }

    /// Refuses what is stated of these.
    fn refuse(&self, stated: &[(bool, &str)]) -> Result<(), OciError> {
        match stated.iter().find(|(stated, _)| *stated) {
            Some((_, what)) => Err(self.unsupported(*what)),
            None => Ok(()),
        }
    }
}

/// Reads a bundle's `config.json`.
pub fn load(path: &Path) -> Result<Spec, OciError> {
    let bytes = std::fs::read(path).map_err(|source| OciError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| OciError::Json { path: path.to_owned(), source })
}

impl Bundle {
    /// Takes a bundle that lies in a directory.
    pub fn of(directory: &Path, spec: &Spec, id: &str) -> Result<Bundle, OciError> {
        let config = directory.join("config.json");
        let judge = Judge(&config);
        let process = spec.process().as_ref().ok_or_else(|| judge.missing("process"))?;
        let linux = spec.linux().as_ref().ok_or_else(|| judge.missing("linux"))?;
        let root = spec.root().as_ref().ok_or_else(|| judge.missing("root"))?;
        refuse_all(&judge, spec, linux)?;
        let process = ProcessSpec::of(&config, process, linux.seccomp().clone())?;
        judge.refuse(&[(process.terminal, "process.terminal of the first process")])?;
        let mounts = spec.mounts().iter().flatten().map(Mount::of).collect::<Result<Vec<_>, _>>();
        let resources = linux.resources().as_ref();
        let mut bundle = Bundle {
            version: spec.version().clone(),
            rootfs: directory.join(root.path()),
            read_only: root.readonly() == Some(true),
            hostname: spec.hostname().clone(),
            mounts: mounts.map_err(|what| judge.unsupported(what))?,
            masked: linux.masked_paths().clone().unwrap_or_default(),
            read_only_paths: linux.readonly_paths().clone().unwrap_or_default(),
            namespaces: 0,
            cgroup_namespace: false,
            network: None,
            cgroup: linux.cgroups_path().clone().unwrap_or_else(|| Path::new("/evenkeel-oci").join(id)),
            resources: resources.map_or(Ok(Resources::default()), |resources| limits(&judge, resources))?,
            devices: resources.and_then(|resources| resources.devices().clone()).unwrap_or_default(),
            process,
        };
        bundle.take_namespaces(&judge, linux)?;
        Ok(bundle)
    }

    fn take_namespaces(&mut self, judge: &Judge<'_>, linux: &Linux) -> Result<(), OciError> {
        use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
        for namespace in linux.namespaces().iter().flatten() {
            let flag = match (namespace.typ(), namespace.path()) {
                (Network, Some(path)) => {
                    self.network = Some(path.clone());
                    continue;
                }
                (Cgroup, None) => {
                    self.cgroup_namespace = true;
                    continue;
                }
                (Mount, None) => libc::CLONE_NEWNS,
                (Pid, None) => libc::CLONE_NEWPID,
                (Ipc, None) => libc::CLONE_NEWIPC,
                (Uts, None) => libc::CLONE_NEWUTS,
                (Network, None) => libc::CLONE_NEWNET,
                (other, Some(_)) => return Err(judge.unsupported(format!("joining a namespace of type {other}"))),
                (other, None) => return Err(judge.unsupported(format!("a namespace of type {other}"))),
            };
            self.namespaces |= flag as u64;
        }
        // Its mounts would be the host's.
        match self.namespaces & libc::CLONE_NEWNS as u64 {
            0 => Err(judge.missing("linux.namespaces with type mount")),
            _ => Ok(()),
        }
    }
}

fn refuse_all(judge: &Judge<'_>, spec: &Spec, linux: &Linux) -> Result<(), OciError> {
    let is_stated = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    let propagation = linux.rootfs_propagation().as_deref();
    judge.refuse(&[
        (spec.hooks().is_some(), "hooks"),
        (is_stated(spec.domainname().as_deref()), "domainname"),
        (linux.uid_mappings().as_ref().is_some_and(|maps| !maps.is_empty()), "linux.uidMappings"),
        (linux.gid_mappings().as_ref().is_some_and(|maps| !maps.is_empty()), "linux.gidMappings"),
        (linux.sysctl().as_ref().is_some_and(|values| !values.is_empty()), "linux.sysctl"),
        (linux.devices().as_ref().is_some_and(|devices| !devices.is_empty()), "linux.devices"),
        (linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()), "linux.netDevices"),
        (linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()), "linux.timeOffsets"),
        (is_stated(linux.mount_label().as_deref()), "linux.mountLabel"),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.personality().is_some(), "linux.personality"),
        (!matches!(propagation, None | Some("" | "private" | "rprivate")), "linux.rootfsPropagation"),
    ])
}

impl ProcessSpec {
    /// Reads a process; `path` is the file that it stands in.
    pub fn of(path: &Path, process: &Process, seccomp: Option<LinuxSeccomp>) -> Result<ProcessSpec, OciError> {
        let judge = Judge(path);
        let is_stated = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        let notifies = |policy: &LinuxSeccomp| {
            let is_notify = |action: LinuxSeccompAction| action == LinuxSeccompAction::ScmpActNotify;
            is_notify(policy.default_action())
                || policy.syscalls().iter().flatten().any(|rule| is_notify(rule.action()))
        };
        judge.refuse(&[
            (is_stated(process.selinux_label().as_deref()), "process.selinuxLabel"),
            (is_stated(process.apparmor_profile().as_deref()), "process.apparmorProfile"),
            (process.rlimits().as_ref().is_some_and(|limits| !limits.is_empty()), "process.rlimits"),
            (process.io_priority().is_some(), "process.ioPriority"),
            (process.scheduler().is_some(), "process.scheduler"),
            (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
            (seccomp.as_ref().is_some_and(notifies), "SCMP_ACT_NOTIFY in linux.seccomp"),
        ])?;
        let arguments = process.args().clone().filter(|arguments| !arguments.is_empty());
        let arguments = arguments.ok_or_else(|| judge.missing("process.args"))?;
        if let Some(capabilities) = process.capabilities() {
            let available = available();
            let asked = [capabilities.effective(), capabilities.permitted(), capabilities.ambient()];
            let lacking = asked.into_iter().flatten().flatten().find(|capability| !available.contains(capability));
            if let Some(capability) = lacking {
                let what = format!("capability {capability}, which this host does not give,");
                return Err(judge.unsupported(what));
            }
        }
        let user = process.user();
        Ok(ProcessSpec {
            arguments,
            environment: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            user: User {
                uid: user.uid(),
                gid: user.gid(),
                groups: user.additional_gids().clone().unwrap_or_default(),
                umask: user.umask().unwrap_or(0o022),
            },
            capabilities: process.capabilities().as_ref().map(CapabilitySets::of),
            no_new_privileges: process.no_new_privileges() == Some(true),
            oom_score: process.oom_score_adj(),
            terminal: process.terminal() == Some(true),
            window: process.console_size().map(|size| {
                let number = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
                Window { rows: number(size.height()), columns: number(size.width()) }
            }),
            seccomp,
        })
    }
}

/// Reads the limits that a manifest can state; a limit of any other kind is refused.
fn limits(judge: &Judge<'_>, stated: &LinuxResources) -> Result<Resources, OciError> {
    judge.refuse(&[
        (stated.block_io().is_some(), "linux.resources.blockIO"),
        (stated.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty()), "linux.resources.hugepageLimits"),
        (stated.network().is_some(), "linux.resources.network"),
        (stated.rdma().as_ref().is_some_and(|limits| !limits.is_empty()), "linux.resources.rdma"),
        (stated.unified().as_ref().is_some_and(|values| !values.is_empty()), "linux.resources.unified"),
    ])?;
    if let Some(memory) = stated.memory() {
        judge.refuse(&[
            (memory.reservation().is_some(), "linux.resources.memory.reservation"),
            (memory.swap().is_some_and(|swap| memory.limit() != Some(swap)), "linux.resources.memory.swap"),
            (memory.swappiness().is_some(), "linux.resources.memory.swappiness"),
            (memory.disable_oom_killer().is_some(), "linux.resources.memory.disableOOMKiller"),
        ])?;
    }
    if let Some(cpu) = stated.cpu() {
        judge.refuse(&[
            (cpu.shares().is_some(), "linux.resources.cpu.shares"),
            (cpu.idle().is_some(), "linux.resources.cpu.idle"),
            (cpu.burst().is_some(), "linux.resources.cpu.burst"),
            (cpu.realtime_runtime().is_some(), "linux.resources.cpu.realtimeRuntime"),
            (cpu.realtime_period().is_some(), "linux.resources.cpu.realtimePeriod"),
            (cpu.cpus().is_some(), "linux.resources.cpu.cpus"),
            (cpu.mems().is_some(), "linux.resources.cpu.mems"),
        ])?;
    }
    let limit = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let memory = stated.memory().as_ref().and_then(|memory| memory.limit()).and_then(limit);
    let cpus = stated.cpu().as_ref().and_then(|cpu| {
        let (quota, period) = (limit(cpu.quota()?)?, cpu.period().filter(|period| *period > 0).unwrap_or(CPU_PERIOD));
        Some(MilliCpus(quota.saturating_mul(1000) / period))
    });
    let pids = stated.pids().as_ref().and_then(|pids| limit(pids.limit())).map(u32::try_from);
    let pids = pids.transpose().map_err(|_| judge.unsupported("so large a linux.resources.pids.limit"))?;
    Ok(Resources { memory: memory.map(Bytes), cpus, pids })
}
