//! One pass after another: read, look, repair, remember, say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_host::error_chain;
use evenkeel_host::image::Progress;
use evenkeel_plan::{Action, Drift, Key, Options, Outcome, Report, Why};
use evenkeel_shim::fail_point;
use time::OffsetDateTime;

use super::AgentOptions;
use super::control::{AgentStatus, LastPass};
use super::pace::Pace;
use super::requests::{ApplyRequest, Relay, SharedStatus};
use crate::fetch::Patience;
use crate::memory;
use crate::reconcile::{Deed, Events, Manner};
use crate::report::{self, Clock};
use crate::session::LockedSession;
use crate::source::{self, Intent};

/// What takes longer goes on beside the following passes, so that repairs do not wait for it.
const PATIENCE: Patience = Patience::Up(Duration::from_millis(500));

/// The state of a running agent between two passes.
pub(super) struct Keeper {
    session: LockedSession,
    options: AgentOptions,
    quiet: Arc<dyn Events>,
    intent: Option<Intent>,
    status: SharedStatus,
    pace: Pace,
    /// Lines already logged, so that what lasts is said once.
    said: BTreeSet<String>,
}

impl Keeper {
    pub(super) fn new(session: LockedSession, options: AgentOptions, quiet: Arc<dyn Events>) -> Keeper {
        let status = AgentStatus {
            pid: std::process::id(),
            manifests: options.manifests.clone(),
            started_at: Clock::now().timestamp(),
            last_pass: None,
            waiting: BTreeMap::new(),
        };
        Keeper {
            session,
            options,
            quiet,
            intent: None,
            status: Arc::new(Mutex::new(status)),
            pace: Pace::default(),
            said: BTreeSet::new(),
        }
    }

    pub(super) fn status(&self) -> SharedStatus {
        Arc::clone(&self.status)
    }

    pub(super) fn manifests(&self) -> &Path {
        &self.options.manifests
    }

    pub(super) fn next_try(&self) -> Option<Instant> {
        self.pace.next()
    }

    pub(super) fn gate(&self, at: Instant) -> Instant {
        self.pace.gate(at)
    }

