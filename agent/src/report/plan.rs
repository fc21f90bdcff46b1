//! What would be done, step by step.

use std::fmt::Write;

use evenkeel_plan::{Action, Plan, Source, Step};
use serde::Serialize;

use super::Style;
use super::drift::{one_line, reason, remedy_word};

/// A plan with where it came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    pub source: Source,
    pub plan: Plan,
    /// Whether there is anything that `apply` would do.
    pub has_work: bool,
    /// Whether everything could be looked at.
    pub complete: bool,
    pub counts: StepCounts,
    /// Problems of the source and of the host as a whole.
    pub problems: Vec<String>,
}

/// How many steps do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepCounts {
    pub create: usize,
    pub update: usize,
    pub replace: usize,
    pub delete: usize,
    pub hold: usize,
    pub keep: usize,
}

/// Names an action in one word.
pub fn action_word(action: &Action) -> &'static str {
    match action {
        Action::Keep => "keep",
        Action::Create => "create",
        Action::Update(_) => "update",
        Action::Replace(_) => "replace",
        Action::Delete => "delete",
        Action::Hold(_) => "hold",
    }
}

impl PlanReport {
    pub fn new(source: &Source, plan: Plan, mut problems: Vec<String>) -> Self {
        problems.extend(plan.problems());
        let mut counts = StepCounts::default();
        for step in &plan.steps {
            *match step.action {
                Action::Keep => &mut counts.keep,
                Action::Create => &mut counts.create,
                Action::Update(_) => &mut counts.update,
                Action::Replace(_) => &mut counts.replace,
                Action::Delete => &mut counts.delete,
                Action::Hold(_) => &mut counts.hold,
            } += 1;
        }
        PlanReport {
            source: source.clone(),
            has_work: plan.has_work(),
            complete: plan.complete() && problems.is_empty(),
            plan,
            counts,
            problems,
        }
    }

    /// Renders the plan for people.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for step in &self.plan.steps {
            render_step(&mut text, step, style);
        }
        // It goes without saying where an object is worked on that needs it.
        let worked = self.plan.steps.iter().any(|step| !matches!(step.action, Action::Keep | Action::Hold(_)));
        if self.plan.firewall_differs && !worked {
            let line = format!("{:>3} {:<8} firewall", "~", "update");
            let _ = writeln!(text, "{}", style.change(&line));
        }
        for problem in &self.problems {
            let _ = writeln!(text, "{} {problem}", style.bad("!"));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let revision = match self.source.revision.as_str() {
            "" => String::new(),
            revision => format!(" (revision {revision})"),
        };
        let counts = self.counts;
        let parts = [
            (counts.create, "to create"),
            (counts.update, "to update"),
            (counts.replace, "to replace"),
            (counts.delete, "to delete"),
            (counts.hold, "held"),
            (counts.keep, "unchanged"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect();
        let parts =
            if parts.is_empty() { "nothing is desired and nothing is here".to_owned() } else { parts.join(", ") };
        let verdict = match (self.has_work, self.complete) {
            (true, _) => style.bold("Plan:"),
            (false, true) => style.bold("No changes:"),
            (false, false) => style.bold("No changes, but not everything could be looked at:"),
        };
        let _ = writeln!(text, "{verdict} {parts}{revision}");
        text
    }
}

fn render_step(text: &mut String, step: &Step, style: Style) {
    let sign = match step.action {
        Action::Keep => return,
        Action::Create => "+",
        Action::Update(_) => "~",
        Action::Replace(_) => "-/+",
        Action::Delete => "-",
        Action::Hold(_) => "=",
    };
    let why = reason(&step.action).map(|why| format!("   {why}")).unwrap_or_default();
    let line = format!("{sign:>3} {:<8} {}{why}", action_word(&step.action), step.key);
    let painted = match step.action {
        Action::Create => style.good(&line),
        Action::Delete | Action::Replace(_) => style.bad(&line),
        _ => style.change(&line),
    };
    let _ = writeln!(text, "{painted}");
    for drift in step.drifts() {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "(none)".to_owned(), one_line);
        let (from, to) = (value(&drift.observed), value(&drift.desired));
        let _ = writeln!(text, "      {}: {from} → {to} ({})", drift.field, remedy_word(drift.remedy));
    }
}
