//! What needs more than one field or more than one object to be judged.
//!
//! An object that lost a wrong value is judged with the rest of it; that something is absent is then not held against it.
//! A problem between two objects holds both: which of them was there first is not the manifests' to say.

mod addresses;
mod container;
mod cycle;
mod image;
mod links;
mod mounts;
mod names;
mod network;
mod ports;
mod references;
mod subnets;

use std::collections::BTreeMap;

use evenkeel_schema::{ContainerSpec, ImageSpec, Kind, Name, NetworkSpec};

use crate::document::{Body, Document, Documents};
use crate::problem::Findings;

/// Every object by its name; of two with one name, the first.
struct World<'a> {
    documents: &'a Documents,
    images: BTreeMap<&'a Name, (&'a Document, &'a ImageSpec)>,
    networks: BTreeMap<&'a Name, (&'a Document, &'a NetworkSpec)>,
    containers: BTreeMap<&'a Name, (&'a Document, &'a ContainerSpec)>,
}

impl<'a> World<'a> {
    fn new(documents: &'a Documents) -> World<'a> {
        let (mut images, mut networks, mut containers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for document in &documents.decoded {
            let name = &document.key.name;
            match &document.body {
                Body::Image(image) => drop(images.entry(name).or_insert((document, &image.spec))),
                Body::Volume(_) => {}
                Body::Network(network) => drop(networks.entry(name).or_insert((document, &network.spec))),
                Body::Container(container) => drop(containers.entry(name).or_insert((document, &container.spec))),
            }
        }
        World { documents, images, networks, containers }
    }

    /// Lists the names of a kind, of objects on hold too.
    fn names(&self, kind: Kind) -> impl Iterator<Item = &'a Name> {
        let decoded = self.documents.decoded.iter().map(|document| &document.key);
        let held = self.documents.held.iter().map(|held| &held.key);
        decoded.chain(held).filter(move |key| key.kind == kind).map(|key| &key.name)
    }
}

/// Adds every problem of meaning.
pub(crate) fn check(documents: &Documents, findings: &mut Findings<'_>) {
    let world = World::new(documents);
    names::check(&world, findings);
    for (document, image) in world.images.values() {
        image::check(document, image, findings);
    }
    for (document, network) in world.networks.values() {
        network::check(document, network, findings);
    }
    subnets::check(&world, findings);
    links::check(&world, findings);
    for (document, container) in world.containers.values() {
        container::check(document, container, findings);
        mounts::check(document, container, findings);
    }
    references::check(&world, findings);
    addresses::check(&world, findings);
    ports::check(&world, findings);
    cycle::check(&world, findings);
}
