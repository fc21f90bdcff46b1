//! What holds of every plan, whatever the manifests and whatever happened to the host.
//!
//! The model host checks the order by itself: it panics where a step comes before what it needs, or deletes what
//! is still in use.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_plan::{Action, Desired, Kind, Options, Plan, Sight, Why, plan};
use evenkeel_tests::model::{Host, settled};
use proptest::prelude::*;

use crate::random::{Damage, damage, draw, move_tag, stop};
use crate::text::render;

fn decide(desired: &Desired, host: &Host) -> Plan {
    plan(desired, &host.observe(desired), &Options::default())
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(any::<Damage>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// After a plan was carried out, nothing is left to do.
    #[test]
    fn one_pass_converges(before in draw(), after in draw(), damages in damages(), tag in any::<u8>()) {
        let (before, after) = (before.desired(), after.desired());
        let mut host = Host::with(&before);
        let quiet = decide(&before, &host);
        prop_assert!(settled(&quiet), "not in sync after the first plan:\n{}", render(&quiet));
        for what in damages {
            damage(&mut host, what);
        }
        if tag % 4 == 0 {
            move_tag(&mut host, tag);
        }
        let first = decide(&after, &host);
        host.apply(&after, &first);
        let second = decide(&after, &host);
        prop_assert!(settled(&second), "first:\n{}\nsecond:\n{}", render(&first), render(&second));
    }

    /// Nothing differs without an object and a field that say so.
    #[test]
    fn every_difference_has_a_name(desired in draw(), damages in damages()) {
        let desired = desired.desired();
        let mut host = Host::with(&desired);
        for what in damages {
            damage(&mut host, what);
        }
        let plan = decide(&desired, &host);
        let unnamed = plan.steps.iter().all(|step| matches!(step.action, Action::Keep));
        let needed = !plan.firewall.is_empty();
        prop_assert!(!(plan.firewall_differs && unnamed && needed), "{}", render(&plan));
        for step in &plan.steps {
            if let Action::Update(drifts) | Action::Replace(drifts) = &step.action {
                prop_assert!(!drifts.is_empty(), "{} is changed for no reason", step.key);
            }
        }
    }

    /// No two containers have one address on a network, and none has the network's own.
    #[test]
    fn no_address_is_given_twice(before in draw(), after in draw()) {
        let (before, after) = (before.desired(), after.desired());
        let host = Host::with(&before);
        let plan = decide(&after, &host);
        let mut seen = BTreeMap::new();
        for endpoint in plan.endpoints.values().flatten() {
            for address in &endpoint.addresses {
                let other = seen.insert((&endpoint.network, address.addr()), &endpoint.container);
                prop_assert!(other.is_none(), "{} belongs to {:?} and {}", address, other, endpoint.container);
                prop_assert!(!endpoint.gateways.contains(&address.addr()));
                prop_assert!(address.addr() != address.network());
            }
        }
    }

    /// A dynamic address stays with its container while its network stays as it is.
    #[test]
    fn leases_are_kept(before in draw(), damages in damages()) {
        let before = before.desired();
        let mut host = Host::with(&before);
        let first = decide(&before, &host);
        for what in damages {
            damage(&mut host, what);
        }
        prop_assert_eq!(first.endpoints, decide(&before, &host).endpoints);
    }

    /// A container that a person stopped is left alone, whatever else is done.
    #[test]
    fn a_stopped_container_is_left_alone(before in draw(), after in draw(), which in any::<u8>()) {
        let (before, after) = (before.desired(), after.desired());
        let mut host = Host::with(&before);
        let Some(key) = stop(&mut host, which) else { return Ok(()) };
        // Its place on a bridge that is made anew is lost until it is started again; itself it is not touched.
        let itself = |host: &Host| match host.observed.containers.get(&key.name) {
            Some(Sight::Found { observed, .. }) => {
                Some((observed.spec.clone(), observed.state.clone(), observed.limits, observed.hosts.clone()))
            }
            _ => None,
        };
        let stopped = itself(&host);
        let plan = decide(&after, &host);
        host.apply(&after, &plan);
        if after.contains(&key) {
            prop_assert_eq!(stopped, itself(&host));
        }
    }

    /// What is on hold is not touched, and nothing it stands on is deleted.
    #[test]
    fn what_is_held_keeps_its_foundations(before in draw(), held in any::<u8>()) {
        let before = before.desired();
        let host = Host::with(&before);
        let containers: Vec<_> = before.containers.keys().cloned().collect();
        if containers.is_empty() {
            return Ok(());
        }
        let name = containers[usize::from(held) % containers.len()].clone();
        // Everything else went, and this one's file cannot be read.
        let mut after = Desired::default();
        after.containers.insert(name.clone(), before.containers[&name].clone());
        let key = evenkeel_plan::Key::new(Kind::Container, name.clone());
        after.held.insert(key.clone(), "line 3: not YAML".to_owned());
        let plan = decide(&after, &host);
        let mut later = host.clone();
        later.apply(&after, &plan);
        prop_assert_eq!(host.observed.containers.get(&name), later.observed.containers.get(&name));
        let step = plan.steps.iter().find(|step| step.key == key).map(|step| &step.action);
        let is_held = matches!(step, Some(Action::Hold(Why::Source { .. })));
        prop_assert!(is_held);
    }

    /// Everything that goes is gone, once nothing is kept.
    #[test]
    fn an_empty_directory_empties_the_host(before in draw()) {
        let before = before.desired();
        let mut host = Host::with(&before);
        for policy in host.observed.ledger.values_mut() {
            policy.prune = Some(evenkeel_schema::Prune::Delete);
        }
        let nothing = Desired::default();
        let plan = decide(&nothing, &host);
        host.apply(&nothing, &plan);
        let observed = &host.observed;
        prop_assert!(observed.ledger.is_empty() && observed.containers.is_empty() && observed.networks.is_empty());
        prop_assert!(observed.images.is_empty() && observed.volumes.is_empty() && observed.leases.is_empty());
        prop_assert!(observed.firewall == Sight::Absent);
    }

    /// The same two sides give the same plan, and each key one step.
    #[test]
    fn a_plan_is_a_function(before in draw(), after in draw()) {
        let (before, after) = (before.desired(), after.desired());
        let host = Host::with(&before);
        let plan = decide(&after, &host);
        let keys: BTreeSet<_> = plan.steps.iter().map(|step| &step.key).collect();
        prop_assert_eq!(keys.len(), plan.steps.len());
        prop_assert_eq!(&plan, &decide(&after, &host));
    }
}
