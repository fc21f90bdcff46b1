//! The walk over the points: which is armed when, and what has to hold after every kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use evenkeel_tests::random::Random;
use evenkeel_tests::{Run, Sandbox, ask};

use super::clean::{inventory, nothing_left};
use super::driver::Driver;

/// Stages that lead from nothing over everything back to nothing.
pub trait Scenario {
    fn stages(&self) -> &[&'static str];

    /// Writes manifests, or changes the host, so that a stage has something to do.
    fn prepare(&self, stage: &str);

    /// Does what a stage is about; may be run again.
    fn run(&self, stage: &str, driver: Driver, environment: &[(&str, String)]) -> Run;

    /// Asks the kernel whether all is there.
    fn verify(&self, stage: &str);
}

/// Which of the points one process walks.
#[derive(Clone, Copy)]
pub struct Share {
    pub index: usize,
    pub of: usize,
}

/// One point to die at.
struct Armed {
    name: &'static str,
    at: u64,
    file: PathBuf,
}

impl Armed {
    fn variable(&self) -> (&'static str, String) {
        ("EVENKEEL_FAIL_POINT", format!("{}@{}:{}", self.name, self.at, self.file.display()))
    }

    fn has_fired(&self) -> bool {
        self.file.exists()
    }
}

/// A scenario with the points that its stages pass.
pub struct Walk<'s, S> {
    sandbox: &'s Sandbox,
    scenario: &'s S,
    driver: Driver,
    /// What there is of the host before the first stage and after the last one.
    nothing: BTreeSet<String>,
    /// How often each point is passed, by stage; those of long-lived programs in the stage that starts them.
    passed: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    random: Random,
    armed_so_far: usize,
    kills: usize,
}

impl<'s, S: Scenario> Walk<'s, S> {
    /// Goes through the scenario unharmed.
    pub fn begin(sandbox: &'s Sandbox, scenario: &'s S, driver: Driver) -> Walk<'s, S> {
        let before = inventory(sandbox);
        let seed = std::env::var("EVENKEEL_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(Random::any_seed);
        println!("EVENKEEL_TEST_SEED={seed}");
        let mut walk = Walk {
            sandbox,
            scenario,
            driver,
            nothing: BTreeSet::new(),
            passed: BTreeMap::new(),
            random: Random::new(seed),
            armed_so_far: 0,
            kills: 0,
        };
        let trace = |stage: &str| sandbox.directory().join(format!("trace-{stage}"));
        for stage in scenario.stages() {
            scenario.prepare(stage);
            let variable = ("EVENKEEL_FAIL_POINT_TRACE", trace(stage).display().to_string());
            scenario.run(stage, driver, &[variable]).expect_code(0);
            walk.settle(stage, &[]);
        }
        for stage in scenario.stages() {
            let text = fs::read_to_string(trace(stage)).expect("the trace");
            let counts = walk.passed.entry(stage).or_default();
            for name in text.lines().filter_map(listed) {
                *counts.entry(name).or_default() += 1;
            }
        }
        let after = inventory(sandbox);
        let of_installation = |line: &&String| line.starts_with("file ");
        let left: Vec<&String> = after.difference(&before).filter(|line| !of_installation(line)).collect();
        assert!(left.is_empty(), "left without any kill: {left:#?}");
        // The directories of an installation stay; that nothing of an object is among them shows in their names.
        let objects = ["web", "front", "job", "data", "site", "busybox", "tool", ".tmp-", "sick", "waits"];
        let named = after.iter().filter(of_installation).find(|line| {
            let below = line.rsplit(&*sandbox.directory().to_string_lossy()).next().unwrap_or_default();
            objects.iter().any(|object| below.contains(object))
        });
        assert_eq!(named, None, "left without any kill");
        walk.nothing = after.union(&before).cloned().collect();
        walk
    }

    /// Tells whether some stage passes a point.
    pub fn passes(&self, name: &str) -> bool {
        self.passed.values().any(|counts| counts.contains_key(name))
    }

