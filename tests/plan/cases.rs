//! One situation per folder: what the manifests say, what is on the host, and the plan that follows.
//!
//! `desired.yaml` is a real manifest file. The host is one on which `applied.yaml` (or else `desired.yaml`) was
//! applied, and then had happen to it what `observed.yaml` says: values set or removed by JSON pointer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use evenkeel_manifests::load;
use evenkeel_plan::{Action, Desired, Key, Observed, Options, Plan, plan};
use evenkeel_tests::model::Host;
use serde::Deserialize;
use serde_json::Value;

use crate::text::{reason_name, render};

/// What happened to the host since the manifests were applied.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Happened {
    /// Nothing was ever applied.
    bare: bool,
    set: BTreeMap<String, Value>,
    remove: Vec<String>,
    /// Manifests that are on hold.
    held: BTreeMap<Key, String>,
    allow_data_loss: bool,
    no_prune: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plan")
}

fn manifests(path: &Path) -> Desired {
    let loaded = load(path);
    assert!(!loaded.has_errors(), "{}", evenkeel_manifests::render(&loaded.problems, false));
    loaded.desired
}

/// Sets the value at a JSON pointer, making the objects on the way.
fn set(root: &mut Value, pointer: &str, value: Value) {
    let mut place = root;
    for part in pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")) {
        place = match place {
            Value::Array(list) => {
                let index: usize = part.parse().unwrap_or_else(|_| panic!("{pointer}: {part} is no index"));
                list.get_mut(index).unwrap_or_else(|| panic!("{pointer}: there is no element {index}"))
            }
            other => {
                if !other.is_object() {
                    *other = Value::Object(serde_json::Map::new());
                }
                let map = other.as_object_mut().expect("it was just made an object");
                map.entry(part).or_insert(Value::Null)
            }
        };
    }
    *place = value;
}

fn remove(root: &mut Value, pointer: &str) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let last = last.replace("~1", "/").replace("~0", "~");
    let place = root.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} points to nothing"));
    let removed = match place {
        Value::Object(map) => map.remove(&last).is_some(),
        Value::Array(list) => {
            list.remove(last.parse::<usize>().unwrap_or_else(|_| panic!("{pointer}: {last} is no index")));
            true
        }
        _ => false,
    };
    assert!(removed, "{pointer} points to nothing");
}

fn decide(case: &Path) -> Plan {
    let mut desired = manifests(&case.join("desired.yaml"));
    let applied = case.join("applied.yaml");
    let applied = if applied.exists() { manifests(&applied) } else { desired.clone() };
    let happened = case.join("observed.yaml");
    let happened: Happened = if happened.exists() {
        let text = fs::read_to_string(&happened).expect("the case can be read");
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", happened.display()))
    } else {
        Happened::default()
    };
    let host = if happened.bare { Host::bare() } else { Host::with(&applied) };
    let mut observed = serde_json::to_value(host.observe(&desired)).expect("what was observed is plain data");
    for pointer in &happened.remove {
        remove(&mut observed, pointer);
    }
    for (pointer, value) in happened.set {
        set(&mut observed, &pointer, value);
    }
    let observed: Observed =
        serde_json::from_value(observed).unwrap_or_else(|error| panic!("{}: not a host: {error}", case.display()));
    desired.held.extend(happened.held);
    let options = Options { allow_data_loss: happened.allow_data_loss, prune: !happened.no_prune };
    plan(&desired, &observed, &options)
}

fn all() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of cases can be read");
    let paths = entries.map(|entry| entry.expect("the folder of cases can be read").path());
    let cases = paths.filter(|path| path.join("desired.yaml").exists());
    cases.map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path)).collect()
}

#[test]
fn every_case_gives_its_plan() {
    let mut failures = Vec::new();
    for (name, path) in all() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&path);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        // The digests of the model's images say nothing to a reader but whether they are the same.
        settings.add_filter(r"sha256:([0-9a-f]{4})[0-9a-f]{60}", "sha256:$1…");
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            settings.bind(|| insta::assert_snapshot!("plan", render(&decide(&path))))
        }));
        if outcome.is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "these cases give other plans: {failures:?}");
}

#[test]
fn the_cases_show_every_action_and_every_reason() {
    let mut seen = BTreeSet::new();
    for path in all().values() {
        for step in decide(path).steps {
            seen.insert(match &step.action {
                Action::Keep => "keep",
                Action::Create => "create",
                Action::Update(_) => "update",
                Action::Replace(_) => "replace",
                Action::Delete => "delete",
                Action::Hold(why) => reason_name(why),
            });
        }
    }
    let all = [
        "keep",
        "create",
        "update",
        "replace",
        "delete",
        "source",
        "unreadable",
        "notOurs",
        "kept",
        "reportOnly",
        "dataLoss",
        "stopped",
        "restarting",
        "conflict",
    ];
    let missing: Vec<&str> = all.into_iter().filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

/// Brings a field to the form in which it is documented: names of objects and paths in angle brackets.
fn documented(field: &str) -> String {
    let parts: Vec<&str> = field.splitn(2, '.').collect();
    match parts.as_slice() {
        ["env", _] => "env.<name>".to_owned(),
        ["mounts", _] => "mounts.<target>".to_owned(),
        ["networks", rest] => match rest.split_once('.') {
            Some((_, part)) => format!("networks.<name>.{part}"),
            None => "networks.<name>".to_owned(),
        },
        _ => field.to_owned(),
    }
}

#[test]
fn the_cases_show_every_documented_field_and_no_other() {
    let page = fs::read_to_string(folder().join("../../docs/drift.md")).expect("docs/drift.md is there");
    let mut listed = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap_or_default();
        listed.extend(cell.split(',').map(|field| field.trim().trim_matches('`').to_owned()));
    }
    let mut seen = BTreeSet::new();
    for path in all().values() {
        let plan = decide(path);
        seen.extend(plan.steps.iter().flat_map(|step| step.drifts()).map(|drift| documented(&drift.field)));
    }
    let unlisted: Vec<&String> = seen.difference(&listed).collect();
    assert!(unlisted.is_empty(), "docs/drift.md does not list {unlisted:?}");
    let unseen: Vec<&String> = listed.difference(&seen).collect();
    assert!(unseen.is_empty(), "no case shows {unseen:?}");
}

#[test]
fn no_value_of_the_environment_is_in_a_plan() {
    let plan = decide(&folder().join("container-environment"));
    let text = serde_json::to_string(&plan).expect("a plan is plain data");
    assert!(text.contains("env.PASSWORD"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("correct horse"), "{text}");
}
