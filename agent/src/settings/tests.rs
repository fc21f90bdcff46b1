use super::*;

fn flags(directory: &Path, config: Option<&str>) -> GlobalArgs {
    let mut flags = GlobalArgs::default();
    if let Some(text) = config {
        let path = directory.join("config.yaml");
        std::fs::write(&path, text).unwrap();
        flags.config = Some(path);
    }
    flags
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let mut flags = flags(directory.path(), Some("root: /srv/a\nruntime: /bin/sh\nresync: 5s\n"));
    flags.root = Some("/srv/b".into());
    let settings = Settings::decide(&flags).unwrap();
    assert_eq!(settings.paths.root(), Path::new("/srv/b"));
    assert_eq!(settings.paths.run(), Path::new(DEFAULT_RUN));
    assert_eq!(settings.runtime.unwrap().program, Path::new("/bin/sh"));
    assert_eq!(settings.resync, Duration::from_secs(5));
}

#[test]
fn a_runtime_may_have_arguments_and_a_bare_name() {
    let directory = tempfile::tempdir().unwrap();
    let flags = flags(directory.path(), Some("runtime:\n  program: sh\n  arguments: [--debug]\n"));
    let runtime = Settings::decide(&flags).unwrap().runtime.unwrap();
    assert!(runtime.program.is_absolute() && runtime.program.ends_with("sh"), "{runtime:?}");
    assert_eq!(runtime.arguments, ["--debug"]);
}

#[test]
fn an_unknown_field_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = Settings::decide(&flags(directory.path(), Some("rooot: /srv/a\n"))).unwrap_err();
    let SettingsError::Parse { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("rooot"), "{source}");
}

#[test]
fn a_missing_file_is_an_error_only_where_it_was_named() {
    let named = GlobalArgs { config: Some("/nonexistent/config.yaml".into()), ..GlobalArgs::default() };
    assert!(matches!(Settings::decide(&named), Err(SettingsError::Read { .. })));
}

#[test]
fn one_root_has_one_form() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap().join("real");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
    for written in ["link/state/", "real/./state", "real//state"] {
        let settled = settle(&directory.path().join(written), DEFAULT_ROOT).unwrap();
        assert_eq!(settled.as_os_str(), real.join("state").as_os_str(), "{written}");
    }
    assert_eq!(settle(Path::new("/var/lib/evenkeel/"), DEFAULT_ROOT).unwrap().as_os_str(), DEFAULT_ROOT);
}

#[test]
fn a_runtime_that_is_not_there_is_named() {
    let flags = GlobalArgs { runtime: Some("/nonexistent/runc".into()), ..GlobalArgs::default() };
    let error = Settings::decide(&flags).unwrap_err();
    assert_eq!(error.to_string(), "there is no OCI runtime at /nonexistent/runc");
}
