//! Changing the host: one step of a plan at a time, each safe to repeat.
//!
//! An [`Applier`] is only had against proof that the root's lock is held. Every method completes what an earlier,
//! interrupted call began; none decides whether it should be called.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_plan::{Endpoint, Firewall, HostNames, Name, ObservedImage};
use evenkeel_schema::{ContainerSpec, ImageSpec, NetworkMode, NetworkSpec, VolumeSpec};
use evenkeel_shim::fail_point;

use crate::container::{ContainerError, NetworkJoin, NewContainer};
use crate::image::{ImageError, Progress};
use crate::network::NetworkError;
use crate::observe::Observer;
use crate::volume::{self, VolumeError};

/// How long the kernel may take to clear a namespace away that nothing is in any more.
const STRAY_PATIENCE: Duration = Duration::from_secs(3);
const STRAY_PAUSE: Duration = Duration::from_millis(20);
/// From how many on what they share costs less than it spares.
const MANY_STARTS: usize = 8;

/// Proof that the caller holds the lock of the root that it is about to change.
pub trait RootHeld: Send + Sync {}

/// Why a step went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("volume {0}: the step ended abnormally")]
    Interrupted(Name, #[source] tokio::task::JoinError),
}

/// A container as it is to be, with everything it needs at hand.
pub struct ContainerPlan<'a> {
    pub name: &'a Name,
    pub spec: &'a ContainerSpec,
    pub image: &'a ObservedImage,
    pub endpoints: &'a [Endpoint],
    pub hosts: &'a Arc<HostNames>,
    /// The container whose network namespace this one is in, over any number of `container:` hops.
    pub namespace_of: Option<&'a Name>,
}

/// The handle that can write to the host.
#[derive(Clone)]
pub struct Applier {
    observer: Observer,
    _held: Arc<dyn RootHeld>,
}

impl Applier {
    pub fn new(observer: Observer, held: Arc<dyn RootHeld>) -> Applier {
        Applier { observer, _held: held }
    }

    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Fetches an image into the store.
    pub async fn fetch_image(
        &self,
        name: &Name,
        spec: &ImageSpec,
        progress: &dyn Progress,
    ) -> Result<ObservedImage, ApplyError> {
        Ok(self.observer.store.fetch(name, spec, progress).await?)
    }

    pub async fn remove_image(&self, name: &Name) -> Result<(), ApplyError> {
        Ok(self.observer.store.remove(name).await?)
    }

    /// Removes what no image needs any more, also what a killed process left.
    pub async fn collect_images(&self) -> Result<(), ApplyError> {
        Ok(self.observer.store.collect_if_due().await?)
    }

    /// Readies what a look may find to be needed at once; [`Applier::unready`] takes back what was not.
    pub fn ready(&self) {
        self.observer.networks.ready_firewall();
    }

    pub async fn unready(&self) {
        self.observer.networks.unready_firewall().await;
    }

    /// Readies what `count` containers share that are about to be started; [`Applier::end_of_starts`] lets go of it.
    pub fn expect_starts(&self, count: usize) {
        if count >= MANY_STARTS {
            self.observer.containers.expect_many_starts(count);
        }
    }

    pub fn end_of_starts(&self) {
        self.observer.containers.end_of_starts();
    }

    /// Keeps what this pass saw for the next program to see sooner.
    pub fn keep_sight(&self) -> std::io::Result<()> {
        self.observer.networks.keep_firewall()
    }

    pub async fn ensure_volume(&self, name: &Name, spec: &VolumeSpec) -> Result<(), ApplyError> {
        let (paths, owned_name, spec) = (self.observer.paths.clone(), name.clone(), spec.clone());
        let made = tokio::task::spawn_blocking(move || volume::ensure(&paths, &owned_name, &spec)).await;
        Ok(made.map_err(|error| ApplyError::Interrupted(name.clone(), error))??)
    }

    pub async fn remove_volume(&self, name: &Name) -> Result<(), ApplyError> {
        let (paths, owned_name) = (self.observer.paths.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || volume::remove(&paths, &owned_name)).await;
        Ok(removed.map_err(|error| ApplyError::Interrupted(name.clone(), error))??)
    }

    pub async fn ensure_network(&self, name: &Name, spec: &NetworkSpec) -> Result<(), ApplyError> {
        Ok(self.observer.networks.ensure(name, spec).await?)
    }

    /// Takes over a network's link that something else made, and makes it as stated.
    pub async fn adopt_network(&self, name: &Name, spec: &NetworkSpec) -> Result<(), ApplyError> {
        Ok(self.observer.networks.adopt(name, spec).await?)
    }

