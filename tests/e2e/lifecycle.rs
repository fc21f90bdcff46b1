//! A container's life: ends, restarts, limits hit, dependencies.

use std::time::Duration;

use evenkeel_tests::{ask, program, sandboxed};

use crate::story;

#[test]
fn restart_policies_do_what_they_say() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        // Name, exit status, policy, and whether it is started again.
        let cases = [
            ("always-0", 0, "always", true),
            ("failure-0", 0, "onFailure", false),
            ("failure-3", 3, "onFailure", true),
            ("never-3", 3, "never", false),
        ];
        for (name, code, policy, _) in cases {
            let more = format!("  restart: {{policy: {policy}, backoff: {{initial: 50ms, max: 50ms}}}}\n");
            sandbox.manifest(&format!("{name}.yaml"), &story::shell(name, &format!("sleep 0.2; exit {code}"), &more));
        }
        sandbox.verb_on_manifests("apply", &[]);
        for (name, code, _, again) in cases {
            if again {
                ask::eventually(&format!("{name} is started again and again"), || {
                    let status = story::status(sandbox, name).ok_or("no status")?;
                    if status["restarts"].as_u64() >= Some(2) { Ok(()) } else { Err(status.to_string()) }
                });
            } else {
                let phase = story::phase(sandbox, name, "exited");
                assert_eq!(phase["exit"]["code"], code, "{phase}");
                ask::throughout(Duration::from_millis(500), &format!("{name} stays down"), || {
                    let status = story::status(sandbox, name).ok_or("no status")?;
                    if status["phase"] == phase { Ok(()) } else { Err(status.to_string()) }
                });
            }
        }
    });
}

#[test]
fn a_signal_is_an_exit_status() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        sandbox.manifest("c.yaml", &story::shell("c", "exec sleep 100000", "  restart: {policy: never}\n"));
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "c");
        program::sh(&format!("kill -9 {pid}"));
        let phase = story::phase(sandbox, "c", "exited");
        assert_eq!((phase["exit"]["code"].as_i64(), phase["exit"]["signal"].as_i64()), (Some(137), Some(9)));
        sandbox.evenkeel(&["ps"]).expect_code(0).says("SIGKILL");
    });
}

#[test]
fn running_out_of_memory_is_told() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        // A shell variable that doubles until the limit.
        let hungry = "x=0123456789abcdef; while :; do x=$x$x; done";
        let more = "  restart: {policy: never}\n  resources: {memory: 16Mi}\n";
        sandbox.manifest("hungry.yaml", &story::shell("hungry", hungry, more));
        sandbox.verb_on_manifests("apply", &[]);
        let phase = story::phase(sandbox, "hungry", "exited");
        assert_eq!(phase["exit"]["oomKilled"], true, "{phase}");
        let run = sandbox.evenkeel(&["status"]);
        let text = format!("{}{}", run.stdout, sandbox.evenkeel(&["ps"]).stdout).to_lowercase();
        assert!(text.contains("memory") || text.contains("oom"), "{text}");
    });
}

#[test]
fn going_to_the_background_is_told_with_a_hint() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let more = "  restart: {policy: never}\n";
        sandbox.manifest("d.yaml", &story::shell("d", "sleep 100000 & exit 0", more));
        sandbox.verb_on_manifests("apply", &[]);
        let phase = story::phase(sandbox, "d", "exited");
        assert_eq!(phase["exit"]["daemonized"], true, "{phase}");
        let text = format!("{}{}", sandbox.evenkeel(&["status"]).stdout, sandbox.evenkeel(&["ps"]).stdout);
        assert!(text.contains("background") && text.contains("foreground"), "{text}");
    });
}

#[test]
fn a_command_that_is_not_there_is_an_error_of_the_runtime() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let wrong = story::shell("c", "true", "").replace("[sh, -c, \"true\"]", "[/no/such/program]");
        sandbox.manifest("c.yaml", &wrong);
        let run = sandbox.verb_on_manifests("apply", &[]);
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(!run.succeeded() && all.contains("/no/such/program"), "{run}");
        sandbox.evenkeel(&["drift"]).expect_code(1);
    });
}

#[test]
fn dependencies_come_first() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        sandbox.manifest("volume.yaml", story::DATA);
        let mount = "  mounts: [{volume: data, target: /data}]\n";
        let slow = "  health: {exec: [test, -e, /data/ready], interval: 100ms, retries: 1000}\n";
        sandbox.manifest(
            "first.yaml",
            &story::shell("first", "sleep 1; touch /data/ready; exec sleep 100000", &format!("{mount}{slow}")),
        );
        let needs = "  dependsOn: [{container: first, condition: healthy}]\n  restart: {policy: never}\n";
        sandbox.manifest("second.yaml", &story::shell("second", "test -e /data/ready", &format!("{mount}{needs}")));
        sandbox.verb_on_manifests("apply", &[]);
        let phase = story::phase(sandbox, "second", "exited");
        assert_eq!(phase["exit"]["code"], 0, "it started before the other was healthy: {phase}");
    });
}

#[test]
fn an_agent_does_not_wait_for_what_is_not_yet_healthy() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let slow = "  health: {exec: [\"false\"], interval: 100ms, retries: 100000}\n";
        sandbox.manifest("first.yaml", &story::shell("first", "exec sleep 100000", slow));
        let needs = "  dependsOn: [{container: first, condition: healthy}]\n";
        sandbox.manifest("second.yaml", &story::shell("second", "exec sleep 100000", needs));
        let agent = sandbox.agent(&["--resync", "1s"]);
        ask::eventually("a short pass", || {
            let pass = sandbox.evenkeel(&["status", "-o", "json"]).json()["agent"]["lastPass"].clone();
            let blocked = pass["problems"].to_string().contains("container/second: waits for container/first");
            let short = pass["milliseconds"].as_u64().is_some_and(|milliseconds| milliseconds < 400);
            if blocked && short { Ok(()) } else { Err(format!("{pass}\n{}", agent.log())) }
        });
    });
}

#[test]
fn rights_are_those_of_the_manifest() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let more = "  user: web\n  workingDir: /www\n  hostname: strict\n  env: {GREETING: hello}\n  security: {readOnlyRootfs: true, \
                    capDrop: [ALL], noNewPrivileges: true}\n";
        sandbox.manifest("strict.yaml", &story::shell("strict", "exec sleep 100000", more));
        sandbox.manifest("plain.yaml", &story::shell("plain", "exec sleep 100000", ""));
        sandbox.apply();
        let field = |pid: u32, name: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process's status");
            let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the field");
            line.split_whitespace().nth(1).expect("a value").to_owned()
        };
        let (strict, _) = story::running(sandbox, "strict");
        assert_eq!(field(strict, "Uid"), "1000");
        assert_eq!(field(strict, "CapBnd"), "0000000000000000");
        assert_eq!(field(strict, "NoNewPrivs"), "1");
        assert_eq!(field(strict, "Seccomp"), "2");
        let (plain, _) = story::running(sandbox, "plain");
        // Docker's default set: fourteen capabilities.
        assert_eq!(field(plain, "CapBnd"), "00000000a80425fb");
        assert_eq!(field(plain, "Seccomp"), "2");
        let exec = |line: &str| sandbox.evenkeel(&["exec", "strict", "sh", "-c", line]);
        exec("pwd; hostname; echo $GREETING").expect_code(0).says("/www\nstrict\nhello\n");
        exec("touch /www/x").expect_code(1).complains("Read-only file system");
    });
}
