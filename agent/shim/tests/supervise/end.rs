use std::fs;
use std::time::{Duration, Instant};

use evenkeel_shim::{Phase, Request, RestartPolicy, process};

use crate::container::{Container, kill, wait_until_gone};

#[test]
fn an_exit_status_is_reported_and_without_a_policy_nothing_follows() {
    let mut container = Container::new("exit 7");
    container.start();
    let exit = container.wait_for_exit();
    assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.daemonized), (7, None, false, false));
    assert_eq!(container.status().restarts, 0);
    assert!(matches!(container.status().phase, Phase::Exited { gave_up: false, .. }));
}

#[test]
fn who_has_used_up_its_restarts_says_so() {
    let mut container = Container::new("exit 3").restarting(RestartPolicy::Always);
    container.config.restart.max_retries = Some(2);
    container.start();
    container
        .wait_until("given up", |status| matches!(status.phase, Phase::Exited { gave_up: true, .. }).then_some(()));
    assert_eq!(container.status().restarts, 2);
    assert_eq!(container.ask(&Request::Start).error, None);
    container.wait_until("given up again", |status| {
        (status.restarts == 2 && matches!(status.phase, Phase::Exited { gave_up: true, .. })).then_some(())
    });
}

#[test]
fn a_crash_is_followed_by_a_restart() {
    let mut container = Container::new("echo begun; sleep 100").restarting(RestartPolicy::OnFailure);
    container.config.stop.timeout_ms = 100;
    let first = container.start();
    kill(first, libc::SIGKILL);
    let second = container.wait_for_another_run(first);
    assert_eq!(container.status().restarts, 1);
    assert!(process::start_time(second).is_some());
    kill(second, libc::SIGKILL);
    container.wait_for_another_run(second);
    assert_eq!(container.status().restarts, 2);
    assert_eq!(container.ask(&Request::Restart).error, None);
    assert_eq!(container.status().restarts, 0, "counted from the last time somebody asked");
}

#[test]
fn waits_between_restarts_grow() {
    let mut container = Container::new("echo begun; exit 3").restarting(RestartPolicy::Always);
    container.config.restart.max_ms = 600_000;
    container.config.restart.initial_ms = 200;
    container.start();
    container.wait_until("in its third wait", |status| match &status.phase {
        Phase::Backoff { .. } => (status.restarts >= 2).then_some(()),
        _ => None,
    });
    let times: Vec<f64> = container.log().iter().map(|line| seconds(&line.time)).collect();
    assert!(times[1] - times[0] >= 0.2 && times[2] - times[1] >= 0.4, "{times:?}");
}

#[test]
fn a_stop_ends_a_wait_at_once() {
    let mut container = Container::new("echo begun; exit 3").restarting(RestartPolicy::Always);
    // Longer than whoever asks would wait for an answer.
    (container.config.restart.initial_ms, container.config.restart.max_ms) = (600_000, 600_000);
    container.start();
    let exit = container.wait_until("in its first wait", |status| match &status.phase {
        Phase::Backoff { exit, .. } => Some(exit.clone()),
        _ => None,
    });
    assert_eq!(exit.code, 3);
    let reply = container.ask(&Request::Stop { timeout_ms: None });
    assert_eq!(reply.status.phase, Phase::Exited { exit, gave_up: false });
    assert_eq!(container.log().len(), 1);
}

#[test]
fn who_ignores_the_stop_signal_is_killed_after_the_timeout_and_stays_stopped() {
    let script = "trap 'echo heard' TERM; echo up; while :; do sleep 0.05; done";
    let mut container = Container::new(script).restarting(RestartPolicy::Always);
    let pid = container.start();
    container.wait_for_line("up");
    let began = Instant::now();
    let reply = container.ask(&Request::Stop { timeout_ms: Some(400) });
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(reply.error, None);
    assert_eq!(process::stat(pid), None);
    container.wait_for_line("heard");
    let exit = container.wait_for_exit();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    std::thread::sleep(Duration::from_millis(300));
    assert!(matches!(container.status().phase, Phase::Exited { .. }));

    // A start undoes it.
    assert_eq!(container.ask(&Request::Start).error, None);
    assert!(matches!(container.status().phase, Phase::Running { .. }));
}

