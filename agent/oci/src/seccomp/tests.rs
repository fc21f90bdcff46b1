//! That a kept filter is the compiled one, and is taken for nothing else. What it does is tested in
//! `tests/host/containers/confinement.rs`.

use super::*;

fn policy(names: &str) -> LinuxSeccomp {
    let json = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{ "names": [names], "action": "SCMP_ACT_ALLOW" }],
    });
    serde_json::from_value(json).expect("a policy")
}

/// Names the files of kept filters.
fn kept(root: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root.join(".filters")).expect("the directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_filter_is_compiled_once_for_each_policy() {
    let root = tempfile::tempdir().expect("a directory");
    let first = Filter::of(root.path(), &policy("read")).expect("a filter");
    assert!(!first.program.is_empty() && first.program.len().is_multiple_of(INSTRUCTION));
    assert_eq!(first.flags, libc::SECCOMP_FILTER_FLAG_LOG);
    assert_eq!(first.newest, Some(newest_known()));
    // What is kept is taken: a mark in it comes back.
    let [path] = kept(root.path()).try_into().expect("one file");
    let mut bytes = fs::read(&path).expect("the file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&path, bytes).expect("the file");
    assert_ne!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
    assert_ne!(Filter::of(root.path(), &policy("write")).expect("a filter").program, first.program);
    assert_eq!(kept(root.path()).len(), 2);
}

#[test]
fn one_that_is_not_whole_or_of_another_policy_is_compiled_again() {
    let root = tempfile::tempdir().expect("a directory");
    let first = Filter::of(root.path(), &policy("read")).expect("a filter");
    let [path] = kept(root.path()).try_into().expect("one file");
    let whole = fs::read(&path).expect("the file");
    for length in [0, 10, whole.len() - INSTRUCTION] {
        fs::write(&path, &whole[..length]).expect("the file");
        assert_eq!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
        assert_eq!(fs::read(&path).expect("the file"), whole);
    }
    fs::write(&path, first.encode(&made_from(&policy("write")))).expect("the file");
    assert_eq!(Filter::of(root.path(), &policy("read")).expect("a filter"), first);
    assert_eq!(fs::read(&path).expect("the file"), whole);
}
