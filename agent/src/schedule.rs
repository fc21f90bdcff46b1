//! Runs the steps of a graph side by side, each after those it needs.
//!
//! It knows nothing of hosts or manifests: a node is a key, an edge is "after", a task is a future. A failed node
//! blocks whatever needs it, directly or not, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use evenkeel_plan::{Key, Outcome};
use tokio::task::JoinSet;

/// Why a node's task did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    Failed(String),
    /// Not yet: it waits for this object, which is on its way.
    Blocked(Key),
}

impl From<String> for NotDone {
    fn from(error: String) -> Self {
        NotDone::Failed(error)
    }
}

impl From<NotDone> for Outcome {
    fn from(not_done: NotDone) -> Outcome {
        match not_done {
            NotDone::Failed(error) => Outcome::Failed { error },
            NotDone::Blocked(by) => Outcome::Blocked { by },
        }
    }
}

/// Runs every node of `graph` once its predecessors are applied, at most `width` at a time.
///
/// `graph` maps a node to the nodes it comes after. A predecessor outside the graph counts as applied unless `earlier`
/// says that it failed or was blocked. Nodes on a cycle are blocked by one another; the planner makes none.
/// A task that panics is a failed node, not a failed run.
pub async fn run<F, T>(
    graph: &BTreeMap<Key, BTreeSet<Key>>,
    earlier: &BTreeMap<Key, Outcome>,
    width: usize,
    mut task: F,
) -> BTreeMap<Key, Outcome>
where
    F: FnMut(Key) -> T,
    T: Future<Output = Result<(), NotDone>> + Send + 'static,
{
    let mut waiting: BTreeMap<&Key, &BTreeSet<Key>> = graph.iter().collect();
    let mut outcomes: BTreeMap<Key, Outcome> = BTreeMap::new();
    let mut running: JoinSet<Result<(), NotDone>> = JoinSet::new();
    let mut keys_of_tasks = BTreeMap::new();
    loop {
        let mut moved = true;
        while moved {
            moved = false;
            let ready: Vec<(&Key, Option<Key>)> = waiting
                .iter()
                .filter_map(|(key, after)| readiness(after, graph, &outcomes, earlier).map(|by| (*key, by)))
                .collect();
            for (key, blocked_by) in ready {
                if let Some(by) = blocked_by {
                    outcomes.insert(key.clone(), Outcome::Blocked { by });
                } else if running.len() < width.max(1) {
                    let handle = running.spawn(task(key.clone()));
                    keys_of_tasks.insert(handle.id(), key.clone());
                } else {
                    continue;
                }
                waiting.remove(key);
                moved = true;
            }
        }
        let Some(joined) = running.join_next_with_id().await else { break };
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(NotDone::Failed(format!("the step ended abnormally: {error}")))),
        };
        if let Some(key) = keys_of_tasks.remove(&id) {
            let outcome = result.map_or_else(Outcome::from, |()| Outcome::Applied);
            outcomes.insert(key, outcome);
        }
    }
    for (key, after) in waiting {
        let by = after.iter().next().unwrap_or(key).clone();
        outcomes.insert(key.clone(), Outcome::Blocked { by });
    }
    outcomes
}

/// Tells whether a node can be settled now: `None` not yet, `Some(None)` run it, `Some(Some(by))` it is blocked.
fn readiness(
    after: &BTreeSet<Key>,
    graph: &BTreeMap<Key, BTreeSet<Key>>,
    outcomes: &BTreeMap<Key, Outcome>,
    earlier: &BTreeMap<Key, Outcome>,
) -> Option<Option<Key>> {
    let mut ready = true;
    for key in after {
        match outcomes.get(key).or_else(|| if graph.contains_key(key) { None } else { earlier.get(key) }) {
            Some(Outcome::Failed { .. } | Outcome::Blocked { .. }) => return Some(Some(key.clone())),
            Some(Outcome::Applied) => {}
            None => ready &= !graph.contains_key(key),
        }
    }
    ready.then_some(None)
}

#[cfg(test)]
mod tests;
