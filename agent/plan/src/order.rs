//! The order of steps: what must be done before what, and one sequence that respects it.
//!
//! Deletions come as early as they may, so that addresses, names and ports are free for what replaces them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_schema::{Condition, Kind, Name};

use crate::container::{addresses_of, foundations, starts_process};
use crate::decide::Resource;
use crate::network::sight;
use crate::world::World;
use crate::{Action, Key, Sight, Step, bridge_link, container, shim_link};

/// Sorts keys so that each comes after all that its entry in `after` names, and otherwise by rank and key.
///
/// A ring cannot be served: the first of it by rank gives way, and loses those of its entries that come later. What only
/// waits for a ring loses nothing.
pub(crate) fn sequence(ranked: Vec<(u8, Key)>, after: &mut BTreeMap<Key, BTreeSet<Key>>) -> Vec<Key> {
    let ranks: BTreeMap<Key, u8> = ranked.into_iter().map(|(rank, key)| (key, rank)).collect();
    let mut waiting: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut dependants: BTreeMap<&Key, Vec<&Key>> = BTreeMap::new();
    for key in ranks.keys() {
        let before =
            after.get(key).into_iter().flatten().filter(|before| ranks.contains_key(*before) && *before != key);
        let mut count = 0;
        for before in before {
            dependants.entry(before).or_default().push(key);
            count += 1;
        }
        waiting.insert(key, count);
    }
    let ranked = |key: &Key| (ranks.get(key).copied().unwrap_or_default(), key.clone());
    let mut ready: BTreeSet<(u8, Key)> =
        waiting.iter().filter(|(_, count)| **count == 0).map(|(key, _)| ranked(key)).collect();
    let mut order: Vec<Key> = Vec::with_capacity(ranks.len());
    let mut done: BTreeSet<Key> = BTreeSet::new();
    let mut in_rings: Vec<Key> = Vec::new();
    while done.len() < ranks.len() {
        let next = match ready.pop_first() {
            Some((_, key)) => key,
            None => {
                let waits_for = |key: &Key| {
                    let mut before = after.get(key).into_iter().flatten();
                    before.find(|before| *before != key && ranks.contains_key(*before) && !done.contains(*before))
                };
                let left = ranks.iter().filter(|(key, _)| !done.contains(*key));
                let Some((start, _)) = left.min_by_key(|(key, rank)| (**rank, *key)) else { break };
                let ring = ring(start, waits_for);
                let Some((_, first)) = ring.into_iter().map(ranked).min() else { break };
                in_rings.push(first.clone());
                first
            }
        };
        if !done.insert(next.clone()) {
            continue;
        }
        for dependant in dependants.get(&next).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(dependant) {
                *count = count.saturating_sub(1);
                if *count == 0 && !done.contains(*dependant) {
                    ready.insert(ranked(dependant));
                }
            }
        }
        order.push(next);
    }
    for key in in_rings {
        let place = order.iter().position(|one| *one == key).unwrap_or_default();
        let earlier: BTreeSet<&Key> = order[..place].iter().collect();
        if let Some(before) = after.get_mut(&key) {
            before.retain(|one| earlier.contains(one) || !ranks.contains_key(one));
        }
    }
    order
}

/// Follows from one key what it waits for, until one comes a second time, and gives the ring that it closes.
fn ring<'a>(start: &'a Key, waits_for: impl Fn(&Key) -> Option<&'a Key>) -> Vec<&'a Key> {
    let mut way = vec![start];
    let mut seen = BTreeSet::from([start]);
    while let Some(next) = way.last().and_then(|last| waits_for(last)) {
        if !seen.insert(next) {
            return way.into_iter().skip_while(|key| *key != next).collect();
        }
        way.push(next);
    }
    way
}

/// Turns the decisions into steps in an order that may be followed one by one.
pub(crate) fn steps(world: &World<'_>) -> Vec<Step> {
    let mut after = edges(world);
    let rank = |key: &Key, action: &Action| match (action, key.kind) {
        (Action::Delete, Kind::Container) => 0,
        (Action::Delete, Kind::Network) => 1,
        (Action::Delete, Kind::Volume) => 2,
        (Action::Delete, Kind::Image) => 3,
        (_, Kind::Image) => 4,
        (_, Kind::Volume) => 5,
        (_, Kind::Network) => 6,
        (_, Kind::Container) => 7,
    };
    let ranked = world.actions.iter().map(|(key, action)| (rank(key, action), key.clone())).collect();
    let order = sequence(ranked, &mut after);
    let step = |key: Key| {
        let action = world.actions.get(&key)?.clone();
        let after = after.remove(&key).unwrap_or_default();
        let conditions = conditions(world, &key, &action);
        Some(Step { key, action, after, conditions })
    };
    order.into_iter().filter_map(step).collect()
}

fn is_work(action: Option<&Action>) -> bool {
    matches!(action, Some(Action::Create | Action::Update(_) | Action::Replace(_) | Action::Delete))
}

