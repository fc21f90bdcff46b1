//! How the host differs from what is desired.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use evenkeel_plan::{Action, Desired, Drift, Key, Plan, Remedy, Source, Step, Why};
use serde::Serialize;

use super::words::why;
use super::{Clock, Style};
use crate::ledger::{DriftRecord, Seen, Subject};

/// A plan that nobody executes, told as differences.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    pub source: Source,
    pub in_sync: bool,
    /// Whether everything could be looked at. Without it `in_sync` is false.
    pub complete: bool,
    pub counts: Counts,
    /// The objects that are not in sync.
    pub objects: Vec<ObjectDrift>,
    pub firewall_differs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_since: Option<String>,
    /// Problems of the source and of the host as a whole.
    pub problems: Vec<String>,
}

/// How many objects stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub objects: usize,
    pub in_sync: usize,
    pub drifted: usize,
    pub missing: usize,
    pub extra: usize,
    pub held: usize,
    pub not_seen: usize,
}

/// How an object stands to its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    InSync,
    /// It is there and differs.
    Drifted,
    /// It is not there, or a container does not run.
    Missing,
    /// It is there and no manifest states it.
    Extra,
    /// Nothing is done to it, for a reason that is told.
    Held,
    /// It could not be looked at.
    NotSeen,
}

/// One object that is not in sync.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDrift {
    pub object: Key,
    pub standing: Standing,
    /// The file that its manifest stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What it takes to repair it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heals: Option<Remedy>,
    /// Why nothing is done to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is missing or extra, RFC 3339, where a pass saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub differences: Vec<Difference>,
}

/// One field that differs, and since when.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    #[serde(flatten)]
    pub drift: Drift,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Lists what differs in a plan in the form in which the ledger records it.
pub fn seen(plan: &Plan) -> BTreeSet<Seen> {
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        match &step.action {
            Action::Create | Action::Delete => drop(seen.insert(whole(step))),
            _ => seen.extend(step.drifts().iter().map(|drift| part(&step.key, drift))),
        }
    }
    if plan.firewall_differs {
        seen.insert(firewall());
    }
    seen
}

/// Lists the subjects that could not be looked at: what is known of them stays as it was.
pub fn blind(plan: &Plan) -> BTreeSet<Subject> {
    let unseen = |action: &Action| matches!(action, Action::Hold(Why::Unreadable { .. } | Why::Source { .. }));
    plan.steps.iter().filter(|step| unseen(&step.action)).map(|step| Subject::Object(step.key.clone())).collect()
}

/// The record of a firewall table that differs.
fn firewall() -> Seen {
    Seen { subject: Subject::Firewall, field: String::new(), desired: None, observed: None }
}

/// The record of an object that is missing or extra as a whole.
fn whole(step: &Step) -> Seen {
    let there = |there: bool| there.then(|| "present".to_owned());
    let creating = step.action == Action::Create;
    Seen {
        subject: Subject::Object(step.key.clone()),
        field: String::new(),
        desired: there(creating),
        observed: there(!creating),
    }
}

fn part(key: &Key, drift: &Drift) -> Seen {
    Seen {
        subject: Subject::Object(key.clone()),
        field: drift.field.clone(),
        desired: drift.desired.clone(),
        observed: drift.observed.clone(),
    }
}

impl DriftReport {
    /// Tells a plan as differences, each with its time where `records` know it.
    pub fn new(desired: &Desired, plan: &Plan, records: &[DriftRecord], mut problems: Vec<String>) -> Self {
        problems.extend(plan.problems());
        let records: BTreeMap<&Seen, &String> = records.iter().map(|record| (&record.seen, &record.since)).collect();
        let since = |seen: &Seen| records.get(seen).map(|since| (*since).clone());
        let mut counts = Counts { objects: plan.steps.len(), ..Counts::default() };
        let mut objects = Vec::new();
        for step in &plan.steps {
            let standing = standing(step);
            *match standing {
                Standing::InSync => &mut counts.in_sync,
                Standing::Drifted => &mut counts.drifted,
                Standing::Missing => &mut counts.missing,
                Standing::Extra => &mut counts.extra,
                Standing::Held => &mut counts.held,
                Standing::NotSeen => &mut counts.not_seen,
            } += 1;
            if standing == Standing::InSync {
                continue;
            }
            let difference = |drift: &Drift| Difference { drift: drift.clone(), since: since(&part(&step.key, drift)) };
            objects.push(ObjectDrift {
                object: step.key.clone(),
                standing,
                file: desired.files.get(&step.key).cloned(),
                heals: step.remedy(),
                reason: reason(&step.action),
                since: since(&whole(step)),
                differences: step.drifts().iter().map(difference).collect(),
            });
        }
        DriftReport {
            source: desired.source.clone(),
            in_sync: plan.in_sync() && plan.complete() && problems.is_empty(),
            complete: plan.complete() && problems.is_empty(),
            counts,
            objects,
            firewall_differs: plan.firewall_differs,
            firewall_since: plan.firewall_differs.then(|| since(&firewall())).flatten(),
            problems,
        }
    }

