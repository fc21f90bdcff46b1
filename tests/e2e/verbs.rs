//! The verbs for people: `ps`, `status`, `logs`, `exec`, `inspect`, `stop`, `start`, and their JSON.

use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, sandboxed};

use crate::story;

/// A container that speaks on both streams and then waits.
fn talker(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    let line = "echo one; echo two >&2; echo three; exec sleep 100000";
    sandbox.manifest("talker.yaml", &story::shell("talker", line, ""));
    sandbox.apply();
    story::running(sandbox, "talker");
}

#[test]
fn logs_come_with_stream_and_time() {
    sandboxed(|sandbox| {
        talker(sandbox);
        ask::eventually("all lines are in the log", || {
            let run = sandbox.evenkeel(&["logs", "talker"]);
            let whole = run.stdout == "one\nthree\n" && run.stderr == "two\n";
            if whole { Ok(()) } else { Err(run.to_string()) }
        });
        // Which line is the last is not said: the streams are two pipes.
        let tail = sandbox.evenkeel(&["logs", "--tail", "1", "talker"]).expect_code(0);
        assert_eq!(format!("{}{}", tail.stdout, tail.stderr).lines().count(), 1, "{tail}");
        let stamped = sandbox.evenkeel(&["logs", "--timestamps", "talker"]).expect_code(0);
        let times: Vec<&str> =
            stamped.stdout.lines().filter_map(|line| line.split_once(' ')).map(|(time, _)| time).collect();
        assert_eq!(times.len(), 2, "{stamped}");
        assert!(
            times.is_sorted() && times.iter().all(|time| time.starts_with("20") && time.ends_with('Z')),
            "{times:?}"
        );
        let json = sandbox.evenkeel(&["logs", "-o", "json", "talker"]).expect_code(0);
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("an object in each line");
        let mut lines: Vec<_> =
            json.stdout.lines().map(parse).map(|line| (line["stream"].clone(), line["log"].clone())).collect();
        lines.sort_by_key(|(_, log)| log.to_string());
        let lines: Vec<_> =
            lines.iter().map(|(stream, log)| (stream.as_str().unwrap(), log.as_str().unwrap())).collect();
        assert_eq!(lines, [("stdout", "one\n"), ("stdout", "three\n"), ("stderr", "two\n")]);
        let yaml = sandbox.evenkeel(&["logs", "-o", "yaml", "talker"]).expect_code(0);
        assert_eq!(yaml.stdout.lines().filter(|line| line.starts_with("- ")).count(), 3, "{yaml}");
    });
}

#[test]
fn exec_runs_in_the_container_and_gives_its_exit_status() {
    sandboxed(|sandbox| {
        talker(sandbox);
        sandbox
            .evenkeel(&["exec", "talker", "sh", "-c", "hostname; echo oops >&2; exit 7"])
            .expect_code(7)
            .says("talker\n")
            .complains("oops");
        sandbox.evenkeel(&["exec", "talker", "cat", "/proc/1/comm"]).expect_code(0).says("sleep");
        let missing = sandbox.evenkeel(&["exec", "talker", "/no/such/program"]);
        assert!(matches!(missing.code, Some(126 | 127)), "{missing}");
        let nobody = sandbox.evenkeel(&["exec", "nobody", "true"]);
        assert!(!nobody.succeeded() && nobody.stderr.contains("nobody"), "{nobody}");
    });
}

#[test]
fn exec_hands_its_input_through() {
    sandboxed(|sandbox| {
        talker(sandbox);
        let input = sandbox.directory().join("input");
        std::fs::write(&input, "through and through\n").expect("the input");
        let mut command = sandbox.command(&["exec", "-i", "talker", "cat"]);
        command.stdin(std::fs::File::open(&input).expect("the input"));
        evenkeel_tests::run(&mut command).expect_code(0).says("through and through\n");
    });
}