    /// Tells whether the source was being written when it was read.
    pub(super) fn source_is_in_motion(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.in_motion)
    }

    /// Tries again at once what failed.
    pub(super) fn forget_failures(&mut self) {
        self.pace.start_over();
    }

    /// Says in a line how things stand.
    pub(super) fn status_line(&self) -> String {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match &status.last_pass {
            None => "starting".to_owned(),
            Some(pass) if pass.in_sync && pass.complete => format!("in sync with revision {}", pass.revision),
            Some(pass) if pass.in_sync => format!("revision {}: could not see everything", pass.revision),
            Some(pass) => format!("revision {}: {} problems", pass.revision, pass.problems.len().max(1)),
        }
    }

    /// Makes a pass that nobody asked for.
    pub(super) async fn look(&mut self, reload: bool) {
        // What stood in the way is logged, and in the status.
        let _ = self.pass(reload, None).await;
    }

    /// Makes the pass that is asked for, and answers.
    pub(super) async fn answer(&mut self, request: &ApplyRequest, relay: Relay) {
        match self.refusal(request) {
            Some(message) => relay.refuse(message).await,
            None => {
                let report = self.pass(true, Some((request, relay.clone()))).await;
                relay.end(report).await;
            }
        }
    }

    /// Says why a request cannot be met: the agent keeps the root true to one source only.
    fn refusal(&self, request: &ApplyRequest) -> Option<String> {
        let wanted = request.path.as_ref()?;
        let own = self.options.manifests.canonicalize().unwrap_or_else(|_| self.options.manifests.clone());
        let pid = std::process::id();
        (*wanted != own).then(|| {
            let (own, wanted) = (own.display(), wanted.display());
            format!("the agent (process {pid}) keeps this root true to {own}, not to {wanted}")
        })
    }

    /// Looks, plans and repairs once.
    ///
    /// # Errors
    /// In words, why the pass came to nothing.
    async fn pass(&mut self, reload: bool, request: Option<(&ApplyRequest, Relay)>) -> Result<Report, String> {
        let started = Instant::now();
        let asked = request.as_ref().map(|(request, _)| *request);
        let allow_empty = self.options.allow_empty || asked.is_some_and(|request| request.allow_empty);
        let read = match reload || self.intent.is_none() {
            true => self.read(allow_empty, asked.is_some()).await,
            false => Ok(()),
        };
        let Some(intent) = &self.intent else {
            let why = read.err().unwrap_or_else(|| "the manifests were never read".to_owned());
            return Err(self.fail(why, started.elapsed()));
        };
        let (desired, errors, is_trusted) = (Arc::clone(&intent.desired), intent.errors(), intent.distrust.is_none());
        // A person asks: what failed may go well, and what was pushed just now is meant.
        if asked.is_some() {
            self.pace.start_over();
            self.session.observer().ask_registries_again();
        }
        let options = Options {
            allow_data_loss: asked.is_some_and(|request| request.allow_data_loss),
            prune: !asked.is_some_and(|request| request.no_prune),
        };
        // A person who asked waits for the result; the agent by itself has the next repair to think of.
        let patience = if asked.is_some() { Patience::Whole } else { PATIENCE };
        let manner = Manner { options, patience, resting: self.pace.begin(started) };
        let told: Arc<dyn Events> = match request {
            Some((_, relay)) => Arc::new(relay),
            None => Arc::clone(&self.quiet),
        };
        let times = Arc::new(Times { told, took: Mutex::default() });
        fail_point!("agent.pass");
        match self.session.apply(&desired, &manner, Arc::clone(&times) as Arc<dyn Events>).await {
            Ok(mut report) => {
                report.complete &= is_trusted;
                report.problems.splice(0..0, errors.into_iter().chain(read.err()));
                self.pace.after(&report.outcomes, Instant::now());
                self.pace.after_firewall(report.plan.firewall_differs);
                self.pace.after_look(waits_in_silence(&report), Instant::now());
                self.note(&report, &manner.resting, &times, started.elapsed());
                // Images, many containers: what they took is needed again after days, if ever.
                if report.plan.steps.iter().any(|step| step.action == Action::Create) {
                    memory::give_back();
                }
                Ok(report)
            }
            Err(error) => Err(self.fail(error_chain(&error), started.elapsed())),
        }
    }

    /// Remembers and logs a pass that came to nothing, and gives back why.
    fn fail(&mut self, why: String, took: Duration) -> String {
        self.pace.after_look(true, Instant::now());
        let line = format!("the pass failed: {why}");
        self.say(line.clone());
        let revision = self.intent.as_ref().map(|intent| intent.desired.source.revision.clone());
        self.end(LastPass {
            at: Clock::now().timestamp(),
            revision: revision.unwrap_or_default(),
            milliseconds: milliseconds(took),
            in_sync: false,
            complete: false,
            problems: vec![line],
        });
        why
    }

    /// Puts what came of a pass where whoever asks finds it.
    fn end(&self, pass: LastPass) {
        let now = Instant::now();
        let at = |until: Instant| report::timestamp(OffsetDateTime::now_utc() + until.saturating_duration_since(now));
        let waiting = self.pace.waiting(now).map(|(key, until)| (key.clone(), at(until))).collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.waiting = waiting;
        status.last_pass = Some(pass);
    }

    /// Reads the manifests again.
    ///
    /// # Errors
    /// In words, why those of before stand.
    async fn read(&mut self, allow_empty: bool, asked: bool) -> Result<(), String> {
        let (path, ledger) = (self.options.manifests.clone(), self.session.ledger.clone());
        let read = tokio::task::spawn_blocking(move || match asked {
            true => source::read(&path, Some(&ledger), allow_empty),
            false => source::read_at_rest(&path, &ledger, allow_empty),
        })
        .await;
        match read {
            Ok(Ok(intent)) => {
                // Another manifest may be the cure.
                if self.intent.as_ref().is_none_or(|earlier| earlier.desired != intent.desired) {
                    self.pace.start_over();
                }
                self.intent = Some(intent);
                Ok(())
            }
            Ok(Err(error)) => Err(error_chain(&error)),
            Err(error) => Err(format!("the manifests could not be read: {error}")),
        }
    }

    /// Remembers and logs what came of a pass.
    fn note(&mut self, report: &Report, resting: &BTreeMap<Key, Outcome>, times: &Times, took: Duration) {
        let mut lines: Vec<String> = report.problems.clone();
        let mut restarting = Vec::new();
        for step in &report.plan.steps {
            let key = &step.key;
            if let Action::Hold(why) = &step.action
                && *why != Why::Kept
            {
                lines.push(format!("{key}: held: {}", report::reason(&step.action).unwrap_or_default()));
            }
            if matches!(step.action, Action::Hold(Why::Restarting { .. })) {
                restarting.push(format!("{key}: held: "));
            }
            match report.outcomes.get(key) {
                None => {}
                Some(Outcome::Applied) if resting.contains_key(key) => {
                    lines.push(format!("{key}: its repair does not last"));
                }
                Some(Outcome::Applied) => {
                    tracing::info!("{key}: {} in {} ms", done(&step.action), times.of(key).as_millis());
                }
                Some(Outcome::Failed { error }) => lines.push(format!("{key}: {error}")),
                Some(Outcome::Blocked { by }) if by == key => lines.push(format!("{key}: is being fetched")),
                Some(Outcome::Blocked { by }) => lines.push(format!("{key}: waits for {by}")),
            }
        }
        if report.plan.firewall_differs {
            tracing::info!("firewall: table replaced");
        }
        // What lasts is said once, and again only after it was gone.
        // A container that is started again and again is one matter, however often it is seen in between.
        let lasts = |line: &String| restarting.iter().any(|front| line.starts_with(front));
        self.said.retain(|line| lines.contains(line) || lasts(line));
        for line in &lines {
            self.say(line.clone());
        }
        let failed = report.outcomes.values().any(|outcome| *outcome != Outcome::Applied);
        self.end(LastPass {
            at: Clock::now().timestamp(),
            revision: report.source.revision.clone(),
            milliseconds: milliseconds(took),
            in_sync: !failed && lines.is_empty(),
            complete: report.complete && report.problems.is_empty(),
            problems: lines,
        });
    }

    fn say(&mut self, line: String) {
        if self.said.insert(line.clone()) {
            tracing::warn!("{line}");
        }
    }
}

