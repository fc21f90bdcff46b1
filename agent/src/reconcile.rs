//! Carries out a plan: look, plan, write the ledger, do, report.
//!
//! One pass goes through three phases: deletions (containers before what they use), the firewall's one transaction,
//! then everything that is made or repaired, side by side along the plan's order, with the deletions of what has to be
//! left first. What is to be done was decided by the planner; here is only the order of writes that keeps a kill at any
//! instant harmless.

mod conditions;
mod intents;
mod make;
mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel_host::image::Progress;
use evenkeel_host::{Applier, Known, error_chain};
use evenkeel_plan::{
    Action, Desired, Key, Kind, Name, Observed, ObservedImage, ObservedNetwork, Options, Outcome, Plan, Report, Sight,
    Step, plan,
};
use evenkeel_schema::ImageSpec;
use evenkeel_shim::fail_point;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::fetch::{Fetches, Patience};
use crate::ledger::{Ledger, Seen, Settler, Subject};
use crate::report;
use crate::schedule::NotDone;
use crate::session::{LockedSession, Remembered, SessionError};
use conditions::Waits;
use remove::Deletions;

/// Steps carried out side by side.
const WIDTH: usize = 32;

/// Told of every step as it happens.
pub trait Events: Send + Sync {
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
        desired: &Arc<Desired>,
        manner: &Manner,
        events: Arc<dyn Events>,
    ) -> Result<Report, SessionError> {
        self.applier.ready();
        let remembered = self.remembered()?;
        let observed = self.observer().observe(desired, &remembered.known).await;
        let plan = Arc::new(plan(desired, &observed, &manner.options));
        let mut problems: Vec<String> = plan.problems().collect();
        self.forget_fetches(desired, &plan);
        let earlier = self.ledger.source()?;
        let seen = seen(&plan, &remembered.known);
        // What differs from manifests that did not change came from outside: that is history even if it is repaired.
        if earlier.as_ref().is_some_and(|earlier| earlier.revision == desired.source.revision) {
            problems.extend(self.record_drift(&plan, &seen));
        }
        if earlier.as_ref() != Some(&desired.source) {
            self.ledger.set_source(&desired.source)?;
        }
        let pass = Arc::new(Pass::new(self, desired, remembered, &observed, &plan, manner, events));
        // Also where there is nothing to do: a policy that changed needs no deed, only to be known.
        pass.record_intents()?;
        fail_point!("pass.intended");
        let done = if plan.has_work() { self.carry_out(&pass).await } else { Done::default() };
        drop(pass);
        self.applier.unready().await;
        // What cannot be collected now costs room, nothing else.
        if let Err(error) = self.applier.collect_images().await {
            tracing::warn!("the image store is not cleared of garbage yet: {}", error_chain(&error));
        }
        if let Err(error) = self.applier.keep_sight() {
            tracing::debug!(%error, "the next pass lists the firewall's table once more");
        }
        let left: BTreeSet<Seen> = seen.into_iter().filter(|seen| !done.has_repaired(seen, manner)).collect();
        problems.extend(done.firewall_problem);
        problems.extend(self.record_drift(&plan, &left));
        fail_point!("pass.ended");
        Ok(Report {
            source: desired.source.clone(),
            complete: plan.complete(),
            plan: Arc::unwrap_or_clone(plan),
            outcomes: done.outcomes,
            problems,
        })
    }

    async fn carry_out(&self, pass: &Arc<Pass>) -> Done {
        let deleted = pass.delete().await;
        fail_point!("pass.deleted");
        let mut firewall_problem = None;
        if pass.plan.firewall_differs
            && let Err(error) = self.applier.apply_firewall(&pass.plan.firewall).await
        {
            firewall_problem = Some(format!("firewall: {}", error_chain(&error)));
        }
        fail_point!("pass.firewalled");
        let starts = |step: &&Step| {
            step.key.kind == Kind::Container
                && matches!(step.action, Action::Create | Action::Update(_) | Action::Replace(_))
        };
        self.applier.expect_starts(pass.tried().filter(starts).count());
        let outcomes = Pass::make(pass, deleted).await;
        self.applier.end_of_starts();
        Done { outcomes, firewall_problem }
    }

    /// Records what differs, so that a later report can say since when. A disk without room for history is a problem to tell and
    /// no reason to leave the host as it is.
    fn record_drift(&self, plan: &Plan, seen: &BTreeSet<Seen>) -> Option<String> {
        let recorded = self.ledger.record_drift(seen, &report::blind(plan), &report::Clock::now().timestamp());
        recorded.err().map(|error| error_chain(&error))
    }

    /// Forgets what was fetched for a plan of before: an image of it may have gone again meanwhile.
    fn forget_fetches(&self, desired: &Desired, plan: &Plan) {
        let fetches = |step: &&Step| {
            step.key.kind == Kind::Image
                && matches!(step.action, Action::Create | Action::Update(_) | Action::Replace(_))
        };
        let wanted: BTreeSet<&Name> = plan.steps.iter().filter(fetches).map(|step| &step.key.name).collect();
        let is_wanted = |name: &Name, spec: &ImageSpec| {
            wanted.contains(name) && desired.images.get(name).is_some_and(|object| object.spec == *spec)
        };
        self.fetches.forget_ended(is_wanted);
    }
}

