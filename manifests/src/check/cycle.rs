//! Containers that wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::{Name, NetworkMode};

use super::World;
use crate::node::way;
use crate::problem::{Finding, Findings, Spot};

/// Longest circle that is shown whole.
const LONGEST_SHOWN: usize = 20;

/// What a container needs, with the place that says so.
type Needs<'a> = BTreeMap<&'a Name, Vec<(&'a Name, Spot)>>;

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let needs = needs(world);
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    for start in needs.keys() {
        // Depth first without recursion: a chain may be as long as there are containers.
        let mut way: Vec<(&Name, usize)> = vec![(start, 0)];
        let mut on_way: BTreeSet<&Name> = [*start].into();
        while let Some((name, next)) = way.last_mut() {
            let edge = needs.get(name).and_then(|edges| edges.get(*next)).filter(|_| !done.contains(name));
            let Some((other, _)) = edge else {
                done.insert(name);
                on_way.remove(name);
                way.pop();
                continue;
            };
            *next += 1;
            if on_way.contains(other) {
                let members = way.iter().skip_while(|(name, _)| name != other);
                let circle: Vec<_> = members.map(|(name, next)| (*name, next - 1)).collect();
                report(world, &needs, &circle, findings);
            } else if !done.contains(other) {
                on_way.insert(other);
                way.push((other, 0));
            }
        }
    }
}

fn needs<'a>(world: &World<'a>) -> Needs<'a> {
    let mut needs = Needs::new();
    for (name, (document, container)) in &world.containers {
        let edges = needs.entry(*name).or_default();
        for (index, dependency) in container.depends_on.iter().enumerate() {
            edges.push((&dependency.container, document.value(&way!["spec", "dependsOn", index, "container"])));
        }
        if let Some(NetworkMode::Container(other)) = &container.network_mode {
            edges.push((other, document.value(&way!["spec", "networkMode"])));
        }
    }
    needs
}

fn report(world: &World<'_>, needs: &Needs<'_>, circle: &[(&Name, usize)], findings: &mut Findings<'_>) {
    let mut edges = circle.iter().filter_map(|(name, edge)| {
        let (other, at) = needs.get(name)?.get(*edge)?;
        Some((*name, *other, *at))
    });
    let Some((name, other, at)) = edges.next() else { return };
    let mut names: Vec<String> = circle.iter().take(LONGEST_SHOWN).map(|(name, _)| format!("`{name}`")).collect();
    if circle.len() > LONGEST_SHOWN {
        names.push(format!("… {} more", circle.len() - LONGEST_SHOWN));
    }
    let message = match circle {
        [_] => format!("container `{name}` waits for itself"),
        _ => format!("containers wait for each other in a circle: {} → `{name}`", names.join(" → ")),
    };
    let mut finding = Finding::new(at, message).label(format!("`{name}` waits for `{other}`"));
    for (name, other, at) in edges.take(LONGEST_SHOWN - 1) {
        finding = finding.also(at, format!("`{name}` waits for `{other}`"));
    }
    let culprits: Vec<_> = circle
        .iter()
        .filter_map(|(name, _)| world.containers.get(name))
        .map(|(document, _)| document.culprit())
        .collect();
    findings.spoil(&culprits, finding);
}
