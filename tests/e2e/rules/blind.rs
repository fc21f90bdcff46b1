//! Sight that is not complete is exit status 3, for every kind of thing that can become unreadable.

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

/// What cannot be looked at: the object, the line that makes it so, and the line that undoes it. What `drift` without `-f` does not look
/// at is told by `diff` alone.
const UNREADABLE: [(&str, &str, &str); 7] = [
    (
        "volume/data",
        "mv $root/volumes $root/volumes-aside; echo >$root/volumes",
        "rm $root/volumes; mv $root/volumes-aside $root/volumes",
    ),
    (
        "container/web",
        "cp $root/containers/web/created.json $root/aside; echo { >$root/containers/web/created.json",
        "mv $root/aside $root/containers/web/created.json",
    ),
    (
        "container/web",
        "mv $run/containers/web/hosts $run/aside; mkdir $run/containers/web/hosts",
        "rmdir $run/containers/web/hosts; mv $run/aside $run/containers/web/hosts",
    ),
    (
        "container/web",
        "mv $run/status/web.json $run/aside; mkdir $run/status/web.json",
        "rmdir $run/status/web.json; mv $run/aside $run/status/web.json",
    ),
    ("container/web", "mount --bind /proc/1/ns/uts $run/netns/web", "umount $run/netns/web"),
    (
        "image/busybox",
        "cp -a $root/images/names $root/images/aside; for file in $root/images/names/*; do echo { >$file; done",
        "rm -r $root/images/names; mv $root/images/aside $root/images/names",
    ),
    (
        "image/busybox",
        "mv $root/images/names $root/images/aside; echo >$root/images/names",
        "rm $root/images/names; mv $root/images/aside $root/images/names",
    ),
];

fn sh(sandbox: &Sandbox, line: &str) {
    let (root, run) = (sandbox.paths().root().display().to_string(), sandbox.paths().run().display().to_string());
    program::sh(&format!("root={root}; run={run}; {line}"));
}

#[test]
fn what_cannot_be_looked_at_is_never_called_in_sync() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let web = story::running(sandbox, "web");
        for (object, damage, repair) in UNREADABLE {
            sh(sandbox, damage);
            let drift = sandbox.evenkeel(&["drift"]);
            assert!(drift.code == Some(3) && drift.stdout.contains(object), "{damage}\n{drift}");
            let json = sandbox.evenkeel(&["drift", "-o", "json"]).expect_code(3).json();
            assert_eq!((&json["complete"], &json["inSync"]), (&false.into(), &false.into()), "{damage}\n{json}");
            let diff = sandbox.verb_on_manifests("diff", &[]);
            assert!(diff.code == Some(3), "{damage}\n{diff}");
            let plan = sandbox.verb_on_manifests("plan", &["--detailed-exitcode"]);
            assert!(plan.code != Some(0), "{damage}\n{plan}");
            let dry_run = sandbox.verb_on_manifests("apply", &["--dry-run"]);
            assert!(dry_run.code == Some(1), "{damage}\n{dry_run}");
            let apply = sandbox.verb_on_manifests("apply", &[]);
            assert!(!apply.succeeded() && apply.stdout.contains(object), "{damage}\n{apply}");
            let dry = sandbox.verb_on_manifests("apply", &["--dry-run"]);
            assert!(dry.code == Some(1) && dry.stdout.contains(object), "{damage}\n{dry}");
            let status = sandbox.evenkeel(&["status", "-o", "json"]).expect_code(0);
            let rows = status.json()["objects"].as_array().cloned().expect("a row for each object");
            let row = rows.iter().find(|row| row["object"] == object).expect("the object's row");
            assert_eq!(row["action"], "hold", "{damage}\n{status}");
            sh(sandbox, repair);
            story::in_sync(sandbox);
            assert_eq!(story::running(sandbox, "web"), web, "{damage}: left alone");
        }
    });
}

/// The kernel itself does not answer: no file descriptors are left for a question, and no program for the firewall.
#[test]
fn a_kernel_that_does_not_answer_is_never_called_in_sync() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let mut seen = std::collections::BTreeSet::new();
        for limit in 3..40 {
            let mut prlimit = std::process::Command::new("prlimit");
            prlimit.arg(format!("--nofile={limit}"));
            let run = program::run(&mut program::wrapped(prlimit, &sandbox.command(&["drift"])));
            // All is seen, or something is not, or nothing could be begun: never a difference that is none.
            assert!(matches!(run.code, Some(0 | 2 | 3 | 127)), "with {limit} descriptors\n{run}");
            assert!(run.code == Some(0) || !run.stderr.is_empty() || !run.stdout.is_empty(), "{run}");
            assert!(run.code != Some(2) || run.stderr.contains("error:"), "with {limit} descriptors\n{run}");
            seen.insert(run.code);
        }
        assert!(seen.contains(&Some(0)) && seen.len() > 1, "{seen:?}");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}
