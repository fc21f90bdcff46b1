use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_shim::{EXIT_LOCKED, Phase, Request, RestartPolicy, process};

use crate::container::{Container, kill, process_field, processor_ticks, wait_until_gone};

#[test]
fn a_container_starts_when_it_is_asked_to_and_its_process_has_a_clean_start() {
    let mut container = Container::new("echo up; exec sleep 100");
    let status = container.spawn();
    assert_eq!(status.phase, Phase::Created);
    assert_eq!(fs::metadata(&container.config.socket).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(container.ask(&Request::Start).error, None);
    let Phase::Running { pid, start_time, .. } = container.status().phase else { panic!("{:?}", container.status()) };
    assert_eq!(process::stat(pid).unwrap().parent, status.shim_pid);
    assert_eq!(process::start_time(pid), Some(start_time));
    container.wait_for_line("up");
    assert_eq!(process_field(pid, "SigBlk"), "0000000000000000");
    assert_eq!(process_field(pid, "SigIgn"), "0000000000000000");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "0");
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap().file_name()).collect();
    assert!(open.iter().all(|fd| ["0", "1", "2"].contains(&fd.to_str().unwrap())), "{open:?}");

    // A second start of what runs changes nothing.
    assert_eq!(container.ask(&Request::Start).error, None);
    assert!(matches!(container.status().phase, Phase::Running { pid: same, .. } if same == pid));

    assert_eq!(container.ask(&Request::Kill { signal: libc::SIGKILL }).error, None);
    let exit = container.wait_for_exit();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
}

#[test]
fn there_is_one_shim_per_container_and_it_outlives_its_spawner() {
    let mut container = Container::new("sleep 100");
    container.write_bundle();
    container.write_config();
    // A spawner in a session of its own, killed with everything in it.
    let shim = container.shim_command();
    let program = shim.get_program().to_owned();
    let mut spawner = Command::new("setsid");
    spawner.args(["sh", "-c", "\"$0\" \"$1\" && exec sleep 100"]).arg(program).arg(container.path("shim.json"));
    let mut spawner = spawner.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !container.config.status.exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    container.note_shim();
    let shim = container.status().shim_pid;
    // SAFETY: kill(2) with the process group that setsid made.
    unsafe { libc::kill(-spawner.id().cast_signed(), libc::SIGKILL) };
    spawner.wait().unwrap();

    assert_eq!(container.ask(&Request::Start).error, None);
    let second = container.spawn_with(&[]);
    assert_eq!(second.status.code(), Some(i32::from(EXIT_LOCKED)), "{second:?}");
    assert_eq!(container.status().shim_pid, shim);
    assert!(matches!(container.status().phase, Phase::Running { .. }));
}

#[test]
fn a_killed_shim_is_replaced_and_its_container_with_it() {
    let mut container = Container::new("trap '' PIPE; while :; do echo tick; sleep 0.05; done");
    let first = container.start();
    let shim = container.status().shim_pid;
    kill(shim, libc::SIGKILL);
    wait_until_gone(shim);
    assert!(process::start_time(first).is_some(), "a shim's death is not its container's");

    let second = container.start();
    assert_ne!(second, 0);
    wait_until_gone(first);
    assert_eq!(process::stat(second).unwrap().parent, container.status().shim_pid);
}

#[test]
fn the_runtimes_own_words_say_why_a_start_failed() {
    let mut container = Container::new("true").restarting(RestartPolicy::Always);
    container.write_bundle();
    let spec = container.config.bundle.join("config.json");
    fs::write(&spec, fs::read_to_string(&spec).unwrap().replace("\"sh\"", "\"/no/such/program\"")).unwrap();
    assert!(container.spawn_with(&[]).status.success());
    let error = container.ask(&Request::Start).error.expect("a start that fails");
    assert!(error.contains("/no/such/program") && error.contains("no such file"), "{error}");
    // Whoever asked knows, so nothing is tried again behind their back.
    assert_eq!(container.status().phase, Phase::Failed { message: error, next_start_at: None, gave_up: false });
    assert_eq!(container.log(), [], "a runtime's message is no line of the container's");
    assert!(!container.path("oci").join(&container.config.id).exists());
}

#[test]
fn a_runtime_without_a_log_of_its_own_is_heard_on_standard_error() {
    let mut container = Container::new("true").with_runtime("echo 'out of ideas' >&2; exit 3");
    container.spawn();
    // `delete` comes first, since this runtime's state directory is unknown.
    assert_eq!(container.ask(&Request::Start).error.as_deref(), Some("out of ideas"));
}

#[test]
fn a_runtime_that_hangs_is_killed_and_named() {
    let script = "case \"$*\" in *create*) echo $$ >hanging; exec sleep 1000;; esac";
    let mut container = Container::new("true").with_runtime(script);
    container.write_bundle();
    assert!(container.spawn_with(&["--runtime-timeout", "1"]).status.success());
    let error = container.ask(&Request::Start).error.expect("a start that fails");
    assert_eq!(error, "the runtime's `create` did not end within 1 s and was killed");
    let hanging = fs::read_to_string(container.path("hanging")).unwrap().trim().parse().unwrap();
    assert_eq!(process::stat(hanging), None);
}

#[test]
fn a_restart_that_fails_is_tried_again() {
    let script = "test -e broken && { echo broken >&2; exit 1; }; exec $real \"$@\"";
    let mut container = Container::new("sleep 100").with_runtime(script).restarting(RestartPolicy::Always);
    let first = container.start();
    fs::write(container.path("broken"), "").unwrap();
    kill(first, libc::SIGKILL);
    container.wait_until("failed and due again", |status| {
        matches!(&status.phase, Phase::Failed { message, next_start_at: Some(_), .. } if message == "broken")
            .then_some(())
    });
    fs::remove_file(container.path("broken")).unwrap();
    container.wait_for_another_run(first);
    assert!(container.status().restarts >= 2);
}

#[test]
fn a_status_that_could_not_be_written_is_written_while_the_container_talks() {
    let mut container = Container::new("while :; do echo tick; sleep 0.05; done").restarting(RestartPolicy::Always);
    let first = container.start();
    // What is to become the next status cannot be made.
    let obstacle = evenkeel_shim::status_on_its_way(&container.config.status);
    fs::create_dir(&obstacle).unwrap();
    kill(first, libc::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    let runs_again = |phase: Phase| matches!(phase, Phase::Running { pid, .. } if pid != first);
    while !runs_again(container.ask(&Request::Reload).status.phase) {
        assert!(Instant::now() < deadline, "{}", container.own_log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!runs_again(container.status().phase));
    fs::remove_dir(&obstacle).unwrap();
    let removed = Instant::now();
    container.wait_for_another_run(first);
    // Not only at the next deadline of another kind, some ten seconds after the start.
    assert!(removed.elapsed() < Duration::from_secs(5), "{:?}", removed.elapsed());
}

#[test]
fn an_idle_shim_takes_no_processor_time() {
    let mut container = Container::new("exec sleep 100");
    container.start();
    let shim = container.status().shim_pid;
    let before = processor_ticks(shim);
    std::thread::sleep(Duration::from_secs(1));
    let ticks = processor_ticks(shim) - before;
    // A second of spinning is about a hundred.
    assert!(ticks <= 5, "{ticks} ticks in a second");
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_of_the_caller() {
    let container = Container::new("true");
    let output = container.shim_command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let path = container.path("shim.json");
    assert_eq!(
        said,
        format!("evenkeel-shim: cannot read {}: No such file or directory (os error 2)\n", path.display())
    );
}
