//! Differences in the unified form of diff(1): `-` is what the host has, `+` what the manifest says.

use std::fmt::Write;

use evenkeel_plan::{Action, Desired, Key, Kind, Plan, Step, Why};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::Style;
use super::drift::reason;
use super::secret::without_secrets;

/// Renders every object that differs. `applied` gives the manifest of an object that none states any more.
pub fn diff(desired: &Desired, plan: &Plan, applied: impl Fn(&Key) -> Option<Value>, style: Style) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        match &step.action {
            Action::Keep | Action::Hold(Why::Kept) => {}
            Action::Create => {
                head(&mut text, "/dev/null", &manifest_name(desired, step), style);
                lines(&mut text, "", &yaml(manifest(desired, &step.key)), style);
            }
            Action::Delete => {
                head(&mut text, &format!("host/{}", step.key), "/dev/null", style);
                lines(&mut text, &yaml(applied(&step.key)), "", style);
            }
            Action::Update(_) | Action::Replace(_) | Action::Hold(_) => fields(&mut text, desired, step, style),
        }
    }
    if plan.firewall_differs {
        head(&mut text, "host/firewall", "manifests/firewall", style);
        let _ = writeln!(text, "{}", style.dim("@@ the packet filter's table is not as the objects need it @@"));
    }
    text
}

fn fields(text: &mut String, desired: &Desired, step: &Step, style: Style) {
    let reason = reason(&step.action);
    if step.drifts().is_empty() && reason.is_none() {
        return;
    }
    head(text, &format!("host/{}", step.key), &manifest_name(desired, step), style);
    if let Some(reason) = reason {
        let _ = writeln!(text, "{}", style.dim(&format!("# {reason}")));
    }
    // Members of one list stand under one heading.
    let mut last = None;
    for drift in step.drifts() {
        if last != Some(&drift.field) {
            let _ = writeln!(text, "{}", style.dim(&format!("@@ {} @@", drift.field)));
            last = Some(&drift.field);
        }
        lines(text, drift.observed.as_deref().unwrap_or(""), drift.desired.as_deref().unwrap_or(""), style);
    }
}

fn head(text: &mut String, from: &str, to: &str, style: Style) {
    let _ = writeln!(text, "{}", style.bold(&format!("--- {from}")));
    let _ = writeln!(text, "{}", style.bold(&format!("+++ {to}")));
}

fn lines(text: &mut String, from: &str, to: &str, style: Style) {
    for change in TextDiff::from_lines(from, to).iter_all_changes() {
        let line = change.value().trim_end_matches('\n');
        let painted = match change.tag() {
            ChangeTag::Delete => style.bad(&format!("-{line}")),
            ChangeTag::Insert => style.good(&format!("+{line}")),
            ChangeTag::Equal => format!(" {line}"),
        };
        let _ = writeln!(text, "{painted}");
    }
}

fn manifest_name(desired: &Desired, step: &Step) -> String {
    match desired.files.get(&step.key) {
        Some(file) => format!("manifests/{}   ({})", step.key, file.display()),
        None => format!("manifests/{}", step.key),
    }
}

/// Gives an object's manifest as data.
pub(crate) fn manifest(desired: &Desired, key: &Key) -> Option<Value> {
    match key.kind {
        Kind::Image => serde_json::to_value(desired.images.get(&key.name)?),
        Kind::Volume => serde_json::to_value(desired.volumes.get(&key.name)?),
        Kind::Network => serde_json::to_value(desired.networks.get(&key.name)?),
        Kind::Container => serde_json::to_value(desired.containers.get(&key.name)?),
    }
    .ok()
}

fn yaml(manifest: Option<Value>) -> String {
    let manifest = manifest.map(without_secrets);
    manifest.and_then(|manifest| serde_yaml::to_string(&manifest).ok()).unwrap_or_default()
}
