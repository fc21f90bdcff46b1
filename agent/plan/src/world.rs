//! Everything that a decision about one object may look at, and the decisions so far.
//!
//! Kinds are decided in creation order, since a container is touched by what is about to happen to its image,
//! volumes and networks.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::{ContainerSpec, Digest, Driver, Kind, Name, NetworkMode, Object, implicit_image_name};

use crate::addressing::Addressing;
use crate::container::{Container, foundations};
use crate::decide::{Options, decide, decide_leaving, is_ours};
use crate::filter::{Filter, gone};
use crate::hosts::Alike;
use crate::image::Image;
use crate::network::{Network, sight};
use crate::order::sequence;
use crate::volume::Volume;
use crate::{Action, Desired, Hosts, Key, Observed, ObservedImage, Sight, Why};

/// The desired and the observed, what was derived from them, and what was decided.
pub(crate) struct World<'a> {
    pub desired: &'a Desired,
    pub observed: &'a Observed,
    pub addressing: Addressing,
    pub hosts: Hosts,
    pub hosts_alike: Alike,
    /// The images that were found, by the identity that containers know them by.
    pub images: BTreeMap<&'a Digest, &'a ObservedImage>,
    pub filter: Filter,
    pub actions: BTreeMap<Key, Action>,
    options: &'a Options,
}

impl<'a> World<'a> {
    /// Derives addresses, firewall and names, and decides every object.
    pub(crate) fn decide(desired: &'a Desired, observed: &'a Observed, options: &'a Options) -> World<'a> {
        let addressing = Addressing::decide(desired, observed);
        let mut world = World {
            desired,
            observed,
            hosts: Hosts::derive(desired, &addressing.endpoints),
            hosts_alike: Alike::default(),
            images: observed.images.values().filter_map(Sight::found).map(|image| (&image.id, image)).collect(),
            filter: Filter::derive(desired, observed, &addressing.endpoints, options),
            addressing,
            actions: BTreeMap::new(),
            options,
        };
        world.decide_foundations();
        world.decide_containers();
        world.decide_leaving();
        world.leave_out_what_will_not_be();
        world
    }

    /// Names the image of a container, whether it is desired or not.
    pub(crate) fn image_of(&self, spec: &ContainerSpec) -> Option<Name> {
        if let Some(name) = self.desired.image_of(spec) {
            return Some(name.clone());
        }
        let is_reference = spec.image.contains(['/', ':', '@']);
        if is_reference { Some(implicit_image_name(&spec.image)) } else { spec.image.parse().ok() }
    }

    fn held(&self, kind: Kind, name: &Name) -> Option<&'a str> {
        self.desired.held.get(&Key::new(kind, name.clone())).map(String::as_str)
    }

    fn decide_foundations(&mut self) {
        for (key, message) in &self.desired.held {
            self.actions.insert(key.clone(), Action::Hold(Why::Source { message: message.clone() }));
        }
        let (desired, observed) = (self.desired, self.observed);
        let none = |_: &BTreeSet<Key>| None;
        for (name, object) in &desired.images {
            let sight = observed.images.get(name).unwrap_or(&Sight::Absent);
            let held = self.held(Kind::Image, name);
            let action = decide(&Image { name, object }, sight, held, none, self.options);
            self.actions.insert(Key::new(Kind::Image, name.clone()), action);
        }
        for (name, object) in &desired.volumes {
            let sight = observed.volumes.get(name).unwrap_or(&Sight::Absent);
            let held = self.held(Kind::Volume, name);
            let action = decide(&Volume { name, object }, sight, held, none, self.options);
            self.actions.insert(Key::new(Kind::Volume, name.clone()), action);
        }
        for (name, object) in &desired.networks {
            let key = Key::new(Kind::Network, name.clone());
            let filter = self.filter.drifts(&key);
            let filter_unreadable = self.filter.unreadable_for(&key);
            let network = Network { name, object, observed, filter, filter_unreadable };
            let action = decide(&network, sight(observed, name), self.held(Kind::Network, name), none, self.options);
            self.actions.insert(key, action);
        }
    }

    fn decide_containers(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        let mut before: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
        for (name, object) in &desired.containers {
            let joined = match &object.spec.network_mode {
                Some(NetworkMode::Container(name)) => Some(name),
                _ => None,
            };
            let first = object.spec.depends_on.iter().map(|dependency| &dependency.container).chain(joined);
            let first = first.map(|name| Key::new(Kind::Container, name.clone())).collect();
            before.insert(Key::new(Kind::Container, name.clone()), first);
        }
        let ranked = before.keys().map(|key| (0, key.clone())).collect();
        for key in sequence(ranked, &mut before) {
            let Some(object) = desired.containers.get(&key.name) else { continue };
            let sight = observed.containers.get(&key.name).unwrap_or(&Sight::Absent);
            let container = Container { name: &key.name, object, world: self };
            let held = self.held(Kind::Container, &key.name);
            let action = decide(&container, sight, held, |needs| self.missing(needs), self.options);
            self.actions.insert(key, action);
        }
    }

    /// Says why the firewall table could not be read, where something needs it and no object's own hold says so.
    pub(crate) fn firewall_unseen(&self) -> Option<String> {
        let message = self.filter.unreadable.as_ref().filter(|_| !self.filter.firewall.is_empty())?;
        let tells = |(key, action): (&Key, &Action)| {
            matches!(action, Action::Hold(Why::Unreadable { .. })) && self.filter.unreadable_for(key).is_some()
        };
        (!self.actions.iter().any(tells)).then(|| message.clone())
    }

