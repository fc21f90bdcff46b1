//! Files of ours that are damaged, of a later release, or not to be read: named, never deleted, and containers go on.

use std::fs;
use std::path::Path;
use std::process::Command;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use super::network::drift_becomes;
use crate::story;

/// Puts a text in a file's place, has it looked at, and puts back what was there.
fn damaged(path: &Path, text: &[u8], look: impl FnOnce()) {
    let sound = fs::read(path).expect("the file");
    fs::write(path, text).expect("the damage");
    look();
    fs::write(path, sound).expect("the sound file");
}

#[test]
fn a_ledger_that_cannot_be_used_is_named_and_left_alone() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let path = sandbox.paths().database();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("the ledger"));
        assert_eq!(mode & 0o777, 0o600, "manifests may hold secrets");
        // Nobody has it open: its log is in it.
        let mut newer = fs::read(&path).expect("the ledger");
        let whole = newer.len();
        let truncated = newer[..whole / 2].to_vec();
        // The header's user version (SQLite's file format, 1.3).
        newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
        let cases: [(&str, Vec<u8>, &str, &str); 3] = [
            ("no SQLite", b"not a database, ".repeat(600), "is damaged", "restore the file"),
            ("cut off", truncated, "is damaged", "restore the file"),
            ("of a later release", newer, "has version 99", "use the release that wrote it"),
        ];
        for (case, bytes, words, hint) in &cases {
            damaged(&path, bytes, || {
                for (verb, code) in [("drift", 2), ("apply", 2), ("diff", 2), ("plan", 1), ("run", 1), ("status", 1)] {
                    let run = match verb {
                        "drift" | "status" => sandbox.evenkeel(&[verb]),
                        _ => sandbox.verb_on_manifests(verb, &[]),
                    };
                    let run = run.expect_code(code).complains(&path.display().to_string()).complains(words);
                    assert!(run.stderr.contains(hint), "{case}\n{run}");
                }
                assert_eq!(fs::read(&path).expect("the ledger"), *bytes, "{case}: it was written to");
            });
            story::in_sync(sandbox);
        }
        assert_eq!(story::running(sandbox, "front"), front);
        // Lost altogether: what is there is found and taken up as it is.
        fs::remove_file(&path).expect("the ledger");
        sandbox.apply().says("3 unchanged");
        story::in_sync(sandbox);
        assert_eq!(story::running(sandbox, "front"), front);
    });
}

#[test]
fn whoever_holds_the_lock_is_named() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let lock = fs::File::open(sandbox.paths().lock()).expect("the lock");
        lock.try_lock().expect("nobody holds it");
        // The file still tells of the `apply` that ended.
        let own = format!("(process {})", std::process::id());
        sandbox.verb_on_manifests("apply", &[]).expect_code(2).complains(&own).complains("holds its lock");
        sandbox.verb_on_manifests("run", &[]).expect_code(1).complains(&own);
        sandbox.evenkeel(&["drift"]).expect_code(0);
        drop(lock);
        sandbox.apply();
    });
}

/// The shim knows how its container is, whatever became of the file.
#[test]
fn a_damaged_status_file_is_written_anew_by_its_shim() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let path = sandbox.paths().status(&"front".parse().expect("a name"));
        let sound = fs::read(&path).expect("the status");
        for damage in [&b""[..], &sound[..30]] {
            fs::write(&path, damage).expect("the damage");
            sandbox.evenkeel(&["drift"]).expect_code(0);
            assert_eq!(fs::read(&path).expect("the status"), sound);
        }
        assert_eq!(story::running(sandbox, "front"), front);
        // Without its shim nobody knows.
        let shim = story::status(sandbox, "front").expect("the status")["shimPid"].clone();
        program::sh(&format!("kill -9 {shim}"));
        fs::write(&path, "").expect("the damage");
        sandbox.evenkeel(&["drift"]).expect_code(1).says("container/front");
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert!(ask::start_time(front.0).is_none(), "the process without a shim is replaced");
    });
}

#[test]
fn a_containers_damaged_record_holds_it_and_nothing_else() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let record = sandbox.paths().root().join("containers/front/created.json");
        let later = fs::read_to_string(&record).expect("the record").replacen('{', "{\"spec\": {\"later\": 1},", 1);
        for text in ["", "{\"spec\"", &later] {
            damaged(&record, text.as_bytes(), || {
                sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
                let path = record.display().to_string();
                sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("container/front").says(&path);
                sandbox.evenkeel(&["drift"]).expect_code(3).says(&path);
                story::running(sandbox, "other");
                assert_eq!(fs::read_to_string(&record).expect("the record"), text);
            });
            sandbox.apply();
            story::in_sync(sandbox);
        }
        // What is said to be done: away with it, and the container is completed as it runs.
        fs::write(&record, "").expect("the damage");
        fs::remove_file(&record).expect("the record");
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(story::running(sandbox, "front"), front);
    });
}

