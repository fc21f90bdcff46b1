//! The same story through another OCI runtime.

use evenkeel_tests::{ask, program, sandboxed};

use crate::story;

#[test]
fn runc_runs_the_same_story() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        let runc = program::sh("command -v runc").stdout.trim().to_owned();
        sandbox.apply_with(&["--runtime", &runc]);
        let (pid, _) = story::running(sandbox, "web");
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        assert!(sandbox.paths().runtime_state().join("web/state.json").exists(), "runc's own state file");
        sandbox.evenkeel(&["exec", "web", "cat", "/proc/1/comm"]).expect_code(0).says("httpd");
        story::in_sync(sandbox);
        // A live change by somebody who names no runtime leaves the container with its own.
        sandbox.manifest("web.yaml", &story::WEB.replace("64Mi", "32Mi"));
        sandbox.apply();
        assert_eq!(story::running(sandbox, "web").0, pid);
        program::sh(&format!("kill -9 {pid}"));
        ask::eventually("another process runs", || match story::running(sandbox, "web") {
            (now, _) if now != pid => Ok(()),
            _ => Err("the same".to_owned()),
        });
        sandbox.evenkeel(&["stop", "web"]).expect_code(0);
        let list = program::run(std::process::Command::new("pgrep").args(["-x", "httpd"]));
        assert_eq!(list.stdout, "", "{list}");
    });
}
