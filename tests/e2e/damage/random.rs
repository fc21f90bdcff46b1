//! Property: whatever a host is to be, whatever happens to it, and whatever its manifests become meanwhile, one pass mends it.
//!
//! A seed gives a set of objects of all four kinds, some damage out of a long list (`damage.rs`) and some changes of the
//! manifests. Then one `apply`, or a second where the first says that something failed and what to do; `drift` has to be
//! content, the kernel has to bear it out (`kernel.rs`), and the next pass has nothing to do. At the end nothing is left.
//!
//! `EVENKEEL_DAMAGE_SEEDS` is how many seeds are taken in all, `EVENKEEL_DAMAGE_FROM` the first of them.

mod damage;
mod kernel;
mod wanted;

use std::collections::BTreeSet;

use evenkeel_tests::random::Random;
use evenkeel_tests::{Run, Sandbox, ask, sandboxed};

use self::damage::Damage;
use self::wanted::Wanted;
use crate::failpoints::clean::{inventory, nothing_left};

/// How many seeds a plain run takes.
const SEEDS: u64 = 9;
/// Rounds of damage and change that one set of objects goes through.
const ROUNDS: u64 = 2;

/// Gives the seeds of one share of `of`.
fn seeds(share: u64, of: u64) -> Vec<u64> {
    let number = |variable| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("EVENKEEL_DAMAGE_FROM").unwrap_or(1);
    let count = number("EVENKEEL_DAMAGE_SEEDS").unwrap_or(SEEDS);
    (first..first + count).filter(|seed| seed % of == share).collect()
}

/// Takes a share of the seeds, so that the shares run side by side.
fn share(share: u64) {
    sandboxed(|sandbox| {
        sandbox.wire("parent0");
        sandbox.rootfs();
        // What an installation of which nothing is wanted any more keeps of its own: its ledger, its empty directories.
        let mut wanted = Wanted::one_of_each();
        wanted.write(sandbox);
        sandbox.apply();
        removed(sandbox, &mut wanted, "one of each");
        let beginning = inventory(sandbox);
        for seed in seeds(share, 3) {
            one_seed(sandbox, seed, &beginning);
        }
    });
}

#[test]
fn random_damage_is_mended_first_share() {
    share(0);
}

#[test]
fn random_damage_is_mended_second_share() {
    share(1);
}

#[test]
fn random_damage_is_mended_third_share() {
    share(2);
}

fn one_seed(sandbox: &Sandbox, seed: u64, beginning: &BTreeSet<String>) {
    let mut random = Random::new(seed);
    let mut wanted = Wanted::draw(&mut random);
    wanted.write(sandbox);
    settled(sandbox, &wanted, &format!("seed {seed}, made from nothing"), &[]);
    for round in 1..=ROUNDS {
        let mut told = vec![format!("seed {seed}, round {round}")];
        let changes = random.below(3);
        let mut next = wanted.clone();
        told.extend((0..changes).map(|_| next.change(&mut random)));
        let mut damages = Vec::new();
        for _ in 0..1 + random.below(5) {
            let damage = Damage::draw(&mut random, &wanted);
            let came = damage.happen(sandbox);
            told.push(format!("{damage:?}: {:?} {}", came.code, came.stderr.trim()));
            // What a later one would happen to may be gone by now.
            assert!(came.succeeded() || !damages.is_empty(), "the line damages nothing\n{}", told.join("\n    "));
            damages.push(damage);
        }
        next.write(sandbox);
        wanted = next;
        settled(sandbox, &wanted, &told.join("\n    "), &damages);
    }
    removed(sandbox, &mut wanted, &format!("seed {seed}"));
    nothing_left(sandbox, beginning, &format!("after seed {seed}"));
}

fn removed(sandbox: &Sandbox, wanted: &mut Wanted, told: &str) {
    wanted.forget(sandbox);
    let last = sandbox.verb_on_manifests("apply", &["--allow-empty", "--yes"]);
    assert!(last.succeeded(), "{told}, removal\n{last}");
}

/// Brings the host in sync by one pass, or by two where the first says what stood in the way.
fn settled(sandbox: &Sandbox, wanted: &Wanted, told: &str, damages: &[Damage]) {
    let apply = || sandbox.verb_on_manifests("apply", &["--yes"]);
    let before = sandbox.verb_on_manifests("diff", &[]);
    let first = apply();
    let mut passes = format!("{told}\nbefore: {before}\n{first}");
    if !first.succeeded() {
        assert!(first.stdout.lines().count() > 1, "it fails without a word\n{passes}");
        damages.iter().for_each(|damage| damage.obey(sandbox, &first));
        let second = apply();
        passes += &second.to_string();
        assert!(second.succeeded(), "two passes do not mend it\n{passes}");
    }
    in_sync(sandbox, &passes);
    if let Err(why) = kernel::agrees(sandbox, wanted) {
        panic!("the kernel does not agree: {why}\n{passes}");
    }
    let next = apply();
    let idle = next.succeeded()
        && !["created", "updated", "replaced", "deleted"].iter().any(|word| next.stdout.contains(word));
    assert!(idle, "the next pass has something to do\n{passes}\n{next}");
}

/// Requires that nothing differs, neither from the manifests nor from what was applied. A shim that starts its container again
/// takes a moment.
fn in_sync(sandbox: &Sandbox, passes: &str) {
    let content = |run: Run| if run.succeeded() { Ok(()) } else { Err(run) };
    let all = || {
        content(sandbox.evenkeel(&["drift"]))?;
        content(sandbox.verb_on_manifests("diff", &[]))?;
        content(sandbox.verb_on_manifests("plan", &["--detailed-exitcode"]))
    };
    let started = std::time::Instant::now();
    while let Err(run) = all() {
        let restarting = run.stdout.contains("its shim");
        assert!(restarting && started.elapsed() < ask::PATIENCE, "it is not in sync\n{passes}\n{run}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
