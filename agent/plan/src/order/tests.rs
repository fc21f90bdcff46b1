use super::*;

fn key(name: &str) -> Key {
    format!("container/{name}").parse().unwrap()
}

#[test]
fn what_waits_for_a_ring_is_no_part_of_it() {
    let waits = [("a", vec!["c"]), ("b", vec!["d"]), ("c", vec!["b"]), ("d", vec!["c", "e"]), ("e", vec![])];
    let mut after: BTreeMap<Key, BTreeSet<Key>> =
        waits.iter().map(|(name, before)| (key(name), before.iter().map(|name| key(name)).collect())).collect();
    let order = sequence(after.keys().map(|key| (0, key.clone())).collect(), &mut after);
    assert_eq!(order, ["e", "b", "c", "a", "d"].map(key));
    assert_eq!(after[&key("b")], BTreeSet::new(), "the first of the ring gives way");
    assert_eq!(after[&key("a")], BTreeSet::from([key("c")]));
    assert_eq!(after[&key("d")], BTreeSet::from([key("c"), key("e")]));
}
