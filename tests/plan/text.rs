//! A plan as text, one line per fact, for snapshots.

use std::fmt::Write;

use evenkeel_plan::{Action, Drift, Plan, Step, Why};

/// Writes everything of a plan that is not as it should be, and every step's order.
pub fn render(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        line(&mut text, step);
        for drift in step.drifts() {
            let _ = writeln!(text, "    {}", difference(drift));
        }
    }
    for endpoint in plan.endpoints.values().flatten() {
        let join = |list: Vec<String>| list.join(" ");
        let addresses = join(endpoint.addresses.iter().map(ToString::to_string).collect());
        let gateways = join(endpoint.gateways.iter().map(ToString::to_string).collect());
        let leased = if endpoint.leased.is_empty() { "" } else { " leased" };
        let via = if gateways.is_empty() { String::new() } else { format!(" via {gateways}") };
        let _ = writeln!(
            text,
            "{} {} on {}: {addresses}{leased}{via}",
            endpoint.container, endpoint.interface, endpoint.attached_to
        );
    }
    if plan.firewall_differs {
        let _ = writeln!(text, "firewall differs");
    }
    text
}

fn line(text: &mut String, step: &Step) {
    let (verb, reason) = match &step.action {
        Action::Keep => ("keep", String::new()),
        Action::Create => ("create", String::new()),
        Action::Update(_) => ("update", String::new()),
        Action::Replace(_) => ("replace", String::new()),
        Action::Delete => ("delete", String::new()),
        Action::Hold(why) => ("hold", reason(why)),
    };
    let _ = write!(text, "{verb} {}", step.key);
    if !reason.is_empty() {
        let _ = write!(text, ": {reason}");
    }
    for before in &step.after {
        let _ = write!(text, " <{before}");
    }
    for (name, condition) in &step.conditions {
        let _ = write!(text, " when {name} {}", format!("{condition:?}").to_lowercase());
    }
    text.push('\n');
}

/// Names a reason as it stands in JSON.
pub fn reason_name(why: &Why) -> &'static str {
    match why {
        Why::Source { .. } => "source",
        Why::Unreadable { .. } => "unreadable",
        Why::NotOurs { .. } => "notOurs",
        Why::Kept => "kept",
        Why::ReportOnly { .. } => "reportOnly",
        Why::DataLoss { .. } => "dataLoss",
        Why::Stopped { .. } => "stopped",
        Why::Restarting { .. } => "restarting",
        Why::Conflict { .. } => "conflict",
    }
}

fn reason(why: &Why) -> String {
    let name = reason_name(why);
    match why {
        Why::Source { message }
        | Why::Unreadable { message }
        | Why::NotOurs { message }
        | Why::Restarting { message }
        | Why::Conflict { message } => format!("{name}: {message}"),
        Why::Stopped { since } => format!("{name} since {since}"),
        Why::Kept | Why::ReportOnly { .. } | Why::DataLoss { .. } => name.to_owned(),
    }
}

fn difference(drift: &Drift) -> String {
    let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let remedy = format!("{:?}", drift.remedy).to_lowercase();
    format!("{}: {} -> {} ({remedy})", drift.field, side(&drift.observed), side(&drift.desired))
}
