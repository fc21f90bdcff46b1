//! The examples that a person starts from.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::{ask, program, run, sandboxed};

use crate::story;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn the_quickstart_serves_its_page() {
    sandboxed(|sandbox| {
        let copy = sandbox.manifests();
        run(Command::new("cp").arg("-r").arg(examples().join("quickstart/.")).arg(&copy)).expect_code(0);
        run(&mut Command::new(copy.join("build-rootfs.sh"))).expect_code(0);
        sandbox.apply();
        assert!(ask::page(None, "http://127.0.0.1:8080/").contains("even keel"));
        story::in_sync(sandbox);
    });
}

#[test]
fn the_demo_ends_with_a_page_and_a_repaired_drift() {
    let directory = tempfile::Builder::new().prefix("evenkeel-test-").tempdir_in("/tmp").expect("a directory");
    let mut demo = Command::new(examples().join("quickstart/demo.sh"));
    demo.arg(program::built("evenkeel")).env("TMPDIR", directory.path());
    let demo = run(program::without_settings(&mut demo)).expect_code(0).says("DRIFT").says("IN SYNC");
    assert!(demo.stdout.trim_end().ends_with("</p>"), "it ends with the page\n{demo}");
    let left = std::fs::read_dir(directory.path()).expect("the directory").count();
    assert_eq!(left, 0, "its directory stays\n{demo}");
}