/// A wanted container that never was and cannot be looked at is in the next report too.
#[test]
fn a_file_in_a_containers_place_is_left_alone_and_told() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let place = sandbox.paths().root().join("containers/front");
        fs::create_dir_all(place.parent().expect("a directory")).expect("the directory of containers");
        fs::write(&place, "mine").expect("somebody's file");
        sandbox.verb_on_manifests("apply", &[]).expect_code(1).says(&place.display().to_string());
        sandbox.evenkeel(&["drift"]).expect_code(3).says(&place.display().to_string());
        assert_eq!(fs::read_to_string(&place).expect("the file"), "mine");
        fs::remove_file(&place).expect("the file");
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// Without its run directory a container cannot be asked or looked into: it is made anew, and no process of before is left.
#[test]
fn a_wiped_run_directory_is_made_again() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let shim = story::status(sandbox, "front").expect("the status")["shimPid"].as_u64().expect("a pid");
        let run = sandbox.paths().run().to_owned();
        let lazy = |path: &Path| program::run(Command::new("umount").arg("-l").arg(path)).expect_code(0);
        lazy(&run.join("containers/front/rootfs"));
        lazy(&sandbox.container_netns("front"));
        lazy(&run.join("netns"));
        fs::remove_dir_all(&run).expect("the run directory");
        sandbox.evenkeel(&["drift"]).expect_code(1).says("container/front");
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        assert!(ask::start_time(front.0).is_none(), "the process of before");
        assert!(ask::start_time(u32::try_from(shim).expect("a pid")).is_none(), "the shim of before");
    });
}

/// Runs the program as a user without any right.
fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> program::Run {
    // The programs may lie where only root can go.
    let directory = sandbox.directory().join("bin");
    if !directory.exists() {
        fs::create_dir(&directory).expect("a directory for the programs");
        let evenkeel = program::built("evenkeel");
        let built = evenkeel.parent().expect("a program lies in a directory");
        program::run(Command::new("mount").arg("--bind").arg(built).arg(&directory)).expect_code(0);
    }
    let command = sandbox.command_of(&directory.join("evenkeel"), &sandbox.paths(), arguments);
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    program::run(program::wrapped(nobody, &command).env_remove("RUST_BACKTRACE"))
}

#[test]
fn without_root_every_verb_says_so_and_the_harmless_ones_work() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        program::sh(&format!("chmod 755 {}", sandbox.directory().display()));
        sandbox.apply();
        let manifests = sandbox.manifests();
        let manifests = manifests.to_str().expect("a path");
        as_nobody(sandbox, &["validate", "-f", manifests]).expect_code(0);
        as_nobody(sandbox, &["--help"]).expect_code(0);
        let verbs: [(&[&str], i32); 12] = [
            (&["apply", "-f", manifests], 2),
            (&["run", "-f", manifests], 1),
            (&["stop", "front"], 1),
            (&["start", "front"], 1),
            (&["exec", "front", "true"], 125),
            (&["plan", "-f", manifests], 1),
            (&["diff", "-f", manifests], 2),
            (&["drift"], 2),
            (&["status"], 1),
            (&["ps"], 1),
            (&["logs", "front"], 1),
            (&["inspect", "container/front"], 1),
        ];
        for (arguments, code) in verbs {
            as_nobody(sandbox, arguments).expect_code(code).complains("evenkeel needs root: try again with sudo");
        }
        story::in_sync(sandbox);
    });
}

#[test]
fn a_read_only_root_is_named_and_what_runs_goes_on() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let root = sandbox.paths().root().to_owned();
        let mount = |arguments: &[&str]| program::run(Command::new("mount").args(arguments).arg(&root)).expect_code(0);
        mount(&["--bind", root.to_str().expect("a path")]);
        mount(&["-o", "remount,bind,ro"]);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(2).complains(&root.display().to_string());
        assert!(run.stderr.contains("ead-only file system") || run.stderr.contains("readonly"), "{run}");
        assert!(run.stderr.contains("mount that file system for writing"), "{run}");
        assert_eq!(story::running(sandbox, "front"), front);
        mount(&["-o", "remount,bind,rw"]);
        sandbox.apply();
        story::in_sync(sandbox);
        assert_eq!(story::running(sandbox, "front"), front);
    });
}

/// The agent keeps looking while something cannot be read, and needs nobody to tell it that it can be again.
#[test]
fn the_agent_sees_by_itself_when_a_record_is_sound_again() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let agent = sandbox.agent(&["--resync", "10m"]);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        drift_becomes(sandbox, 0, &agent);
        let record = sandbox.paths().root().join("containers/front/created.json");
        damaged(&record, b"", || {
            sandbox.manifest("front.yaml", &story::front("8081"));
            ask::eventually("the agent names the record", || {
                if agent.log().contains("created.json") { Ok(()) } else { Err(agent.log()) }
            });
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8081/"), "hello\n");
        drift_becomes(sandbox, 0, &agent);
    });
}
