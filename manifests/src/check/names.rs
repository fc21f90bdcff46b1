//! Two objects of one kind and name.

use std::collections::BTreeMap;

use super::World;
use crate::problem::{Finding, Findings};

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let decoded = world.documents.decoded.iter();
    let decoded = decoded.map(|document| (document.name_spot(), &document.key, Some(document.culprit())));
    let held = world.documents.held.iter().map(|held| (held.at, &held.key, None));
    let mut all: Vec<_> = decoded.chain(held).collect();
    all.sort_by_key(|(spot, ..)| *spot);
    let mut first = BTreeMap::new();
    for (spot, key, culprit) in all {
        match first.get(key) {
            None => drop(first.insert(key, (spot, culprit))),
            Some((first_spot, first_culprit)) => {
                let message = format!("{} `{}` is stated twice", key.kind, key.name);
                let finding = Finding::new(spot, message).label("second time").also(*first_spot, "first time");
                let culprits: Vec<_> = [culprit, *first_culprit].into_iter().flatten().collect();
                findings.spoil(&culprits, finding);
            }
        }
    }
}
