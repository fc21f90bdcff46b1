use evenkeel_plan::{ObservedContainer, RunState, Sight, Step};
use serde_json::json;

use super::*;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn keys(texts: &[&str]) -> BTreeSet<Key> {
    texts.iter().map(|text| key(text)).collect()
}

fn plan(steps: Vec<(&str, Action, &[&str])>) -> Plan {
    let step = |(object, action, after): (&str, Action, &[&str])| Step {
        key: key(object),
        action,
        after: keys(after),
        conditions: BTreeMap::new(),
    };
    Plan { steps: steps.into_iter().map(step).collect(), ..Plan::default() }
}

fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<Key, BTreeSet<Key>> {
    edges.iter().map(|(one, before)| (key(one), keys(before))).collect()
}

/// A container `web` moves from `old` to `new`; `gone` goes with what it alone used.
fn moving() -> Plan {
    plan(vec![
        ("container/gone", Action::Delete, &[]),
        ("volume/data", Action::Delete, &["container/gone"]),
        ("network/new", Action::Create, &[]),
        ("container/web", Action::Update(Vec::new()), &["network/new"]),
        ("network/old", Action::Delete, &["container/web", "container/gone"]),
    ])
}

#[test]
fn what_a_container_is_about_to_leave_goes_after_it_has() {
    let deletions = Deletions::of(&moving(), &Observed::default(), &BTreeMap::new());
    assert_eq!(deletions.early, graph(&[("container/gone", &[]), ("volume/data", &["container/gone"])]));
    assert_eq!(deletions.late, graph(&[("network/old", &["container/web", "container/gone"])]));
}

#[test]
fn what_is_used_by_something_that_rests_stays() {
    let resting = BTreeMap::from([(key("container/gone"), Outcome::Applied)]);
    let deletions = Deletions::of(&moving(), &Observed::default(), &resting);
    assert!(deletions.early.is_empty());
    let late: Vec<String> = deletions.late.keys().map(ToString::to_string).collect();
    assert_eq!(late, ["volume/data", "network/old"]);
}

#[test]
fn what_is_made_anew_goes_after_its_users_though_it_comes_before_them() {
    let container = ObservedContainer {
        spec: serde_json::from_value(json!({
            "image": "app",
            "networks": [{"name": "net"}],
            "dependsOn": [{"container": "db"}],
        }))
        .unwrap(),
        image: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        record_lost: false,
        state: RunState::Created,
        shim_alive: true,
        shim_trouble: None,
        rootfs_mounted: true,
        interfaces: None,
        limits: None,
        process: None,
        hosts: Arc::default(),
        pids: None,
    };
    let mut observed = Observed::default();
    observed.containers.insert("web".parse().unwrap(), Sight::Found { observed: container, owned: true });
    let replace = || Action::Replace(Vec::new());
    let plan = plan(vec![
        ("image/app", replace(), &[]),
        ("network/net", replace(), &[]),
        ("container/db", replace(), &["network/net"]),
        ("container/web", replace(), &["image/app", "network/net", "container/db"]),
    ]);
    let deletions = Deletions::of(&plan, &observed, &BTreeMap::new());
    let web: &[&str] = &["container/web"];
    assert_eq!(deletions.early, graph(&[("network/net", web), ("container/db", web), ("container/web", &[])]));
    assert!(deletions.late.is_empty());
}
