//! Documents without a problem become [`Desired`]; of the others, the key is held.

use std::path::PathBuf;

use evenkeel_plan::Desired;
use evenkeel_schema::{ContainerSpec, ImageSource, ImageSpec, Key, Kind, Metadata, Object, Policy, PullPolicy};

use crate::document::{Body, Document, Held};
use crate::problem::Findings;
use crate::reference::Reference;
use crate::text::SourceFile;

/// Gathers what is desired.
pub(crate) fn desire(
    files: &[SourceFile],
    documents: Vec<Document>,
    held: Vec<Held>,
    findings: &Findings<'_>,
) -> Desired {
    let mut desired = Desired::default();
    let mut containers = Vec::new();
    for Held { file, key, reason, .. } in held {
        hold(&mut desired, files.get(file), key, reason);
    }
    for document in documents {
        let Some(file) = files.get(document.file) else { continue };
        let Document { id, key, body, .. } = document;
        if let Some(reason) = findings.reason(id) {
            hold(&mut desired, Some(file), key, reason.to_owned());
            continue;
        }
        desired.files.insert(key.clone(), file.relative.clone());
        match body {
            Body::Image(image) => drop(desired.images.insert(key.name, completed(image, file))),
            Body::Volume(volume) => drop(desired.volumes.insert(key.name, volume)),
            Body::Network(network) => drop(desired.networks.insert(key.name, network)),
            Body::Container(container) => containers.push((key.name, container, file.relative.clone())),
        }
    }
    for (name, mut container, file) in containers {
        name_image(&mut desired, &mut container, file);
        desired.containers.insert(name, container);
    }
    // Two documents of one key are both held: neither is what is desired.
    for key in desired.held.keys() {
        match key.kind {
            Kind::Image => drop(desired.images.remove(&key.name)),
            Kind::Volume => drop(desired.volumes.remove(&key.name)),
            Kind::Network => drop(desired.networks.remove(&key.name)),
            Kind::Container => drop(desired.containers.remove(&key.name)),
        }
    }
    desired
}

fn hold(desired: &mut Desired, file: Option<&SourceFile>, key: Key, reason: String) {
    if let Some(file) = file {
        desired.files.insert(key.clone(), file.relative.clone());
    }
    desired.held.entry(key).or_insert(reason);
}

/// Makes paths absolute and references full.
fn completed(mut image: Object<ImageSpec>, file: &SourceFile) -> Object<ImageSpec> {
    match &mut image.spec.source {
        ImageSource::Archive(path) | ImageSource::Rootfs { path, .. } => *path = file.resolve(path),
        ImageSource::Registry(text) => {
            if let Ok(reference) = text.parse::<Reference>() {
                *text = reference.to_string();
            }
        }
    }
    image
}

/// Where a container states a registry reference, adds the Image that it stands for and puts that one's name in its place.
fn name_image(desired: &mut Desired, container: &mut Object<ContainerSpec>, file: PathBuf) {
    let Some(reference) = implicit(&container.spec.image) else { return };
    let name = reference.image_name();
    container.spec.image = name.to_string();
    let key = Key::new(Kind::Image, name.clone());
    if desired.images.contains_key(&name) || desired.held.contains_key(&key) {
        return;
    }
    let spec = ImageSpec {
        source: ImageSource::Registry(reference.to_string()),
        digest: None,
        pull: PullPolicy::default(),
        platform: None,
        insecure: false,
    };
    let metadata = Metadata { name: name.clone(), labels: Default::default(), annotations: Default::default() };
    desired.images.insert(name, Object { metadata, spec, policy: Policy::default() });
    desired.files.entry(key).or_insert(file);
}

/// Reads a container's `image` as a registry reference, unless it can only be the name of an Image.
pub(crate) fn implicit(image: &str) -> Option<Reference> {
    image.contains(['/', ':', '@']).then(|| image.parse().ok()).flatten()
}
