//! Containers: what differs between a manifest and the container that was made from it.
//!
//! `spec.rs` compares the manifest with the one the container was made from, `kernel.rs` with what the kernel says of
//! it now, `run.rs` says what its life so far means; this file puts them together.

mod background;
mod kernel;
mod run;
mod spec;

pub use background::background_hint;
pub(crate) use kernel::addresses_of;

use std::collections::BTreeSet;

use evenkeel_schema::{ContainerSpec, Kind, MountSource, Name, NetworkMode, Object, Policy};

use crate::decide::Resource;
use crate::world::World;
use crate::{Drift, Endpoint, Key, Observed, ObservedContainer, ObservedImage, Remedy, RunState, Sight, Why};

/// One desired container.
pub(crate) struct Container<'a> {
    pub name: &'a Name,
    pub object: &'a Object<ContainerSpec>,
    pub world: &'a World<'a>,
}

impl Container<'_> {
    fn spec(&self) -> &ContainerSpec {
        &self.object.spec
    }

    /// Gives the words that the container runs: its own, or its image's.
    fn command(&self, observed: &ObservedContainer) -> Vec<String> {
        command(observed, self.world.images.get(&observed.image).copied())
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.world.addressing.endpoints.get(self.name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Gives the words that a container was started with: its own, or those of the image it was made from.
pub fn command_of(container: &ObservedContainer, observed: &Observed) -> Vec<String> {
    command(container, observed.images.values().filter_map(Sight::found).find(|image| image.id == container.image))
}

fn command(container: &ObservedContainer, image: Option<&ObservedImage>) -> Vec<String> {
    let entrypoint = container.spec.command.clone().or_else(|| Some(image?.config.entrypoint.clone()));
    let arguments = match (&container.spec.args, &container.spec.command) {
        (Some(arguments), _) => Some(arguments.clone()),
        (None, Some(_)) => None,
        (None, None) => image.map(|image| image.config.cmd.clone()),
    };
    entrypoint.into_iter().chain(arguments).flatten().collect()
}

/// Lists the objects that a container of this manifest cannot do without, in the words of `world`.
pub(crate) fn foundations(spec: &ContainerSpec, world: &World<'_>) -> BTreeSet<Key> {
    let mut needs: BTreeSet<Key> = world.image_of(spec).map(|name| Key::new(Kind::Image, name)).into_iter().collect();
    let networks = spec.networks.iter().filter(|_| spec.network_mode.is_none());
    needs.extend(networks.map(|attachment| Key::new(Kind::Network, attachment.name.clone())));
    needs.extend(spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(Key::new(Kind::Volume, name.clone())),
        MountSource::Bind { .. } | MountSource::Tmpfs { .. } => None,
    }));
    if let Some(NetworkMode::Container(name)) = &spec.network_mode {
        needs.insert(Key::new(Kind::Container, name.clone()));
    }
    needs
}

impl Resource for Container<'_> {
    type Observed = ObservedContainer;

    fn key(&self) -> Key {
        Key::new(Kind::Container, self.name.clone())
    }

    fn policy(&self) -> Policy {
        self.object.policy
    }

    fn needs(&self) -> BTreeSet<Key> {
        let mut needs = foundations(self.spec(), self.world);
        let before = self.spec().depends_on.iter().map(|dependency| dependency.container.clone());
        needs.extend(before.map(|name| Key::new(Kind::Container, name)));
        needs
    }

    fn obstacle(&self, _: Option<&ObservedContainer>) -> Option<Why> {
        if let Some(stop) = self.world.observed.overrides.get(self.name) {
            return Some(Why::Stopped { since: stop.since.clone() });
        }
        let conflicts = &self.world.addressing.conflicts;
        let message = conflicts.get(self.name).or_else(|| self.world.observed.taken_ports.get(self.name))?;
        Some(Why::Conflict { message: message.clone() })
    }

    fn drift(&self, observed: &ObservedContainer) -> Vec<Drift> {
        let mut drifts = spec::drift(self, observed);
        let life = run::judge(self.spec(), observed, &self.command(observed));
        let found = if life == run::Life::Done { Vec::new() } else { kernel::drift(self, observed, &life) };
        let ports = self.world.filter.drifts(&self.key());
        for drift in found.into_iter().chain(ports.iter().cloned()) {
            if !drifts.iter().any(|said| says(said, &drift)) {
                drifts.push(drift);
            }
        }
        drifts
    }

    fn stuck(&self, drifts: &[Drift]) -> Option<String> {
        let about_networks = drifts.iter().any(|drift| drift.field.starts_with("networks."));
        about_networks.then(|| self.world.parentless(self.spec())).flatten()
    }

    fn unsettled(&self, observed: &ObservedContainer) -> Option<Why> {
        if let Some(why) = run::unsettled(self.spec(), observed, &self.command(observed)) {
            return Some(why);
        }
        let message = self.world.filter.unreadable_for(&self.key())?;
        Some(Why::Unreadable { message: format!("the firewall table: {message}") })
    }
}

/// Tells whether a difference says what another one does: any field is said once, by the stronger side, but of ports, lines
/// of the hosts file and interfaces there are several, each for itself.
fn says(said: &Drift, drift: &Drift) -> bool {
    if drift.field == "hosts" || drift.field.starts_with("networks.") || said.field != drift.field {
        return false;
    }
    let port = |side: &Option<String>| side.as_deref().map(bare_port).map(str::to_owned);
    drift.field != "ports"
        || (port(&said.desired), port(&said.observed)) == (port(&drift.desired), port(&drift.observed))
}

/// Takes from the words for a port what only one of a manifest and the firewall table says: where it leads to, and that it is
/// published on every address of a family.
fn bare_port(words: &str) -> &str {
    let port = words.split(" to ").next().unwrap_or(words);
    port.strip_prefix("0.0.0.0:").or_else(|| port.strip_prefix("[::]:")).unwrap_or(port)
}

/// Tells whether the container's process is there to be looked at.
fn is_running(state: &RunState) -> bool {
    matches!(state, RunState::Running { .. })
}

/// Tells whether a step for these differences starts the container's process.
pub(crate) fn starts_process(drifts: &[Drift]) -> bool {
    drifts.iter().any(|drift| drift.remedy > Remedy::Live)
}
