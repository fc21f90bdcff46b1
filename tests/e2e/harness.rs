//! The sandbox itself, since everything else in this ring stands on it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use evenkeel_tests::{ask, leftovers, program, sandboxed};

#[test]
fn a_sandbox_has_namespaces_of_its_own() {
    sandboxed(|sandbox| {
        assert!(sandbox.directory().is_dir());
        assert_eq!(ask::ip_json(&["link"]).as_array().map(Vec::len), Some(1), "only lo");
        assert!(ask::ping(None, "127.0.0.1"));
        assert_eq!(fs::read_dir("/run").expect("/run").count(), 0);
        assert_eq!(fs::read_to_string("/proc/1/comm").expect("the init").trim_end(), "evenkeel-test-s");
    });
}

#[test]
fn what_a_person_has_set_does_not_reach_the_programs() {
    sandboxed(|sandbox| {
        // SAFETY: no other thread of this test reads the environment.
        unsafe { std::env::set_var("EVENKEEL_RUNTIME", "/no/such/runtime") };
        sandbox.evenkeel(&["status"]).expect_code(0);
        assert!(std::env::temp_dir().starts_with(sandbox.directory()), "what is built goes with the sandbox");
    });
}

#[test]
fn a_wire_reaches_the_lan() {
    sandboxed(|sandbox| {
        let lan = sandbox.wire("parent0");
        program::sh("ip addr add 10.9.9.1/24 dev parent0; ip -n lan addr add 10.9.9.2/24 dev parent0-peer");
        assert!(ask::ping(None, "10.9.9.2"));
        assert!(ask::ping(Some(&lan), "10.9.9.1"));
        assert_eq!(ask::addresses("parent0"), ["10.9.9.1/24"]);
    });
}

#[test]
fn the_root_file_system_runs() {
    sandboxed(|sandbox| {
        let directory = sandbox.directory().join("unpacked");
        fs::create_dir(&directory).expect("a directory");
        program::run(Command::new("tar").arg("-xzf").arg(sandbox.rootfs()).arg("-C").arg(&directory)).expect_code(0);
        let answer =
            program::run(Command::new("chroot").arg(&directory).args(["/bin/sh", "-c", "cat /www/index.html; id web"]));
        answer.expect_code(0).says("hello").says("uid=1000(web) gid=1000(web)");
    });
}

/// A sandbox that is started from outside of one; nothing of it stays, also where the test fails.
struct Outside {
    directory: PathBuf,
    child: Child,
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Ended already, as far as the test went well.
        drop(self.child.kill());
        drop(self.child.wait());
        if self.directory.exists() {
            leftovers::remove(&self.directory);
        }
    }
}

/// Ends a sandbox from outside in the middle of its work, with everything a test could have made, and looks for the rest.
#[test]
fn a_terminated_sandbox_leaves_nothing() {
    let directory = tempfile::Builder::new().prefix("evenkeel-test-").tempdir_in("/tmp").expect("a directory").keep();
    let instance = evenkeel_host::Instance::of(&evenkeel_host::Paths::new(directory.join("root"), "/"));
    let ready = directory.join("ready");
    let roots = ask::cgroup_roots();
    let cgroup = roots[0].join(instance.as_str());
    let line = format!(
        "mkdir -p {dir}/root {dir}/mnt {cgroup}/web; mount -t tmpfs none {dir}/mnt; setsid sleep 4242 & touch {ready}; wait",
        dir = directory.display(),
        cgroup = cgroup.display(),
        ready = ready.display()
    );
    let mut sandbox = Command::new(program::built("evenkeel-test-sandbox"));
    sandbox.arg(&directory).args(["sh", "-c", &line]);
    let mut outside = Outside { child: sandbox.spawn().expect("the sandbox"), directory };
    ask::eventually("the sandbox is at work", || if ready.exists() { Ok(()) } else { Err("no file yet".to_owned()) });
    assert!(cgroup.join("web").is_dir());
    program::sh(&format!("kill -TERM {}", outside.child.id()));
    assert_eq!(outside.child.wait().expect("its exit status").code(), Some(137));
    assert!(!outside.directory.exists());
    assert!(!cgroup.exists());
    let sleepers = program::run(Command::new("pgrep").args(["-fx", "sleep 4242"]));
    assert_eq!(sleepers.stdout, "", "a process outlived its sandbox");
}
