//! Damage to what is in order: named by object and field, and repaired by one pass.

mod host;
mod random;
mod shims;

use evenkeel_tests::{Run, Sandbox};
use serde_json::Value;

use crate::story;

/// Requires that a damage is named, by object and field, and repaired by one pass. Gives what `drift` said of it.
#[track_caller]
fn named_and_repaired(sandbox: &Sandbox, object: &str, field: &str, damage: impl FnOnce()) -> Run {
    story::in_sync(sandbox);
    damage();
    let drift = sandbox.evenkeel(&["drift"]).expect_code(1).says(object);
    for report in [
        sandbox.evenkeel(&["drift", "-o", "json"]).expect_code(1),
        sandbox.verb_on_manifests("diff", &["-o", "json"]).expect_code(1),
    ] {
        let fields = differing(&report.json(), object);
        assert!(fields.iter().any(|told| told == field), "{object}: {field} is not among {fields:?}\n{report}");
    }
    let applied = sandbox.apply();
    let after = sandbox.evenkeel(&["drift"]);
    assert!(after.succeeded(), "one pass did not repair it\n{drift}\n{applied}\n{after}");
    drift
}

/// Lists the fields of one object that a report in JSON tells of.
fn differing(report: &Value, object: &str) -> Vec<String> {
    let objects = report["objects"].as_array().into_iter().flatten();
    let differences = objects.filter(|told| told["object"] == object).filter_map(|told| told["differences"].as_array());
    let fields = differences.flatten().map(|difference| difference["field"].as_str().expect("a field's name"));
    fields.map(str::to_owned).collect()
}
