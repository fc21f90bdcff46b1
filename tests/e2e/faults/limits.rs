//! Too few descriptors, processes or blocks: clear errors, nothing half-made, and it converges once there are more.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

/// The bridge story with some more containers on the network.
fn several(sandbox: &Sandbox) {
    story::bridge(sandbox);
    for number in 1..=4 {
        let text = story::shell(&format!("c{number}"), "exec sleep 100000", "  networks: [{name: shop}]\n");
        sandbox.manifest(&format!("c{number}.yaml"), &text);
    }
}

/// Runs a verb on the manifests with so many open files at most.
fn with_files(sandbox: &Sandbox, most: u64, verb: &str) -> program::Run {
    let manifests = sandbox.manifests();
    let mut command = sandbox.command(&[verb, "-f", manifests.to_str().expect("a path")]);
    // SAFETY: setrlimit(2) is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let limit = nix::libc::rlimit { rlim_cur: most, rlim_max: most };
            match nix::libc::setrlimit(nix::libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    program::run(&mut command)
}

#[test]
fn too_few_descriptors_are_named_and_leave_nothing_half_made() {
    sandboxed(|sandbox| {
        several(sandbox);
        for most in [10, 13, 16, 20, 26] {
            let run = with_files(sandbox, most, "apply");
            let code = run.code.expect("an exit status");
            let all = format!("{}{}", run.stdout, run.stderr);
            assert!((1..=2).contains(&code) || most == 26, "{run}");
            assert!(code == 0 || all.contains("Too many open files"), "{run}");
            assert!(!all.contains("bug in evenkeel"), "{run}");
        }
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}

/// A cgroup that allows so many processes; removed with the sandbox by its name.
struct Cage(PathBuf);

impl Cage {
    fn new(sandbox: &Sandbox) -> Cage {
        let instance = sandbox.instance();
        let root =
            ask::cgroup_roots().into_iter().find(|root| root.join("pids.max").exists() || root.ends_with("pids"));
        let root = root.expect("a pids controller");
        let path = root.join(instance.as_str()).join("cage");
        fs::create_dir_all(&path).expect("a cgroup");
        Cage(path)
    }

    fn allow(&self, most: &str) {
        fs::write(self.0.join("pids.max"), most).expect("the limit");
    }

    fn run(&self, command: &mut Command) -> program::Run {
        program::run(self.inside(command))
    }

    fn inside<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let procs = self.0.join("cgroup.procs");
        // SAFETY: between fork and exec only this file is written; the test waits meanwhile.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) }
    }
}

#[test]
fn too_few_processes_are_named_and_no_bug() {
    sandboxed(|sandbox| {
        several(sandbox);
        let cage = Cage::new(sandbox);
        let manifests = sandbox.manifests();
        for most in ["1", "2", "4", "7", "12"] {
            cage.allow(most);
            let mut command = sandbox.command(&["apply", "-f", manifests.to_str().expect("a path")]);
            let run = cage.run(command.env_remove("RUST_BACKTRACE"));
            let all = format!("{}{}", run.stdout, run.stderr);
            assert!(matches!(run.code, Some(1 | 2)), "{most}\n{run}");
            assert!(all.contains("Resource temporarily unavailable"), "{most}\n{run}");
            assert!(!all.contains("bug in evenkeel") && !all.contains("panicked"), "{most}\n{run}");
        }
        cage.allow("max");
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

#[test]
fn an_agent_without_processes_lives_and_repairs_when_it_has_some() {
    sandboxed(|sandbox| {
        several(sandbox);
        let cage = Cage::new(sandbox);
        cage.allow("max");
        sandbox.apply();
        let manifests = sandbox.manifests();
        let mut command = sandbox.command(&["run", "--resync", "10m", "-f", manifests.to_str().expect("a path")]);
        let log = sandbox.directory().join("caged.log");
        let output = fs::File::create(&log).expect("a log");
        let second = output.try_clone().expect("a second handle");
        let mut agent = cage.inside(&mut command).stdout(output).stderr(second).spawn().expect("the agent");
        let said = || fs::read_to_string(&log).expect("the log");
        let asked = || sandbox.evenkeel(&["status", "-o", "json"]).json()["agent"]["lastPass"].clone();
        ask::eventually("the agent's first pass", || if asked().is_object() { Ok(()) } else { Err(said()) });
        let now = fs::read_to_string(cage.0.join("pids.current")).expect("the number of processes");
        cage.allow(now.trim());
        program::sh("ip link del ek-shop");
        ask::eventually("the agent names the cause", || {
            if said().contains("Resource temporarily unavailable") { Ok(()) } else { Err(said()) }
        });
        let before = ask::processor_ticks(agent.id());
        std::thread::sleep(Duration::from_secs(2));
        let ticks = ask::processor_ticks(agent.id()) - before;
        assert!(ticks < 100, "it spins: {ticks} ticks in two seconds\n{}", said());
        cage.allow("max");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        ask::eventually("in sync", || {
            let run = sandbox.evenkeel(&["drift"]);
            if run.succeeded() { Ok(()) } else { Err(format!("{run}{}", said())) }
        });
        assert!(agent.try_wait().expect("its status").is_none(), "the agent ended\n{}", said());
        agent.kill().expect("a signal to our own child");
        agent.wait().expect("its exit status");
    });
}

/// A small file system of its own, and what fills it.
fn small(path: &std::path::Path, size: &str) -> PathBuf {
    fs::create_dir_all(path).expect("a directory");
    program::run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(path))
        .expect_code(0);
    path.join("fill")
}

/// Fills what is left; again and again where something makes room meanwhile.
fn fill(file: &std::path::Path) {
    let to_its_end = ["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc"];
    let run = program::run(Command::new("dd").args(to_its_end).arg(format!("of={}", file.display())));
    assert!(run.stderr.contains("No space left"), "{run}");
}

#[test]
fn a_full_ledger_loses_nothing_and_stops_nothing_that_runs() {
    sandboxed(|sandbox| {
        let file = small(sandbox.paths().root(), "24m");
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        fill(&file);
        sandbox.manifest("front.yaml", &story::front("8081"));
        let path = sandbox.paths().database().display().to_string();
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(2).complains(&path);
        assert!(run.stderr.contains("full") || run.stderr.contains("No space left"), "{run}");
        assert!(run.stderr.contains("make room"), "{run}");
        sandbox.evenkeel(&["stop", "front"]).expect_code(1).complains("make room");
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        fs::remove_file(&file).expect("what fills it");
        sandbox.manifest("front.yaml", &story::front("8080"));
        let agent = sandbox.agent(&["--resync", "10m"]);
        ask::eventually("the agent has looked", || {
            let status = sandbox.evenkeel(&["status", "-o", "json"]).json();
            if status["agent"]["lastPass"].is_object() { Ok(()) } else { Err(agent.log()) }
        });
        fill(&file);
        // What the ledger knows already is repaired all the same.
        program::sh("ip link del ek-shop");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        sandbox.manifest("front.yaml", &story::front("8081"));
        fs::remove_file(&file).expect("what fills it");
        assert_eq!(ask::page(None, "http://127.0.0.1:8081/"), "hello\n");
        assert_eq!(story::running(sandbox, "front"), front);
        drop(agent);
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

#[test]
fn a_container_goes_on_while_its_log_has_no_room() {
    sandboxed(|sandbox| {
        let file = small(sandbox.paths().root(), "24m");
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let line = "i=0; while :; do i=$((i+1)); echo line $i; usleep 2000; done";
        sandbox.manifest("talker.yaml", &story::shell("talker", line, ""));
        sandbox.apply();
        let talker = story::running(sandbox, "talker");
        fill(&file);
        let log = sandbox.paths().root().join("containers/talker/logs/current.log");
        let size = || fs::metadata(&log).expect("the log").len();
        ask::eventually("the log stands still", || {
            let before = size();
            std::thread::sleep(Duration::from_millis(300));
            if size() == before { Ok(()) } else { Err(format!("{before}")) }
        });
        assert_eq!(story::running(sandbox, "talker"), talker, "it does not wait for its log");
        fs::remove_file(&file).expect("what fills it");
        ask::eventually("the log goes on and says what it lacks", || {
            let text = fs::read_to_string(&log).expect("the log");
            let lost = text.find("lines lost: No space left");
            match lost.map(|at| text[at..].lines().count() > 2) {
                Some(true) => Ok(()),
                _ => Err(text.lines().last().unwrap_or_default().to_owned()),
            }
        });
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "half a line");
        assert_eq!(story::running(sandbox, "talker"), talker);
        story::in_sync(sandbox);
    });
}

#[test]
fn a_full_run_directory_is_named_and_the_shim_catches_up() {
    sandboxed(|sandbox| {
        let file = small(sandbox.paths().run(), "2m");
        story::bridge(sandbox);
        fill(&file);
        sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("container/front").says("No space left");
        fs::remove_file(&file).expect("what fills it");
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "front");
        let shim = || story::status(sandbox, "front").expect("its status")["shimPid"].clone();
        let before = shim();
        fill(&file);
        program::sh(&format!("kill -9 {pid}"));
        ask::eventually("the container is missed", || {
            let run = sandbox.evenkeel(&["drift"]);
            if run.code == Some(1) { Ok(()) } else { Err(run.to_string()) }
        });
        // What is removed of a container that ended makes room. The shim tries again, and has none even for a note in its log.
        for _ in 0..20 {
            fill(&file);
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::remove_file(&file).expect("what fills it");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert_eq!(shim(), before, "it lives on without a status, a log of its own, or a container");
        ask::eventually("in sync", || {
            let run = sandbox.evenkeel(&["drift"]);
            if run.succeeded() { Ok(()) } else { Err(run.to_string()) }
        });
    });
}
