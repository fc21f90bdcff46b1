//! What a pass is about to do, written to the ledger before the first deed.

use evenkeel_plan::{Action, Key, Kind, Name, Why};
use evenkeel_shim::fail_point;

use super::Pass;
use crate::ledger::{Intents, Lease, LedgerError, Stated};

impl Pass {
    /// Writes every intent before the first deed, so that nothing made is ever unknown.
    pub(super) fn record_intents(&self) -> Result<(), LedgerError> {
        let mut intents = Intents::default();
        for step in self.tried() {
            let key = &step.key;
            match &step.action {
                // A container that cannot be made yet is wanted all the same: `drift` must know of it.
                Action::Hold(Why::Conflict { .. } | Why::Unreadable { .. })
                    if key.kind != Kind::Container || self.known.last_stated.contains(key) => {}
                // Repaired to what it was: the ledger knows it, and nothing that it does not know is made.
                Action::Update(_) if self.is_as_stated(key) => {}
                Action::Create
                | Action::Update(_)
                | Action::Replace(_)
                | Action::Hold(Why::Conflict { .. } | Why::Unreadable { .. }) => {
                    intents.begun.extend(self.stated(key));
                }
                // Most objects of most passes: to encode each would cost more than all the rest of a quiet one.
                Action::Keep if self.is_settled(key) => {}
                // In sync already; the ledger follows a manifest that changed without the host having to.
                Action::Keep => intents.kept.extend(self.stated(key)),
                Action::Delete => intents.leaving.push(key.clone()),
                Action::Hold(Why::Kept) if self.known.wanted.contains(key) => intents.released.push(key.clone()),
                Action::Hold(_) => {}
            }
        }
        for (container, endpoints) in self.plan.endpoints.iter().filter(|(container, _)| self.is_made(container)) {
            let held = self.known.leases.get(container);
            let leases = endpoints.iter().map(|endpoint| Lease {
                container: container.clone(),
                network: endpoint.network.clone(),
                addresses: endpoint.leased.iter().copied().collect(),
            });
            let is_news = |lease: &Lease| {
                held.and_then(|held| held.get(&lease.network))
                    .map_or(!lease.addresses.is_empty(), |held| *held != lease.addresses)
            };
            intents.leases.extend(leases.filter(is_news));
        }
        self.ledger.intend(&intents)?;
        fail_point!("pass.begun");
        Ok(())
    }

    /// Tells whether an object's manifest, its policy included, is the one that was stated last.
    fn is_as_stated(&self, key: &Key) -> bool {
        let (now, last, name) = (&self.desired, &self.known.last_stated, &key.name);
        match key.kind {
            Kind::Image => now.images.get(name) == last.images.get(name),
            Kind::Volume => now.volumes.get(name) == last.volumes.get(name),
            Kind::Network => now.networks.get(name) == last.networks.get(name),
            Kind::Container => now.containers.get(name) == last.containers.get(name),
        }
    }

    /// Tells whether the ledger has an object as applied to the end, with this manifest from this file.
    fn is_settled(&self, key: &Key) -> bool {
        let (now, last) = (&self.desired, &self.known.last_stated);
        self.applied.contains(key) && now.files.get(key) == last.files.get(key) && self.is_as_stated(key)
    }

    fn is_made(&self, container: &Name) -> bool {
        let step = self.step(&Key::new(Kind::Container, container.clone()));
        step.is_some_and(|step| matches!(step.action, Action::Create | Action::Update(_) | Action::Replace(_)))
    }

    fn stated(&self, key: &Key) -> Option<Stated> {
        let object = match key.kind {
            Kind::Image => serde_json::to_value(self.desired.images.get(&key.name)?),
            Kind::Volume => serde_json::to_value(self.desired.volumes.get(&key.name)?),
            Kind::Network => serde_json::to_value(self.desired.networks.get(&key.name)?),
            Kind::Container => serde_json::to_value(self.desired.containers.get(&key.name)?),
        };
        // The types hold only maps with text keys, which JSON always takes.
        Some(Stated { key: key.clone(), object: object.ok()?, file: self.desired.files.get(key).cloned() })
    }
}