    pub async fn remove_network(&self, name: &Name) -> Result<(), ApplyError> {
        Ok(self.observer.networks.remove(name).await?)
    }

    pub async fn apply_firewall(&self, firewall: &Firewall) -> Result<(), ApplyError> {
        Ok(self.observer.networks.apply_firewall(firewall).await?)
    }

    /// Makes a container with its network namespace and starts it.
    ///
    /// The namespace, the root file system and the shim need nothing of each other, and each of them is some milliseconds of
    /// waiting: they come side by side.
    pub async fn start_container(&self, plan: &ContainerPlan<'_>) -> Result<(), ApplyError> {
        let (containers, name) = (&self.observer.containers, plan.name);
        let new = self.new_container(plan);
        containers.begin(&new).await?;
        // The shim first: it takes longest.
        let (shim, joined, completed) =
            tokio::join!(containers.ready_shim(name), self.join_network(plan), containers.complete(&new));
        fail_point!("container.networked");
        let is_new = matches!(shim, Ok(true));
        let (joined, completed) = match (joined, completed, shim) {
            (Ok(()), Ok(()), Ok(_)) => {
                containers.start_with_shim(name).await?;
                return Ok(());
            }
            (joined, completed, Ok(_)) => (joined, completed),
            (joined, completed, Err(error)) => (joined, completed.and(Err(error))),
        };
        // It has nothing to start, and would be in the way of a look for what is left of the container.
        if is_new && let Err(error) = containers.dismiss_shim(name).await {
            tracing::debug!(container = %name, %error, "its shim goes on");
        }
        match joined {
            Err(error) if is_taken(&error) => self.join_without_strays(plan).await?,
            joined => joined?,
        }
        completed?;
        containers.start(name).await?;
        Ok(())
    }

    /// Repairs a container in place: interfaces, limits, names, the shim's rules.
    pub async fn update_container(&self, plan: &ContainerPlan<'_>) -> Result<(), ApplyError> {
        self.join_network(plan).await?;
        Ok(self.observer.containers.update(&self.new_container(plan)).await?)
    }

    /// Stops a container, completes what it lacks, and starts it again.
    pub async fn restart_container(&self, plan: &ContainerPlan<'_>) -> Result<(), ApplyError> {
        self.observer.containers.stop(plan.name, None).await?;
        fail_point!("container.stopped");
        self.observer.containers.unmount(plan.name).await?;
        self.start_container(plan).await
    }

    /// Removes a container with its namespace, interfaces, mounts, cgroups and directories.
    pub async fn remove_container(&self, name: &Name) -> Result<(), ApplyError> {
        self.observer.containers.remove(name).await?;
        fail_point!("container.removed");
        Ok(self.observer.networks.remove_namespace(name).await?)
    }

    /// Joins after ending what is left of the container in a namespace that is pinned no more: its interfaces there have their
    /// hardware addresses still, until the kernel has cleared the namespace away.
    async fn join_without_strays(&self, plan: &ContainerPlan<'_>) -> Result<(), ApplyError> {
        self.observer.containers.end_stray(plan.name).await?;
        let deadline = Instant::now() + STRAY_PATIENCE;
        loop {
            match self.join_network(plan).await {
                Err(error) if is_taken(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(STRAY_PAUSE).await;
                }
                joined => return joined,
            }
        }
    }

    /// Makes, completes or repairs a container's own network namespace, where it is to have one.
    async fn join_network(&self, plan: &ContainerPlan<'_>) -> Result<(), ApplyError> {
        match &plan.spec.network_mode {
            Some(NetworkMode::Host | NetworkMode::Container(_)) => Ok(()),
            None | Some(NetworkMode::None) => {
                self.observer.networks.join(plan.name, plan.endpoints).await?;
                Ok(())
            }
        }
    }

    fn new_container<'a>(&self, plan: &ContainerPlan<'a>) -> NewContainer<'a> {
        let namespace_of = |holder| NetworkJoin::Namespace(self.observer.paths.network_namespace(holder));
        let network = match &plan.spec.network_mode {
            Some(NetworkMode::Host) => NetworkJoin::Host,
            Some(NetworkMode::Container(next)) => namespace_of(plan.namespace_of.unwrap_or(next)),
            None | Some(NetworkMode::None) => namespace_of(plan.name),
        };
        NewContainer {
            name: plan.name,
            spec: plan.spec,
            image: plan.image,
            lower: self.observer.store.layer_directories(plan.image),
            network,
            hosts: plan.hosts,
        }
    }
}

/// Tells whether an interface could not be made because another link has its hardware address.
fn is_taken(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Network(NetworkError::Link { source, .. }) if source.kind() == io::ErrorKind::AddrInUse)
}