/// Passes the steps of a pass on, and keeps how long each took.
struct Times {
    told: Arc<dyn Events>,
    took: Mutex<BTreeMap<Key, Duration>>,
}

impl Times {
    fn of(&self, key: &Key) -> Duration {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }
}

impl Events for Times {
    fn started(&self, key: &Key, deed: Deed) {
        self.told.started(key, deed);
    }

    fn finished(&self, key: &Key, deed: Deed, outcome: &Outcome, took: Duration) {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), took);
        self.told.finished(key, deed, outcome, took);
    }

    fn progress(&self) -> &dyn Progress {
        self.told.progress()
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// Tells whether something stands in the way of which no event tells when it is over.
fn waits_in_silence(report: &Report) -> bool {
    let silent = |action: &Action| matches!(action, Action::Hold(Why::Unreadable { .. } | Why::Conflict { .. }));
    report.plan.firewall_unseen.is_some() || report.plan.steps.iter().any(|step| silent(&step.action))
}

/// Says what was done and why.
fn done(action: &Action) -> String {
    let fields = |drifts: &[Drift]| drifts.iter().map(report::drift_words).collect::<Vec<_>>().join(", ");
    match action {
        Action::Create => "created".to_owned(),
        Action::Update(drifts) => format!("repaired {}", fields(drifts)),
        Action::Replace(drifts) => format!("made anew for {}", fields(drifts)),
        Action::Delete => "deleted".to_owned(),
        Action::Keep | Action::Hold(_) => "left as it is".to_owned(),
    }
}
