use nix::mount::{MsFlags, mount as nix_mount};

use super::*;

/// Gives the test a mount namespace of its own, with a tmpfs to work in. Each test is a process of its own.
fn private_directory() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
    let none = None::<&str>;
    nix_mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    nix_mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    PathBuf::from("/mnt")
}

fn layers(directory: &Path, count: usize) -> Vec<PathBuf> {
    let layer = |index: usize| directory.join("layers").join(format!("{index:064}"));
    for index in 0..count {
        fs::create_dir_all(layer(index)).unwrap();
        fs::write(layer(index).join("name"), index.to_string()).unwrap();
        fs::write(layer(index).join(format!("own-{index}")), "").unwrap();
    }
    fs::set_permissions(layer(0), Permissions::from_mode(0o751)).unwrap();
    (0..count).map(layer).collect()
}

fn check(count: usize, mount_it: impl Fn(&Overlay<'_>) -> io::Result<()>) {
    let directory = private_directory();
    let lower = layers(&directory, count);
    let (upper, work, target) = (directory.join("up,per:"), directory.join("work"), directory.join("rootfs"));
    for made in [&upper, &work, &target] {
        fs::create_dir(made).unwrap();
    }
    mount_it(&Overlay { lower: &lower, upper: &upper, work: &work, target: &target }).unwrap();
    assert_eq!(fs::read_to_string(target.join("name")).unwrap(), "0", "the first is on top");
    assert!(target.join(format!("own-{}", count - 1)).exists());
    fs::write(target.join("name"), "changed").unwrap();
    assert_eq!(fs::read_to_string(upper.join("name")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(lower[0].join("name")).unwrap(), "0", "a layer is never written");
}

#[test]
fn four_hundred_layers_by_descriptor() {
    check(400, mount_by_descriptor);
}

#[test]
fn fifty_layers_in_one_page_of_text() {
    check(50, |overlay| OptionText::of(overlay).mount(overlay.target));
}

#[test]
fn more_layers_than_fit_a_page_of_text_are_known_before_the_kernel_cuts_them_off() {
    let lower: Vec<PathBuf> = (0..100).map(|index| PathBuf::from(format!("/layers/{index:064}"))).collect();
    let (upper, work, target) = (Path::new("/upper"), Path::new("/work"), Path::new("/rootfs"));
    let fits = |count: usize| OptionText::of(&Overlay { lower: &lower[..count], upper, work, target }).fits();
    assert!(fits(50) && !fits(100));
}

#[test]
fn the_root_has_the_mode_of_the_topmost_layer_and_is_known_by_its_kind() {
    let directory = private_directory();
    let lower = layers(&directory, 2);
    let target = directory.join("run/rootfs");
    let overlay =
        Overlay { lower: &lower, upper: &directory.join("upper"), work: &directory.join("work"), target: &target };
    assert!(!is_mounted(&target).unwrap());
    mount(&overlay).unwrap();
    assert!(is_mounted(&target).unwrap());
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o751);
    nix_mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert!(!is_mounted(&target).unwrap(), "another file system hides it");
}

#[test]
fn a_missing_layer_is_named() {
    let directory = private_directory();
    let lower = [directory.join("gone")];
    let overlay = Overlay {
        lower: &lower,
        upper: &directory.join("upper"),
        work: &directory.join("work"),
        target: &directory.join("rootfs"),
    };
    assert_eq!(mount(&overlay).unwrap_err().to_string(), "/mnt/gone");
    assert!(matches!(mount(&Overlay { lower: &[], ..overlay }), Err(RootfsError::NoLayers)));
}
