//! Carries out a plan: look, plan, write the ledger, do, report.
//!
//! One pass goes through three phases: deletions (containers before what they use), the firewall's one transaction,
//! then everything that is made or repaired, side by side along the plan's order. What is to be done was decided by the
//! planner; here is only the order of writes that keeps a kill at any instant harmless.

mod conditions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_host::image::Progress;
use evenkeel_host::{Applier, ApplyError, ContainerPlan, Known, error_chain};
use evenkeel_plan::{
    Action, Desired, Key, Kind, Name, Observed, ObservedImage, ObservedNetwork, Options, Outcome, Plan, Remedy, Report,
    Sight, Step, Why, plan,
};
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};

use crate::fetch::{Fetches, Patience};
use crate::ledger::{Intents, Lease, Ledger, LedgerError, Seen, Settled, Settler, Stated, Subject};
use crate::report;
use crate::schedule::{self, NotDone};
use crate::session::{LockedSession, SessionError};

/// Steps carried out side by side.
const WIDTH: usize = 32;
/// Deletions side by side: they mostly wait, and the kernel ends many namespaces at the price of one.
const DELETION_WIDTH: usize = 256;

/// Told of every step as it happens.
pub trait Events: Send + Sync {
    fn planned(&self, _plan: &Plan) {}
    fn started(&self, _key: &Key, _deed: Deed) {}
    fn finished(&self, _key: &Key, _deed: Deed, _outcome: &Outcome, _took: Duration) {}
    /// Where the progress of downloads goes.
    fn progress(&self) -> &dyn Progress;
}

/// How a pass is made.
#[derive(Clone, Debug)]
pub struct Manner {
    pub options: Options,
    pub patience: Patience,
    /// Objects that are not tried in this pass, with what came of them last.
    pub resting: BTreeMap<Key, Outcome>,
}

impl Manner {
    /// Everything is tried and waited for: a person asked.
    pub fn asked(options: Options) -> Self {
        Manner { options, patience: Patience::Whole, resting: BTreeMap::new() }
    }
}

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deed {
    Create,
    Update,
    Replace,
    Delete,
}

impl LockedSession {
    /// Makes the host as desired, as far as nothing stands in the way, and reports what came of it.
    ///
    /// With a limited patience, what takes longer than that is `Blocked` by what it waits for and goes on by itself.
    ///
    /// # Errors
    /// Only what stops the pass as a whole: the ledger cannot be written. A failed step is an outcome in the report.
    pub async fn apply(
        &self,
        desired: &Desired,
        manner: &Manner,
        events: Arc<dyn Events>,
    ) -> Result<Report, SessionError> {
        let known = self.known()?;
        let observed = self.observer().observe(desired, &known).await;
        let plan = plan(desired, &observed, &manner.options);
        events.planned(&plan);
        let mut report = Report {
            source: desired.source.clone(),
            complete: plan.complete(),
            problems: plan.problems().collect(),
            plan,
            outcomes: BTreeMap::new(),
        };
        let earlier = self.ledger.source()?;
        // What differs from manifests that did not change came from outside: that is history even if it is repaired.
        if earlier.as_ref().is_some_and(|earlier| earlier.revision == desired.source.revision) {
            let seen = report::seen(&report.plan);
            self.record_drift(&mut report, seen);
        }
        if earlier.as_ref() != Some(&desired.source) {
            self.ledger.set_source(&desired.source)?;
        }
        let pass = Arc::new(Pass::new(self, desired, known, &observed, report.plan.clone(), manner, events));
        // Also where there is nothing to do: a policy that changed needs no deed, only to be known.
        pass.record_intents()?;
        fail_point!("pass.intended");
        if report.plan.has_work() {
            report = self.carry_out(&pass, report).await;
        }
        // What cannot be collected now costs room, nothing else.
        if let Err(error) = self.applier.collect_images().await {
            tracing::warn!("the image store is not cleared of garbage yet: {}", error_chain(&error));
        }
        if let Err(error) = self.applier.keep_sight() {
            tracing::debug!(%error, "the next pass lists the firewall's table once more");
        }
        let left = report::seen(&report.plan).into_iter().filter(|seen| !is_repaired(seen, &report)).collect();
        self.record_drift(&mut report, left);
        fail_point!("pass.ended");
        Ok(report)
    }

