//! What came of a plan.

use std::collections::BTreeMap;

use evenkeel_schema::Key;
use serde::{Deserialize, Serialize};

use crate::{Plan, Source};

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    Applied,
    /// It went wrong, for this cause; every step that needs it is `Blocked`.
    #[serde(rename_all = "camelCase")]
    Failed {
        error: String,
    },
    /// A step that it needs failed.
    #[serde(rename_all = "camelCase")]
    Blocked {
        by: Key,
    },
}

/// A plan with what came of it. Steps without an outcome were not to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub source: Source,
    pub plan: Plan,
    pub outcomes: BTreeMap<Key, Outcome>,
    /// Problems of the source, each with file, line and column, and of the host as a whole.
    pub problems: Vec<String>,
    /// Whether everything could be looked at.
    pub complete: bool,
}

impl Report {
    /// Tells whether every step that was to be done was done.
    pub fn succeeded(&self) -> bool {
        self.problems.is_empty() && self.outcomes.values().all(|outcome| *outcome == Outcome::Applied)
    }
}
