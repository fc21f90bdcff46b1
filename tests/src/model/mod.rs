//! A host in memory: what a plan makes of it, and what may happen to it.
//!
//! It does what the steps say and no more: a live update changes nothing that takes a restart, a restart nothing that
//! takes making anew. So a difference that was given too weak a remedy is still there when the plan was applied. It
//! panics where a step comes before what it needs, or takes away what is still in use.

mod container;
mod network;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use evenkeel_plan::{
    Action, Desired, Key, Kind, Name, Observed, ObservedImage, ObservedVolume, Plan, Sight, Step, Why,
};
use evenkeel_schema::{Digest, ImageConfig, ImageSource, ImageSpec, Policy};

/// The host, in the form in which it is observed.
#[derive(Clone, Debug)]
pub struct Host {
    pub observed: Observed,
}

impl Host {
    /// Makes a host on which nothing was ever applied.
    pub fn bare() -> Host {
        Host { observed: Observed { instance: "evenkeel".to_owned(), ..Observed::default() } }
    }

    /// Makes a host on which these manifests were applied.
    pub fn with(desired: &Desired) -> Host {
        let mut host = Host::bare();
        let plan = evenkeel_plan::plan(desired, &host.observed, &evenkeel_plan::Options::default());
        host.apply(desired, &plan);
        host
    }

    /// Looks at the host as one does who wants these manifests: at the parents that they name.
    pub fn observe(&self, desired: &Desired) -> Observed {
        let mut observed = self.observed.clone();
        for (name, object) in &desired.networks {
            if let Some(Sight::Found { observed, .. }) = observed.networks.get_mut(name) {
                observed.parent = network::parent(&object.spec);
            }
        }
        observed
    }

    /// Does what a plan says, step by step.
    pub fn apply(&mut self, desired: &Desired, plan: &Plan) {
        let mut done: Vec<&Key> = Vec::new();
        for step in &plan.steps {
            for before in &step.after {
                assert!(done.contains(&before), "{} is to come after {before}, but does not", step.key);
            }
            done.push(&step.key);
            self.step(desired, plan, step);
        }
        if plan.firewall_differs {
            self.observed.firewall = if plan.firewall.is_empty() {
                Sight::Absent
            } else {
                Sight::Found { observed: plan.firewall.normal_form(), owned: true }
            };
        }
    }

    fn step(&mut self, desired: &Desired, plan: &Plan, step: &Step) {
        let key = &step.key;
        match &step.action {
            Action::Keep | Action::Hold(_) => return,
            Action::Delete => {
                self.delete(key, plan);
                self.observed.ledger.remove(key);
                return;
            }
            Action::Create | Action::Update(_) | Action::Replace(_) => {}
        }
        self.observed.ledger.insert(key.clone(), policy(desired, key));
        match key.kind {
            Kind::Image => self.image(&key.name, &desired.images[&key.name].spec, step),
            Kind::Volume => {
                let spec = &desired.volumes[&key.name].spec;
                let path = format!("/var/lib/evenkeel/volumes/{}", key.name).into();
                let directory = match (&step.action, self.observed.volumes.get(&key.name).and_then(Sight::found)) {
                    (Action::Update(_), Some(found)) => found.directory,
                    _ => true,
                };
                let volume = ObservedVolume { path, directory, owner: spec.owner, mode: spec.mode };
                self.observed.volumes.insert(key.name.clone(), found(volume));
            }
            Kind::Network => self.network(&key.name, &desired.networks[&key.name].spec, step),
            Kind::Container => self.container(desired, plan, step),
        }
    }

    fn image(&mut self, name: &Name, spec: &ImageSpec, step: &Step) {
        let before = self.observed.images.get(name).and_then(Sight::found);
        let image = match (&step.action, before) {
            // What is repaired in place keeps its content, wherever it is now said to come from.
            (Action::Update(_), Some(before)) => {
                ObservedImage { source: spec.source.clone(), damage: Vec::new(), layers_lost: false, ..before.clone() }
            }
            _ => fetched(spec, before.and_then(|image| image.upstream.clone()?.ok())),
        };
        self.observed.images.insert(name.clone(), found(image));
    }

    fn delete(&mut self, key: &Key, plan: &Plan) {
        let name = &key.name;
        if key.kind == Kind::Container {
            self.observed.containers.remove(name);
            self.observed.leases.remove(name);
            self.observed.overrides.remove(name);
            return;
        }
        let moves_on = |container: &Name| {
            let step = plan.steps.iter().find(|step| step.key == Key::new(Kind::Container, container.clone()));
            step.is_some_and(|step| matches!(step.action, Action::Update(_) | Action::Replace(_)))
        };
        for (container, sight) in &self.observed.containers {
            let Some(found) = sight.found() else { continue };
            let uses = container::uses(&found.spec, key);
            // Only a network that another takes the place of goes before those that move over have left.
            let succeeded = key.kind == Kind::Network
                && moves_on(container)
                && plan.steps.iter().any(|step| step.key.kind == Kind::Network && step.after.contains(key));
            assert!(!uses || succeeded, "{key} is deleted while container/{container} uses it");
        }
        match key.kind {
            Kind::Image => drop(self.observed.images.remove(name)),
            Kind::Volume => drop(self.observed.volumes.remove(name)),
            Kind::Network => self.remove_network(name),
            Kind::Container => {}
        }
    }
}

fn policy(desired: &Desired, key: &Key) -> Policy {
    match key.kind {
        Kind::Image => desired.images[&key.name].policy,
        Kind::Volume => desired.volumes[&key.name].policy,
        Kind::Network => desired.networks[&key.name].policy,
        Kind::Container => desired.containers[&key.name].policy,
    }
}

fn found<T>(observed: T) -> Sight<T> {
    Sight::Found { observed, owned: true }
}

/// Gives the image that a source holds; `upstream` where it has moved on since.
pub fn fetched(spec: &ImageSpec, upstream: Option<Digest>) -> ObservedImage {
    let content = match &spec.source {
        ImageSource::Registry(reference) => reference.clone(),
        ImageSource::Archive(path) => path.display().to_string(),
        ImageSource::Rootfs { path, config } => format!("{} {config:?}", path.display()),
    };
    let digest = spec.digest.clone().or(upstream).unwrap_or_else(|| digest_of(&content));
    let config = match &spec.source {
        ImageSource::Rootfs { config, .. } => config.clone(),
        ImageSource::Registry(_) | ImageSource::Archive(_) => ImageConfig::default(),
    };
    ObservedImage {
        id: digest_of(digest.as_str()),
        digest,
        source: spec.source.clone(),
        config,
        layers: vec![digest_of("layer")],
        size: 1 << 20,
        damage: Vec::new(),
        layers_lost: false,
        upstream: None,
    }
}

/// Makes up a digest that is the same for the same text.
pub fn digest_of(text: &str) -> Digest {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let hex = format!("{:016x}", hasher.finish());
    format!("sha256:{}", hex.repeat(4)).parse().expect("a digest is sha256: and 64 hexadecimal digits")
}

/// Tells whether a plan says that all is as it should be, kept objects included.
pub fn settled(plan: &Plan) -> bool {
    let quiet = |step: &Step| matches!(step.action, Action::Keep | Action::Hold(Why::Kept));
    !plan.firewall_differs && plan.steps.iter().all(quiet)
}
