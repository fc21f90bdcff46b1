//! The programs killed with SIGKILL at every point of `failpoint::NAMES`, then started again.
//!
//! A walk first goes through a scenario unharmed, with a trace of the points that it passes; then again and again, each time with
//! another point armed in each stage. After every kill the same verb without it has to bring host and manifests in sync,
//! and at the end of every round nothing at all may be left. `EVENKEEL_FAIL_POINTS=all` walks every point in every stage that
//! passes it, where a plain run walks it in one.

pub mod clean;
mod driver;
mod everything;
mod life;
mod walk;

use std::collections::BTreeSet;

use driver::Driver;
use evenkeel_shim::failpoint::NAMES;
use evenkeel_tests::{program, sandboxed};
use everything::Everything;
use life::Life;
use walk::{Share, Walk};

/// Points that only a container with a life of its own passes.
const OF_LIFE: [&str; 6] =
    ["oci.executed", "oci.executing", "shim.log.turning", "shim.probed", "shim.restarting", "stop.noted"];
/// Points that only an agent passes.
const OF_AGENT: [&str; 5] = ["agent.bound", "agent.ending", "agent.listening", "agent.pass", "agent.watching"];

/// One of the processes that share the points of `apply` among them.
fn walk_apply(index: usize) {
    sandboxed(|sandbox| {
        let scenario = Everything::new(sandbox);
        let mut walk = Walk::begin(sandbox, &scenario, Driver::Apply);
        let elsewhere: BTreeSet<&str> = OF_LIFE.into_iter().chain(OF_AGENT).collect();
        let missed: Vec<_> = NAMES.iter().filter(|name| !elsewhere.contains(*name) && !walk.passes(name)).collect();
        assert!(missed.is_empty(), "the scenario does not pass {missed:?}");
        walk.walk(Share { index, of: 3 }, |_| true);
    });
}

#[test]
fn apply_is_killed_at_every_point_first_third() {
    walk_apply(0);
}

#[test]
fn apply_is_killed_at_every_point_second_third() {
    walk_apply(1);
}

#[test]
fn apply_is_killed_at_every_point_last_third() {
    walk_apply(2);
}

#[test]
fn the_agent_is_killed_at_its_own_points_and_at_others() {
    sandboxed(|sandbox| {
        let scenario = Everything::new(sandbox);
        let mut walk = Walk::begin(sandbox, &scenario, Driver::Agent);
        let missed: Vec<_> = OF_AGENT.iter().filter(|name| !walk.passes(name)).collect();
        assert!(missed.is_empty(), "the scenario does not pass {missed:?}");
        // Its passes are those of `apply`: every twelfth point of the others shows that they are.
        let others: BTreeSet<&str> = NAMES.iter().copied().step_by(12).collect();
        walk.walk(Share { index: 0, of: 1 }, |name| OF_AGENT.contains(&name) || others.contains(name));
    });
}

#[test]
fn a_container_with_a_life_of_its_own_is_killed_at_every_point_of_it() {
    sandboxed(|sandbox| {
        let scenario = Life::new(sandbox);
        let mut walk = Walk::begin(sandbox, &scenario, Driver::Apply);
        let missed: Vec<_> = OF_LIFE.iter().filter(|name| !walk.passes(name)).collect();
        assert!(missed.is_empty(), "the scenario does not pass {missed:?}");
        walk.walk(Share { index: 0, of: 1 }, |name| OF_LIFE.contains(&name));
    });
}

#[test]
fn two_kills_in_a_row_leave_no_more_than_one() {
    sandboxed(|sandbox| {
        let scenario = Everything::new(sandbox);
        let mut walk = Walk::begin(sandbox, &scenario, Driver::Apply);
        walk.pairs(4);
    });
}

/// A point's name tells one place in the sources, so that the walk's list is the list of places.
#[test]
fn every_point_is_marked_once() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent");
    let found = program::sh(&format!("grep -rhoE 'fail_point!\\(\"[^\"]+\"\\)' --include=*.rs {sources}"));
    let mut marked: Vec<&str> = found.stdout.lines().filter_map(|line| line.split('"').nth(1)).collect();
    marked.sort_unstable();
    let mut listed = NAMES.to_vec();
    listed.sort_unstable();
    assert_eq!(marked, listed);
}
