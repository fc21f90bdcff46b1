//! The kernel or a program that is needed lacks something: the cause is named, and what does not need it comes all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

/// Runs a verb on the manifests with another `PATH`.
fn with_path(sandbox: &Sandbox, path: &str, verb: &str) -> program::Run {
    let manifests = sandbox.manifests();
    program::run(sandbox.command(&[verb, "-f", manifests.to_str().expect("a path")]).env("PATH", path))
}

/// Makes a directory with a program `nft` of these lines.
fn another_nft(sandbox: &Sandbox, script: &str) -> PathBuf {
    let directory = sandbox.directory().join("another");
    fs::create_dir_all(&directory).expect("a directory of programs");
    let nft = directory.join("nft");
    fs::write(&nft, format!("#!/bin/sh\n{script}\n")).expect("a program");
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).expect("its mode");
    directory
}

#[test]
fn without_nft_nothing_is_called_done() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        let nowhere = sandbox.directory().join("nowhere");
        let nowhere = nowhere.to_str().expect("a path");
        with_path(sandbox, nowhere, "plan").expect_code(1).says("no program `nft`");
        with_path(sandbox, nowhere, "apply").expect_code(1).says("no program `nft`").says("install nftables");
        story::running(sandbox, "other");
        assert!(ask::nft_table(sandbox.instance().as_str()).is_none());
        with_path(sandbox, nowhere, "diff").expect_code(3).says("no program `nft`");
        sandbox.evenkeel(&["drift"]).expect_code(1);
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn an_nft_that_fails_or_hangs_is_named_and_not_waited_for() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        sandbox.manifest("front.yaml", &story::front("8081"));
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        let fails = another_nft(sandbox, "echo 'Error: Could not process rule: Operation not supported' >&2; exit 1");
        let path = format!("{}:{}", fails.display(), std::env::var("PATH").unwrap_or_default());
        with_path(sandbox, &path, "apply").expect_code(1).says("Operation not supported").says("network/shop");
        story::running(sandbox, "other");
        with_path(sandbox, &path, "diff").expect_code(3).says("Operation not supported");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n", "the table of before is in force");
        another_nft(sandbox, "exec sleep 1000");
        with_path(sandbox, &path, "diff").expect_code(3).says("nft did not list");
        another_nft(sandbox, "case $1 in -f) exec sleep 1000;; esac; PATH=${PATH#*:} exec nft \"$@\"");
        with_path(sandbox, &path, "diff").expect_code(3).says("nft did not load");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8081/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn settings_that_cannot_be_written_are_named() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", "  networkMode: host\n"));
        program::sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        run.says("network/shop: cannot set /proc/sys/net/")
            .says("Read-only file system")
            .says("container/front: needs");
        story::running(sandbox, "other");
        program::sh("umount /proc/sys");
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

#[test]
fn a_host_without_ipv6_is_named_as_such() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let four = story::SHOP.replace("name: shop", "name: four");
        sandbox.manifest("four.yaml", &four.replace("10.77.0.0/24}, {subnet: \"fd77::/64\"", "10.78.0.0/24"));
        let other = "  networks: [{name: four}]\n";
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", other));
        program::sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        run.says("network/shop: ").says("IPv6 is switched off there (net.ipv6.conf.ek-shop.disable_ipv6)");
        story::running(sandbox, "other");
        program::sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0");
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// Root without the right to change networks, as in another's container.
#[test]
fn root_without_its_rights_is_told_what_it_cannot_do() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("data.yaml", story::DATA);
        let manifests = sandbox.manifests();
        let command = sandbox.command(&["apply", "-f", manifests.to_str().expect("a path")]);
        let mut bounded = Command::new("setpriv");
        bounded.args(["--bounding-set=-net_admin,-sys_admin", "--inh-caps=-net_admin,-sys_admin"]);
        let run = program::run(&mut program::wrapped(bounded, &command)).expect_code(1);
        run.says("network/shop: cannot").says("Operation not permitted");
        assert!(sandbox.paths().volume(&"data".parse().expect("a name")).is_dir(), "what needs no such right is made");
        assert!(!ask::link_exists("ek-shop"));
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// cgroup hierarchies that are not mounted: limits cannot be set, and nothing pretends that they are.
#[test]
fn a_limit_without_its_controller_is_named() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        sandbox.manifest("free.yaml", &story::shell("free", "exec sleep 100000", ""));
        let limited = "  resources: {memory: 64Mi}\n";
        sandbox.manifest("limited.yaml", &story::shell("limited", "exec sleep 100000", limited));
        sandbox.manifest("data.yaml", story::DATA);
        let roots = ask::cgroup_roots();
        for root in &roots {
            program::run(Command::new("umount").arg("-l").arg(root)).expect_code(0);
        }
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        run.says("container/limited").says("cgroup");
        assert!(sandbox.paths().volume(&"data".parse().expect("a name")).is_dir());
    });
}

/// A file system on which overlayfs cannot keep a writable layer.
#[test]
fn a_root_on_a_file_system_without_what_overlays_need_is_named() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("data.yaml", story::DATA);
        let root = sandbox.paths().root().to_owned();
        fs::create_dir_all(&root).expect("the root");
        let ramfs = program::run(Command::new("mount").args(["-t", "ramfs", "none"]).arg(&root));
        ramfs.expect_code(0);
        let run = sandbox.verb_on_manifests("apply", &[]);
        if run.succeeded() {
            // Kernels since 6.6 keep layers on ramfs too: then nothing is missing.
            story::in_sync(sandbox);
            assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        } else {
            assert!(run.failure("container/front").contains("overlay"), "{run}");
        }
        assert!(sandbox.paths().volume(&"data".parse().expect("a name")).is_dir());
    });
}
