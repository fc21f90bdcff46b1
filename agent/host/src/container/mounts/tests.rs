use super::*;

fn spec(mounts: &str) -> ContainerSpec {
    serde_json::from_str(&format!("{{\"image\": \"x\", \"mounts\": {mounts}}}")).unwrap()
}

fn targets(mounts: &[OciMount]) -> Vec<&str> {
    mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect()
}

fn prepare(spec: &ContainerSpec, directory: &Path) -> Result<Vec<OciMount>, Failure> {
    let inside = Inside::open(directory).unwrap();
    let paths = Paths::new(directory, directory.join("run"));
    stated_mounts(spec, Preparation { paths: &paths, run: directory, inside: &inside, filling: None })
}

#[test]
fn a_stated_mount_stands_for_a_default_one() {
    let none = default_mounts(&spec("[]"), Path::new("/run/x"));
    assert!(targets(&none).contains(&"/dev/shm") && targets(&none).contains(&"/etc/hosts"));
    let stated = spec(r#"[{"tmpfs": true, "target": "/dev/shm"}, {"bind": "/etc/hosts", "target": "/etc/hosts"}]"#);
    let some = default_mounts(&stated, Path::new("/run/x"));
    assert_eq!(some.len(), none.len() - 2);
    assert!(!targets(&some).contains(&"/dev/shm") && !targets(&some).contains(&"/etc/hosts"));
}

#[test]
fn outer_targets_come_first() {
    let directory = tempfile::tempdir().unwrap();
    let stated = spec(
        r#"[{"tmpfs": true, "target": "/a/b/c"}, {"tmpfs": true, "target": "/z"}, {"tmpfs": true, "target": "/a/b"}]"#,
    );
    assert_eq!(targets(&prepare(&stated, directory.path()).unwrap()), ["/z", "/a/b", "/a/b/c"]);
}

#[test]
fn read_only_means_everything_below_too() {
    let directory = tempfile::tempdir().unwrap();
    let stated = spec(r#"[{"bind": "/", "target": "/host", "readOnly": true}]"#);
    let mounts = prepare(&stated, directory.path()).unwrap();
    assert_eq!(mounts[0].options().as_deref().unwrap(), ["rbind", "rprivate", "ro", "rro"]);
}

#[test]
fn a_tmpfs_states_its_size_in_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let stated = spec(r#"[{"tmpfs": true, "target": "/x", "size": "64Mi", "mode": "0700"}]"#);
    let mounts = prepare(&stated, directory.path()).unwrap();
    assert_eq!(mounts[0].options().as_deref().unwrap(), ["nosuid", "nodev", "mode=0700", "size=67108864"]);
}

#[test]
fn a_source_behind_a_file_is_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let source = directory.path().join("file/below");
    let stated = spec(&format!(r#"[{{"bind": "{}", "target": "/x"}}]"#, source.display()));
    assert!(matches!(prepare(&stated, directory.path()), Err(Failure::Source { path, .. }) if path == source));
}
