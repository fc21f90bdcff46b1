//! A manual stop is a recorded override: told, and neither undone nor kept in silence.

use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

#[track_caller]
fn stays_stopped(sandbox: &Sandbox, when: &str) {
    let drift = sandbox.evenkeel(&["drift"]).expect_code(1);
    assert!(drift.stdout.contains("container/front") && drift.stdout.contains("stopped"), "{when}\n{drift}");
    sandbox.evenkeel(&["drift", "-o", "json"]).expect_code(1).says("stopped");
    sandbox.evenkeel(&["status"]).expect_code(0).says("was stopped by hand").says("evenkeel start front");
    let status = sandbox.evenkeel(&["status", "-o", "json"]).expect_code(0).json();
    assert!(status["overrides"]["front"]["since"].is_string(), "{when}: {status}");
    ask::throughout(Duration::from_millis(1200), when, || {
        let answer = ask::wget(None, "http://127.0.0.1:8080/");
        if answer.succeeded() { Err(answer.to_string()) } else { Ok(()) }
    });
}

#[test]
fn nothing_but_a_start_by_hand_undoes_a_manual_stop() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        sandbox.evenkeel(&["stop", "front"]).expect_code(0);
        stays_stopped(sandbox, "after the stop");
        sandbox.apply();
        stays_stopped(sandbox, "after apply");
        sandbox.manifest("front.yaml", &story::front("8080").replace("  stopSignal", "  env: {A: b}\n  stopSignal"));
        sandbox.apply();
        stays_stopped(sandbox, "after another manifest");
        let shim = story::status(sandbox, "front").expect("its status")["shimPid"].clone();
        program::sh(&format!("kill -9 {shim}"));
        sandbox.apply();
        stays_stopped(sandbox, "after the end of its shim");
        program::sh("ip link del ek-shop");
        sandbox.apply();
        stays_stopped(sandbox, "after a repair of its network");
        let mut agent = sandbox.agent(&["--resync", "1s"]);
        ask::eventually("the agent's first pass", || {
            if agent.log().contains("stopped") { Ok(()) } else { Err(agent.log()) }
        });
        stays_stopped(sandbox, "under an agent");
        assert!(agent.is_running());
        agent.kill();
        // As after a reboot: nothing of the run directory is there.
        let run = sandbox.paths().run().display().to_string();
        program::sh(&format!(
            "for mount in $(grep -o '{run}[^ ]*' /proc/mounts | tac); do umount -l $mount; done; rm -rf {run}"
        ));
        sandbox.apply();
        stays_stopped(sandbox, "after a reboot");

        sandbox.evenkeel(&["start", "front"]).expect_code(0);
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", story::running(sandbox, "front").0));
        assert!(environment.expect("its environment").contains("A=b"), "what changed meanwhile is there");
    });
}

/// The override is of that container: one of the same name that is made later has none.
#[test]
fn an_override_goes_with_its_container() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        sandbox.evenkeel(&["stop", "front"]).expect_code(0);
        let manifest = sandbox.manifests().join("front.yaml");
        std::fs::remove_file(&manifest).expect("the manifest");
        sandbox.apply();
        let status = sandbox.evenkeel(&["status", "-o", "json"]).expect_code(0).json();
        assert_eq!(status["overrides"], serde_json::json!({}));
        sandbox.manifest("front.yaml", &story::front("8080"));
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_start_by_hand_calls_nothing_else_repaired() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("data.yaml", story::DATA);
        sandbox.apply();
        sandbox.evenkeel(&["stop", "front"]).expect_code(0);
        let volume = sandbox.paths().volume(&"data".parse().expect("a name"));
        program::sh(&format!("chmod 0777 {}", volume.display()));
        let since = || {
            let drift = sandbox.evenkeel(&["drift", "-o", "json"]).expect_code(1).json();
            let objects = drift["objects"].as_array().expect("objects").clone();
            let data = objects.into_iter().find(|object| object["object"] == "volume/data");
            let since = data.map(|data| data["differences"][0]["since"].clone());
            since.filter(serde_json::Value::is_string).unwrap_or_else(|| panic!("no time: {drift}"))
        };
        let before = since();
        std::thread::sleep(Duration::from_millis(1100));
        sandbox.evenkeel(&["start", "front"]).expect_code(0);
        assert_eq!(since(), before, "the volume differs as long as before");
    });
}
