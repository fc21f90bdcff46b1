//! Documents without a problem become [`Desired`]; of the others, the key is held.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evenkeel_plan::Desired;
use evenkeel_schema::{
    ContainerSpec, ImageSource, ImageSpec, Key, Kind, Metadata, Object, Policy, PullPolicy, implicit_image_name,
};

use crate::document::{Body, Document, Documents, Held};
use crate::problem::Findings;
use crate::reference::Reference;
use crate::text::SourceFile;

/// Gathers what is desired.
pub(crate) fn desire(files: &[SourceFile], documents: Documents, findings: &Findings<'_>) -> Desired {
    let mut desired = Desired::default();
    let mut containers = Vec::new();
    for Held { file, key, reason, .. } in documents.held {
        hold(&mut desired, files.get(file), key, reason);
    }
    for document in documents.decoded {
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
            Body::Container(container) => containers.push((key.name, *container, file.relative.clone())),
        }
    }
    for (name, mut container, file) in containers {
        add_implicit_image(&mut desired, &mut container, file);
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

/// Where a container states a registry reference, completes it and adds the Image that it stands for.
fn add_implicit_image(desired: &mut Desired, container: &mut Object<ContainerSpec>, file: PathBuf) {
    let Some(reference) = implicit(&container.spec.image) else { return };
    let reference = reference.to_string();
    let name = implicit_image_name(&reference);
    container.spec.image.clone_from(&reference);
    let spec = ImageSpec {
        source: ImageSource::Registry(reference),
        digest: None,
        pull: PullPolicy::default(),
        platform: None,
        insecure: false,
    };
    let metadata = Metadata { name: name.clone(), labels: BTreeMap::new(), annotations: BTreeMap::new() };
    desired.files.entry(Key::new(Kind::Image, name.clone())).or_insert(file);
    desired.images.entry(name).or_insert(Object { metadata, spec, policy: Policy::default() });
}

/// Reads a container's `image` as a registry reference, unless it can only be the name of an Image.
fn implicit(image: &str) -> Option<Reference> {
    image.contains(['/', ':', '@']).then(|| image.parse().ok()).flatten()
}