    async fn carry_out(&self, pass: &Arc<Pass>, mut report: Report) -> Report {
        let deleted = pass.delete().await;
        fail_point!("pass.deleted");
        if report.plan.firewall_differs
            && let Err(error) = self.applier.apply_firewall(&report.plan.firewall).await
        {
            report.problems.push(format!("firewall: {}", error_chain(&error)));
        }
        fail_point!("pass.firewalled");
        report.outcomes = Pass::make(pass, deleted).await;
        report
    }

    /// Records what differs, so that a later report can say since when. A disk without room for history is a problem to tell and
    /// no reason to leave the host as it is.
    fn record_drift(&self, report: &mut Report, seen: BTreeSet<Seen>) {
        let (blind, now) = (report::blind(&report.plan), report::Clock::now().timestamp());
        let recorded = self.ledger.record_drift(&seen, &blind, &now);
        if let Err(error) = recorded {
            report.problems.push(error_chain(&error));
        }
    }
}

/// Tells whether a pass did away with a difference.
fn is_repaired(seen: &Seen, report: &Report) -> bool {
    match &seen.subject {
        Subject::Object(key) => report.outcomes.get(key) == Some(&Outcome::Applied),
        // A pass replaces it unless it says what stood in the way.
        Subject::Firewall => report.problems.is_empty(),
    }
}

/// Everything that the steps of one pass share.
struct Pass {
    applier: Applier,
    ledger: Arc<Ledger>,
    settler: Settler,
    desired: Desired,
    /// Networks as they were applied last, for those whose manifest went.
    last_applied: Desired,
    /// Objects that a manifest stated at the last pass.
    last_wanted: BTreeSet<Key>,
    leases: BTreeMap<Name, BTreeMap<Name, BTreeSet<IpAddr>>>,
    plan: Plan,
    actions: BTreeMap<Key, Action>,
    /// Networks that are there and that evenkeel did not make.
    foreign_networks: BTreeSet<Name>,
    /// Images by name: those found, then those fetched.
    images: Mutex<BTreeMap<Name, ObservedImage>>,
    fetches: Arc<Fetches>,
    patience: Patience,
    resting: BTreeMap<Key, Outcome>,
    events: Arc<dyn Events>,
}

impl Pass {
    fn new(
        session: &LockedSession,
        desired: &Desired,
        known: Known,
        observed: &Observed,
        plan: Plan,
        manner: &Manner,
        events: Arc<dyn Events>,
    ) -> Pass {
        let is_foreign = |sight: &Sight<ObservedNetwork>| matches!(sight, Sight::Found { owned: false, .. });
        let foreign = observed.networks.iter().filter(|(_, sight)| is_foreign(sight)).map(|(name, _)| name.clone());
        let found = observed.images.iter().filter_map(|(name, sight)| Some((name.clone(), sight.found()?.clone())));
        Pass {
            applier: session.applier.clone(),
            ledger: Arc::clone(&session.ledger),
            settler: Settler::new(Arc::clone(&session.ledger)),
            desired: desired.clone(),
            last_applied: known.last_applied,
            last_wanted: known.wanted,
            leases: known.leases,
            actions: plan
                .steps
                .iter()
                .filter(|step| !manner.resting.contains_key(&step.key))
                .map(|step| (step.key.clone(), step.action.clone()))
                .collect(),
            plan,
            foreign_networks: foreign.collect(),
            images: Mutex::new(found.collect()),
            fetches: Arc::clone(&session.fetches),
            patience: manner.patience,
            resting: manner.resting.clone(),
            events,
        }
    }

