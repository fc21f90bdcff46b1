use std::os::fd::AsRawFd;

use super::*;

fn paths(directory: &Path) -> Paths {
    Paths::new(directory.join("root"), directory.join("run"))
}

#[test]
fn the_second_is_told_who_is_first() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let first = RootLock::acquire(&paths, "run").unwrap();
    let error = RootLock::acquire(&paths, "apply").unwrap_err();
    let wanted = format!("{} is in use by `evenkeel run`, process {}", paths.root().display(), std::process::id());
    assert_eq!(error.to_string(), wanted);
    assert_eq!(holder(&paths), Some(Holder { pid: std::process::id(), verb: "run".to_owned() }));
    drop(first);
    assert_eq!(holder(&paths), None);
    RootLock::acquire(&paths, "apply").unwrap();
}

#[test]
fn a_child_does_not_inherit_it() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let lock = RootLock::acquire(&paths, "run").unwrap();
    assert!(lock._file.as_raw_fd() > 2);
    let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    drop(lock);
    let again = RootLock::acquire(&paths, "run");
    child.kill().unwrap();
    child.wait().unwrap();
    again.unwrap();
}

#[test]
fn two_roots_do_not_meet() {
    let directory = tempfile::tempdir().unwrap();
    let _one = RootLock::acquire(&Paths::new(directory.path().join("a"), "/run/x"), "run").unwrap();
    let _two = RootLock::acquire(&Paths::new(directory.path().join("b"), "/run/x"), "run").unwrap();
}

#[test]
fn nobody_holds_a_root_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    assert_eq!(holder(&paths), None);
    assert!(!paths.root().exists(), "looking made the state directory");
}
