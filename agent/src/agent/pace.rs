//! How soon the agent tries an object again.
//!
//! A repair causes events itself, and one that fails or does not last would otherwise be tried in a loop. Each object is
//! paced by itself, so that one that cannot be repaired never delays the repair of another: it rests, longer each
//! time, until it is found in sync, its manifest changes, or a person asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use evenkeel_plan::{Key, Outcome};

/// Repairs in a row that follow at once, though the one before did not last.
const FREE: u32 = 3;
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);
const LONGEST_GATE: Duration = Duration::from_secs(2);
/// The longest time between two looks at what no event tells of.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// What is known of the objects that needed work in the last pass.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tries: BTreeMap<Key, Try>,
    /// When the last pass began. A try that is due since is due until a pass was made.
    begun: Option<Instant>,
    /// Passes in a row that replaced the firewall table.
    firewall: u32,
    /// Looks in a row that left something of which no event tells when it is over, and the time of the next.
    again: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Try {
    count: u32,
    /// When it may be tried again, where that is not at once.
    not_before: Option<Instant>,
    outcome: Outcome,
}

impl Try {
    fn rests(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|at| at > now)
    }
}

impl Pace {
    /// Begins a pass: lists the objects that are not to be tried in it, with what came of them last.
    pub(super) fn begin(&mut self, now: Instant) -> BTreeMap<Key, Outcome> {
        self.begun = Some(now);
        let resting = self.tries.iter().filter(|(_, one)| one.rests(now));
        resting.map(|(key, one)| (key.clone(), one.outcome.clone())).collect()
    }

    /// Takes note of what came of the pass begun last. An object that is not among the outcomes is in sync: its count starts over.
    pub(super) fn after(&mut self, outcomes: &BTreeMap<Key, Outcome>, now: Instant) {
        self.tries.retain(|key, _| outcomes.contains_key(key));
        for (key, outcome) in outcomes {
            let earlier = self.tries.get(key);
            let rested = self.begun.is_some_and(|begun| earlier.is_some_and(|earlier| earlier.rests(begun)));
            if rested || matches!(outcome, Outcome::Blocked { .. }) {
                continue;
            }
            let count = earlier.map_or(0, |earlier| earlier.count).saturating_add(1);
            let rest = rest(count, outcome);
            let not_before = (!rest.is_zero()).then(|| now + rest);
            self.tries.insert(key.clone(), Try { count, not_before, outcome: outcome.clone() });
        }
    }

    /// Takes note of whether a pass replaced the firewall table.
    pub(super) fn after_firewall(&mut self, replaced: bool) {
        self.firewall = if replaced { self.firewall.saturating_add(1) } else { 0 };
    }

    /// Takes note of whether something stands in the way of which no event tells when it is over: a port that a program has,
    /// something that could not be looked at, a ledger that could not be written.
    pub(super) fn after_look(&mut self, silent: bool, now: Instant) {
        let count = self.again.map_or(0, |(count, _)| count).saturating_add(1);
        let wait = FIRST_REST.saturating_mul(1 << count.min(8)).min(LONGEST_LOOK);
        self.again = silent.then(|| match self.again {
            // Looked at for another reason meanwhile.
            Some((count, at)) if at > now => (count, at),
            _ => (count, now + wait),
        });
    }

    /// Gives the time before which a kernel event is not followed. The firewall is one table and cannot rest by itself: where
    /// somebody else undoes it again and again, all events wait, but never long.
    pub(super) fn gate(&self, now: Instant) -> Instant {
        let rest = rest(self.firewall, &Outcome::Applied);
        now + rest.min(LONGEST_GATE)
    }

    /// Lists the objects that rest, with the time of the next try.
    pub(super) fn waiting(&self, now: Instant) -> impl Iterator<Item = (&Key, Instant)> {
        let times = self.tries.iter().filter_map(|(key, one)| Some((key, one.not_before?)));
        times.filter(move |(_, at)| *at > now)
    }

    /// Gives the time at which the first of them may be tried again, or at which to look again. What is due is due until the
    /// next pass: whatever else is done before, it is not forgotten.
    pub(super) fn next(&self) -> Option<Instant> {
        let tries = self.tries.values().filter_map(|one| one.not_before);
        let tries = tries.filter(|at| self.begun.is_none_or(|begun| *at > begun));
        tries.chain(self.again.map(|(_, at)| at)).min()
    }

    /// Lets everything be tried at once: the manifests changed, or a person asks.
    pub(super) fn start_over(&mut self) {
        *self = Pace::default();
    }
}

/// Gives the time that an object rests after so many tries in a row.
fn rest(count: u32, outcome: &Outcome) -> Duration {
    let free = if *outcome == Outcome::Applied { FREE } else { 0 };
    match count.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_REST.saturating_mul(1 << doublings.min(16)).min(LONGEST_REST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(items: &[(&str, Outcome)]) -> BTreeMap<Key, Outcome> {
        items.iter().map(|(key, outcome)| (key.parse().expect("a key"), outcome.clone())).collect()
    }

    fn failed() -> Outcome {
        Outcome::Failed { error: "no such parent".to_owned() }
    }

    #[test]
    fn a_failure_rests_longer_each_time_and_others_do_not() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..10 {
            let moment = Duration::from_millis(1);
            pace.begin(now);
            pace.after(&outcomes(&[("network/n", failed()), ("volume/v", Outcome::Applied)]), now);
            let resting = pace.begin(now + moment);
            assert!(resting.contains_key(&"network/n".parse().expect("a key")));
            pace.after(&outcomes(&[("network/n", failed())]), now + moment);
            let next = pace.next().expect("a next try");
            rests.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(rests, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
    }

    #[test]
    fn a_repair_that_does_not_last_is_free_a_few_times_then_rests() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let again = outcomes(&[("network/n", Outcome::Applied)]);
        for _ in 0..3 {
            pace.after(&again, now);
            assert!(pace.begin(now).is_empty() && pace.next().is_none());
        }
        pace.after(&again, now);
        assert_eq!(pace.begin(now), again);
        // Seen in sync: the next damage is repaired at once.
        pace.after(&BTreeMap::new(), now);
        pace.after(&again, now);
        assert!(pace.begin(now).is_empty());
    }

    #[test]
    fn a_try_that_falls_due_while_something_else_is_done_is_not_forgotten() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.begin(now);
        pace.after(&outcomes(&[("network/n", failed())]), now);
        let due = now + FIRST_REST;
        assert_eq!(pace.next(), Some(due));
        // It fell due during a pass that let it rest: what came of it is no second failure.
        pace.begin(due - Duration::from_millis(1));
        pace.after(&outcomes(&[("network/n", failed())]), due + Duration::from_secs(1));
        assert_eq!(pace.next(), Some(due));
        // A pass that failed as a whole tried nothing, and is not followed by the next at once.
        assert!(pace.begin(due + Duration::from_secs(2)).is_empty());
        assert_eq!(pace.next(), None);
    }
}
