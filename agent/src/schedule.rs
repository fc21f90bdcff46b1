//! Runs the steps of a graph side by side, each after those it needs.
//!
//! It knows nothing of hosts or manifests: a node is a key, an edge is "after", a task is a future. A failed node
//! blocks whatever needs it, directly or not, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    // How many predecessors of the graph each node still waits for, and who waits for whom: a settled node is looked
    // at once, however many there are.
    let mut missing: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut dependants: BTreeMap<&Key, Vec<&Key>> = BTreeMap::new();
    for (key, after) in graph {
        let within: Vec<&Key> = after.iter().filter(|before| graph.contains_key(*before)).collect();
        missing.insert(key, within.len());
        for before in within {
            dependants.entry(before).or_default().push(key);
        }
    }
    let mut outcomes: BTreeMap<Key, Outcome> = BTreeMap::new();
    let mut running: JoinSet<Result<(), NotDone>> = JoinSet::new();
    let mut keys_of_tasks = BTreeMap::new();
    let mut ready: BTreeSet<&Key> = BTreeSet::new();
    let mut settled: VecDeque<(&Key, Outcome)> = VecDeque::new();
    for (key, after) in graph {
        match after.iter().find(|before| !graph.contains_key(*before) && is_in_the_way(earlier.get(*before))) {
            Some(by) => settled.push_back((key, Outcome::Blocked { by: by.clone() })),
            None if missing.get(key) == Some(&0) => drop(ready.insert(key)),
            None => {}
        }
    }
    loop {
        while let Some((key, outcome)) = settled.pop_front() {
            if outcomes.contains_key(key) {
                continue;
            }
            ready.remove(key);
            let blocks = is_in_the_way(Some(&outcome));
            outcomes.insert(key.clone(), outcome);
            for dependant in dependants.get(key).into_iter().flatten() {
                let Some(count) = missing.get_mut(dependant) else { continue };
                *count = count.saturating_sub(1);
                if blocks {
                    settled.push_back((dependant, Outcome::Blocked { by: key.clone() }));
                } else if *count == 0 && !outcomes.contains_key(*dependant) {
                    ready.insert(dependant);
                }
            }
        }
        while running.len() < width.max(1)
            && let Some(key) = ready.pop_first()
        {
            let handle = running.spawn(task(key.clone()));
            keys_of_tasks.insert(handle.id(), key);
        }
        let Some(joined) = running.join_next_with_id().await else { break };
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(NotDone::Failed(format!("the step ended abnormally: {error}")))),
        };
        if let Some(key) = keys_of_tasks.remove(&id) {
            settled.push_back((key, result.map_or_else(Outcome::from, |()| Outcome::Applied)));
        }
    }
    for (key, after) in graph.iter().filter(|(key, _)| !outcomes.contains_key(*key)).collect::<Vec<_>>() {
        let by = after.iter().next().unwrap_or(key).clone();
        outcomes.insert(key.clone(), Outcome::Blocked { by });
    }
    outcomes
}

/// Tells whether what needs a node of this outcome is blocked by it.
fn is_in_the_way(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Failed { .. } | Outcome::Blocked { .. }))
}

#[cfg(test)]
mod tests;
