//! The built-in runtime's command line, as a supervisor of somebody else's calls it: `create`, `start`, `state`, `kill` and
//! `delete` by hand, on a bundle of ours. The shim needs only some of them.

use std::fs;

use evenkeel_plan::RunState;
use evenkeel_tests::eventually;
use evenkeel_tests::program::{Run, built};
use serde_json::Value;

use super::{Site, built_in_runtime, name, on_site, shell, spec};

/// A container of the runtime's, with a root of its own for the runtime.
struct ByHand<'a> {
    site: &'a Site<'a>,
}

impl ByHand<'_> {
    fn call(&self, arguments: &[&str]) -> Run {
        let root = self.site.sandbox.directory().join("by-hand");
        let mut command = std::process::Command::new(built("evenkeel-oci"));
        command.arg("--root").arg(root).args(arguments);
        // The container gets the same streams; it would hold pipes open until its end.
        let said = self.site.sandbox.directory().join("said");
        let file = fs::File::create(&said).expect("a file");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        let status = command.status().expect("the runtime");
        let stdout = fs::read_to_string(said).expect("what it said");
        Run { command: format!("{command:?}"), code: status.code(), stdout, stderr: String::new() }
    }

    fn state(&self) -> Value {
        let run = self.call(&["state", "web"]).expect_code(0);
        serde_json::from_str(&run.stdout).expect("JSON")
    }
}

#[test]
fn a_container_is_made_started_and_deleted_by_hand() {
    on_site(built_in_runtime(), |site| {
        site.create("web", &spec(&shell("echo started >/tmp/word"))).expect("create");
        let bundle = site.sandbox.paths().container_run(&name("web"));
        let hand = ByHand { site };
        hand.call(&["start", "web"]).expect_code(1).says("container web does not exist");
        let pid_file = site.sandbox.directory().join("pid");
        let create = ["create", "--bundle", bundle.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap(), "web"];
        hand.call(&create).expect_code(0);
        let pid: u64 = fs::read_to_string(&pid_file).expect("the pid").parse().expect("a number");
        let state = hand.state();
        assert_eq!(
            (&state["status"], &state["pid"], &state["bundle"]),
            (&Value::from("created"), &Value::from(pid), &Value::from(bundle.to_str().unwrap()))
        );
        // What waits for its start is the runtime's own program still.
        let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        assert_eq!(comm(), "evenkeel-oci\n");
        hand.call(&create).expect_code(1).says("container web exists already");
        hand.call(&["start", "web"]).expect_code(0);
        eventually("the command runs", || if comm() == "sleep\n" { Ok(()) } else { Err(comm()) });
        assert_eq!(fs::read_to_string(bundle.join("rootfs/tmp/word")).expect("its word"), "started\n");
        assert_eq!(hand.state()["status"], "running");
        hand.call(&["start", "web"]).expect_code(1).says("container web is running, not created");
        hand.call(&["delete", "web"]).expect_code(1).says("container web is running, not stopped");
        hand.call(&["kill", "web", "KILL"]).expect_code(0);
        eventually("it is stopped", || match hand.state() {
            state if state["status"] == "stopped" && state["pid"] == 0 => Ok(()),
            state => Err(state.to_string()),
        });
        hand.call(&["start", "web"]).expect_code(1).says("container web is stopped, not created");
        hand.call(&["delete", "web"]).expect_code(0);
        hand.call(&["state", "web"]).expect_code(1).says("container web does not exist");
        assert!(!site.sandbox.directory().join("by-hand/web").exists());
    });
}

#[test]
fn a_damaged_record_keeps_no_container_down() {
    on_site(built_in_runtime(), |site| {
        let pid = site.run("web", &shell("true"));
        let record = site.sandbox.paths().runtime_state().join("web/record.json");
        fs::write(&record, "{").expect("the record");
        site.wait(site.containers.kill(&name("web"), 9)).expect_err("the runtime does not know its process");
        evenkeel_tests::program::sh(&format!("kill -9 {pid}"));
        eventually("another process", || match site.observe("web").state {
            RunState::Running { pid: new, restarts: 1, .. } if new != pid => Ok(()),
            other => Err(format!("{other:?}")),
        });
    });
}