    /// Writes every intent before the first deed, so that nothing made is ever unknown.
    fn record_intents(&self) -> Result<(), LedgerError> {
        let mut intents = Intents::default();
        for (key, action) in &self.actions {
            match action {
                // A container that cannot be made yet is wanted all the same: `drift` must know of it.
                Action::Hold(Why::Conflict { .. } | Why::Unreadable { .. })
                    if key.kind != Kind::Container || self.last_applied.contains(key) => {}
                // Repaired to what it was: the ledger knows it, and nothing that it does not know is made.
                Action::Update(_) if self.is_as_applied(key) => {}
                Action::Create
                | Action::Update(_)
                | Action::Replace(_)
                | Action::Hold(Why::Conflict { .. } | Why::Unreadable { .. }) => {
                    intents.begun.extend(self.stated(key));
                }
                // In sync already; the ledger follows a manifest that changed without the host having to.
                Action::Keep => intents.kept.extend(self.stated(key)),
                Action::Delete => intents.leaving.push(key.clone()),
                Action::Hold(Why::Kept) if self.last_wanted.contains(key) => intents.released.push(key.clone()),
                Action::Hold(_) => {}
            }
        }
        for (container, endpoints) in self.plan.endpoints.iter().filter(|(container, _)| self.is_made(container)) {
            let held = self.leases.get(container);
            let leases = endpoints.iter().map(|endpoint| Lease {
                container: container.clone(),
                network: endpoint.network.clone(),
                addresses: endpoint.leased.iter().copied().collect(),
            });
            let is_news = |lease: &Lease| {
                held.and_then(|held| held.get(&lease.network))
                    .map_or(!lease.addresses.is_empty(), |held| *held != lease.addresses)
            };
            intents.leases.extend(leases.filter(is_news));
        }
        self.ledger.intend(&intents)?;
        fail_point!("pass.begun");
        Ok(())
    }

    /// Tells whether an object's manifest is the one that was applied last.
    fn is_as_applied(&self, key: &Key) -> bool {
        let (now, last, name) = (&self.desired, &self.last_applied, &key.name);
        match key.kind {
            Kind::Image => now.images.get(name) == last.images.get(name),
            Kind::Volume => now.volumes.get(name) == last.volumes.get(name),
            Kind::Network => now.networks.get(name) == last.networks.get(name),
            Kind::Container => now.containers.get(name) == last.containers.get(name),
        }
    }

    fn is_made(&self, container: &Name) -> bool {
        let action = self.actions.get(&Key::new(Kind::Container, container.clone()));
        matches!(action, Some(Action::Create | Action::Update(_) | Action::Replace(_)))
    }

    fn stated(&self, key: &Key) -> Option<Stated> {
        let object = match key.kind {
            Kind::Image => serde_json::to_value(self.desired.images.get(&key.name)?),
            Kind::Volume => serde_json::to_value(self.desired.volumes.get(&key.name)?),
            Kind::Network => serde_json::to_value(self.desired.networks.get(&key.name)?),
            Kind::Container => serde_json::to_value(self.desired.containers.get(&key.name)?),
        };
        // The types hold only maps with text keys, which JSON always takes.
        Some(Stated { key: key.clone(), object: object.ok()?, file: self.desired.files.get(key).cloned() })
    }

