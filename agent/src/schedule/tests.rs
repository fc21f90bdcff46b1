use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<Key, BTreeSet<Key>> {
    edges.iter().map(|(node, after)| (key(node), after.iter().map(|name| key(name)).collect())).collect()
}

#[tokio::test]
async fn follows_the_edges_and_blocks_only_what_needs_the_failed_one() {
    let graph = graph(&[
        ("container/a", &["network/n", "image/i"]),
        ("container/b", &["container/a"]),
        ("container/c", &["image/i"]),
        ("network/n", &[]),
        ("image/i", &[]),
    ]);
    let order = Arc::new(Mutex::new(Vec::new()));
    let outcomes = run(&graph, &BTreeMap::new(), 8, |key| {
        let order = Arc::clone(&order);
        async move {
            order.lock().expect("not poisoned").push(key.to_string());
            if key.to_string() == "network/n" { Err("no such parent".to_owned().into()) } else { Ok(()) }
        }
    })
    .await;
    assert_eq!(outcomes[&key("network/n")], Outcome::Failed { error: "no such parent".to_owned() });
    assert_eq!(outcomes[&key("container/a")], Outcome::Blocked { by: key("network/n") });
    assert_eq!(outcomes[&key("container/b")], Outcome::Blocked { by: key("container/a") });
    assert_eq!(outcomes[&key("container/c")], Outcome::Applied);
    let order = order.lock().expect("not poisoned").clone();
    assert_eq!(order.len(), 3);
    let place = |name: &str| order.iter().position(|other| other == name).expect("it ran");
    assert!(place("image/i") < place("container/c"));
}

#[tokio::test]
async fn an_earlier_failure_blocks_and_an_unknown_predecessor_does_not() {
    let graph = graph(&[("network/n", &["container/old"]), ("network/m", &["container/other"])]);
    let earlier = [(key("container/old"), Outcome::Failed { error: "busy".to_owned() })].into();
    let outcomes = run(&graph, &earlier, 1, |_| async { Ok(()) }).await;
    assert_eq!(outcomes[&key("network/n")], Outcome::Blocked { by: key("container/old") });
    assert_eq!(outcomes[&key("network/m")], Outcome::Applied);
}

#[tokio::test]
async fn never_runs_more_than_its_width_and_survives_a_panic() {
    let nodes: Vec<String> = (0..20).map(|n| format!("volume/v{n}")).collect();
    let edges: Vec<(&str, &[&str])> = nodes.iter().map(|node| (node.as_str(), &[] as &[&str])).collect();
    let counts = Arc::new(Mutex::new((0usize, 0usize)));
    let outcomes = run(&graph(&edges), &BTreeMap::new(), 3, |key| {
        let counts = Arc::clone(&counts);
        async move {
            {
                let mut counts = counts.lock().expect("not poisoned");
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            counts.lock().expect("not poisoned").0 -= 1;
            assert!(key.name.as_str() != "v7", "a defect in a step");
            Ok(())
        }
    })
    .await;
    assert_eq!(counts.lock().expect("not poisoned").1, 3);
    assert!(matches!(outcomes[&key("volume/v7")], Outcome::Failed { .. }));
    assert_eq!(outcomes.values().filter(|outcome| **outcome == Outcome::Applied).count(), 19);
}
