//! The bundle's `config.json`: a manifest and an image in the words of the OCI runtime specification.
//!
//! Everything here follows from its arguments; what has to be asked of host or image was asked before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_schema::{ContainerSpec, ImageConfig, Name, Resources, SeccompPolicy};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Linux, LinuxCpu, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources,
    Mount as OciMount, Process, Root, Spec, User,
};

use super::cgroup::{CPU_PERIOD, quota};
use super::error::Failure;
use super::mounts::{MASKED_PATHS, READ_ONLY_PATHS};
use super::seccomp::Machine;
use super::user::Identity;
use super::{capabilities, devices, seccomp};

/// The search path of a container whose image and manifest state none, as Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a bundle is made from.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub name: &'a Name,
    pub spec: &'a ContainerSpec,
    pub image: &'a ImageConfig,
    pub rootfs: &'a Path,
    pub mounts: Vec<OciMount>,
    pub identity: &'a Identity,
    /// The pinned network namespace; `None` for the host's.
    pub network: Option<&'a Path>,
    /// Absolute from the root of every hierarchy.
    pub cgroup: PathBuf,
    pub host: Host<'a>,
}

/// What the host can do.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    pub machine: Machine<'a>,
    pub capabilities: &'a Capabilities,
    pub cgroup_namespaces: bool,
    /// Whether a limit of swap can be set.
    pub limits_swap: bool,
}

/// Puts the bundle together.
pub fn bundle(parts: Parts<'_>) -> Result<Spec, Failure> {
    let mut root = Root::default();
    root.set_path(parts.rootfs.to_owned());
    root.set_readonly(Some(parts.spec.security.read_only_rootfs));
    let mut bundle = Spec::default();
    bundle.set_version("1.0.2".to_owned());
    bundle.set_root(Some(root));
    bundle.set_hostname(Some(hostname(parts.name, parts.spec).to_owned()));
    bundle.set_process(Some(process(&parts)?));
    bundle.set_linux(Some(linux(&parts)?));
    bundle.set_mounts(Some(parts.mounts));
    Ok(bundle)
}

/// Gives a container's host name.
pub fn hostname<'a>(name: &'a Name, spec: &'a ContainerSpec) -> &'a str {
    spec.hostname.as_deref().unwrap_or(name.as_str())
}

/// Gives the command line: `command` stands for ENTRYPOINT and drops CMD, `args` stands for CMD.
pub fn arguments(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, Failure> {
    let (first, rest) = match (&spec.command, &spec.args) {
        (Some(command), args) => (command, args.as_deref().unwrap_or_default()),
        (None, Some(args)) => (&image.entrypoint, args.as_slice()),
        (None, None) => (&image.entrypoint, image.cmd.as_slice()),
    };
    let line: Vec<String> = first.iter().chain(rest).cloned().collect();
    if line.is_empty() { Err(Failure::NoCommand) } else { Ok(line) }
}

/// Gives the environment: the image's, overridden by the manifest's, over defaults for PATH, HOSTNAME and HOME.
pub fn environment(name: &Name, spec: &ContainerSpec, image: &ImageConfig, home: &str) -> Vec<String> {
    let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
    variables.extend([("PATH", DEFAULT_PATH), ("HOSTNAME", hostname(name, spec)), ("HOME", home)]);
    let stated = image.env.iter().chain(&spec.env);
    variables.extend(stated.map(|(name, value)| (name.as_str(), value.as_str())));
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Gives the working directory. An image may state a relative one, which is then below the root, as for Docker.
pub fn working_directory(spec: &ContainerSpec, image: &ImageConfig) -> Result<PathBuf, Failure> {
    match &spec.working_dir {
        Some(stated) if stated.starts_with('/') => Ok(stated.into()),
        Some(stated) => Err(Failure::RelativeWorkingDirectory(stated.clone())),
        None => Ok(Path::new("/").join(image.working_dir.as_deref().unwrap_or("/"))),
    }
}

fn process(parts: &Parts<'_>) -> Result<Process, Failure> {
    let security = &parts.spec.security;
    let mut user = User::default();
    user.set_uid(parts.identity.uid);
    user.set_gid(parts.identity.gid);
    user.set_additional_gids(Some(parts.identity.groups.clone()));
    let mut process = Process::default();
    process.set_terminal(None);
    process.set_console_size(None);
    process.set_user(user);
    process.set_args(Some(arguments(parts.spec, parts.image)?));
    process.set_env(Some(environment(parts.name, parts.spec, parts.image, &parts.identity.home)));
    process.set_cwd(working_directory(parts.spec, parts.image)?);
    process.set_capabilities(Some(capabilities::of_container(security, parts.host.capabilities)));
    process.set_rlimits(None);
    process.set_no_new_privileges(security.no_new_privileges.then_some(true));
    process.set_oom_score_adj(Some(0));
    Ok(process)
}

fn linux(parts: &Parts<'_>) -> Result<Linux, OciSpecError> {
    let security = &parts.spec.security;
    let namespace = |typ, path: Option<&Path>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace.set_path(path.map(Path::to_owned));
        namespace
    };
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut namespaces: Vec<LinuxNamespace> = [Pid, Ipc, Uts, Mount].map(|typ| namespace(typ, None)).into();
    namespaces.extend(parts.host.cgroup_namespaces.then(|| namespace(Cgroup, None)));
    namespaces.extend(parts.network.map(|path| namespace(Network, Some(path))));
    let capabilities = capabilities::of_container(security, parts.host.capabilities);
    let allowed = capabilities.bounding().clone().unwrap_or_default();

    let mut linux = Linux::default();
    linux.set_resources(Some(resources(&parts.spec.resources, parts.host.limits_swap)));
    linux.set_cgroups_path(Some(parts.cgroup.clone()));
    linux.set_namespaces(Some(namespaces));
    linux.set_masked_paths(Some(MASKED_PATHS.map(str::to_owned).into()));
    linux.set_readonly_paths(Some(READ_ONLY_PATHS.map(str::to_owned).into()));
    linux.set_seccomp(match security.seccomp {
        SeccompPolicy::Default => Some(seccomp::default_policy(&allowed, parts.host.machine)?),
        SeccompPolicy::Unconfined => None,
    });
    Ok(linux)
}

fn resources(stated: &Resources, limits_swap: bool) -> LinuxResources {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(devices::default_rules()));
    resources.set_memory(stated.memory.map(|bytes| {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(signed(bytes.0)));
        // Memory and swap together: no swap beside the memory.
        memory.set_swap(limits_swap.then_some(signed(bytes.0)));
        memory
    }));
    resources.set_cpu(stated.cpus.map(|cpus| {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(signed(quota(cpus))));
        cpu.set_period(Some(CPU_PERIOD));
        cpu
    }));
    resources.set_pids(stated.pids.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(i64::from(limit));
        pids
    }));
    resources
}

/// Writes the bundle as JSON, the same for the same bundle: sets are sorted.
pub fn to_json(bundle: &Spec) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(bundle)?;
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(serde_json::Value::as_object_mut) {
        for set in sets.values_mut().filter_map(serde_json::Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    serde_json::to_vec_pretty(&value)
}

#[cfg(test)]
mod tests;