    /// Gives the exit code of `drift` and `diff`.
    pub fn exit_code(&self) -> u8 {
        match (self.complete, self.in_sync) {
            (false, _) => 3,
            (true, false) => 1,
            (true, true) => 0,
        }
    }

    /// Renders the report for people.
    pub fn text(&self, clock: Clock, style: Style) -> String {
        let mut text = self.header(style);
        text.push('\n');
        for object in &self.objects {
            render_object(&mut text, object, clock, style);
        }
        if self.firewall_differs && !self.firewall_is_told() {
            let since = self.firewall_since.as_deref().and_then(|since| clock.since(since));
            let since = since.map(|since| format!("; differs for {since}")).unwrap_or_default();
            let (what, subject) = ("the packet filter's table is not as the objects need it", Subject::Firewall);
            let line = row('~', &subject.to_string(), what, "heals: live");
            let _ = writeln!(text, "{}{since}", style.change(&line));
        }
        for problem in &self.problems {
            let _ = writeln!(text, "{} {problem}", style.bad("!"));
        }
        text
    }

    /// Tells whether an object's own line says already what the firewall table lacks.
    fn firewall_is_told(&self) -> bool {
        let told = |difference: &Difference| matches!(difference.drift.field.as_str(), "firewall" | "nat" | "ports");
        let missing = |object: &ObjectDrift| matches!(object.standing, Standing::Missing | Standing::Extra);
        self.objects.iter().any(|object| missing(object) || object.differences.iter().any(told))
    }

    fn header(&self, style: Style) -> String {
        let verdict = match (self.complete, self.in_sync) {
            (_, true) => style.good("IN SYNC"),
            (true, false) => style.bad("DRIFT"),
            (false, false) => style.bad("INCOMPLETE"),
        };
        let revision = match self.source.revision.as_str() {
            "" => String::new(),
            revision => format!("revision {revision}   "),
        };
        let counts = self.counts;
        let plural = if counts.objects == 1 { "" } else { "s" };
        let mut parts = vec![format!("{} in sync", counts.in_sync)];
        let others = [
            (counts.drifted, "drifted"),
            (counts.missing, "missing"),
            (counts.extra, "extra"),
            (counts.held, "held"),
            (counts.not_seen, "not seen"),
        ];
        parts.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
        format!("{verdict}  {revision}{} object{plural}: {}", counts.objects, parts.join(", "))
    }
}

fn standing(step: &Step) -> Standing {
    match &step.action {
        Action::Keep | Action::Hold(Why::Kept) => Standing::InSync,
        Action::Create => Standing::Missing,
        Action::Delete => Standing::Extra,
        Action::Update(drifts) | Action::Replace(drifts) => changed(drifts),
        Action::Hold(Why::ReportOnly { drifts } | Why::DataLoss { drifts }) => changed(drifts),
        Action::Hold(Why::Source { .. } | Why::Unreadable { .. }) => Standing::NotSeen,
        Action::Hold(_) => Standing::Held,
    }
}

/// A container that does not run is missed, whatever else of it is there.
fn changed(drifts: &[Drift]) -> Standing {
    if drifts.iter().any(is_not_running) { Standing::Missing } else { Standing::Drifted }
}

fn is_not_running(drift: &Drift) -> bool {
    drift.remedy == Remedy::Start
}

