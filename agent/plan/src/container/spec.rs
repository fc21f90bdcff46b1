//! A container's manifest against the manifest that it was made from.
//!
//! What only the making of a container can set is `Replace`; what the shim reads again, or what hangs on the
//! container's cgroup, interfaces and files, is `Live`.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::{Bytes, ContainerSpec, Health, Kind, Mount, MountSource, NetworkMode};

use super::Container;
use crate::{Action, Differences, Drift, Key, ObservedContainer, ObservedSwap, Remedy, Sight, effective_capabilities};

/// Compares everything that is known from the two manifests and the images.
pub(super) fn drift(container: &Container<'_>, observed: &ObservedContainer) -> Vec<Drift> {
    let (desired, made) = (container.spec(), &observed.spec);
    let mut differences = Differences::new();
    if observed.record_lost {
        differences.push("record", Some("created.json".to_owned()), None, Remedy::Live);
    }
    image(container, observed, &mut differences);
    process(container, made, &mut differences);
    environment(desired, made, &mut differences);
    mounts(desired, made, &mut differences);
    security(desired, made, &mut differences);
    networks(container, made, &mut differences);
    supervision(desired, made, &mut differences);
    resources(desired, observed, &mut differences);
    differences.into_vec()
}

fn image(container: &Container<'_>, observed: &ObservedContainer, differences: &mut Differences) {
    let world = container.world;
    let Some(name) = world.image_of(container.spec()) else { return };
    let key = Key::new(Kind::Image, name.clone());
    let renamed = container.spec().image != observed.spec.image;
    let unknown_until_fetched = match world.actions.get(&key) {
        Some(Action::Replace(_)) => true,
        // An image that the store lost is fetched again, and is most likely the same: that alone ends nothing that runs.
        Some(Action::Create) => renamed,
        _ => false,
    };
    if unknown_until_fetched {
        let (desired, old) = (format!("{key}, fetched anew"), observed.image.to_string());
        return differences.push("image", Some(desired), Some(old), Remedy::Replace);
    }
    if let Some(image) = world.observed.images.get(&name).and_then(Sight::found)
        && image.id != observed.image
    {
        return differences.field("image", &image.id, &observed.image, Remedy::Replace);
    }
    // Another name for the same content, which only the record of the container has to learn.
    differences.field("image", &container.spec().image, &observed.spec.image, Remedy::Live);
}

fn process(container: &Container<'_>, made: &ContainerSpec, differences: &mut Differences) {
    let desired = container.spec();
    let list = |words: &Option<Vec<String>>| words.as_ref().map(|words| format!("{words:?}"));
    differences.option("command", list(&desired.command).as_ref(), list(&made.command).as_ref(), Remedy::Replace);
    differences.option("args", list(&desired.args).as_ref(), list(&made.args).as_ref(), Remedy::Replace);
    differences.option("user", desired.user.as_ref(), made.user.as_ref(), Remedy::Replace);
    differences.option("workingDir", desired.working_dir.as_ref(), made.working_dir.as_ref(), Remedy::Replace);
    let name = |spec: &ContainerSpec| spec.hostname.clone().unwrap_or_else(|| container.name.to_string());
    differences.field("hostname", &name(desired), &name(made), Remedy::Replace);
    let mode =
        |spec: &ContainerSpec| spec.network_mode.clone().filter(|mode| *mode != NetworkMode::None).map(String::from);
    differences.option("networkMode", mode(desired).as_ref(), mode(made).as_ref(), Remedy::Replace);
}

/// Compares the environment by names alone: values may be secrets.
fn environment(desired: &ContainerSpec, made: &ContainerSpec, differences: &mut Differences) {
    let names: BTreeSet<&String> = desired.env.keys().chain(made.env.keys()).collect();
    for name in names {
        let (desired, made) = (desired.env.get(name), made.env.get(name));
        if desired != made {
            let new = if made.is_some() { "changed, not shown" } else { "set, not shown" };
            let text = |value: Option<&String>, text: &str| value.map(|_| text.to_owned());
            let field = format!("env.{name}");
            differences.push(&field, text(desired, new), text(made, "set, not shown"), Remedy::Replace);
        }
    }
}