#[test]
fn a_manual_stop_is_kept_and_told() {
    sandboxed(|sandbox| {
        talker(sandbox);
        let (before, _) = story::running(sandbox, "talker");
        sandbox.evenkeel(&["stop", "talker"]).expect_code(0);
        assert_eq!(ask::start_time(before), None);
        sandbox.evenkeel(&["drift"]).expect_code(1).says("talker").says("stopped");
        sandbox.evenkeel(&["status"]).says("stopped");
        sandbox.verb_on_manifests("apply", &[]);
        assert_eq!(
            story::status(sandbox, "talker").expect("its status")["phase"]["phase"],
            "exited",
            "apply left it so"
        );
        sandbox.evenkeel(&["start", "talker"]).expect_code(0);
        let (pid, _) = story::running(sandbox, "talker");
        assert_ne!(pid, before);
        sandbox.evenkeel(&["start", "talker"]).expect_code(0).says("container/talker runs already");
        assert_eq!(story::running(sandbox, "talker").0, pid);
        story::in_sync(sandbox);
    });
}

#[test]
fn containers_are_stopped_side_by_side() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let names = ["a", "b", "c"];
        for name in names {
            let deaf = story::shell(name, "trap '' TERM; while :; do sleep 100000; done", "");
            sandbox.manifest(&format!("{name}.yaml"), &deaf.replace("stopSignal: KILL", "stopSignal: TERM"));
        }
        sandbox.apply();
        let started = std::time::Instant::now();
        let run = sandbox.evenkeel(&["stop", "-t", "3", "a", "b", "c"]).expect_code(0);
        assert!(started.elapsed() < Duration::from_secs(8), "three times three seconds one after the other: {run}");
        for name in names {
            assert!(run.stdout.contains(&format!("stopped container/{name}\n")), "{run}");
            story::phase(sandbox, name, "exited");
        }
    });
}

#[test]
fn ps_status_and_inspect_agree_with_the_kernel() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "front");
        sandbox.evenkeel(&["ps"]).expect_code(0).says("front").says("8080");
        let ps = sandbox.evenkeel(&["ps", "-o", "json"]).expect_code(0).json();
        assert!(ps.to_string().contains(&format!("\"pid\":{pid}")), "{ps}");
        sandbox.evenkeel(&["status"]).expect_code(0);
        sandbox.evenkeel(&["status", "-o", "json"]).expect_code(0).json();
        let address = ask::addresses_in(&sandbox.container_netns("front"), "eth0")[0].clone();
        let inspect = sandbox.evenkeel(&["inspect", "front", "-o", "json"]).expect_code(0).json();
        assert!(inspect.to_string().contains(&address), "{inspect}");
        let missing = sandbox.evenkeel(&["inspect", "nobody"]);
        assert!(!missing.succeeded() && missing.stderr.contains("nobody"), "{missing}");
    });
}

#[test]
fn looking_at_a_host_without_anything_is_fine() {
    sandboxed(|sandbox| {
        sandbox.evenkeel(&["ps"]).expect_code(0);
        sandbox.evenkeel(&["status"]).expect_code(0).says("Nothing was applied yet");
        sandbox.evenkeel(&["drift"]).expect_code(2).complains("nothing was ever applied");
        assert!(!sandbox.paths().root().exists(), "looking writes nothing");
    });
}

#[test]
fn status_shows_the_host_beside_an_agent_that_cannot_be_asked() {
    sandboxed(|sandbox| {
        sandbox.manifest("data.yaml", story::DATA);
        sandbox.apply();
        let socket = sandbox.paths().agent_socket();
        std::fs::create_dir_all(socket.parent().expect("its directory")).expect("the run directory");
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("the socket");
        let another = std::thread::spawn(move || {
            use std::io::{BufRead, BufReader, Write};
            let (mut stream, _) = listener.accept().expect("an asker");
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).expect("a request");
            stream.write_all(b"{\"answer\": \"tea\"}\n").expect("an answer");
        });
        let run = sandbox.evenkeel(&["status"]).expect_code(0);
        run.says("answers in words of another release").says("volume/data");
        another.join().expect("the other agent");
    });
}