    /// Deletes what is to go, and what is to be made anew: dependants first.
    async fn delete(self: &Arc<Self>) -> BTreeMap<Key, Outcome> {
        let going: BTreeSet<&Key> = self
            .actions
            .iter()
            .filter(|(key, action)| match action {
                Action::Delete => true,
                // An image is replaced by fetching it: containers of the old one keep its layers until then.
                Action::Replace(_) => key.kind != Kind::Image,
                _ => false,
            })
            .map(|(key, _)| key)
            .collect();
        let graph = going
            .iter()
            .map(|key| {
                let users = going.iter().filter(|user| self.uses(user, key)).map(|user| (*user).clone());
                ((*key).clone(), users.collect())
            })
            .collect();
        let pass = Arc::clone(self);
        schedule::run(&graph, &BTreeMap::new(), DELETION_WIDTH, |key| {
            let pass = Arc::clone(&pass);
            async move {
                let deleting = matches!(pass.actions.get(&key), Some(Action::Delete));
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

    /// Tells whether `user` must be gone before `used` can go.
    fn uses(&self, user: &Key, used: &Key) -> bool {
        if user.kind != Kind::Container || user == used {
            return false;
        }
        let Some(object) =
            self.last_applied.containers.get(&user.name).or_else(|| self.desired.containers.get(&user.name))
        else {
            // Unknown to us: everything else waits for it.
            return used.kind != Kind::Container;
        };
        let spec = &object.spec;
        match used.kind {
            Kind::Image => true,
            Kind::Network => spec.networks.iter().any(|attachment| attachment.name == used.name),
            Kind::Volume => spec.mounts.iter().any(
                |mount| matches!(&mount.source, evenkeel_schema::MountSource::Volume(volume) if *volume == used.name),
            ),
            Kind::Container => {
                let shares = matches!(&spec.network_mode, Some(evenkeel_schema::NetworkMode::Container(other)) if *other == used.name);
                shares || spec.depends_on.iter().any(|dependency| dependency.container == used.name)
            }
        }
    }

    async fn delete_one(&self, key: &Key, forget: bool) -> Result<(), NotDone> {
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

    /// Makes and repairs, side by side along the plan's order.
    async fn make(pass: &Arc<Self>, deleted: BTreeMap<Key, Outcome>) -> BTreeMap<Key, Outcome> {
        let mut graph = BTreeMap::new();
        let mut outcomes = deleted;
        let has_work = |step: &&Step| !matches!(step.action, Action::Keep | Action::Hold(_));
        for step in pass.plan.steps.iter().filter(has_work) {
            if let Some(outcome) = pass.resting.get(&step.key) {
                outcomes.insert(step.key.clone(), outcome.clone());
            }
        }
        for step in &pass.plan.steps {
            let makes = matches!(step.action, Action::Create | Action::Update(_) | Action::Replace(_));
            let gone = matches!(outcomes.get(&step.key), None | Some(Outcome::Applied));
            // A replacement whose deletion failed keeps that outcome.
            if makes && gone && !pass.resting.contains_key(&step.key) {
                graph.insert(step.key.clone(), step.after.clone());
            }
        }
        let made = schedule::run(&graph, &outcomes, WIDTH, |key| {
            let pass = Arc::clone(pass);
            async move {
                let deed = match pass.actions.get(&key) {
                    Some(Action::Create) => Deed::Create,
                    Some(Action::Replace(_)) => Deed::Replace,
                    _ => Deed::Update,
                };
                let started = Instant::now();
                pass.events.started(&key, deed);
                let result = pass.make_one(&key).await;
                pass.finished(&key, deed, &result, started);
                result
            }
        })
        .await;
        for (key, outcome) in &made {
            if let Outcome::Blocked { .. } = outcome {
                pass.events.finished(key, Deed::Create, outcome, Duration::ZERO);
            }
        }
        outcomes.extend(made);
        outcomes
    }

    fn finished(&self, key: &Key, deed: Deed, result: &Result<(), NotDone>, started: Instant) {
        let outcome = result.clone().map_or_else(Outcome::from, |()| Outcome::Applied);
        self.events.finished(key, deed, &outcome, started.elapsed());
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
            Kind::Container => {
                self.wait_for_conditions(key).await?;
                self.make_container(key).await?
            }
        };
        made.map_err(|error| error_chain(&error))?;
        fail_point!("step.made");
        Ok(self.settler.settle(Settled::Applied(key.clone())).await?)
    }

    /// Tells whether the plan takes over what evenkeel did not make: where it would leave that alone, it does not work on it.
    fn adopts(&self, key: &Key) -> bool {
        let is_worked_on = matches!(self.actions.get(key), Some(Action::Update(_) | Action::Replace(_)));
        is_worked_on && self.foreign_networks.contains(&key.name)
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
        let drifts = match self.actions.get(key) {
            Some(Action::Update(drifts)) => drifts.as_slice(),
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
