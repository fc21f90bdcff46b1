//! The file system of the root runs full while an image comes: of blocks, and of inodes.

use std::fs;
use std::path::Path;
use std::process::Command;

use evenkeel_tests::images::{Image, Packing, layer, write_layout};
use evenkeel_tests::program::sh;
use evenkeel_tests::random::noise;
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::{Run, Sandbox, run, sandboxed, store};

use crate::story;

/// Mounts a small file system where the sandbox has its root.
fn small_root(sandbox: &Sandbox, mount: &str) {
    let root = sandbox.paths().root().to_owned();
    fs::create_dir_all(&root).expect("the root");
    sh(&mount.replace("ROOT", &root.display().to_string()));
}

/// Requires that an image's failure is told with a path below the root and the reason, and that the rest came.
#[track_caller]
fn told(sandbox: &Sandbox, run: &Run, name: &str) {
    let line = run.failure(&format!("image/{name}"));
    assert!(line.to_lowercase().contains("no space left on device"), "{line}");
    assert!(line.contains(sandbox.paths().root().to_str().expect("a path")), "{line}");
    assert!(sandbox.paths().root().join("volumes/data").is_dir(), "what needs no room came\n{run}");
    store::assert_sound(&sandbox.paths());
}

fn free_blocks(path: &Path) -> u64 {
    let said = run(Command::new("stat").args(["--file-system", "--format=%f"]).arg(path)).expect_code(0);
    said.stdout.trim().parse().expect("a number")
}

#[test]
fn a_disk_that_runs_full_while_pulling_or_unpacking_is_told_and_given_back() {
    sandboxed(|sandbox| {
        small_root(sandbox, "mount -t tmpfs -o size=12m,mode=755 none ROOT");
        let registry = Registry::start(Options::default());
        let push = |name: &str, files: &[(&str, &str)], packing| {
            let layout = sandbox.directory().join(name);
            write_layout(&layout, &Image::new(vec![layer(&[("small", name)]), layer(files)]).packed(packing));
            registry.push(&format!("oci:{}:latest", layout.display()), &format!("{name}:1"), &[]);
            story::image(name, &format!("reference: \"{}\"", registry.reference(&format!("{name}:1"))))
        };
        sandbox.manifest("free.yaml", story::DATA);
        let root = sandbox.paths().root().to_owned();

        // The blob itself has no room.
        let large = noise(42, 16 << 20);
        let manifest = sandbox.manifest("pulled.yaml", &push("pulled", &[("file", &large)], Packing::Plain));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        told(sandbox, &run, "pulled");
        assert!(free_blocks(&root) > (8 << 20) / 4096, "what came is given back");
        fs::remove_file(manifest).expect("the manifest");

        // The blob has room, and what it unpacks to has not.
        let zeros = "0".repeat(32 << 20);
        let manifest = sandbox.manifest("unpacked.yaml", &push("unpacked", &[("file", &zeros)], Packing::Gzip));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        told(sandbox, &run, "unpacked");
        assert!(run.stdout.contains("\"file\""), "the entry is named\n{run}");
        assert!(free_blocks(&root) > (8 << 20) / 4096, "what was unpacked is given back");
        fs::remove_file(manifest).expect("the manifest");

        // An archive has to be decompressed first, and a tarball to be copied.
        let saved = sandbox.directory().join("saved.tar.gz");
        fs::write(&saved, evenkeel_tests::images::gzip(&layer(&[("file", &zeros)]))).expect("an archive");
        sandbox.manifest("saved.yaml", &story::image("saved", &format!("archive: {}", saved.display())));
        let plain = sandbox.directory().join("plain.tar");
        fs::write(&plain, layer(&[("file", &large)])).expect("a tarball");
        sandbox.manifest("plain.yaml", &story::image("plain", &format!("rootfs: {}", plain.display())));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        told(sandbox, &run, "saved");
        told(sandbox, &run, "plain");
        fs::remove_file(sandbox.manifests().join("saved.yaml")).expect("the manifest");

        sh(&format!("mount -o remount,size=200m {}", root.display()));
        for name in ["pulled", "unpacked"] {
            let source = format!("reference: \"{}\"", registry.reference(&format!("{name}:1")));
            sandbox.manifest(&format!("{name}.yaml"), &story::image(name, &source));
        }
        sandbox.apply();
        story::in_sync(sandbox);
        store::assert_sound(&sandbox.paths());
    });
}

#[test]
fn a_file_system_without_inodes_is_told_and_given_back() {
    sandboxed(|sandbox| {
        small_root(sandbox, "mount -t tmpfs -o size=64m,nr_inodes=400,mode=755 none ROOT");
        let names: Vec<String> = (0..2000).map(|n| format!("d{}/f{n}", n % 7)).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let tarball = sandbox.directory().join("many.tar");
        fs::write(&tarball, layer(&files)).expect("a tarball");
        sandbox.manifest("free.yaml", story::DATA);
        sandbox.manifest("many.yaml", &story::image("many", &format!("rootfs: {}", tarball.display())));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        told(sandbox, &run, "many");
        let root = sandbox.paths().root().to_owned();
        sh(&format!("mount -o remount,nr_inodes=5000 {}", root.display()));
        sandbox.apply();
        story::in_sync(sandbox);
        store::assert_sound(&sandbox.paths());
    });
}

#[test]
fn a_pass_that_cannot_be_noted_is_no_good_one() {
    sandboxed(|sandbox| {
        small_root(sandbox, "mount -t tmpfs -o size=8m,mode=755 none ROOT");
        sandbox.manifest("free.yaml", story::DATA);
        let agent = sandbox.agent(&["--resync", "1s"]);
        let pass = || sandbox.evenkeel(&["status", "-o", "json"]).json()["agent"]["lastPass"].clone();
        let becomes = |in_sync: bool| {
            evenkeel_tests::ask::eventually("the last pass", || {
                let pass = pass();
                if pass["inSync"] == in_sync { Ok(pass) } else { Err(format!("{pass}\n{}", agent.log())) }
            })
        };
        becomes(true);
        let fill = sandbox.paths().root().join("fill");
        sh(&format!("dd if=/dev/zero of={} bs=4k 2>/dev/null || true", fill.display()));
        // More than there can be room for in what the ledger has of the disk already.
        let volumes = (0..1000).map(|number| story::DATA.replace("name: data", &format!("name: data-{number}")));
        sandbox.manifest("more.yaml", &volumes.collect::<Vec<_>>().join("---\n"));
        let failed = becomes(false);
        assert!(failed["problems"][0].as_str().is_some_and(|line| line.starts_with("the pass failed: ")), "{failed}");
        assert_eq!(failed["complete"], false);
        sandbox.evenkeel(&["status"]).expect_code(0).says("the pass failed: cannot write the ledger");
        sandbox.evenkeel(&["apply"]).expect_code(2).complains("the agent's pass failed: cannot write the ledger");
        fs::remove_file(fill).expect("the file");
        becomes(true);
    });
}
