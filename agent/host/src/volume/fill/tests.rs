use std::os::unix::fs::MetadataExt;

use super::*;

/// A root file system with content at `/data`, and an empty volume.
fn place() -> (tempfile::TempDir, Inside, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (root, volume) = (directory.path().join("rootfs"), directory.path().join("volumes/v"));
    fs::create_dir_all(root.join("data/below")).unwrap();
    fs::create_dir_all(&volume).unwrap();
    fs::write(root.join("data/below/file"), "content").unwrap();
    fs::set_permissions(root.join("data/below/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    lchown(root.join("data/below"), Some(33), Some(34)).unwrap();
    symlink("/etc/shadow", root.join("data/link")).unwrap();
    mknod(&root.join("data/pipe"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0).unwrap();
    let inside = Inside::open(&root).unwrap();
    (directory, inside, volume)
}

fn beside(volume: &Path) -> Vec<String> {
    let entries = fs::read_dir(volume.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn owners_modes_links_and_pipes_are_kept() {
    let (_directory, inside, volume) = place();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    let file = fs::metadata(volume.join("below/file")).unwrap();
    assert_eq!(file.mode() & 0o7777, 0o4755);
    let below = fs::metadata(volume.join("below")).unwrap();
    assert_eq!((below.uid(), below.gid()), (33, 34));
    assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/shadow"));
    assert!(fs::symlink_metadata(volume.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(beside(&volume), ["v"]);
}

#[test]
fn what_is_in_use_stays_as_it_is() {
    let (_directory, inside, volume) = place();
    fs::write(volume.join("mine"), "").unwrap();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 1);
}

#[test]
fn without_a_directory_at_the_target_nothing_is_copied() {
    let (_directory, inside, volume) = place();
    for target in ["/nothing", "/data/below/file", "/data/link"] {
        fill(&inside, Path::new(target), &volume, &FillLocks::default()).unwrap_or_default();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0, "{target}");
    }
}

#[test]
fn a_copy_that_was_cut_off_is_begun_again_and_a_whole_one_is_moved_in() {
    let (_directory, inside, volume) = place();
    fs::create_dir(volume.with_file_name(".v.copying")).unwrap();
    fs::write(volume.with_file_name(".v.copying").join("half"), "").unwrap();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    assert!(!volume.join("half").exists() && volume.join("below/file").exists());
    fs::create_dir(volume.with_file_name(".v.copied")).unwrap();
    fs::write(volume.with_file_name(".v.copied").join("rest"), "").unwrap();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    assert!(volume.join("rest").exists());
    assert_eq!(beside(&volume), ["v"]);
}

#[test]
fn attributes_and_several_names_of_a_file_are_kept() {
    let (directory, inside, volume) = place();
    let data = directory.path().join("rootfs/data");
    for name in ["user.kept", "user.overlay.opaque"] {
        lsetxattr(data.join("below/file"), name, b"value", XattrFlags::empty()).unwrap();
    }
    fs::hard_link(data.join("below/file"), data.join("other")).unwrap();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    let mut value = [0; 16];
    let length = lgetxattr(volume.join("below/file"), "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    assert!(lgetxattr(volume.join("below/file"), "user.overlay.opaque", &mut value[..]).is_err());
    let inode = |name: &str| fs::metadata(volume.join(name)).unwrap().ino();
    assert_eq!(inode("other"), inode("below/file"));
}

#[test]
fn a_deep_tree_needs_no_open_file_for_each_level() {
    let (directory, inside, volume) = place();
    let deep = format!("data/{}", "d/".repeat(1100));
    fs::create_dir_all(directory.path().join("rootfs").join(&deep)).unwrap();
    fill(&inside, Path::new("/data"), &volume, &FillLocks::default()).unwrap();
    assert!(volume.join(&deep["data/".len()..]).is_dir());
    for tree in [volume.as_path(), &directory.path().join("rootfs")] {
        crate::tree::remove(tree).unwrap();
    }
}

#[test]
fn containers_that_are_made_side_by_side_fill_a_volume_once() {
    let (directory, inside, volume) = place();
    for number in 0..200 {
        fs::write(directory.path().join(format!("rootfs/data/{number}")), number.to_string()).unwrap();
    }
    let locks = FillLocks::default();
    std::thread::scope(|scope| {
        let filling = || fill(&inside, Path::new("/data"), &volume, &locks).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(filling)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 203);
    assert_eq!(beside(&volume), ["v"]);
}
