//! Links of one name: bridges and host shims, by a stated name or the derived one.

use std::collections::BTreeMap;

use evenkeel_plan::{bridge_link, shim_link};
use evenkeel_schema::{Driver, NetworkSpec};

use super::World;
use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let mut links: Vec<_> = world
        .networks
        .values()
        .filter_map(|(document, network)| link(document, network).map(|(name, at)| (at, name, *document)))
        .collect();
    links.sort_by_key(|(at, ..)| *at);
    let mut first: BTreeMap<String, (Spot, &Document)> = BTreeMap::new();
    for (at, name, document) in links {
        match first.get(&name) {
            None => drop(first.insert(name, (at, document))),
            Some((first_at, first_document)) => {
                let networks = (&first_document.key.name, &document.key.name);
                let message =
                    format!("link `{name}` would belong to two networks, `{}` and `{}`", networks.0, networks.1);
                let finding = Finding::new(at, message).also(*first_at, "the other one");
                findings.spoil(
                    &[document.culprit(), first_document.culprit()],
                    finding.help("give one of them another name with `bridge: …` or `shim: {name: …}`"),
                );
            }
        }
    }
}

/// Names the one link of a network that stays on the host, with the place that its name comes from.
fn link(document: &Document, network: &NetworkSpec) -> Option<(String, Spot)> {
    let name = &document.key.name;
    let at =
        |stated: bool, way: &[crate::node::Step<'_>]| if stated { document.value(way) } else { document.name_spot() };
    match network.driver {
        Driver::Bridge => Some((bridge_link(name, network), at(network.bridge.is_some(), &way!["spec", "bridge"]))),
        Driver::Macvlan => {
            let stated = network.shim.as_ref()?.name.is_some();
            Some((shim_link(name, network)?, at(stated, &way!["spec", "shim", "name"])))
        }
    }
}
