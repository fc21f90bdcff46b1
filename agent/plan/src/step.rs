//! The plan: what is to be done to which object, and after what.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::{Condition, Key, Name};
use serde::{Deserialize, Serialize};

use crate::{Drift, Endpoint, Firewall, Hosts, Remedy};

/// What is to be done to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "action", content = "detail")]
pub enum Action {
    /// Nothing: it is as it should be.
    Keep,
    Create,
    /// Repair these fields in place (`Live`), or with a start of the container's process (`Start`, `Restart`).
    Update(Vec<Drift>),
    /// Delete and make anew for these fields.
    Replace(Vec<Drift>),
    Delete,
    /// Leave as it is, for this reason.
    Hold(Why),
}

/// Why nothing is done to an object that is not in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "why")]
pub enum Why {
    /// Its manifest cannot be read.
    #[serde(rename_all = "camelCase")]
    Source { message: String },
    /// The host could not be asked: sight is not complete.
    #[serde(rename_all = "camelCase")]
    Unreadable { message: String },
    /// Something of this name is there that evenkeel did not make.
    #[serde(rename_all = "camelCase")]
    NotOurs { message: String },
    /// The manifest went; its policy keeps the object.
    Kept,
    /// `policy.drift: report`.
    #[serde(rename_all = "camelCase")]
    ReportOnly { drifts: Vec<Drift> },
    /// Repairing it loses data: `--yes` or `policy.dataLoss: allow`.
    #[serde(rename_all = "camelCase")]
    DataLoss { drifts: Vec<Drift> },
    /// A person stopped the container.
    #[serde(rename_all = "camelCase")]
    Stopped { since: String },
    /// Its shim is about to start it again.
    #[serde(rename_all = "camelCase")]
    Restarting { message: String },
    /// It cannot be: an address or a route is taken, a range is used up.
    #[serde(rename_all = "camelCase")]
    Conflict { message: String },
}

/// One object's part of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub key: Key,
    #[serde(flatten)]
    pub action: Action,
    /// Steps that must have succeeded before.
    pub after: BTreeSet<Key>,
    /// Containers that must have come so far before this one starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<Name, Condition>,
}

impl Step {
    /// Lists the differences that the step repairs or reports.
    pub fn drifts(&self) -> &[Drift] {
        match &self.action {
            Action::Update(drifts) | Action::Replace(drifts) => drifts,
            Action::Hold(Why::ReportOnly { drifts } | Why::DataLoss { drifts }) => drifts,
            Action::Keep | Action::Create | Action::Delete | Action::Hold(_) => &[],
        }
    }

    /// Gives the strongest remedy among the differences.
    pub fn remedy(&self) -> Option<Remedy> {
        self.drifts().iter().map(|drift| drift.remedy).max()
    }
}

/// Everything that is to be done, in an order that may be followed one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Every desired container's interfaces, with all addresses decided.
    pub endpoints: BTreeMap<Name, Vec<Endpoint>>,
    /// The whole firewall table as it is to be.
    pub firewall: Firewall,
    /// Whether the kernel's table differs from it.
    pub firewall_differs: bool,
    /// Why the kernel's table could not be read, where it is needed and no step says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_unseen: Option<String>,
    /// Every desired container's hosts file beyond loopback.
    pub hosts: Hosts,
}

impl Plan {
    /// Tells whether the host is as the manifests say, as far as it could be seen.
    pub fn in_sync(&self) -> bool {
        !self.firewall_differs
            && self.steps.iter().all(|step| matches!(step.action, Action::Keep | Action::Hold(Why::Kept)))
    }

    /// Tells whether every object could be looked at.
    pub fn complete(&self) -> bool {
        let unseen = |step: &Step| matches!(step.action, Action::Hold(Why::Unreadable { .. } | Why::Source { .. }));
        self.firewall_unseen.is_none() && !self.steps.iter().any(unseen)
    }

    /// Says what of the host as a whole could not be looked at.
    pub fn problems(&self) -> impl Iterator<Item = String> + use<> {
        self.firewall_unseen.as_ref().map(|message| format!("firewall: {message}")).into_iter()
    }

    /// Tells whether there is anything that `apply` would do.
    pub fn has_work(&self) -> bool {
        self.firewall_differs || self.steps.iter().any(|step| !matches!(step.action, Action::Keep | Action::Hold(_)))
    }
}