/// Says a difference in a few words, as `addresses (10.0.0.1/24 was absent)`.
pub fn drift_words(drift: &Drift) -> String {
    let field = &drift.field;
    match (&drift.desired, &drift.observed) {
        (Some(desired), None) => format!("{field} ({} was absent)", one_line(desired)),
        (None, Some(observed)) => format!("{field} ({} was there)", one_line(observed)),
        (Some(desired), Some(observed)) => format!("{field} ({} → {})", one_line(observed), one_line(desired)),
        (None, None) => field.clone(),
    }
}

/// Says why nothing is done, for the actions that do nothing.
pub fn reason(action: &Action) -> Option<String> {
    match action {
        Action::Hold(reason) => Some(why(reason)),
        _ => None,
    }
}

fn render_object(text: &mut String, object: &ObjectDrift, clock: Clock, style: Style) {
    let sign = match object.standing {
        Standing::InSync => ' ',
        Standing::Drifted => '~',
        Standing::Missing => '-',
        Standing::Extra => '+',
        Standing::Held | Standing::NotSeen => '!',
    };
    let for_since = |since: &Option<String>| since.as_deref().and_then(|since| clock.since(since));
    let mut fields: Vec<&str> = Vec::new();
    for difference in &object.differences {
        if !is_not_running(&difference.drift) && !fields.contains(&difference.drift.field.as_str()) {
            fields.push(&difference.drift.field);
        }
    }
    let what = match object.standing {
        Standing::Missing if object.differences.is_empty() => match for_since(&object.since) {
            Some(since) => format!("absent for {since}"),
            None => "absent".to_owned(),
        },
        Standing::Missing => {
            std::iter::once("not running").chain(fields.iter().copied()).collect::<Vec<_>>().join(", ")
        }
        Standing::Extra => "no manifest states it".to_owned(),
        Standing::Held | Standing::NotSeen => object.reason.clone().unwrap_or_default(),
        Standing::InSync | Standing::Drifted => fields.join(", "),
    };
    let heals = match (object.standing, object.heals, &object.reason) {
        (Standing::Drifted | Standing::Missing, _, Some(reason)) => format!("held: {reason}"),
        (Standing::Missing, None, None) => "heals: create".to_owned(),
        (Standing::Extra, _, None) => "heals: delete".to_owned(),
        (_, Some(remedy), _) => format!("heals: {}", remedy_word(remedy)),
        _ => String::new(),
    };
    let line = row(sign, &object.object.to_string(), &what, &heals);
    let painted = match sign {
        '-' | '!' => style.bad(&line),
        '+' => style.good(&line),
        _ => style.change(&line),
    };
    let _ = writeln!(text, "{painted}");
    for difference in &object.differences {
        let lasts = for_since(&difference.since);
        let drift = &difference.drift;
        let alone = object.differences.iter().all(|other| other.drift.field == drift.field) && !is_not_running(drift);
        let name = if alone { String::new() } else { format!("{}: ", drift.field) };
        let detail = match (&drift.desired, &drift.observed) {
            (Some(desired), None) => {
                let absent =
                    lasts.map(|lasts| format!("; absent for {lasts}")).unwrap_or_else(|| "; absent".to_owned());
                format!("- {:<32} desired{absent}", name + &one_line(desired))
            }
            (None, Some(observed)) => {
                let there = lasts.map(|lasts| format!("; there for {lasts}")).unwrap_or_else(|| "; there".to_owned());
                format!("+ {:<32} not desired{there}", name + &one_line(observed))
            }
            (Some(desired), Some(observed)) => {
                let lasts = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
                format!("~ {name}desired {}, is {}{lasts}", one_line(desired), one_line(observed))
            }
            (None, None) => format!("~ {name}differs"),
        };
        let _ = writeln!(text, "    {}", detail.trim_end());
    }
}

/// Lays out the columns of one object's line.
fn row(sign: char, object: &str, what: &str, heals: &str) -> String {
    let front = format!("{sign} {object:<16}  {what}");
    if heals.is_empty() { front.trim_end().to_owned() } else { format!("{front:<50}  {heals}") }
}

pub(super) fn remedy_word(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Live => "live",
        Remedy::Start => "start",
        Remedy::Restart => "restart",
        Remedy::Replace => "replace",
        Remedy::DataLoss => "replace, data is lost",
    }
}

/// Brings a value of several lines onto one.
pub(super) fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}
