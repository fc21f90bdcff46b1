//! Making and repairing, side by side along the plan's order, with the deletions that wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use evenkeel_host::{ApplyError, ContainerPlan, error_chain};
use evenkeel_plan::{Action, Key, Kind, Name, Outcome, Remedy, Step};
use evenkeel_shim::fail_point;

use super::{Deed, Pass};
use crate::ledger::Settled;
use crate::schedule::{self, NotDone};

impl Pass {
    /// Makes and repairs, and deletes what has to be left first.
    pub(super) async fn make(pass: &Arc<Self>, deleted: BTreeMap<Key, Outcome>) -> BTreeMap<Key, Outcome> {
        let mut outcomes = deleted;
        let has_work = |step: &&Step| !matches!(step.action, Action::Keep | Action::Hold(_));
        for step in pass.plan.steps.iter().filter(has_work) {
            if let Some(outcome) = pass.resting.get(&step.key) {
                outcomes.insert(step.key.clone(), outcome.clone());
            }
        }
        let mut graph = BTreeMap::new();
        for step in pass.tried() {
            let makes = matches!(step.action, Action::Create | Action::Update(_) | Action::Replace(_));
            let gone = matches!(outcomes.get(&step.key), None | Some(Outcome::Applied));
            // A replacement whose deletion failed keeps that outcome.
            if makes && gone {
                graph.insert(step.key.clone(), step.after.clone());
            }
        }
        for (key, after) in &pass.deletions.late {
            // Whatever came of it last, it has not left this time.
            match after.iter().find(|before| pass.resting.contains_key(*before)) {
                Some(by) => drop(outcomes.insert(key.clone(), Outcome::Blocked { by: by.clone() })),
                None => drop(graph.insert(key.clone(), after.clone())),
            }
        }
        // All that are ready are begun, since those that wait for others take no slot; what is begun is small until it has one.
        let made = schedule::run(&graph, &outcomes, graph.len(), |key| {
            let pass = Arc::clone(pass);
            async move {
                let ready = Box::pin(pass.wait_for_conditions(&key)).await;
                // Never closed: an error would be none.
                let _slot = pass.slots.acquire().await;
                Box::pin(pass.carry_out(&key, ready)).await
            }
        })
        .await;
        outcomes.extend(made);
        outcomes
    }

    /// Carries out one step and tells of it. `ready` is what came of waiting for its conditions.
    async fn carry_out(&self, key: &Key, ready: Result<(), NotDone>) -> Result<(), NotDone> {
        let deed = match self.step(key).map(|step| &step.action) {
            Some(Action::Create) => Deed::Create,
            Some(Action::Replace(_)) => Deed::Replace,
            Some(Action::Delete) => Deed::Delete,
            _ => Deed::Update,
        };
        let started = Instant::now();
        self.events.started(key, deed);
        let result = match (ready, deed) {
            (Err(not_ready), _) => Err(not_ready),
            (Ok(()), Deed::Delete) => self.delete_one(key, true).await,
            (Ok(()), Deed::Create | Deed::Update | Deed::Replace) => self.make_one(key).await,
        };
        self.finished(key, deed, &result, started);
        result
    }

    async fn make_one(&self, key: &Key) -> Result<(), NotDone> {
        fail_point!("step.begun");
        let name = &key.name;
        let made = match key.kind {
            Kind::Image => {
                self.fetch_image(name).await?;
                Ok(())
            }
            Kind::Volume => match self.desired.volumes.get(name) {
                Some(object) => self.applier.ensure_volume(name, &object.spec).await,
                None => Ok(()),
            },
            Kind::Network => match self.desired.networks.get(name) {
                Some(object) if self.adopts(key) => self.applier.adopt_network(name, &object.spec).await,
                Some(object) => self.applier.ensure_network(name, &object.spec).await,
                None => Ok(()),
            },
            Kind::Container => self.make_container(key).await?,
        };
        made.map_err(|error| error_chain(&error))?;
        fail_point!("step.made");
        Ok(self.settler.settle(Settled::Applied(key.clone())).await?)
    }

    /// Tells whether the plan takes over what evenkeel did not make: where it would leave that alone, it does not work on it.
    fn adopts(&self, key: &Key) -> bool {
        let is_worked_on = |step: &Step| matches!(step.action, Action::Update(_) | Action::Replace(_));
        self.step(key).is_some_and(is_worked_on) && self.foreign_networks.contains(&key.name)
    }

    async fn fetch_image(&self, name: &Name) -> Result<(), NotDone> {
        let Some(object) = self.desired.images.get(name) else { return Ok(()) };
        let fetch = self.fetches.fetch(&self.applier, name, &object.spec, &self.events, self.patience);
        let image = fetch.await?;
        self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), image);
        Ok(())
    }

    /// Makes, repairs or restarts one container. The outer error is ours, the inner one the host's.
    async fn make_container(&self, key: &Key) -> Result<Result<(), ApplyError>, String> {
        let name = &key.name;
        let Some(object) = self.desired.containers.get(name) else { return Ok(Ok(())) };
        let image_name = self.desired.image_of(&object.spec);
        let image_name = image_name.ok_or_else(|| format!("no image `{}` is desired", object.spec.image))?;
        let image = self.images.lock().unwrap_or_else(PoisonError::into_inner).get(image_name).cloned();
        let image = image.ok_or_else(|| format!("image {image_name} is not in the store"))?;
        let hosts = self.plan.hosts.of(name);
        let endpoints = self.plan.endpoints.get(name).map(Vec::as_slice).unwrap_or_default();
        let namespace_of = evenkeel_plan::namespace_holder(&self.desired, name, &object.spec);
        let plan = ContainerPlan { name, spec: &object.spec, image: &image, endpoints, hosts: &hosts, namespace_of };
        let drifts = match self.step(key).map(|step| &step.action) {
            Some(Action::Update(drifts)) => drifts,
            _ => return Ok(self.applier.start_container(&plan).await),
        };
        Ok(match drifts.iter().map(|drift| drift.remedy).max() {
            None | Some(Remedy::Live) => self.applier.update_container(&plan).await,
            // Whoever started it in the meantime is not undone by a stop.
            Some(Remedy::Start) => self.applier.start_container(&plan).await,
            Some(Remedy::Restart | Remedy::Replace | Remedy::DataLoss) => self.applier.restart_container(&plan).await,
        })
    }
}
