use super::*;

#[test]
fn both_versions_of_the_counter_are_read() {
    assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    assert_eq!(counter("low 0\noom 4\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
    assert_eq!(counter("low 0\n", "oom_kill"), None);
}

#[test]
fn a_configuration_has_pairs_of_controller_and_path() {
    let text = r#"[["","/sys/fs/cgroup/web"],["memory","/sys/fs/cgroup/memory/web"]]"#;
    let directories: Vec<CgroupDirectory> = serde_json::from_str(text).unwrap();
    let controllers: Vec<_> = directories.iter().map(|directory| directory.controller.as_deref()).collect();
    assert_eq!(controllers, [None, Some("memory")]);
    assert_eq!(serde_json::to_string(&directories).unwrap(), text);
}
