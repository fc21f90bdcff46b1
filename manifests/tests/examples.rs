//! The sets in `examples/` load without a problem.

use std::path::Path;

use evenkeel_manifests::{load, render};

#[test]
fn every_example_loads_without_a_problem() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut sets = 0;
    for entry in std::fs::read_dir(&examples).expect("examples/ is there") {
        let path = entry.expect("examples/ can be read").path();
        if path.is_dir() {
            let loaded = load(&path);
            assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems, false));
            assert!(loaded.complete && !loaded.desired.containers.is_empty(), "{} has no container", path.display());
            sets += 1;
        }
    }
    assert!(sets >= 3, "only {sets} sets were found in {}", examples.display());
}
