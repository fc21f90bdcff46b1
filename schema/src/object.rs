//! The envelope that every document shares: metadata and policy around a kind's own `spec`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Name;

/// One document: the envelope around the spec of its kind. `apiVersion` and `kind` chose the type already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S> {
    /// Name and labels.
    pub metadata: Metadata,
    /// What the object is to be.
    pub spec: S,
    /// What evenkeel may do with the object on its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
}

/// Name and labels of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Identifies the object within its kind: 1 to 63 of `a-z 0-9 - _ .`, beginning and ending with a letter or digit.
    pub name: Name,
    /// Free text for people and for selection; never sent to the kernel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What evenkeel may do with an object on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// What happens when the manifest goes. Default: `keep` for volumes, `delete` for every other kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Prune>,
    /// What happens when the host differs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drift: DriftPolicy,
    /// Whether a step that loses data may be done without asking.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data_loss: DataLossPolicy,
    /// Whether an object of this name that evenkeel did not make is taken over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adopt: bool,
}

/// What happens to an object whose manifest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Prune {
    Delete,
    Keep,
}

/// What happens when the host differs from the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DriftPolicy {
    /// Repair it.
    #[default]
    Enforce,
    /// Say so and leave it.
    Report,
}

/// Whether a step that loses data may be done without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DataLossPolicy {
    /// Hold the step until a person says `--yes`.
    #[default]
    Ask,
    Allow,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
