use evenkeel_schema::{Capability, Security};

use super::*;

fn security(drop: &[&str], add: &[&str]) -> Security {
    let list = |names: &[&str]| names.iter().map(|name| Capability::try_from((*name).to_owned()).unwrap()).collect();
    Security { cap_drop: list(drop), cap_add: list(add), ..Security::default() }
}

#[test]
fn the_default_set_has_the_mask_that_dockers_containers_show() {
    // CapBnd of a process in a container started with no options by Docker 20.10 and later.
    assert_eq!(capability_mask(effective_capabilities(&Security::default())), 0xa804_25fb);
}

#[test]
fn drop_all_starts_from_nothing() {
    let only = effective_capabilities(&security(&["ALL"], &["CHOWN"]));
    assert_eq!(only, BTreeSet::from(["CHOWN"]));
}

#[test]
fn add_all_gives_everything_but_what_is_dropped_by_name() {
    let set = effective_capabilities(&security(&["MKNOD"], &["ALL"]));
    assert_eq!(set.len(), CAPABILITIES.len() - 1);
    assert!(!set.contains("MKNOD"));
}

#[test]
fn names_are_the_inverse_of_the_mask() {
    let set = effective_capabilities(&security(&[], &["NET_ADMIN"]));
    assert_eq!(capability_names(capability_mask(set.iter().copied())), set);
}
