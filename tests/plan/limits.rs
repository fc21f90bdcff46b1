//! Where the kernel has a limit, the plan says so before anything is made.

use std::collections::BTreeMap;

use evenkeel_manifests::load;
use evenkeel_plan::{Action, Desired, Name, Observed, Options, Sight, Why, plan};
use evenkeel_tests::model::Host;

/// Loads containers of these numbers on one bridge.
fn crowd(numbers: impl Iterator<Item = usize>) -> Desired {
    let directory = tempfile::tempdir().expect("a directory");
    let container = |number| {
        format!(
            "---\napiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{number:04}}}\nspec: {{image: busybox, \
             networks: [{{name: lan}}]}}\n"
        )
    };
    let text = "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: lan}\nspec: {driver: bridge, subnets: [{subnet: \
                10.77.0.0/16}]}\n---\napiVersion: evenkeel/v1\nkind: Image\nmetadata: {name: busybox}\nspec: {archive: \
                busybox.tar}\n";
    let path = directory.path().join("all.yaml");
    std::fs::write(&path, text.to_owned() + &numbers.map(container).collect::<String>()).expect("the manifests");
    let loaded = load(&path);
    assert!(!loaded.has_errors(), "{:?}", loaded.problems);
    loaded.desired
}

fn held(desired: &Desired, observed: &Observed) -> BTreeMap<Name, Why> {
    let steps = plan(desired, observed, &Options::default()).steps;
    let held = steps.into_iter().filter_map(|step| match step.action {
        Action::Hold(why) => Some((step.key.name, why)),
        _ => None,
    });
    held.collect()
}

#[test]
fn a_bridge_takes_as_many_containers_as_it_has_ports() {
    let (fits, too_many) = (crowd(0..1023), crowd(0..1025));
    assert_eq!(held(&fits, &Host::bare().observe(&fits)), BTreeMap::new());
    let held = held(&too_many, &Host::bare().observe(&too_many));
    assert_eq!(held.keys().map(Name::as_str).collect::<Vec<_>>(), ["c1023", "c1024"]);
    for why in held.values() {
        assert!(matches!(why, Why::Conflict { message } if message.contains("1023 ports")), "{why:?}");
    }
}

#[test]
fn a_container_that_is_there_keeps_its_port() {
    let host = Host::with(&crowd(1..1024));
    let desired = crowd(0..1024);
    let observed = host.observe(&desired);
    assert!(matches!(observed.containers.get("c1023"), Some(Sight::Found { .. })));
    let held = held(&desired, &observed);
    assert_eq!(
        held.keys().map(Name::as_str).collect::<Vec<_>>(),
        ["c0000"],
        "the new one waits, first by name as it is"
    );
}
