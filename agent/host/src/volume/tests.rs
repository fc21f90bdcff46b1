use super::*;

fn sandbox() -> (tempfile::TempDir, Paths, Name) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = Paths::new(directory.path().join("state"), directory.path().join("run"));
    (directory, paths, "data".parse().expect("a name"))
}

fn spec(owner: &str, mode: &str) -> VolumeSpec {
    VolumeSpec { owner: owner.parse().expect("an owner"), mode: mode.parse().expect("a mode") }
}

#[test]
fn makes_and_repairs_owner_and_mode() {
    let (_directory, paths, name) = sandbox();
    let wanted = spec("999:998", "2750");
    ensure(&paths, &name, &wanted).expect("made");
    fs::write(paths.volume(&name).join("kept"), "content").expect("written");
    lchown(paths.volume(&name), Some(1), Some(1)).expect("damaged");
    ensure(&paths, &name, &wanted).expect("repaired");

    let metadata = fs::metadata(paths.volume(&name)).expect("there");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (999, 998, 0o2750));
    assert_eq!(fs::read_to_string(paths.volume(&name).join("kept")).expect("kept"), "content");
    let Sight::Found { observed, owned: true } = observe(&paths, &name) else { panic!("not found") };
    assert_eq!((observed.owner, observed.mode, observed.directory), (wanted.owner, wanted.mode, true));
}

#[test]
fn a_file_in_its_place_is_left_alone() {
    let (_directory, paths, name) = sandbox();
    fs::create_dir_all(paths.volume(&name).parent().expect("a parent")).expect("made");
    fs::write(paths.volume(&name), "precious").expect("written");
    let error = ensure(&paths, &name, &VolumeSpec::default()).expect_err("refused");
    assert!(matches!(error, VolumeError::NotADirectory { .. }), "{error}");
    assert_eq!(fs::read_to_string(paths.volume(&name)).expect("there"), "precious");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let (directory, paths, name) = sandbox();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("made");
    fs::create_dir_all(paths.volume(&name).parent().expect("a parent")).expect("made");
    std::os::unix::fs::symlink(&elsewhere, paths.volume(&name)).expect("linked");
    assert!(ensure(&paths, &name, &spec("7:7", "0700")).is_err());
    assert_ne!(fs::metadata(&elsewhere).expect("there").uid(), 7);
}

#[test]
fn removes_what_it_made_and_only_once() {
    let (_directory, paths, name) = sandbox();
    ensure(&paths, &name, &VolumeSpec::default()).expect("made");
    remove(&paths, &name).expect("removed");
    assert_eq!(observe(&paths, &name), Sight::Absent);
    remove(&paths, &name).expect("nothing left to do");
}
