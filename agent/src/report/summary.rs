//! What came of an apply, in the end.

use std::fmt::Write;
use std::time::Duration;

use evenkeel_plan::{Action, Outcome, Report, Why};

use super::Style;
use super::drift::reason;

/// Renders failures, holds and the closing line of an apply.
pub fn summary(report: &Report, took: Duration, style: Style) -> String {
    let mut text = String::new();
    let (mut failed, mut blocked) = (0, 0);
    for (key, outcome) in &report.outcomes {
        match outcome {
            Outcome::Applied => {}
            Outcome::Failed { error } => {
                failed += 1;
                let _ = writeln!(text, "{} {key}: {error}", style.bad("failed:"));
            }
            Outcome::Blocked { by } => {
                blocked += 1;
                let _ = writeln!(text, "{} {key}: needs {by}", style.bad("blocked:"));
            }
        }
    }
    let mut held = 0;
    for step in &report.plan.steps {
        match (&step.action, reason(&step.action)) {
            (Action::Hold(Why::Kept), _) => {
                let _ = writeln!(text, "{} {}: no manifest states it any more", style.dim("kept:"), step.key);
            }
            (Action::Hold(_), Some(reason)) => {
                held += 1;
                let _ = writeln!(text, "{} {}: {reason}", style.change("held:"), step.key);
            }
            _ => {}
        }
    }
    for problem in &report.problems {
        let _ = writeln!(text, "{} {problem}", style.bad("problem:"));
    }
    let done = |wanted: fn(&Action) -> bool| {
        let of = |step: &&evenkeel_plan::Step| {
            wanted(&step.action) && report.outcomes.get(&step.key) == Some(&Outcome::Applied)
        };
        report.plan.steps.iter().filter(of).count()
    };
    let counts = [
        (done(|action| *action == Action::Create), "created"),
        (done(|action| matches!(action, Action::Update(_))), "updated"),
        (done(|action| matches!(action, Action::Replace(_))), "replaced"),
        (done(|action| *action == Action::Delete), "deleted"),
        (failed, "failed"),
        (blocked, "blocked"),
        (held, "held"),
        (report.plan.steps.iter().filter(|step| step.action == Action::Keep).count(), "unchanged"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") };
    let verdict = match (report.succeeded(), held) {
        (true, 0) => style.good("Applied:"),
        (true, _) => style.change("Applied, less what is held:"),
        (false, _) => style.bad("Not all applied:"),
    };
    let _ = writeln!(text, "{verdict} {counts} in {:.1} s", took.as_secs_f64());
    text
}