#[test]
fn a_start_during_a_stop_comes_after_it() {
    let mut container = Container::new("trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    let first = container.start();
    container.wait_for_line("up");
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| container.ask(&Request::Stop { timeout_ms: None }));
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(container.ask(&Request::Start).error, None);
        assert_eq!(stop.join().unwrap().error, None);
    });
    let second = container.wait_for_another_run(first);
    assert_eq!(process::stat(first), None);
    assert!(process::start_time(second).is_some());
}

#[test]
fn the_oom_killers_work_is_told_from_another_kill() {
    let mut container = Container::new("exec dd if=/dev/zero of=/dev/null bs=64M count=1").with_memory(16 << 20);
    container.start();
    let exit = container.wait_for_exit();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));

    let mut container = Container::new("exec sleep 100").with_memory(16 << 20);
    let pid = container.start();
    kill(pid, libc::SIGKILL);
    let exit = container.wait_for_exit();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
}

#[test]
fn a_main_process_that_went_to_the_background_is_told_from_a_short_script() {
    for (script, daemonized) in [
        ("setsid sleep 100 & sleep 0.1", true),
        ("sleep 100 & exit 0", true),
        ("ls; echo hi; sleep 0.01 & wait", false),
        ("sleep 100 & exit 1", false),
    ] {
        let mut container = Container::new(script);
        container.start();
        assert_eq!(container.wait_for_exit().daemonized, daemonized, "{script}\n{}", container.own_log());
    }
}

#[test]
fn a_shutdown_leaves_nothing() {
    let mut container = Container::new("sleep 100").restarting(RestartPolicy::Always);
    container.config.stop.signal = libc::SIGKILL;
    container.spawn();
    container.ask(&Request::Start);
    let status = container.status();
    let Phase::Running { pid, .. } = status.phase else { panic!("{status:?}") };
    assert!(container.config.cgroups.iter().all(|directory| directory.path.exists()));

    assert_eq!(container.ask(&Request::Shutdown).error, None);
    wait_until_gone(status.shim_pid);
    assert_eq!(process::stat(pid), None);
    for directory in &container.config.cgroups {
        assert!(!directory.path.exists(), "{}", directory.path.display());
    }
    let mut left: Vec<_> = fs::read_dir(container.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["bundle", "oci", "shim.json"], "{}", container.own_log());
    assert!(!container.path("oci").join(&container.config.id).exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&container.config.id), "{mounts}");
}

#[test]
fn a_terminated_shim_takes_its_container_with_it() {
    let mut container = Container::new("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    let pid = container.start();
    container.wait_for_line("up");
    let shim = container.status().shim_pid;
    kill(shim, libc::SIGTERM);
    wait_until_gone(shim);
    assert_eq!(process::stat(pid), None);
    container.wait_for_line("bye");
    assert!(!container.config.socket.exists());
}

#[test]
fn a_new_policy_is_taken_without_touching_the_container() {
    let mut container = Container::new("sleep 100");
    let first = container.start();
    container.config.restart.policy = RestartPolicy::Always;
    container.write_config();
    assert_eq!(container.ask(&Request::Reload).error, None);
    assert!(process::start_time(first).is_some());
    kill(first, libc::SIGKILL);
    let second = container.wait_for_another_run(first);

    container.config.restart.policy = RestartPolicy::Never;
    container.write_config();
    assert_eq!(container.ask(&Request::Reload).error, None);
    kill(second, libc::SIGKILL);
    container.wait_for_exit();

    fs::write(container.path("shim.json"), "{").unwrap();
    let error = container.ask(&Request::Reload).error.expect("a reload that fails");
    let expected = format!("{} is not a shim's configuration: ", container.path("shim.json").display());
    assert!(error.starts_with(&expected), "{error}");
}

/// Seconds within the day.
fn seconds(time: &str) -> f64 {
    let clock = time.split('T').nth(1).unwrap().trim_end_matches('Z');
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}
