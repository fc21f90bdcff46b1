use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Makes a chain of directories deeper than files may be open, with a file at its end.
fn deep(parent: &Path, levels: usize) {
    let mut directory = rustix::fs::open(parent, DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&directory, "d", Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, "d", DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&directory, "file", flags, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"four").unwrap();
}

#[test]
fn a_tree_deeper_than_files_may_be_open_is_measured_and_removed() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/one"), "1").unwrap();
    fs::hard_link(tree.join("a/one"), tree.join("a/b/same")).unwrap();
    fs::write(outer.path().join("kept"), "kept").unwrap();
    symlink(outer.path().join("kept"), tree.join("link")).unwrap();
    symlink(outer.path(), tree.join("a/up")).unwrap();
    deep(&tree, 5000);
    assert_eq!(size(&tree).unwrap(), 1 + 4);
    remove(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!(fs::read_to_string(outer.path().join("kept")).unwrap(), "kept");
}

#[test]
fn what_is_no_directory_is_removed_and_what_is_not_there_is_told() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("file"), "").unwrap();
    symlink("nowhere", outer.path().join("link")).unwrap();
    remove(&outer.path().join("file")).unwrap();
    remove(&outer.path().join("link")).unwrap();
    assert_eq!(remove(&outer.path().join("file")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn scratch_goes_with_its_value_unless_it_was_moved() {
    let outer = tempfile::tempdir().unwrap();
    let (first, second) = (outer.path().join("first"), outer.path().join("second"));
    for path in [&first, &second] {
        fs::create_dir_all(path.join("below")).unwrap();
    }
    drop(Scratch::new(first.clone()));
    assert!(!first.exists());
    let scratch = Scratch::new(second.clone());
    fs::rename(scratch.path(), &first).unwrap();
    drop(scratch);
    assert!(first.join("below").exists());
}

#[test]
fn ext4_is_told_to_spread_what_comes_and_goes() {
    /// The magic number of ext4 (statfs(2)).
    const EXT4: rustix::fs::FsWord = 0xef53;
    let directory = tempfile::tempdir().expect("a directory");
    // Harmless everywhere, twice, and where there is nothing.
    spread(directory.path());
    spread(directory.path());
    spread(&directory.path().join("missing"));
    let opened = rustix::fs::open(directory.path(), DIRECTORY, Mode::empty()).expect("the directory");
    let is_spread = rustix::fs::ioctl_getflags(&opened).is_ok_and(|flags| flags.contains(IFlags::TOPDIR));
    let is_ext4 = rustix::fs::fstatfs(&opened).expect("its file system").f_type == EXT4;
    assert_eq!(is_spread, is_ext4);
}