    /// Says which of the needs is not there and will not be, and why.
    fn missing(&self, needs: &BTreeSet<Key>) -> Option<String> {
        needs.iter().find_map(|key| match self.actions.get(key) {
            None => Some(format!("it needs {key}, which no manifest states or which could never be made")),
            Some(Action::Hold(Why::Stopped { since })) => Some(format!("{key} was stopped by hand at {since}")),
            // What stands in its place is not it, and waits for a person.
            Some(Action::Hold(why @ Why::DataLoss { .. })) => Some(format!("it needs {key}: {}", reason(why))),
            Some(Action::Hold(why)) if !self.exists(key) => Some(format!("it needs {key}: {}", reason(why))),
            Some(_) => None,
        })
    }

    /// Says which macvlan network of a container has lost its parent: its interfaces there cannot be repaired before.
    pub(crate) fn parentless(&self, spec: &ContainerSpec) -> Option<String> {
        let networks = spec.networks.iter().map(|attachment| &attachment.name);
        let mut macvlan = networks.filter(|name| {
            self.desired.networks.get(*name).is_some_and(|object| object.spec.driver == Driver::Macvlan)
        });
        macvlan.find_map(|name| {
            let key = Key::new(Kind::Network, name.clone());
            match self.actions.get(&key) {
                Some(Action::Hold(Why::Conflict { message })) => Some(format!("it needs {key}: {message}")),
                _ => None,
            }
        })
    }

    /// Tells whether an object is there and ours to use.
    fn exists(&self, key: &Key) -> bool {
        fn ours<T, S>(sight: Option<&Sight<T>>, object: Option<&Object<S>>) -> bool {
            let policy = object.map(|object| object.policy).unwrap_or_default();
            matches!(sight, Some(Sight::Found { owned, .. }) if is_ours(*owned, &policy))
        }
        let (desired, observed, name) = (self.desired, self.observed, &key.name);
        match key.kind {
            Kind::Image => ours(observed.images.get(name), desired.images.get(name)),
            Kind::Volume => ours(observed.volumes.get(name), desired.volumes.get(name)),
            Kind::Network => ours(observed.networks.get(name), desired.networks.get(name)),
            Kind::Container => ours(observed.containers.get(name), desired.containers.get(name)),
        }
    }

    fn decide_leaving(&mut self) {
        let (observed, options) = (self.observed, self.options);
        for (key, policy) in gone(self.desired, observed) {
            let name = &key.name;
            let action = match key.kind {
                Kind::Image => decide_leaving(key, observed.images.get(name), policy, options),
                Kind::Volume => decide_leaving(key, observed.volumes.get(name), policy, options),
                Kind::Network => decide_leaving(key, Some(sight(observed, name)), policy, options),
                Kind::Container => decide_leaving(key, observed.containers.get(name), policy, options),
            };
            self.actions.insert(key.clone(), action);
        }
        while self.hold_what_is_in_use() {}
    }

    /// Takes what is held before it ever was out of the firewall: its rules would lead nowhere.
    fn leave_out_what_will_not_be(&mut self) {
        let held = self.actions.iter().filter(|(_, action)| matches!(action, Action::Hold(_)));
        let is_absent = |key: &Key| match key.kind {
            Kind::Network => *sight(self.observed, &key.name) == Sight::Absent,
            Kind::Container => {
                matches!(self.observed.containers.get(&key.name), None | Some(Sight::Absent))
            }
            Kind::Image | Kind::Volume => false,
        };
        let absent: BTreeSet<Key> = held.map(|(key, _)| key).filter(|key| is_absent(key)).cloned().collect();
        if !absent.is_empty() {
            self.filter.leave_out(&absent, self.observed);
        }
    }

    /// Takes back deletions of what a container that stays as it is still uses; tells whether there were any.
    ///
    /// A container kept this way keeps its own foundations, so this is repeated until nothing changes.
    fn hold_what_is_in_use(&mut self) -> bool {
        if !self.actions.values().any(|action| *action == Action::Delete) {
            return false;
        }
        let mut holds: BTreeMap<Key, Why> = BTreeMap::new();
        for (name, sight) in &self.observed.containers {
            let key = Key::new(Kind::Container, name.clone());
            let why = match (sight, self.actions.get(&key)) {
                (Sight::Unreadable(_), _) => {
                    let message = format!("{key} could not be looked at and may use it");
                    let deleted = self.actions.iter().filter(|(_, action)| **action == Action::Delete);
                    let beneath = deleted.filter(|(key, _)| key.kind != Kind::Container);
                    holds.extend(beneath.map(|(key, _)| (key.clone(), Why::Unreadable { message: message.clone() })));
                    continue;
                }
                (Sight::Found { .. }, Some(Action::Hold(Why::Kept))) => Why::Kept,
                (Sight::Found { .. }, Some(Action::Hold(_))) => {
                    Why::Conflict { message: format!("{key}, which is on hold, still uses it") }
                }
                _ => continue,
            };
            let Some(container) = sight.found() else { continue };
            for used in foundations(&container.spec, self) {
                if self.actions.get(&used) == Some(&Action::Delete) {
                    holds.entry(used).or_insert_with(|| why.clone());
                }
            }
        }
        let changed = !holds.is_empty();
        self.actions.extend(holds.into_iter().map(|(key, why)| (key, Action::Hold(why))));
        changed
    }
}

/// Puts a hold into words, for whom it stops.
fn reason(why: &Why) -> String {
    match why {
        Why::Source { message }
        | Why::Unreadable { message }
        | Why::NotOurs { message }
        | Why::Restarting { message }
        | Why::Conflict { message } => message.clone(),
        Why::Kept => "its manifest went".to_owned(),
        Why::ReportOnly { .. } => "`policy.drift` is report".to_owned(),
        Why::DataLoss { .. } => "repairing it loses data".to_owned(),
        Why::Stopped { since } => format!("stopped by hand at {since}"),
    }
}