    /// Kills at every point of a share, one in each stage of a round.
    pub fn walk(&mut self, share: Share, wanted: impl Fn(&str) -> bool) {
        let mut lists = self.lists(share, wanted);
        let mut missed = Vec::new();
        let mut round = 0;
        while lists.values().any(|list| !list.is_empty()) {
            let points: BTreeMap<&'static str, (&'static str, u64)> = lists
                .iter_mut()
                .filter_map(|(stage, list)| {
                    let name = list.pop()?;
                    Some((*stage, (name, self.passing(stage, name, round))))
                })
                .collect();
            for (stage, name) in self.round(&points, round % 2 == 1) {
                // A later passing that did not come this time; the first one always does.
                if points[stage].1 > 1 { lists.entry(stage).or_default().push(name) } else { missed.push(name) }
            }
            round += 1;
        }
        println!("{} kills in {round} rounds", self.kills);
        assert!(missed.is_empty(), "nobody died at {missed:?}");
    }

    /// Kills twice in a row: at a random point, and at another one while that is mended.
    pub fn pairs(&mut self, rounds: usize) {
        let stages = self.scenario.stages().to_vec();
        let mut all = Vec::new();
        for _ in 0..rounds {
            for stage in &stages {
                self.scenario.prepare(stage);
                let names: Vec<&'static str> = self.passed[stage].keys().copied().collect();
                let [first, second] = [(); 2].map(|()| names[self.random.below(names.len() as u64) as usize]);
                let (first, second) = (self.arm(first, 1), self.arm(second, 1));
                println!("{stage}: {} and then {}", first.name, second.name);
                for armed in [&first, &second] {
                    self.scenario.run(stage, self.driver, &[armed.variable()]);
                }
                self.settle(stage, &[&first, &second]);
                all.extend([(*stage, first), (*stage, second)]);
            }
        }
        let pairs = all.len() / 2;
        self.bury(all);
        println!("{} kills in {pairs} pairs", self.kills);
        // What a second one would die at may be done before the first one's death.
        assert!(self.kills >= pairs, "only {} died in {pairs} pairs", self.kills);
    }

    /// Says at which passing to die: the first in one round, a later one in the next.
    fn passing(&mut self, stage: &str, name: &str, round: usize) -> u64 {
        let count = self.passed[stage][name];
        let half = count / 2;
        if round.is_multiple_of(2) || half < 2 { 1 } else { 1 + self.random.below(half) }
    }

    /// Lists the points to arm by stage: each in one stage, or in every one that passes it.
    fn lists(&self, share: Share, wanted: impl Fn(&str) -> bool) -> BTreeMap<&'static str, Vec<&'static str>> {
        let all = std::env::var("EVENKEEL_FAIL_POINTS").is_ok_and(|value| value == "all");
        let mut lists: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
        let passing = |name: &str| {
            let stages = self.passed.iter().filter(|(_, counts)| counts.contains_key(name));
            stages.map(|(stage, _)| *stage).collect::<Vec<_>>()
        };
        let mut names: Vec<&'static str> =
            evenkeel_shim::failpoint::NAMES.iter().copied().filter(|name| wanted(name) && self.passes(name)).collect();
        // Those with the least choice first.
        names.sort_by_key(|name| passing(name).len());
        for name in names {
            let stages = passing(name);
            let shortest = stages.iter().copied().min_by_key(|stage| lists.get(stage).map_or(0, Vec::len));
            let chosen = if all { stages } else { shortest.into_iter().collect() };
            for stage in chosen {
                lists.entry(stage).or_default().push(name);
            }
        }
        let of_share = |list: Vec<&'static str>| {
            list.into_iter().enumerate().filter(|(at, _)| at % share.of == share.index).map(|(_, name)| name).collect()
        };
        lists.into_iter().map(|(stage, list)| (stage, of_share(list))).collect()
    }

    /// Goes through all stages once, and gives the points at which nobody died.
    ///
    /// Where it is `straight`, what a kill left of the first stage is removed before it was ever mended.
    fn round(
        &mut self,
        points: &BTreeMap<&'static str, (&'static str, u64)>,
        straight: bool,
    ) -> Vec<(&'static str, &'static str)> {
        let stages = self.scenario.stages().to_vec();
        let (first, last) = (stages[0], stages[stages.len() - 1]);
        let mut armed: Vec<(&'static str, Armed)> = Vec::new();
        for stage in stages {
            self.scenario.prepare(stage);
            let Some((name, at)) = points.get(stage) else {
                let all: Vec<&Armed> = armed.iter().map(|(_, armed)| armed).collect();
                self.settle(stage, &all);
                continue;
            };
            let new = self.arm(name, *at);
            println!("{stage}: {name} at {at}");
            let result = self.scenario.run(stage, self.driver, &[new.variable()]);
            armed.push((stage, new));
            let all: Vec<&Armed> = armed.iter().map(|(_, armed)| armed).collect();
            let fired = all.iter().any(|armed| armed.has_fired());
            assert!(result.succeeded() || fired, "{stage} fails although nobody died\n{result}");
            if straight && stage == first && result.code.is_none() {
                self.scenario.prepare(last);
                self.settle(last, &all);
                self.scenario.prepare(first);
            }
            self.settle(stage, &all);
        }
        self.bury(armed)
    }

    /// Counts those that died, requires that they are dead, and gives the points at which nobody died.
    fn bury(&mut self, armed: Vec<(&'static str, Armed)>) -> Vec<(&'static str, &'static str)> {
        let (fired, silent): (Vec<_>, Vec<_>) = armed.into_iter().partition(|(_, armed)| armed.has_fired());
        self.kills += fired.len();
        for (_, armed) in fired {
            let text = fs::read_to_string(&armed.file).expect("the file of the one that died");
            let pid = text.trim().parse().expect("a process id");
            assert_eq!(ask::start_time(pid), None, "{} did not die", armed.name);
        }
        silent.into_iter().map(|(stage, armed)| (stage, armed.name)).collect()
    }

    /// Brings a stage to its end, and requires that host and manifests agree and nothing is left over.
    fn settle(&self, stage: &str, armed: &[&Armed]) {
        let fired = || armed.iter().filter(|armed| armed.has_fired()).count();
        let names: Vec<&str> = armed.iter().filter(|armed| armed.has_fired()).map(|armed| armed.name).collect();
        let mut before = fired();
        while let Err(run) = self.attempt(stage) {
            // A shim may die after the verb has ended: once more, which no point brings about twice.
            let now = fired();
            assert!(now > before, "{stage} after a kill at {names:?}:\n{run}");
            before = now;
        }
        self.scenario.verify(stage);
        if Some(&stage) == self.scenario.stages().last() && !self.nothing.is_empty() {
            nothing_left(self.sandbox, &self.nothing, &format!("after kills at {names:?}"));
        }
    }

    /// Runs a stage to its end without an armed point, and then asks three times whether that was it.
    fn attempt(&self, stage: &str) -> Result<(), Run> {
        let require = |run: Run| if run.succeeded() { Ok(()) } else { Err(run) };
        require(self.scenario.run(stage, self.driver, &[]))?;
        require(self.sandbox.evenkeel(&["drift"]))?;
        if Some(&stage) == self.scenario.stages().last() {
            return Ok(());
        }
        require(self.sandbox.verb_on_manifests("plan", &["--detailed-exitcode"]))
    }

    fn arm(&mut self, name: &'static str, at: u64) -> Armed {
        self.armed_so_far += 1;
        let file = self.sandbox.directory().join(format!("killed-{}", self.armed_so_far));
        Armed { name, at, file }
    }
}

/// Gives a name as the list has it, which lives as long as the program.
fn listed(name: &str) -> Option<&'static str> {
    evenkeel_shim::failpoint::NAMES.iter().copied().find(|listed| *listed == name)
}
