//! Looking at the host: every kind once, side by side, brought together as one [`Observed`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_plan::{Desired, Firewall, Key, Kind, Name, Observed, ObservedContainer, Override, PublishedPort, Sight};
use evenkeel_schema::{ContainerSpec, NetworkMode, Object, Policy, PortMapping};
use futures_util::StreamExt;
use futures_util::stream;
use ipnet::IpNet;

use crate::container::{ContainerError, Containers, RuntimeProgram};
use crate::image::{self, ImageError, Store};
use crate::network::{NetworkError, Networks, PortConflict, port_conflicts};
use crate::{Instance, Paths, volume};

/// Images looked at side by side.
const IMAGES_AT_ONCE: usize = 16;

/// What the host cannot tell: the ledger's content, handed in.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub ledger: BTreeMap<Key, Policy>,
    /// Those of the ledger that a manifest stated at the last pass: others are there because their policy keeps them.
    pub wanted: BTreeSet<Key>,
    /// The objects of the ledger as manifests stated them last, applied or only begun: what to look for when a manifest went.
    pub last_stated: Desired,
    pub leases: BTreeMap<Name, BTreeMap<Name, BTreeSet<IpAddr>>>,
    pub overrides: BTreeMap<Name, Override>,
}

/// Why the host cannot be looked at at all.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("the image store cannot be opened")]
    Images(#[from] ImageError),
    #[error("the host's network cannot be looked at")]
    Networks(#[from] NetworkError),
    #[error("the containers cannot be looked at")]
    Containers(#[from] ContainerError),
}

/// The read-only handle on a host.
#[derive(Clone)]
pub struct Observer {
    pub(crate) paths: Paths,
    pub(crate) instance: Instance,
    pub(crate) store: Store,
    pub(crate) networks: Networks,
    pub(crate) containers: Containers,
}

impl Observer {
    /// Opens the handles; makes and changes nothing.
    ///
    /// # Errors
    /// Without netlink or an unreadable store there is nothing to compare with.
    pub async fn open(paths: Paths, runtime: RuntimeProgram) -> Result<Observer, ObserveError> {
        let instance = Instance::of(&paths);
        Ok(Observer {
            store: Store::open(&paths)?,
            networks: Networks::open(&paths, &instance).await?,
            containers: Containers::open(&paths, &instance, runtime)?,
            paths,
            instance,
        })
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Has the next look ask registries, however short a time ago they were asked.
    pub fn ask_registries_again(&self) {
        self.store.ask_registries_again();
    }

    /// Looks at every object that is desired or that the ledger holds.
    ///
    /// What cannot be looked at is `Unreadable` in its place; nothing is left out.
    pub async fn observe(&self, desired: &Desired, known: &Known) -> Observed {
        let (images, networks, containers) = tokio::join!(
            self.observe_images(desired, known),
            self.observe_networks(desired, known),
            self.observe_containers(desired, known),
        );
        let volume_names = names(Kind::Volume, desired.volumes.keys(), known);
        let volumes =
            volume_names.into_iter().map(|name| (name.clone(), volume::observe(&self.paths, &name))).collect();
        let taken_ports = taken_ports(desired, &containers).await;
        Observed {
            instance: self.instance.as_str().to_owned(),
            images,
            volumes,
            networks: networks.networks,
            containers,
            firewall: networks.firewall,
            ledger: known.ledger.clone(),
            leases: known.leases.clone(),
            overrides: known.overrides.clone(),
            taken_ports,
            host_routes: networks.host_routes,
            foreign_links: networks.foreign_links,
        }
    }

    async fn observe_images(
        &self,
        desired: &Desired,
        known: &Known,
    ) -> BTreeMap<Name, Sight<evenkeel_plan::ObservedImage>> {
        let names = names(Kind::Image, desired.images.keys(), known);
        let deadline = image::deadline();
        let look = |name: Name| async move {
            let object = desired.images.get(&name).or_else(|| known.last_stated.images.get(&name));
            let sight = self.store.observe_until(&name, object.map(|object| &object.spec), deadline).await;
            (name, sight)
        };
        stream::iter(names).map(look).buffer_unordered(IMAGES_AT_ONCE).collect().await
    }

    async fn observe_networks(&self, desired: &Desired, known: &Known) -> crate::network::NetworkView {
        let names = names(Kind::Network, desired.networks.keys(), known);
        let owned = known.ledger.keys().filter(|key| key.kind == Kind::Network).map(|key| key.name.clone()).collect();
        let specs = names
            .into_iter()
            .filter_map(|name| {
                let object = desired.networks.get(&name).or_else(|| known.last_stated.networks.get(&name))?;
                Some((name, object.spec.clone()))
            })
            .collect();
        self.networks.observe(&specs, &owned).await
    }

    async fn observe_containers(&self, desired: &Desired, known: &Known) -> BTreeMap<Name, Sight<ObservedContainer>> {
        let names = names(Kind::Container, desired.containers.keys(), known);
        let mut sights = self.containers.observe_all(&names).await;
        // Only a namespace of the container's own is looked into: another's, or the host's, is that one's to state.
        let own_namespace: BTreeSet<Name> = sights
            .iter()
            .filter(|(_, sight)| {
                let mode = sight.found().and_then(|container| container.spec.network_mode.as_ref());
                sight.found().is_some() && !matches!(mode, Some(NetworkMode::Host | NetworkMode::Container(_)))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for (name, interfaces) in self.networks.observe_all_interfaces(&own_namespace).await {
            match (sights.get_mut(&name), interfaces) {
                (Some(Sight::Found { observed, .. }), Ok(interfaces)) => observed.interfaces = interfaces,
                (Some(sight), Err(error)) => *sight = Sight::Unreadable(crate::error_chain(&error)),
                _ => {}
            }
        }
        sights
    }
}

/// Finds the containers still to be made whose published ports a program of the host listens on.
///
/// Only those: a listener that comes later than the container gets nothing, since the firewall is asked first.
async fn taken_ports(
    desired: &Desired,
    containers: &BTreeMap<Name, Sight<ObservedContainer>>,
) -> BTreeMap<Name, String> {
    let is_absent = |name: &Name| !matches!(containers.get(name), Some(Sight::Found { .. } | Sight::Unreadable(_)));
    let absent = desired.containers.iter().filter(|(name, _)| is_absent(name));
    let published = |(name, object): (&Name, &Object<ContainerSpec>)| {
        let families = families(&object.spec, desired);
        let targets = |port: &PortMapping| match port.host_ip {
            Some(ip) => vec![ip],
            None => families.clone(),
        };
        let publish = |port: &PortMapping| {
            let (container, port) = (name.clone(), *port);
            targets(&port).into_iter().map(move |target| PublishedPort { container: container.clone(), port, target })
        };
        object.spec.ports.iter().flat_map(publish).collect()
    };
    let ports: BTreeSet<PublishedPort> = absent.flat_map(|one| -> Vec<PublishedPort> { published(one) }).collect();
    if ports.is_empty() {
        return BTreeMap::new();
    }
    let firewall = Firewall { ports, ..Firewall::default() };
    let conflicts = tokio::task::spawn_blocking(move || port_conflicts(&firewall)).await.unwrap_or_default();
    let words = |conflict: PortConflict| {
        let (port, protocol) = (conflict.port.host_port, conflict.port.protocol);
        let holder = match conflict.program {
            Some((program, pid)) => format!("{program} (process {pid})"),
            None => "another program".to_owned(),
        };
        let listener = conflict.listener;
        (conflict.container, format!("host port {port}/{protocol} is taken by {holder}, which listens on {listener}"))
    };
    conflicts.into_iter().map(words).collect()
}

/// Gives an address of each family in which the ports of a container are published: those of its bridge networks.
fn families(spec: &ContainerSpec, desired: &Desired) -> Vec<IpAddr> {
    let networks = spec.networks.iter().filter_map(|attachment| desired.networks.get(&attachment.name));
    let subnets: Vec<IpNet> =
        networks.flat_map(|object| object.spec.subnets.iter().map(|subnet| subnet.subnet)).collect();
    let both = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let has = |ip: &IpAddr| subnets.iter().any(|net| net.addr().is_ipv4() == ip.is_ipv4());
    both.into_iter().filter(has).collect()
}

/// Lists the names of a kind that are desired or in the ledger.
fn names<'a>(kind: Kind, desired: impl Iterator<Item = &'a Name>, known: &'a Known) -> BTreeSet<Name> {
    let in_ledger = known.ledger.keys().filter(|key| key.kind == kind).map(|key| &key.name);
    desired.chain(in_ledger).cloned().collect()
}
