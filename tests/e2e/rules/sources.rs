//! A source that is broken, vanished, empty or half-written deletes nothing; what can be read goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::{Agent, Sandbox, ask, program, sandboxed};
use serde_json::Value;

use crate::story;

/// What must be as before: processes, links with their addresses, the firewall table's name, the volume.
fn everything(sandbox: &Sandbox) -> Value {
    let volume = sandbox.paths().volume(&"data".parse().expect("a name"));
    serde_json::json!({
        "processes": [story::running(sandbox, "front"), story::running(sandbox, "web")],
        "links": ask::ip_json(&["link"]).as_array().expect("links").iter().map(|link| link["ifname"].clone()).collect::<Vec<_>>(),
        "addresses": ask::addresses("ek-shop"),
        "routes": ask::routes("mynet-shim"),
        "table": ask::nft_table(sandbox.instance().as_str()).is_some(),
        "volume": volume.is_dir(),
        "page": ask::page(None, "http://127.0.0.1:8080/"),
    })
}

fn both_stories(sandbox: &Sandbox) {
    story::macvlan(sandbox);
    sandbox.manifest("shop.yaml", story::SHOP);
    sandbox.manifest("front.yaml", &story::front("8080"));
    // Without its default for volumes, the rule has to keep it.
    sandbox.manifest("storage/data.yaml", &format!("{}policy: {{prune: delete}}\n", story::DATA));
}

/// How a source can be lost, each undone by putting a copy in its place.
const LOST: [(&str, &str); 7] = [
    ("a file cut off half-way", "for file in *.yaml; do head -c 70 $file >../cut; cat ../cut >$file; done"),
    ("every file empty", "for file in *.y*ml storage/*; do : >$file; done"),
    ("all files gone, the directory there", "rm -r *"),
    ("the directory gone", "rm -r ../manifests"),
    ("something else in its place", "rm -r ../manifests; ln -s /nowhere ../manifests"),
    ("a file system mounted over it", "mount -t tmpfs none ../manifests"),
    ("links to nowhere", "for file in *.y*ml storage/*; do ln -sf /nowhere $file; done"),
];

fn lose(manifests: &Path, line: &str) {
    program::run(Command::new("sh").args(["-ec", line]).current_dir(manifests)).expect_code(0);
}

/// Puts the source back as it was, at once.
fn restore(manifests: &Path, copy: &Path) {
    let (manifests, copy) = (manifests.display(), copy.display());
    program::sh(&format!(
        "umount {manifests} 2>/dev/null || true; rm -rf {manifests}-new {manifests}-old; cp -a {copy} {manifests}-new; \
         mv -T {manifests} {manifests}-old 2>/dev/null || true; mv -T {manifests}-new {manifests}"
    ));
}

/// Both stories in the care of an agent, and what is there then.
fn watched(sandbox: &Sandbox) -> (Agent, Value) {
    both_stories(sandbox);
    let agent = sandbox.agent(&["--resync", "1s"]);
    story::running(sandbox, "web");
    let before = everything(sandbox);
    (agent, before)
}

#[test]
fn a_lost_source_deletes_nothing() {
    sandboxed(|sandbox| {
        both_stories(sandbox);
        sandbox.apply();
        let before = everything(sandbox);
        let (manifests, copy) = (sandbox.manifests(), sandbox.directory().join("copy"));
        program::sh(&format!("cp -a {} {}", manifests.display(), copy.display()));
        for (how, line) in LOST {
            lose(&manifests, line);
            let path = manifests.to_str().expect("a path");
            for verb in ["plan", "apply"] {
                let run = sandbox.evenkeel(&[verb, "-f", path, "-o", "json"]);
                assert!(!run.succeeded() && !run.stderr.is_empty() | !run.stdout.is_empty(), "{how}\n{run}");
                assert!(!run.stdout.contains("\"action\": \"delete\""), "{how}\n{run}");
            }
            assert_eq!(everything(sandbox), before, "{how}");
            // What was applied last is known without the source.
            sandbox.evenkeel(&["drift"]).expect_code(0);
            restore(&manifests, &copy);
            story::in_sync(sandbox);
        }
    });
}

#[test]
fn an_agent_whose_source_is_lost_deletes_nothing() {
    sandboxed(|sandbox| {
        let (agent, before) = watched(sandbox);
        let (manifests, copy) = (sandbox.manifests(), sandbox.directory().join("copy"));
        program::sh(&format!("cp -a {} {}", manifests.display(), copy.display()));
        for (how, line) in LOST {
            lose(&manifests, line);
            ask::eventually(&format!("{how}: the agent has seen it"), || {
                let status = sandbox.evenkeel(&["status"]);
                if status.stdout.contains("not everything could be looked at") { Ok(()) } else { Err(agent.log()) }
            });
            ask::throughout(Duration::from_millis(1200), how, || {
                let now = everything(sandbox);
                if now == before { Ok(()) } else { Err(format!("{before}\n{now}\n{}", agent.log())) }
            });
            restore(&manifests, &copy);
            story::eventually_in_sync(sandbox);
        }
    });
}

/// A copy that takes its time is seen while some of its files are there and others are not yet.
#[test]
fn an_agent_waits_for_a_copy_under_way() {
    sandboxed(|sandbox| {
        let (agent, before) = watched(sandbox);
        let (manifests, copy) = (sandbox.manifests(), sandbox.directory().join("copy"));
        program::sh(&format!(
            "cp -a {manifests} {copy}; rm -rf {manifests}/*; cd {copy}; \
             for file in *.y*ml storage; do cp -a $file {manifests}/; sleep 0.7; done",
            manifests = manifests.display(),
            copy = copy.display()
        ));
        story::eventually_in_sync(sandbox);
        assert_eq!(everything(sandbox), before, "{}", agent.log());
        assert!(!agent.log().contains("deleted in"), "{}", agent.log());
        // What stays away is meant.
        fs::remove_file(manifests.join("web.yaml")).expect("the manifest");
        ask::eventually("the container is gone", || match story::status(sandbox, "web") {
            None => Ok(()),
            Some(status) => Err(status.to_string()),
        });
    });
}

/// One file is broken, another has gone, a third is new: only the first is on hold.
#[test]
fn what_can_be_read_goes_on_beside_a_broken_file() {
    sandboxed(|sandbox| {
        both_stories(sandbox);
        sandbox.manifest("gone.yaml", &story::shell("gone", "exec sleep 100000", ""));
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let (gone, _) = story::running(sandbox, "gone");
        sandbox.manifest("front.yaml", &story::front("8080").replace("ports:", "prots:"));
        fs::remove_file(sandbox.manifests().join("gone.yaml")).expect("the manifest");
        sandbox.manifest("new.yaml", &story::shell("new", "exec sleep 100000", ""));
        let run =
            sandbox.verb_on_manifests("apply", &[]).expect_code(1).complains("front.yaml:").says("container/front");
        assert!(run.stderr.contains("ports"), "the nearest name is suggested\n{run}");
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert_eq!(ask::start_time(gone), None);
        story::running(sandbox, "new");
    });
}