/// Lists what differs, less what no manifest wanted before: `start` looks at what is only kept, and that is no drift.
fn seen(plan: &Plan, known: &Known) -> BTreeSet<Seen> {
    let is_kept = |key: &Key| known.ledger.contains_key(key) && !known.wanted.contains(key);
    let mut seen = report::seen(plan);
    seen.retain(|seen| !matches!(&seen.subject, Subject::Object(key) if is_kept(key)));
    seen
}

/// What came of the steps of a pass.
#[derive(Default)]
struct Done {
    outcomes: BTreeMap<Key, Outcome>,
    /// Why the firewall's table is not as it should be.
    firewall_problem: Option<String>,
}

impl Done {
    /// Tells whether a difference was done away with. What rested has an outcome too, that of its last try.
    fn has_repaired(&self, seen: &Seen, manner: &Manner) -> bool {
        match &seen.subject {
            Subject::Object(key) => {
                !manner.resting.contains_key(key) && self.outcomes.get(key) == Some(&Outcome::Applied)
            }
            Subject::Firewall => self.firewall_problem.is_none(),
        }
    }
}

/// Everything that the steps of one pass share.
struct Pass {
    applier: Applier,
    ledger: Ledger,
    settler: Settler,
    desired: Arc<Desired>,
    known: Known,
    /// Objects that were applied to the end.
    applied: BTreeSet<Key>,
    plan: Arc<Plan>,
    /// Where in the plan the steps are that are tried.
    places: BTreeMap<Key, usize>,
    deletions: Deletions,
    /// Networks that are there and that evenkeel did not make.
    foreign_networks: BTreeSet<Name>,
    /// Images by name: those found, then those fetched.
    images: Mutex<BTreeMap<Name, ObservedImage>>,
    fetches: Arc<Fetches>,
    patience: Patience,
    resting: BTreeMap<Key, Outcome>,
    waits: Waits,
    slots: Semaphore,
    events: Arc<dyn Events>,
}

impl Pass {
    fn new(
        session: &LockedSession,
        desired: &Arc<Desired>,
        remembered: Remembered,
        observed: &Observed,
        plan: &Arc<Plan>,
        manner: &Manner,
        events: Arc<dyn Events>,
    ) -> Pass {
        let is_foreign = |sight: &Sight<ObservedNetwork>| matches!(sight, Sight::Found { owned: false, .. });
        let foreign = observed.networks.iter().filter(|(_, sight)| is_foreign(sight)).map(|(name, _)| name.clone());
        let found = observed.images.iter().filter_map(|(name, sight)| Some((name.clone(), sight.found()?.clone())));
        let places = plan.steps.iter().enumerate().map(|(place, step)| (step.key.clone(), place));
        Pass {
            applier: session.applier.clone(),
            ledger: session.ledger.clone(),
            settler: Settler::new(session.ledger.clone()),
            desired: Arc::clone(desired),
            known: remembered.known,
            applied: remembered.applied,
            plan: Arc::clone(plan),
            places: places.filter(|(key, _)| !manner.resting.contains_key(key)).collect(),
            deletions: Deletions::of(plan, observed, &manner.resting),
            foreign_networks: foreign.collect(),
            images: Mutex::new(found.collect()),
            fetches: Arc::clone(&session.fetches),
            patience: manner.patience,
            resting: manner.resting.clone(),
            waits: Waits::default(),
            slots: Semaphore::new(WIDTH),
            events,
        }
    }

    /// Lists the steps that are tried in this pass, in the plan's order.
    fn tried(&self) -> impl Iterator<Item = &Step> {
        self.plan.steps.iter().filter(|step| !self.resting.contains_key(&step.key))
    }

    /// Gives the step of an object, where it is tried in this pass.
    fn step(&self, key: &Key) -> Option<&Step> {
        self.plan.steps.get(*self.places.get(key)?)
    }

    fn finished(&self, key: &Key, deed: Deed, result: &Result<(), NotDone>, started: Instant) {
        let outcome = result.clone().map_or_else(Outcome::from, |()| Outcome::Applied);
        self.events.finished(key, deed, &outcome, started.elapsed());
    }
}
