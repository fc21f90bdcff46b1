//! Deletions: which come before anything is made, and which wait for a repair.
//!
//! Addresses, names and ports are freed first. But what a container still uses that is about to leave it goes only after
//! the container has: were its new network to fail, it would be left with none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use evenkeel_host::error_chain;
use evenkeel_plan::{Action, Key, Kind, Observed, Outcome, Plan};
use evenkeel_schema::{ContainerSpec, MountSource, NetworkMode};
use evenkeel_shim::fail_point;

use super::{Deed, Pass};
use crate::ledger::Settled;
use crate::schedule::{self, NotDone};

/// Deletions side by side: they mostly wait, and the kernel ends many namespaces at the price of one.
const DELETION_WIDTH: usize = 256;

/// What goes, each with what must be gone or repaired before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Deletions {
    /// Before anything is made: what is to go, and what is to be made anew.
    pub early: BTreeMap<Key, BTreeSet<Key>>,
    /// Among what is made: what something else has to leave first.
    pub late: BTreeMap<Key, BTreeSet<Key>>,
}

impl Deletions {
    /// Divides the deletions of a plan, less those of `resting` objects.
    pub(super) fn of(plan: &Plan, observed: &Observed, resting: &BTreeMap<Key, Outcome>) -> Deletions {
        let mut deletions = Deletions::default();
        for step in plan.steps.iter().filter(|step| !resting.contains_key(&step.key)) {
            let key = step.key.clone();
            match &step.action {
                // An image is replaced by fetching it: containers of the old one keep its layers until then.
                Action::Replace(_) if key.kind != Kind::Image => drop(deletions.early.insert(key, BTreeSet::new())),
                // Steps come after those they name, so that these are divided already.
                Action::Delete => {
                    let is_early = step.after.iter().all(|before| deletions.early.contains_key(before));
                    let side = if is_early { &mut deletions.early } else { &mut deletions.late };
                    side.insert(key, step.after.clone());
                }
                Action::Keep | Action::Create | Action::Update(_) | Action::Replace(_) | Action::Hold(_) => {}
            }
        }
        // The plan orders what is made anew by what it needs; its old form goes the other way round.
        for (name, container) in &observed.containers {
            let user = Key::new(Kind::Container, name.clone());
            let Some(container) = container.found().filter(|_| deletions.early.contains_key(&user)) else { continue };
            for used in used_by(&container.spec) {
                if let Some(before) = deletions.early.get_mut(&used).filter(|_| used != user) {
                    before.insert(user.clone());
                }
            }
        }
        deletions
    }
}

/// Lists what a container of this manifest has hold of, less its image.
fn used_by(spec: &ContainerSpec) -> BTreeSet<Key> {
    let networks = spec.networks.iter().map(|attachment| Key::new(Kind::Network, attachment.name.clone()));
    let volumes = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(Key::new(Kind::Volume, name.clone())),
        MountSource::Bind { .. } | MountSource::Tmpfs { .. } => None,
    });
    let joined = match &spec.network_mode {
        Some(NetworkMode::Container(name)) => Some(name),
        _ => None,
    };
    let containers = spec.depends_on.iter().map(|dependency| &dependency.container).chain(joined);
    let containers = containers.map(|name| Key::new(Kind::Container, name.clone()));
    networks.chain(volumes).chain(containers).collect()
}

impl Pass {
    /// Deletes what stands in nobody's way, and what is to be made anew: dependants first.
    pub(super) async fn delete(self: &Arc<Self>) -> BTreeMap<Key, Outcome> {
        let pass = Arc::clone(self);
        schedule::run(&self.deletions.early, &BTreeMap::new(), DELETION_WIDTH, |key| {
            let pass = Arc::clone(&pass);
            async move {
                let deleting = pass.step(&key).is_some_and(|step| step.action == Action::Delete);
                let deed = if deleting { Deed::Delete } else { Deed::Replace };
                let started = Instant::now();
                pass.events.started(&key, deed);
                let result = pass.delete_one(&key, deleting).await;
                if deleting || result.is_err() {
                    pass.finished(&key, deed, &result, started);
                }
                result
            }
        })
        .await
    }

    pub(super) async fn delete_one(&self, key: &Key, forget: bool) -> Result<(), NotDone> {
        let applier = &self.applier;
        let deleted = match key.kind {
            Kind::Container => applier.remove_container(&key.name).await,
            Kind::Network => applier.remove_network(&key.name).await,
            // A volume that is replaced loses its data; only a confirmed plan says so.
            Kind::Volume => applier.remove_volume(&key.name).await,
            Kind::Image => applier.remove_image(&key.name).await,
        };
        deleted.map_err(|error| error_chain(&error))?;
        fail_point!("step.deleted");
        if forget {
            self.settler.settle(Settled::Gone(key.clone())).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
