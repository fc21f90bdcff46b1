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

#[test]
fn every_document_of_the_reference_is_understood() {
    let reference = include_str!("../../docs/manifests.md");
    let mut documents = 0;
    for block in reference.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        if !block.starts_with("apiVersion") {
            continue;
        }
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), block).expect("a temporary file can be written");
        let loaded = load(file.path());
        // A block alone refers to what stands in another one.
        let problems = loaded.problems.iter().filter(|problem| !problem.message.starts_with("there is no "));
        assert_eq!(problems.collect::<Vec<_>>(), Vec::<&evenkeel_manifests::Problem>::new());
        documents += block.matches("apiVersion").count();
    }
    assert!(documents >= 6, "only {documents} documents were found");
}
