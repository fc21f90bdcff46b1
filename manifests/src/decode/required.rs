//! Which fields each mapping must have.
//!
//! serde names one missing field at a time; this table lets all of them be named. A test holds it to the JSON Schemas.

/// Types by their Rust name, with their required fields.
pub(crate) const REQUIRED: &[(&str, &[&str])] = &[
    ("Object", &["metadata", "spec"]),
    ("Metadata", &["name"]),
    ("NetworkSpec", &["driver", "subnets"]),
    ("Subnet", &["subnet"]),
    ("HostShim", &["address"]),
    ("ContainerSpec", &["image"]),
    ("NetworkAttachment", &["name"]),
    ("RawMount", &["target"]),
    ("IdMap", &["uid"]),
    ("Health", &["exec"]),
    ("Dependency", &["container"]),
];

pub(super) fn required(name: &str) -> &'static [&'static str] {
    REQUIRED.iter().find(|(known, _)| *known == name).map_or(&[], |(_, fields)| fields)
}
