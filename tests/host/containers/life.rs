//! From nothing to a running container and back, also where someone or something got in between.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_host::error_chain;
use evenkeel_plan::{RunState, Sight};
use evenkeel_tests::ask::start_time;
use evenkeel_tests::program::sh;
use evenkeel_tests::{eventually, run};

use super::{Site, digest, name, shell, spec, with_both_runtimes};

with_both_runtimes![
    it_is_made_and_started_and_removed,
    a_missing_command_fails_with_its_name,
    a_file_that_is_no_program_fails_with_its_name,
    an_end_is_seen,
    stop_asks_and_then_kills,
    a_killed_shim_leaves_the_container_running,
    a_killed_process_is_started_again,
    removal_works_wherever_it_was_cut_off,
    removal_goes_through_no_mount,
    a_reboot_keeps_what_was_written,
    another_image_is_refused,
    many_are_seen_at_once,
];

fn it_is_made_and_started_and_removed(site: &Site) {
    assert_eq!(site.wait(site.containers.observe(&name("web"))), Sight::Absent);
    let manifest = spec(&shell("echo started"));
    site.create("web", &manifest).expect("create");
    let seen = site.observe("web");
    assert_eq!((&seen.state, seen.shim_alive, seen.rootfs_mounted), (&RunState::Created, false, true));
    assert_eq!((&seen.spec, &seen.image, seen.limits, seen.process), (&manifest, &digest('1'), None, None));
    // Once more is as good as once.
    site.create("web", &manifest).expect("create again");
    let pid = site.start("web");
    site.log_with("web", "started");
    let seen = site.observe("web");
    assert!(seen.shim_alive && seen.rootfs_mounted);
    assert_eq!(site.start("web"), pid, "a running container is left alone");
    site.create("web", &manifest).expect("create while it runs");
    assert_eq!(site.start("web"), pid, "a running container is left alone");
    assert_eq!(site.containers.list().expect("the list"), [name("web")].into());
    site.remove("web");
    assert_eq!(start_time(pid), None);
    assert_eq!(site.wait(site.containers.observe(&name("web"))), Sight::Absent);
    site.nothing_is_left();
    site.remove("web");
}

fn a_missing_command_fails_with_its_name(site: &Site) {
    site.create("web", &spec("command: [/bin/nope]\nrestart: {policy: never}\n")).expect("create");
    let error = error_chain(&site.wait(site.containers.start(&name("web"))).expect_err("no such command"));
    assert!(error.contains("\"/bin/nope\"") && error.contains("no such file"), "{error}");
    match site.observe("web").state {
        RunState::Failed { message, .. } => assert!(message.contains("/bin/nope"), "{message}"),
        other => panic!("{other:?}"),
    }
    site.create("plain", &spec("command: [nope]\nrestart: {policy: never}\n")).expect("create");
    let error = error_chain(&site.wait(site.containers.start(&name("plain"))).expect_err("no such command"));
    assert!(error.contains("\"nope\"") && error.contains("not found in"), "{error}");
}

fn a_file_that_is_no_program_fails_with_its_name(site: &Site) {
    site.create("web", &spec("command: [/etc/passwd]\nrestart: {policy: never}\n")).expect("create");
    let error = error_chain(&site.wait(site.containers.start(&name("web"))).expect_err("not executable"));
    assert!(error.contains("/etc/passwd"), "{error}");
    assert!(error.contains("not executable") || error.contains("permission denied"), "{error}");
}

