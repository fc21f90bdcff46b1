//! Mounts by themselves: one per target.

use std::collections::BTreeMap;

use evenkeel_schema::{Bytes, ContainerSpec, MountSource};

use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings};

pub(super) fn check(document: &Document, container: &ContainerSpec, findings: &mut Findings<'_>) {
    let mut first = BTreeMap::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        let at = document.value(&way!["spec", "mounts", index, "target"]);
        if let Some(first) = first.get(&mount.target) {
            let finding = Finding::new(at, format!("two mounts have the target `{}`", mount.target));
            findings.spoil(&[document.culprit()], finding.label("second time").also(*first, "first time"));
        }
        first.entry(&mount.target).or_insert(at);
        if matches!(mount.source, MountSource::Tmpfs { size: Some(Bytes(0)), .. }) {
            let at = document.value(&way!["spec", "mounts", index, "size"]);
            let finding = Finding::new(at, "a tmpfs of size 0 holds nothing");
            findings.spoil(&[document.culprit()], finding.help("leave `size` out for no limit of its own"));
        }
    }
}
