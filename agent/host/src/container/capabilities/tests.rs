use evenkeel_schema::Capability as Named;

use super::*;

fn security(drop: &[&str], add: &[&str]) -> Security {
    let list = |names: &[&str]| names.iter().map(|name| Named::try_from((*name).to_owned()).unwrap()).collect();
    Security { cap_drop: list(drop), cap_add: list(add), ..Security::default() }
}

fn all() -> Capabilities {
    typed(&capability_names((1 << 41) - 1))
}

#[test]
fn every_set_is_stated_and_nothing_is_inheritable() {
    let sets = of_container(&security(&[], &[]), &all());
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    assert_eq!(sets.effective(), sets.bounding());
    assert_eq!(sets.permitted(), sets.bounding());
    assert_eq!(sets.inheritable(), &Some(Capabilities::new()));
    assert_eq!(sets.ambient(), &Some(Capabilities::new()));
}

#[test]
fn all_is_what_the_host_has() {
    let mut host = all();
    host.remove(&Capability::SysResource);
    let sets = of_container(&security(&[], &["ALL"]), &host);
    assert_eq!(sets.bounding(), &Some(host));
}

#[test]
fn one_that_is_named_stays_though_the_host_has_it_not() {
    let mut host = all();
    host.remove(&Capability::SysResource);
    let sets = of_container(&security(&["ALL"], &["SYS_RESOURCE"]), &host);
    assert_eq!(sets.bounding(), &Some(Capabilities::from([Capability::SysResource])));
}

#[test]
fn every_name_of_the_schema_is_one_of_the_runtime_specification() {
    assert_eq!(all().len(), evenkeel_schema::CAPABILITIES.len());
}
