use super::*;

#[test]
fn both_versions_of_the_counter_are_read() {
    assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    assert_eq!(counter("low 0\noom 4\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
    assert_eq!(counter("low 0\n", "oom_kill"), None);
}