/// Lists for every step what must have succeeded before.
fn edges(world: &World<'_>) -> BTreeMap<Key, BTreeSet<Key>> {
    let mut after: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    for (name, object) in &world.desired.containers {
        let container = container::Container { name, object, world };
        let key = container.key();
        if is_work(world.actions.get(&key)) {
            let needs = container.needs().into_iter().filter(|need| is_work(world.actions.get(need)));
            after.entry(key).or_default().extend(needs);
        }
    }
    let successors = successors(world);
    for (name, container) in &world.observed.containers {
        let Some(container) = container.found() else { continue };
        let key = Key::new(Kind::Container, name.clone());
        let action = world.actions.get(&key);
        if !is_work(action) {
            continue;
        }
        let mut used = foundations(&container.spec, world);
        if action == Some(&Action::Delete) {
            let earlier = container.spec.depends_on.iter().map(|dependency| dependency.container.clone());
            used.extend(earlier.map(|name| Key::new(Kind::Container, name)));
        }
        for used in used.into_iter().filter(|used| world.actions.get(used) == Some(&Action::Delete)) {
            // A network that another takes the place of has to go first; who moves over loses nothing by it.
            if action == Some(&Action::Delete) || !successors.contains_key(&used) {
                after.entry(used).or_default().insert(key.clone());
            }
        }
    }
    let goes = |(_, action): &(&Key, &Action)| **action == Action::Delete;
    let (containers, others): (Vec<&Key>, Vec<&Key>) =
        world.actions.iter().filter(goes).map(|(key, _)| key).partition(|key| key.kind == Kind::Container);
    // What is left of a container that cannot be seen may have hold of anything.
    let is_seen = |key: &&Key| world.observed.containers.get(&key.name).is_some_and(|sight| sight.found().is_some());
    let unseen: BTreeSet<Key> = containers.into_iter().filter(|key| !is_seen(key)).cloned().collect();
    for other in others {
        after.entry(other.clone()).or_default().extend(unseen.iter().cloned());
    }
    for (gone, successors) in successors {
        for successor in successors {
            after.entry(successor).or_default().insert(gone.clone());
        }
    }
    follow_addresses(world, &mut after);
    after
}

/// Finds for every network that goes those that come with its link's name or its addresses.
fn successors(world: &World<'_>) -> BTreeMap<Key, BTreeSet<Key>> {
    let mut successors: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    let deleted = world.actions.iter().filter(|(key, action)| key.kind == Kind::Network && **action == Action::Delete);
    for (gone, _) in deleted {
        let found = sight(world.observed, &gone.name).found();
        let Some(link) = found.and_then(|network| network.link.as_ref()) else { continue };
        for (name, object) in &world.desired.networks {
            let key = Key::new(Kind::Network, name.clone());
            let same_name = bridge_link(name, &object.spec) == link.name
                || shim_link(name, &object.spec).is_some_and(|shim| shim == link.name);
            let taken = |net: &ipnet::IpNet| link.addresses.iter().any(|address| net.contains(&address.addr()));
            let same_subnet = object.spec.subnets.iter().any(|subnet| taken(&subnet.subnet));
            if (same_name || same_subnet) && is_work(world.actions.get(&key)) {
                successors.entry(gone.clone()).or_default().insert(key);
            }
        }
    }
    successors
}

/// Puts a container that is given an address of one that goes behind its going.
fn follow_addresses(world: &World<'_>, after: &mut BTreeMap<Key, BTreeSet<Key>>) {
    let mut leaving: BTreeMap<IpAddr, Key> = BTreeMap::new();
    for (key, _) in world.actions.iter().filter(|(_, action)| **action == Action::Delete) {
        if key.kind == Kind::Container {
            let found = world.observed.containers.get(&key.name).and_then(Sight::found);
            let held = found.into_iter().flat_map(addresses_of);
            let leases = world.observed.leases.get(&key.name).into_iter().flat_map(|networks| networks.values());
            leaving.extend(held.chain(leases.flatten().copied()).map(|address| (address, key.clone())));
        }
    }
    if leaving.is_empty() {
        return;
    }
    for (name, endpoints) in &world.addressing.endpoints {
        let key = Key::new(Kind::Container, name.clone());
        if !is_work(world.actions.get(&key)) {
            continue;
        }
        let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let gone: BTreeSet<Key> = addresses.filter_map(|address| leaving.get(&address.addr()).cloned()).collect();
        let gone = gone.into_iter().filter(|gone| !after.get(gone).is_some_and(|before| before.contains(&key)));
        let gone: Vec<Key> = gone.collect();
        after.entry(key).or_default().extend(gone);
    }
}

/// Lists what other containers must have reached before this step starts a process.
fn conditions(world: &World<'_>, key: &Key, action: &Action) -> BTreeMap<Name, Condition> {
    let starts = match action {
        Action::Create | Action::Replace(_) => true,
        Action::Update(drifts) => starts_process(drifts),
        Action::Keep | Action::Delete | Action::Hold(_) => false,
    };
    let object = world.desired.containers.get(&key.name).filter(|_| starts && key.kind == Kind::Container);
    let dependencies = object.into_iter().flat_map(|object| &object.spec.depends_on);
    dependencies.map(|dependency| (dependency.container.clone(), dependency.condition)).collect()
}

#[cfg(test)]
mod tests;
