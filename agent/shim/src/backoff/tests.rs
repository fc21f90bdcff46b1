use super::*;

fn config(policy: RestartPolicy, max_retries: Option<u32>) -> RestartConfig {
    RestartConfig { policy, max_retries, initial_ms: 100, max_ms: 1_500, reset_ms: 10_000 }
}

fn exit(code: i32, seconds: u64) -> Ended {
    Ended::Exit { code, ran: Duration::from_secs(seconds) }
}

#[test]
fn waits_double_up_to_the_longest_one_and_start_over_after_a_long_run() {
    let config = config(RestartPolicy::Always, None);
    let mut backoff = Backoff::default();
    let waits: Vec<_> = (0..6).map(|_| backoff.next(&config, exit(0, 1)).unwrap().as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1500, 1500]);
    assert_eq!(backoff.next(&config, exit(1, 10)), Some(Duration::from_millis(100)));
    assert_eq!(backoff.next(&config, Ended::NotStarted), Some(Duration::from_millis(200)));
}

#[test]
fn a_thousand_restarts_do_not_overflow() {
    let config = config(RestartPolicy::Always, None);
    let mut backoff = Backoff::default();
    for _ in 0..1000 {
        assert!(backoff.next(&config, exit(1, 0)).unwrap().as_millis() <= 1500);
    }
}

#[test]
fn policies_differ_on_success() {
    for (policy, on_success, on_failure) in [
        (RestartPolicy::Always, true, true),
        (RestartPolicy::OnFailure, false, true),
        (RestartPolicy::Never, false, false),
    ] {
        let config = config(policy, None);
        assert_eq!(Backoff::default().next(&config, exit(0, 1)).is_some(), on_success, "{policy:?}");
        assert_eq!(Backoff::default().next(&config, exit(137, 1)).is_some(), on_failure, "{policy:?}");
        assert_eq!(Backoff::default().next(&config, Ended::NotStarted).is_some(), on_failure, "{policy:?}");
    }
}

#[test]
fn retries_are_bounded_within_one_crash_loop() {
    let config = config(RestartPolicy::OnFailure, Some(2));
    let mut backoff = Backoff::default();
    assert!(backoff.next(&config, exit(1, 0)).is_some());
    assert!(backoff.next(&config, exit(1, 0)).is_some());
    assert_eq!(backoff.next(&config, exit(1, 0)), None);
    assert!(backoff.next(&config, exit(1, 60)).is_some());
}
