//! One difference between a manifest and the host.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One field that differs, in words of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// Path of the field, as `shim.routes` or `resources.memory`.
    pub field: String,
    /// What the manifest says; `None` where it says nothing.
    pub desired: Option<String>,
    /// What the host says; `None` where the host has nothing.
    pub observed: Option<String>,
    pub remedy: Remedy,
}

/// What it takes to repair a difference, from the least to the most intrusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Remedy {
    /// Nothing that runs notices.
    Live,
    /// The container's process, which does not run, is started.
    Start,
    /// The container's process is started again.
    Restart,
    /// The object is deleted and made anew.
    Replace,
    /// As `Replace`, and data that evenkeel keeps goes with it.
    DataLoss,
}

/// Collects the differences of one object, field by field.
#[derive(Debug, Default)]
pub struct Differences(Vec<Drift>);

impl Differences {
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a difference where the two sides are not equal.
    pub fn field<T: PartialEq + Display>(&mut self, field: &str, desired: &T, observed: &T, remedy: Remedy) {
        if desired != observed {
            self.push(field, Some(desired.to_string()), Some(observed.to_string()), remedy);
        }
    }

    /// Notes a difference where the two sides are not equal and either may be nothing.
    pub fn option<T: PartialEq + Display>(
        &mut self,
        field: &str,
        desired: Option<&T>,
        observed: Option<&T>,
        remedy: Remedy,
    ) {
        if desired != observed {
            self.push(field, desired.map(T::to_string), observed.map(T::to_string), remedy);
        }
    }

    /// Notes one difference for each member that only one of the two sides has.
    pub fn members<'a, T: Ord + Display + 'a>(
        &mut self,
        field: &str,
        desired: impl IntoIterator<Item = &'a T>,
        observed: impl IntoIterator<Item = &'a T>,
        remedy: Remedy,
    ) {
        let desired: std::collections::BTreeSet<&T> = desired.into_iter().collect();
        let observed: std::collections::BTreeSet<&T> = observed.into_iter().collect();
        for missing in desired.difference(&observed) {
            self.push(field, Some(missing.to_string()), None, remedy);
        }
        for extra in observed.difference(&desired) {
            self.push(field, None, Some(extra.to_string()), remedy);
        }
    }

    pub fn push(&mut self, field: &str, desired: Option<String>, observed: Option<String>, remedy: Remedy) {
        self.0.push(Drift { field: field.to_owned(), desired, observed, remedy });
    }

    pub fn into_vec(self) -> Vec<Drift> {
        self.0
    }
}
