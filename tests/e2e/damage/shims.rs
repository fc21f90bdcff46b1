//! Shims that live and cannot do their work, and records that are gone: named, and mended without the container noticing.

use std::fs;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use super::named_and_repaired;
use crate::story;

fn shim_of(sandbox: &Sandbox, container: &str) -> u64 {
    story::status(sandbox, container).expect("its status")["shimPid"].as_u64().expect("a pid")
}

/// Does a damage to the shim of `front`, which has to be named and mended with shim and process as before.
#[track_caller]
fn shim_roused(damage: impl FnOnce(&Sandbox, u64)) {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let (front, shim) = (story::running(sandbox, "front"), shim_of(sandbox, "front"));
        named_and_repaired(sandbox, "container/front", "shim", || damage(sandbox, shim));
        assert_eq!((story::running(sandbox, "front"), shim_of(sandbox, "front")), (front, shim));
        // It does its work again.
        program::sh(&format!("kill -9 {}", front.0));
        ask::eventually("another process runs", || match story::running(sandbox, "front") {
            now if now != front => Ok(()),
            _ => Err("the same".to_owned()),
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        sandbox.evenkeel(&["stop", "front"]).expect_code(0);
    });
}

fn files(sandbox: &Sandbox) -> [std::path::PathBuf; 3] {
    let name = "front".parse().expect("a name");
    let socket = sandbox.paths().container_run(&name).join("shim.sock");
    [evenkeel_shim::lock_of(&socket), socket, sandbox.paths().status(&name)]
}

#[test]
fn a_shim_is_stopped_by_a_signal() {
    shim_roused(|_, shim| drop(program::sh(&format!("kill -STOP {shim}"))));
}

#[test]
fn a_shims_socket_is_removed() {
    shim_roused(|sandbox, _| fs::remove_file(&files(sandbox)[1]).expect("the socket"));
}

#[test]
fn a_shim_is_stopped_and_all_its_files_but_one_are_removed() {
    shim_roused(|sandbox, shim| {
        program::sh(&format!("kill -STOP {shim}"));
        let [_, socket, status] = files(sandbox);
        fs::remove_file(socket).expect("the socket");
        fs::remove_file(status).expect("the status");
    });
}

/// As a damaged one, which is read anew from its shim: nothing differs then.
#[test]
fn a_status_file_is_removed() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        fs::remove_file(&files(sandbox)[2]).expect("the status");
        sandbox.evenkeel(&["drift"]).expect_code(0);
        assert_eq!(story::running(sandbox, "front"), front);
        story::in_sync(sandbox);
    });
}

/// A stop by hand reaches a shim that a signal has stopped, and a removal one that nobody can ask.
#[test]
fn verbs_reach_a_shim_that_does_nothing() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let (front, _) = story::running(sandbox, "front");
        program::sh(&format!("kill -STOP {}", shim_of(sandbox, "front")));
        sandbox.evenkeel(&["stop", "front"]).expect_code(0);
        assert_eq!(ask::start_time(front), None);
        sandbox.evenkeel(&["start", "front"]).expect_code(0);
        let shim = shim_of(sandbox, "front");
        for file in files(sandbox) {
            fs::remove_file(file).expect("a file of the shim");
        }
        program::sh(&format!("kill -STOP {shim}"));
        fs::remove_file(sandbox.manifests().join("front.yaml")).expect("the manifest");
        sandbox.apply();
        assert_eq!(ask::start_time(u32::try_from(shim).expect("a pid")), None);
        story::in_sync(sandbox);
    });
}

#[test]
fn the_record_of_a_container_is_removed() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let record = sandbox.paths().root().join("containers/front/created.json");
        let before = fs::read_to_string(&record).expect("the record");
        named_and_repaired(sandbox, "container/front", "record", || fs::remove_file(&record).expect("the record"));
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(fs::read_to_string(&record).expect("the record"), before);

        // With another manifest: what runs is still known, and what differs is told field by field.
        fs::remove_file(&record).expect("the record");
        let changed = story::front("8080").replace("  stopSignal", "  env: {WORD: new}\n  stopSignal");
        sandbox.manifest("front.yaml", &changed);
        sandbox.verb_on_manifests("diff", &[]).expect_code(1).says("env.WORD").says("record");
        sandbox.apply();
        let now = story::running(sandbox, "front");
        assert_ne!(now, front);
        let environment = fs::read_to_string(format!("/proc/{}/environ", now.0)).expect("its environment");
        assert!(environment.contains("WORD=new"), "{environment}");
        story::in_sync(sandbox);

        // Without any record nobody knows what runs: it is made anew.
        fs::remove_file(&record).expect("the record");
        fs::remove_file(sandbox.paths().container_run(&"front".parse().expect("a name")).join("created.json"))
            .expect("its copy");
        sandbox.evenkeel(&["drift"]).expect_code(1).says("container/front");
        sandbox.apply();
        assert_eq!(ask::start_time(now.0), None);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}

/// The directory of a layer goes while a container runs from it.
#[test]
fn a_layer_is_removed_under_a_container() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        named_and_repaired(sandbox, "container/front", "rootfs", || {
            for layer in fs::read_dir(sandbox.paths().layers()).expect("the layers").filter_map(Result::ok) {
                drop(program::sh(&format!("rm -rf {}/sha256/* {0}", layer.path().display())));
            }
        });
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}
