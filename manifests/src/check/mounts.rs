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
        let parts: Vec<&str> = mount.target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if let Some(first) = first.get(&parts) {
            let finding = Finding::new(at, format!("two mounts have the target `/{}`", parts.join("/")));
            findings.spoil(&[document.culprit()], finding.label("second time").also(*first, "first time"));
        }
        first.entry(parts).or_insert(at);
        if matches!(mount.source, MountSource::Tmpfs { size: Some(Bytes(0)), .. }) {
            let at = document.value(&way!["spec", "mounts", index, "size"]);
            let finding = Finding::new(at, "a tmpfs of size 0 holds nothing");
            findings.spoil(&[document.culprit()], finding.help("leave `size` out for no limit of its own"));
        }
    }
}
