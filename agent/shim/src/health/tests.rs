use super::*;

fn config() -> HealthConfig {
    HealthConfig {
        exec: vec!["true".into()],
        interval_ms: 30_000,
        timeout_ms: 1_000,
        retries: 2,
        start_period_ms: 60_000,
    }
}

#[test]
fn a_slow_start_is_no_failure_and_success_is_seen_soon() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut probes = Probes::new(config(), start);
    assert_eq!(probes.due, at(1));
    for second in (1..60).step_by(5) {
        assert!(!probes.record(false, at(second)));
        assert_eq!(probes.due, at(second + 5));
    }
    assert!(probes.record(true, at(59)));
    assert_eq!((probes.health, probes.due), (Health::Healthy, at(89)));
}

#[test]
fn so_many_failures_in_a_row_are_unhealthy_and_one_success_heals() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut probes = Probes::new(config(), start);
    probes.record(true, at(1));
    assert!(!probes.record(false, at(31)));
    assert!(!probes.record(true, at(61)));
    assert!(!probes.record(false, at(91)));
    assert!(probes.record(false, at(121)));
    assert_eq!(probes.health, Health::Unhealthy);
    assert!(probes.record(true, at(151)));
    assert_eq!(probes.health, Health::Healthy);
}

#[test]
fn never_up_is_unhealthy_after_the_start_period_and_the_retries() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut probes = Probes::new(HealthConfig { start_period_ms: 0, ..config() }, start);
    assert!(!probes.record(false, at(1)));
    assert!(!probes.record(false, at(30)));
    assert!(probes.record(false, at(60)));
    assert_eq!(probes.health, Health::Unhealthy);
}
