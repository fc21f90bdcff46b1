//! A kernel built without something that containers use: what needs it is told so, and what does not comes all the same.

use std::fs;
use std::process::Command;

use evenkeel_tests::program::built;
use evenkeel_tests::{Run, Sandbox, ask, program, sandboxed};

use crate::story;

/// Runs a verb on the manifests on a kernel without these system calls.
fn without(sandbox: &Sandbox, calls: &str, verb: &str) -> Run {
    let manifests = sandbox.manifests();
    let command = sandbox.command(&[verb, "-f", manifests.to_str().expect("a path")]);
    let mut without = Command::new(built("evenkeel-test-without"));
    without.arg(calls);
    program::run(&mut program::wrapped(without, &command))
}

/// Nobody is confined less than the manifest says because the kernel cannot do it.
#[test]
fn without_seccomp_only_what_does_without_it_starts() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let more = "  security: {seccomp: unconfined}\n  networkMode: none\n";
        sandbox.manifest("open.yaml", &story::shell("open", "exec sleep 100000", more));
        let run = without(sandbox, "seccomp", "apply").expect_code(1);
        let line = run.failure("container/front");
        assert!(line.contains("seccomp"), "{line}");
        story::running(sandbox, "open");
        assert!(ask::link_exists("ek-shop"));
        // On the other kernel there is another shim.
        let manifest = sandbox.manifests().join("front.yaml");
        let front = fs::read_to_string(&manifest).expect("the manifest");
        fs::remove_file(&manifest).expect("the manifest");
        sandbox.apply();
        sandbox.manifest("front.yaml", &front);
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// Linux before 5.12: nothing is mounted otherwise than the manifest says.
#[test]
fn without_mount_setattr_no_container_starts_and_networks_come() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let run = without(sandbox, "mount_setattr", "apply").expect_code(1);
        let line = run.failure("container/front");
        assert!(line.contains("mount /") && line.contains("Function not implemented"), "{line}");
        assert!(ask::link_exists("ek-shop"));
    });
}

#[test]
fn a_file_system_without_idmapped_mounts_is_named() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let (source, refusing) = (sandbox.directory().join("source"), sandbox.directory().join("refusing"));
        for directory in [&source, &refusing] {
            fs::create_dir_all(directory).expect("a directory");
        }
        program::sh(&format!("mount -t ramfs none {}", refusing.display()));
        for (name, path) in [("mapped", &source), ("refused", &refusing)] {
            let mount = format!("{{bind: {}, target: /data, idmap: {{uid: \"0:1000\"}}}}", path.display());
            let more = format!("  networkMode: none\n  mounts: [{mount}]\n");
            sandbox.manifest(&format!("{name}.yaml"), &story::shell(name, "exec sleep 100000", &more));
        }
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        let line = run.failure("container/refused");
        assert!(line.contains("mount /data") && line.contains(&refusing.display().to_string()), "{line}");
        assert!(line.contains("the file system there cannot show other owners"), "{line}");
        story::running(sandbox, "mapped");
        fs::remove_file(sandbox.manifests().join("refused.yaml")).expect("a manifest");
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// Only whether a program went to the background is known by it.
#[test]
fn without_process_accounting_containers_run() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        without(sandbox, "acct", "apply").expect_code(0);
        let (pid, _) = story::running(sandbox, "front");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
        program::sh(&format!("kill -9 {pid}"));
        ask::eventually("the shim starts it again", || {
            let page = ask::wget(None, "http://127.0.0.1:8080/");
            if page.stdout == "hello\n" { Ok(()) } else { Err(page.to_string()) }
        });
    });
}

/// Linux before 5.6: there is no safe way to unpack what others packed.
#[test]
fn without_openat2_images_are_refused_and_networks_come() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let run = without(sandbox, "openat2", "apply").expect_code(1);
        let line = run.failure("image/busybox");
        assert!(line.contains("Function not implemented"), "{line}");
        assert!(ask::link_exists("ek-shop"));
        sandbox.apply();
        story::in_sync(sandbox);
    });
}

/// Less than a program takes to start: told as what it is, whoever was killed, the runtime or the program.
#[test]
fn a_memory_limit_in_which_nothing_starts_is_named() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        sandbox.manifest("free.yaml", &story::shell("free", "exec sleep 100000", "  networkMode: none\n"));
        let tight = "  networkMode: none\n  resources: {memory: 1Mi}\n";
        sandbox.manifest("tight.yaml", &story::shell("tight", "exec tail /dev/zero", tight));
        let run = sandbox.verb_on_manifests("apply", &[]);
        story::running(sandbox, "free");
        ask::eventually("the reason is told", || {
            let status = sandbox.evenkeel(&["status"]);
            let told =
                status.stdout.lines().any(|line| line.contains("container/tight") && line.contains("out of memory"));
            if told { Ok(()) } else { Err(format!("{run}\n{status}")) }
        });
        sandbox.manifest("tight.yaml", &story::shell("tight", "exec sleep 100000", "  networkMode: none\n"));
        sandbox.apply();
        story::running(sandbox, "tight");
        story::in_sync(sandbox);
    });
}
