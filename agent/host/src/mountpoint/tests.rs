use std::fs;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// Gives the test a mount namespace of its own, with a tmpfs to work in. Each test is a process of its own.
fn private_directory() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    PathBuf::from("/mnt")
}

#[test]
fn a_mount_over_a_mount_is_seen_and_taken_away_while_in_use() {
    let target = private_directory().join("target");
    assert!(!is_mount_point(&target).unwrap(), "there is nothing");
    fs::create_dir(&target).unwrap();
    assert!(!is_mount_point(&target).unwrap());
    for _ in 0..2 {
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }
    let _busy = fs::File::create(target.join("held")).unwrap();
    assert!(is_mount_point(&target).unwrap());
    detach(&target).unwrap();
    assert!(!is_mount_point(&target).unwrap());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}