fn mounts(desired: &ContainerSpec, made: &ContainerSpec, differences: &mut Differences) {
    let by_target = |spec: &ContainerSpec| -> BTreeMap<String, String> {
        spec.mounts.iter().map(|mount| (mount.target.clone(), describe_mount(mount))).collect()
    };
    let (desired, made) = (by_target(desired), by_target(made));
    let targets: BTreeSet<&String> = desired.keys().chain(made.keys()).collect();
    for target in targets {
        differences.option(&format!("mounts.{target}"), desired.get(target), made.get(target), Remedy::Replace);
    }
}

fn describe_mount(mount: &Mount) -> String {
    let mut text = match &mount.source {
        MountSource::Volume(name) => format!("volume {name}"),
        MountSource::Bind { path, idmap } => {
            let idmap = idmap.as_ref().map(|map| {
                let (uid, gid) = (String::from(map.uid), String::from(map.gid.unwrap_or(map.uid)));
                format!(", idmap {uid} {gid}")
            });
            format!("bind {}{}", path.display(), idmap.unwrap_or_default())
        }
        MountSource::Tmpfs { size, mode } => {
            let size = size.map(|size| format!(", size {size}")).unwrap_or_default();
            let mode = mode.map(|mode| format!(", mode {mode}")).unwrap_or_default();
            format!("tmpfs{size}{mode}")
        }
    };
    if mount.read_only {
        text += ", read-only";
    }
    text
}

fn security(desired: &ContainerSpec, made: &ContainerSpec, differences: &mut Differences) {
    let (desired, made) = (&desired.security, &made.security);
    let (new, old) = (desired.read_only_rootfs, made.read_only_rootfs);
    differences.field("security.readOnlyRootfs", &new, &old, Remedy::Replace);
    let (new, old) = (desired.no_new_privileges, made.no_new_privileges);
    differences.field("security.noNewPrivileges", &new, &old, Remedy::Replace);
    let (new, old) = (desired.seccomp.as_str(), made.seccomp.as_str());
    differences.field("security.seccomp", &new, &old, Remedy::Replace);
    let (new, old) = (effective_capabilities(desired), effective_capabilities(made));
    differences.members("security.capabilities", &new, &old, Remedy::Replace);
}

/// Compares which networks are joined, under which names; addresses are compared with the kernel.
fn networks(container: &Container<'_>, made: &ContainerSpec, differences: &mut Differences) {
    let desired = container.spec();
    for attachment in &desired.networks {
        let field = format!("networks.{}", attachment.name);
        let Some(before) = made.networks.iter().find(|before| before.name == attachment.name) else {
            let endpoint = container.endpoints().iter().find(|endpoint| endpoint.network == attachment.name);
            let text = endpoint.map_or_else(|| "joined".to_owned(), super::kernel::describe);
            differences.push(&field, Some(text), None, Remedy::Live);
            continue;
        };
        differences.members(&format!("{field}.aliases"), &attachment.aliases, &before.aliases, Remedy::Live);
    }
    for before in &made.networks {
        if !desired.networks.iter().any(|attachment| attachment.name == before.name) {
            differences.push(&format!("networks.{}", before.name), None, Some("joined".to_owned()), Remedy::Live);
        }
    }
    differences.members("ports", &desired.ports, &made.ports, Remedy::Live);
    differences.members("dns.servers", &desired.dns.servers, &made.dns.servers, Remedy::Live);
    differences.members("dns.search", &desired.dns.search, &made.dns.search, Remedy::Live);
}