fn an_end_is_seen(site: &Site) {
    site.create("web", &spec("command: [/bin/sh, -c, 'exit 7']\nrestart: {policy: never}\n")).expect("create");
    site.wait(site.containers.start(&name("web"))).expect("start");
    eventually("its end", || match site.observe("web").state {
        RunState::Exited { exit, .. } if exit.code == 7 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(site.observe("web").process, None);
}

fn stop_asks_and_then_kills(site: &Site) {
    let line = "trap 'echo asked; exit 0' QUIT; echo ready; while true; do sleep 0.1; done";
    let yaml = format!("command: [/bin/sh, -c, \"{line}\"]\nstopSignal: QUIT\n");
    site.run("polite", &yaml);
    site.log_with("polite", "ready");
    site.wait(site.containers.stop(&name("polite"), None)).expect("stop");
    assert!(matches!(site.observe("polite").state, RunState::Exited { exit, .. } if exit.code == 0));
    assert!(site.log("polite").contains("asked"));

    let line = "trap '' TERM; echo ready; while true; do sleep 0.1; done";
    // What is asked for holds, not what the manifest says.
    site.run("deaf", &format!("command: [/bin/sh, -c, \"{line}\"]\nstopTimeout: 2m\n"));
    site.log_with("deaf", "ready");
    let begin = Instant::now();
    site.wait(site.containers.stop(&name("deaf"), Some(Duration::from_millis(300)))).expect("stop");
    assert!(begin.elapsed() >= Duration::from_millis(300) && begin.elapsed() < Duration::from_secs(100));
    assert!(matches!(site.observe("deaf").state, RunState::Exited { exit, .. } if exit.signal == Some(9)));
    site.start("deaf");
    site.wait(site.containers.stop(&name("deaf"), Some(Duration::ZERO))).expect("stop");
}

fn shim_pid(site: &Site, container: &str) -> u32 {
    let status = fs::read_to_string(site.sandbox.paths().status(&name(container))).expect("the status");
    serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["shimPid"].as_u64().expect("a pid") as u32
}

fn kill(pid: u32) {
    run(Command::new("kill").args(["-KILL", &pid.to_string()])).expect_code(0);
}

fn a_killed_shim_leaves_the_container_running(site: &Site) {
    let pid = site.run("web", &shell("true"));
    let shim = shim_pid(site, "web");
    kill(shim);
    eventually("the shim's end", || start_time(shim).map_or(Ok(()), |_| Err("there".to_owned())));
    let seen = site.observe("web");
    assert!(!seen.shim_alive);
    assert!(matches!(seen.state, RunState::Running { pid: seen, .. } if seen == pid));
    site.wait(site.containers.stop(&name("web"), Some(Duration::from_millis(200)))).expect("stop without a shim");
    assert_eq!(start_time(pid), None);
    assert!(matches!(site.observe("web").state, RunState::Exited { .. }));
    let error = site.wait(site.containers.kill(&name("web"), 15)).expect_err("nothing runs");
    assert_eq!(error_chain(&error), "container web: it does not run");
    assert_ne!(site.start("web"), pid);
}

fn a_killed_process_is_started_again(site: &Site) {
    let pid = site.run("web", &shell("true"));
    site.wait(site.containers.kill(&name("web"), 9)).expect("kill");
    eventually("another process", || match site.observe("web").state {
        RunState::Running { pid: new, restarts: 1, .. } if new != pid => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn removal_works_wherever_it_was_cut_off(site: &Site) {
    let paths = site.sandbox.paths();
    // Begun and no more: directories and a mount.
    site.create("half", &spec(&shell("true"))).expect("create");
    // Mark and copy come last.
    fs::remove_file(paths.container_state(&name("half")).join("created.json")).expect("the mark");
    fs::remove_file(paths.container_run(&name("half")).join("created.json")).expect("its copy");
    fs::remove_file(paths.container_run(&name("half")).join("config.json")).expect("the bundle");
    assert_eq!(site.wait(site.containers.observe(&name("half"))), Sight::Absent);
    site.remove("half");
    site.nothing_is_left();
    // The shim dead, the container running, its runtime's state damaged.
    let pid = site.run("wild", &shell("true"));
    kill(shim_pid(site, "wild"));
    let state = fs::read_dir(paths.runtime_state().join("wild")).expect("the runtime's state").flatten();
    let file =
        state.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|extension| extension == "json"));
    fs::write(file.expect("a file of the runtime's"), "{").expect("the runtime's state");
    site.remove("wild");
    assert_eq!(start_time(pid), None);
    site.nothing_is_left();
    // The run directory already gone, as after a reboot, with the state directory there.
    site.create("old", &spec(&shell("true"))).expect("create");
    run(Command::new("umount").arg(paths.container_run(&name("old")).join("rootfs"))).expect_code(0);
    fs::remove_dir_all(paths.container_run(&name("old"))).expect("the run directory");
    site.remove("old");
    // A process that sits in the root file system from outside does not hold it.
    site.create("busy", &spec(&shell("true"))).expect("create");
    let rootfs = paths.container_run(&name("busy")).join("rootfs");
    let mut sitting = Command::new("sleep").arg("999").current_dir(rootfs).spawn().expect("a process");
    site.remove("busy");
    sitting.kill().expect("our own child");
    sitting.wait().expect("its end");
}

/// Whoever mounted something among the container's files keeps what is in it.
fn removal_goes_through_no_mount(site: &Site) {
    let paths = site.sandbox.paths();
    let data = site.sandbox.directory().join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("kept"), "yes").expect("a file");
    for (at, kind) in [(paths.container_state(&name("web")), "state"), (paths.container_run(&name("web")), "run")] {
        site.create("web", &spec(&shell("true"))).expect("create");
        let (inner, file) = (at.join("logs-of-mine"), at.join("file"));
        fs::create_dir(&inner).expect("a directory");
        fs::write(&file, "").expect("a file");
        sh(&format!(
            "mount --bind {0} {1}; mount --bind {0}/kept {2}",
            data.display(),
            inner.display(),
            file.display()
        ));
        assert_eq!(fs::read_to_string(&file).expect("mounted"), "yes", "{kind}");
        site.remove("web");
        assert!(!at.exists(), "{kind}");
        assert_eq!(fs::read_to_string(data.join("kept")).expect("still there"), "yes", "{kind}");
    }
}

fn a_reboot_keeps_what_was_written(site: &Site) {
    let yaml = shell("cat /kept; echo x >>/kept; echo done");
    site.run("web", &yaml);
    site.log_with("web", "done");
    let paths = site.sandbox.paths();
    let pid = match site.observe("web").state {
        RunState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    };
    let shim = shim_pid(site, "web");
    kill(shim);
    kill(pid);
    eventually("their end", || match (start_time(pid), start_time(shim)) {
        (None, None) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    run(Command::new("umount").args(["--lazy"]).arg(paths.container_run(&name("web")).join("rootfs"))).expect_code(0);
    fs::remove_dir_all(paths.run()).expect("the run directory");
    let seen = site.observe("web");
    assert_eq!((seen.state, seen.rootfs_mounted, seen.shim_alive), (RunState::Created, false, false));
    site.create("web", &spec(&yaml)).expect("create");
    assert!(site.observe("web").rootfs_mounted);
    site.start("web");
    site.log_with("web", "x\ndone");
}

fn another_image_is_refused(site: &Site) {
    site.create("web", &spec(&shell("true"))).expect("create");
    let state = site.sandbox.paths().container_state(&name("web")).join("created.json");
    let other = fs::read_to_string(&state).expect("the mark").replace(digest('1').as_str(), digest('9').as_str());
    fs::write(&state, other).expect("the mark");
    let error = error_chain(&site.create("web", &spec(&shell("true"))).expect_err("another image"));
    assert!(error.contains("it was made from image sha256:9999"), "{error}");
}

fn many_are_seen_at_once(site: &Site) {
    let names: Vec<String> = (0..5).map(|number| format!("c{number}")).collect();
    for container in &names {
        site.create(container, &spec(&shell("true"))).expect("create");
    }
    let pid = site.start("c2");
    fs::write(site.sandbox.paths().container_state(&name("c3")).join("created.json"), "no JSON").expect("a write");
    let asked = names.iter().map(|container| name(container)).chain([name("none")]).collect();
    let seen = site.wait(site.containers.observe_all(&asked));
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[&name("none")], Sight::Absent);
    assert!(matches!(&seen[&name("c3")], Sight::Unreadable(why) if why.contains("created.json")));
    let running = seen[&name("c2")].found().expect("it is there");
    assert!(matches!(running.state, RunState::Running { pid: seen, .. } if seen == pid));
    assert_eq!(seen[&name("c4")].found().map(|seen| &seen.state), Some(&RunState::Created));
}
