//! Containers of the model host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_plan::{
    Action, Desired, Endpoint, HealthState, Key, Kind, LinkKind, Name, ObservedContainer, ObservedInterface,
    ObservedLimits, ObservedProcess, ObservedSwap, Plan, Remedy, RunState, Sight, Step, capability_mask,
    effective_capabilities,
};
use evenkeel_schema::{ContainerSpec, Driver, MountSource, NetworkMode, SeccompPolicy};

use super::{Host, found};

/// Tells whether a container of this manifest stands on an object.
pub(super) fn uses(spec: &ContainerSpec, key: &Key) -> bool {
    let name = &key.name;
    match key.kind {
        Kind::Image => spec.image == name.as_str(),
        Kind::Volume => spec.mounts.iter().any(|mount| mount.source == MountSource::Volume(name.clone())),
        Kind::Network => spec.networks.iter().any(|attachment| attachment.name == *name),
        Kind::Container => spec.network_mode == Some(NetworkMode::Container(name.clone())),
    }
}

impl Host {
    pub(super) fn container(&mut self, desired: &Desired, plan: &Plan, step: &Step) {
        let name = &step.key.name;
        let spec = &desired.containers[name].spec;
        self.check_needs(desired, spec, name);
        let remedy = match &step.action {
            Action::Create | Action::Replace(_) => Remedy::Replace,
            _ => step.remedy().unwrap_or(Remedy::Live),
        };
        let before = self.observed.containers.get(name).and_then(Sight::found).cloned();
        let mut container = match (before, remedy) {
            (Some(before), Remedy::Live | Remedy::Start | Remedy::Restart) => {
                let spec = updated(&before.spec, spec);
                ObservedContainer { spec, record_lost: false, shim_trouble: None, ..before }
            }
            _ => self.made(desired, spec),
        };
        if remedy > Remedy::Live {
            run(name, &mut container);
        }
        let running = matches!(container.state, RunState::Running { .. });
        if running && let Some(limits) = &mut container.limits {
            let resources = &spec.resources;
            *limits = ObservedLimits {
                memory: resources.memory.map(|memory| memory.0 / 4096 * 4096),
                cpus: resources.cpus,
                pids: resources.pids.map(u64::from),
                swap: resources.memory.map_or(ObservedSwap::Unlimited, |_| ObservedSwap::Limited(0)),
            };
        }
        let endpoints = &plan.endpoints[name];
        container.interfaces = match &spec.network_mode {
            Some(NetworkMode::Host | NetworkMode::Container(_)) => None,
            // A namespace comes with a start.
            _ if container.interfaces.is_none() && remedy == Remedy::Live => None,
            _ => Some(endpoints.iter().map(interface).collect()),
        };
        container.hosts = plan.hosts.of(name);
        self.observed.containers.insert(name.clone(), found(container));
        let leases =
            endpoints.iter().map(|endpoint| (endpoint.network.clone(), endpoint.leased.iter().copied().collect()));
        let leases: BTreeMap<Name, BTreeSet<_>> = leases.collect();
        self.observed.leases.insert(name.clone(), leases);
    }

    fn check_needs(&self, desired: &Desired, spec: &ContainerSpec, name: &Name) {
        let image = desired.image_of(spec).expect("the image is desired");
        let image = self.observed.images.get(image).and_then(Sight::found);
        assert!(image.is_some(), "container/{name} comes before its image {}", spec.image);
        for attachment in &spec.networks {
            let network = self.observed.networks.get(&attachment.name).and_then(Sight::found);
            assert!(network.is_some(), "container/{name} comes before its network {}", attachment.name);
        }
        for mount in &spec.mounts {
            if let MountSource::Volume(volume) = &mount.source {
                let volume_there = self.observed.volumes.get(volume).and_then(Sight::found).is_some();
                assert!(volume_there, "container/{name} comes before its volume {volume}");
            }
        }
        let joined = match &spec.network_mode {
            Some(NetworkMode::Container(other)) => Some(other),
            _ => None,
        };
        for other in spec.depends_on.iter().map(|dependency| &dependency.container).chain(joined) {
            let other_there = self.observed.containers.get(other).and_then(Sight::found).is_some();
            assert!(other_there, "container/{name} comes before container/{other}, which it needs");
        }
    }

    /// Makes a container that has not started.
    fn made(&self, desired: &Desired, spec: &ContainerSpec) -> ObservedContainer {
        let image = desired.image_of(spec).and_then(|image| self.observed.images.get(image)).and_then(Sight::found);
        ObservedContainer {
            spec: spec.clone(),
            image: image.expect("the image was checked").id.clone(),
            record_lost: false,
            state: RunState::Created,
            shim_alive: false,
            shim_trouble: None,
            rootfs_mounted: true,
            interfaces: Some(Vec::new()),
            limits: None,
            process: None,
            hosts: Arc::default(),
            pids: None,
        }
    }
}

/// Starts the process of a container as it was made.
fn run(name: &Name, container: &mut ObservedContainer) {
    let spec = &container.spec;
    container.shim_alive = true;
    container.rootfs_mounted = true;
    container.interfaces.get_or_insert_default();
    container.limits = Some(ObservedLimits::default());
    let started_at = "2026-01-01T00:00:00Z".to_owned();
    container.state = RunState::Running { pid: 100, started_at, restarts: 0, health: HealthState::None };
    container.process = Some(ObservedProcess {
        no_new_privileges: spec.security.no_new_privileges,
        seccomp_filter: spec.security.seccomp == SeccompPolicy::Default,
        capability_bounding_set: capability_mask(effective_capabilities(&spec.security)),
        readonly_rootfs: spec.security.read_only_rootfs,
        mount_points: spec.mounts.iter().map(|mount| mount.target.clone()).collect(),
        hostname: spec.hostname.clone().unwrap_or_else(|| name.to_string()),
    });
}

/// Gives the manifest of a container that was updated in place: what only its making can set is as before.
fn updated(before: &ContainerSpec, desired: &ContainerSpec) -> ContainerSpec {
    let before = before.clone();
    ContainerSpec {
        command: before.command,
        args: before.args,
        env: before.env,
        user: before.user,
        working_dir: before.working_dir,
        hostname: before.hostname,
        network_mode: before.network_mode,
        mounts: before.mounts,
        security: before.security,
        ..desired.clone()
    }
}

fn interface(endpoint: &Endpoint) -> ObservedInterface {
    let bridged = endpoint.driver == Driver::Bridge;
    ObservedInterface {
        name: endpoint.interface.clone(),
        kind: if bridged { LinkKind::Veth } else { LinkKind::Macvlan },
        up: true,
        mtu: endpoint.mtu.unwrap_or(1500),
        mac: Some(endpoint.mac),
        addresses: endpoint.addresses.iter().copied().collect(),
        gateways: endpoint.gateways.iter().copied().collect(),
        unrouted: BTreeSet::new(),
        bridge: bridged.then(|| endpoint.attached_to.clone()),
        parent: (!bridged).then(|| endpoint.attached_to.clone()),
    }
}
