//! References: to an image, networks, volumes and other containers.

use std::collections::BTreeSet;

use evenkeel_schema::{
    Condition, ContainerSpec, Kind, MountSource, Name, NetworkMode, RestartPolicy, implicit_image_name,
};

use super::World;
use crate::document::Document;
use crate::node::{Step, shortened, way};
use crate::problem::{Finding, Findings, Spot};
use crate::reference::Reference;
use crate::suggest;

pub(super) fn check(world: &World<'_>, findings: &mut Findings<'_>) {
    let known = Known { world, names: Kind::ALL.map(|kind| (kind, world.names(kind).map(Name::as_str).collect())) };
    for (document, container) in world.containers.values() {
        known.image(document, container, findings);
        for (index, attachment) in container.networks.iter().enumerate() {
            known.find(document, Kind::Network, &attachment.name, &way!["spec", "networks", index, "name"], findings);
        }
        for (index, mount) in container.mounts.iter().enumerate() {
            if let MountSource::Volume(volume) = &mount.source {
                known.find(document, Kind::Volume, volume, &way!["spec", "mounts", index, "volume"], findings);
            }
        }
        if let Some(NetworkMode::Container(other)) = &container.network_mode {
            known.find(document, Kind::Container, other, &way!["spec", "networkMode"], findings);
        }
        for (index, dependency) in container.depends_on.iter().enumerate() {
            let way = way!["spec", "dependsOn", index, "container"];
            known.find(document, Kind::Container, &dependency.container, &way, findings);
            if let Some((other, spec)) = world.containers.get(&dependency.container) {
                let at = document.value(&way!["spec", "dependsOn", index, "condition"]);
                check_condition(document, at, dependency.condition, other, spec, findings);
            }
        }
    }
}

struct Known<'a> {
    world: &'a World<'a>,
    names: [(Kind, BTreeSet<&'a str>); 4],
}

impl Known<'_> {
    fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(of, _)| *of == kind).flat_map(|(_, names)| names.iter().copied())
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.names.iter().any(|(of, names)| *of == kind && names.contains(name))
    }

    fn find(&self, document: &Document, kind: Kind, name: &Name, way: &[Step<'_>], findings: &mut Findings<'_>) {
        if self.has(kind, name.as_str()) {
            return;
        }
        let help = format!("add a {kind} of this name");
        self.nothing(document, document.value(way), kind, name.as_str(), help, findings);
    }

    /// Reports a reference to nothing, unless what it names may stand in a document that could not be read.
    fn nothing(
        &self,
        document: &Document,
        at: Spot,
        kind: Kind,
        name: &str,
        help: String,
        findings: &mut Findings<'_>,
    ) {
        if let Some(unknown) = self.world.documents.unknown.iter().find(|unknown| unknown.may_be(name)) {
            let reason = format!("{} `{name}` may stand in {}, which cannot be understood", kind, unknown.file);
            return findings.hold(document.id, reason);
        }
        let finding = Finding::new(at, format!("there is no {kind} `{}`", shortened(name))).label("refers to nothing");
        let near = suggest::nearest(name, self.names(kind));
        let help = near.map(|near| format!("did you mean `{near}`?")).unwrap_or(help);
        findings.spoil(&[document.culprit()], finding.help(help));
    }

    fn image(&self, document: &Document, container: &ContainerSpec, findings: &mut Findings<'_>) {
        let image = container.image.as_str();
        let at = document.value(&way!["spec", "image"]);
        if self.has(Kind::Image, image) {
            return;
        }
        let reference = image.parse::<Reference>();
        if !image.contains(['/', ':', '@']) {
            let help = match reference {
                Ok(reference) => format!("write `{reference}`, or add an Image of this name"),
                Err(_) => "write an Image's name, or a registry reference as docker.io/library/nginx:1.27".to_owned(),
            };
            return self.nothing(document, at, Kind::Image, image, help, findings);
        }
        match reference {
            Err(error) => findings.spoil(&[document.culprit()], Finding::new(at, error.to_string())),
            Ok(reference) => {
                let name = implicit_image_name(&reference.to_string());
                if self.has(Kind::Image, name.as_str()) {
                    let message = format!("this reference stands for an Image `{name}`, and there is one of that name");
                    let finding = Finding::new(at, message).help("give that Image another name");
                    findings.spoil(&[document.culprit()], finding);
                }
            }
        }
    }
}

fn check_condition(
    document: &Document,
    at: Spot,
    condition: Condition,
    other: &Document,
    spec: &ContainerSpec,
    findings: &mut Findings<'_>,
) {
    let name = &other.key.name;
    let finding = match condition {
        _ if other.partial => return,
        Condition::Healthy if spec.health.is_none() => {
            let finding = Finding::new(at, format!("container `{name}` has no `health`, so it never becomes healthy"));
            finding.also(other.name_spot(), "has no health").help("give it a `health`, or wait for `started`")
        }
        Condition::Completed if matches!(spec.restart.policy, RestartPolicy::Always | RestartPolicy::UnlessStopped) => {
            let finding = Finding::new(
                at,
                format!("container `{name}` is started again whenever it ends, so it never completes"),
            );
            finding.also(other.name_spot(), "is restarted").help("give it `restart: {policy: onFailure}` or `never`")
        }
        _ => return,
    };
    findings.spoil(&[document.culprit()], finding);
}
