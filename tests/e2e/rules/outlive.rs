//! Containers outlive the agent and the replacement of the programs; their shims start them again by themselves.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

/// Gets the page all the time, on a thread of its own.
struct Visitor {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    missed: Arc<AtomicU32>,
}

impl Visitor {
    fn begin() -> Visitor {
        let visitor = Visitor { stop: Arc::default(), served: Arc::default(), missed: Arc::default() };
        let (stop, served, missed) = (visitor.stop.clone(), visitor.served.clone(), visitor.missed.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // Patient, since a busy machine is no interruption.
                let page = ask::wget_within(30, None, "http://127.0.0.1:8080/").stdout;
                let count = if page == "hello\n" { &served } else { &missed };
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        visitor
    }

    fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self.served.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }
}

/// Copies the built programs over those of a directory, as a package manager does: beside their place, then renamed.
fn install(directory: &Path) {
    for name in ["evenkeel", "evenkeel-shim", "evenkeel-oci"] {
        let (built, place) = (program::built(name), directory.join(name));
        let built = built.display();
        program::sh(&format!("cp {built} {0}.new; mv {0}.new {0}", place.display()));
    }
}

fn run(sandbox: &Sandbox, program: &Path, arguments: &[&str]) -> Command {
    sandbox.command_of(program, &sandbox.paths(), arguments)
}

fn agent(sandbox: &Sandbox, program: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(sandbox.directory().join("agent.log"));
    let log = log.expect("the agent's log");
    let manifests = sandbox.manifests();
    let mut command = run(sandbox, program, &["run", "--manifests", manifests.to_str().expect("a path")]);
    command.stdout(log.try_clone().expect("a second handle")).stderr(log).spawn().expect("the agent starts")
}

#[test]
fn containers_outlive_killed_agents_and_replaced_programs() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let directory = sandbox.directory().join("bin");
        std::fs::create_dir(&directory).expect("a directory for the programs");
        install(&directory);
        let evenkeel = directory.join("evenkeel");
        let mut first = agent(sandbox, &evenkeel);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        let front = story::running(sandbox, "front");
        let shim = story::status(sandbox, "front").expect("its status")["shimPid"].clone();
        let visitor = Visitor::begin();
        first.kill().expect("a signal to our own child");
        first.wait().expect("its exit status");
        // The programs of before are deleted while shim and runtime are of them.
        install(&directory);
        assert_eq!(story::running(sandbox, "front"), front);
        let mut second = agent(sandbox, &evenkeel);
        ask::eventually("the next agent is content", || {
            let run = program::run(&mut run(sandbox, &evenkeel, &["drift"]));
            if run.succeeded() { Ok(()) } else { Err(run.to_string()) }
        });
        // Once more under a living agent, which stays the program that it is.
        install(&directory);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(story::running(sandbox, "front"), front);
        ask::eventually("the visitor has had some pages", || match visitor.served.load(Ordering::Relaxed) {
            served if served > 20 => Ok(()),
            served => Err(format!("only {served}")),
        });
        let (served, missed) = visitor.end();
        assert!(missed == 0, "{served} pages served, {missed} missed");

        // Neither agent nor the program that the shim was started from: it starts the container again all the same.
        second.kill().expect("a signal to our own child");
        second.wait().expect("its exit status");
        program::sh(&format!("kill -9 {}", front.0));
        let again = ask::eventually("another process runs", || match story::running(sandbox, "front") {
            now if now != front => Ok(now),
            _ => Err("the same".to_owned()),
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert_eq!(story::status(sandbox, "front").expect("its status")["shimPid"], shim);
        // What was replaced can change and remove it.
        sandbox.manifest("front.yaml", &story::front("8081"));
        let manifests = sandbox.manifests();
        let apply = ["apply", "-f", manifests.to_str().expect("a path")];
        program::run(&mut run(sandbox, &evenkeel, &apply)).expect_code(0);
        assert_eq!(story::running(sandbox, "front"), again, "a port is changed under the running process");
        assert_eq!(ask::page(None, "http://127.0.0.1:8081/"), "hello\n");
        std::fs::remove_file(manifests.join("front.yaml")).expect("the manifest");
        program::run(&mut run(sandbox, &evenkeel, &apply)).expect_code(0);
        assert_eq!(ask::start_time(again.0), None);
    });
}