/// Compares what the shim does: starting, stopping, probing, logging.
fn supervision(desired: &ContainerSpec, made: &ContainerSpec, differences: &mut Differences) {
    let (new, old) = (desired.restart.policy.as_str(), made.restart.policy.as_str());
    differences.field("restart.policy", &new, &old, Remedy::Live);
    let (new, old) = (desired.restart.max_retries.as_ref(), made.restart.max_retries.as_ref());
    differences.option("restart.maxRetries", new, old, Remedy::Live);
    let backoff = |spec: &ContainerSpec| {
        let backoff = spec.restart.backoff;
        format!("{} to {}, reset after {}", backoff.initial, backoff.max, backoff.reset)
    };
    differences.field("restart.backoff", &backoff(desired), &backoff(made), Remedy::Live);
    let health = |spec: &ContainerSpec| spec.health.as_ref().map(describe_health);
    differences.option("health", health(desired).as_ref(), health(made).as_ref(), Remedy::Live);
    differences.option("stopSignal", desired.stop_signal.as_ref(), made.stop_signal.as_ref(), Remedy::Live);
    differences.field("stopTimeout", &desired.stop_timeout, &made.stop_timeout, Remedy::Live);
    differences.field("log.maxSize", &desired.log.max_size, &made.log.max_size, Remedy::Live);
    differences.field("log.maxFiles", &desired.log.max_files, &made.log.max_files, Remedy::Live);
    let dependencies = |spec: &ContainerSpec| -> Vec<String> {
        spec.depends_on.iter().map(|one| format!("{} {}", one.container, one.condition.as_str())).collect()
    };
    differences.members("dependsOn", &dependencies(desired), &dependencies(made), Remedy::Live);
}

fn describe_health(health: &Health) -> String {
    let Health { exec, interval, timeout, retries, start_period } = health;
    format!("{exec:?} every {interval}, timeout {timeout}, {retries} retries, start period {start_period}")
}

/// Compares the swap that a container may use: none beside a stated memory, which would be no limit otherwise.
fn swap(memory_is_limited: bool, seen: ObservedSwap, differences: &mut Differences) {
    let wanted = if memory_is_limited { ObservedSwap::Limited(0) } else { ObservedSwap::Unlimited };
    let word = |swap| match swap {
        ObservedSwap::Unaccounted => None,
        ObservedSwap::Unlimited => Some("unlimited".to_owned()),
        ObservedSwap::Limited(0) => Some("none".to_owned()),
        ObservedSwap::Limited(bytes) => Some(Bytes(bytes).to_string()),
    };
    if seen != wanted && seen != ObservedSwap::Unaccounted {
        differences.push("resources.memory.swap", word(wanted), word(seen), Remedy::Live);
    }
}

/// Page sizes of the kernels that evenkeel runs on: a memory limit is rounded down to whole pages.
const PAGE_SIZES: [u64; 3] = [4096, 16384, 65536];

/// Compares the limits with the manifest of before, and with the cgroup's own where there is one.
fn resources(desired: &ContainerSpec, observed: &ObservedContainer, differences: &mut Differences) {
    let (new, old) = (&desired.resources, &observed.spec.resources);
    let limits = observed.limits.filter(|_| super::is_running(&observed.state));
    let memory = limits.map_or(old.memory, |limits| limits.memory.map(Bytes));
    let rounds_to = |(desired, found): (Bytes, Bytes)| PAGE_SIZES.iter().any(|page| desired.0 / page * page == found.0);
    let same_memory = new.memory == memory || new.memory.zip(memory).is_some_and(rounds_to);
    if !same_memory {
        differences.option("resources.memory", new.memory.as_ref(), memory.as_ref(), Remedy::Live);
    } else {
        differences.option("resources.memory", new.memory.as_ref(), old.memory.as_ref(), Remedy::Live);
        if let Some(limits) = limits {
            swap(new.memory.is_some(), limits.swap, differences);
        }
    }
    let cpus = limits.map_or(old.cpus, |limits| limits.cpus);
    let found = if new.cpus == cpus { old.cpus } else { cpus };
    differences.option("resources.cpus", new.cpus.as_ref(), found.as_ref(), Remedy::Live);
    let (pids, old_pids) = (new.pids.map(u64::from), old.pids.map(u64::from));
    let kernel_pids = limits.map_or(old_pids, |limits| limits.pids);
    let found = if pids == kernel_pids { old_pids } else { kernel_pids };
    differences.option("resources.pids", pids.as_ref(), found.as_ref(), Remedy::Live);
}
