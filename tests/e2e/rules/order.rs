//! Order of deletion and creation, failures that stay where they are, and what is told of them.

use std::fs;
use std::process::Command;

use evenkeel::ledger::Ledger;
use evenkeel_tests::{Run, Sandbox, ask, program, sandboxed};

use crate::story;

/// Gives the line in which a deed on an object is told.
#[track_caller]
fn line(run: &Run, deed: &str) -> usize {
    let found = run.stdout.lines().position(|line| line.starts_with(deed));
    found.unwrap_or_else(|| panic!("no line begins with `{deed}`\n{run}"))
}

fn in_ledger(sandbox: &Sandbox, object: &str) -> bool {
    let ledger = Ledger::open_read_only(&sandbox.paths()).expect("a sound ledger").expect("a ledger");
    ledger.entries().expect("its objects").keys().any(|key| key.to_string() == object)
}

#[test]
fn a_failed_deletion_stays_in_ledger_and_report_and_stops_nothing_else() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.manifest("storage/data.yaml", &format!("{}policy: {{prune: delete}}\n", story::DATA));
        sandbox.manifest("shop.yaml", story::SHOP);
        sandbox.apply();
        let volume = sandbox.paths().volume(&"data".parse().expect("a name"));
        fs::create_dir(volume.join("backup")).expect("a directory in the volume");
        let backup = volume.join("backup");
        program::run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&backup)).expect_code(0);
        fs::write(backup.join("other"), "somebody's").expect("a file on it");
        for file in ["network.yaml", "web.yaml", "storage/data.yaml"] {
            fs::remove_file(sandbox.manifests().join(file)).expect("a manifest");
        }
        let run =
            sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("failed: volume/data").says("unmount it first");
        let container = line(&run, "deleted container/web");
        assert!(container < line(&run, "deleted network/mynet"), "{run}");
        assert!(container < line(&run, "failed volume/data"), "{run}");
        assert_eq!(fs::read_to_string(backup.join("other")).expect("the file"), "somebody's");
        assert!(!ask::link_exists("mynet-shim"));
        // Again and again, until what stands in the way is gone.
        for _ in 0..2 {
            assert!(in_ledger(sandbox, "volume/data") && !in_ledger(sandbox, "network/mynet"));
            sandbox.evenkeel(&["drift"]).expect_code(1).says("volume/data");
            sandbox.evenkeel(&["status"]).expect_code(0).says("volume/data");
            let run = sandbox.verb_on_manifests("apply", &["-o", "json"]).expect_code(1);
            let outcome = &run.json()["outcomes"]["volume/data"];
            assert!(outcome.to_string().contains("unmount it first"), "{run}");
        }
        program::run(Command::new("umount").arg(&backup)).expect_code(0);
        sandbox.apply().says("deleted volume/data");
        assert!(!volume.exists() && !in_ledger(sandbox, "volume/data"));
        story::in_sync(sandbox);
    });
}

#[test]
fn what_needs_a_failed_object_is_blocked_by_it_and_the_rest_is_made() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        // An archive that is no image: known only when it is unpacked.
        let archive = sandbox.directory().join("broken.tar");
        fs::write(&archive, "no archive").expect("a file");
        let image = story::image("broken", &format!("archive: {}", archive.display()));
        let first = story::shell("first", "exec sleep 100000", "").replace("image: busybox", "image: broken");
        let second = story::shell("second", "exec sleep 100000", "  dependsOn: [{container: first}]\n");
        sandbox.manifest("chain.yaml", &[image, first, second].join("---\n"));
        let run = sandbox.verb_on_manifests("apply", &["-o", "json"]).expect_code(1);
        let outcomes = &run.json()["outcomes"];
        for (object, by) in [("container/first", "image/broken"), ("container/second", "container/first")] {
            let told = outcomes[object].to_string();
            assert!(told.contains("locked") && told.contains(by), "{object}: {told}\n{run}");
        }
        assert!(outcomes["image/broken"].to_string().contains("ailed"), "{run}");
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        // Networks and images come before the container that needs them.
        let text = sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("broken.tar");
        assert!(text.stdout.contains("container/second"), "{text}");
        sandbox
            .evenkeel(&["drift"])
            .expect_code(1)
            .says("container/first")
            .says("container/second")
            .says("image/broken");

        fs::remove_file(&archive).expect("the file");
        let layout = sandbox.directory().join("layout");
        evenkeel_tests::images::write_layout(&layout, &evenkeel_tests::images::Image::busybox(Vec::new()));
        evenkeel_tests::images::convert(
            &format!("oci:{}:latest", layout.display()),
            &format!("docker-archive:{}:broken:latest", archive.display()),
        );
        let run = sandbox.apply();
        let (image, first) = (line(&run, "created image/broken"), line(&run, "created container/first"));
        assert!(image < first && first < line(&run, "created container/second"), "{run}");
        story::in_sync(sandbox);
    });
}

#[test]
fn what_a_container_moves_away_from_is_deleted_after_it_has_moved() {
    sandboxed(|sandbox| {
        sandbox.manifest("image.yaml", &sandbox.busybox_image());
        let network = |name: &str, subnet: &str| {
            let text = format!("apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec:\n");
            sandbox.manifest("network.yaml", &format!("{text}  driver: bridge\n  subnets: [{{subnet: {subnet}}}]\n"));
            let joined = format!("  networks: [{{name: {name}}}]\n");
            sandbox.manifest("mover.yaml", &story::shell("mover", "exec sleep 100000", &joined));
        };
        network("old", "10.71.0.0/24");
        sandbox.apply();
        let process = story::running(sandbox, "mover");
        network("new", "10.72.0.0/24");
        let run = sandbox.apply();
        assert!(line(&run, "created network/new") < line(&run, "updated container/mover"), "{run}");
        assert!(line(&run, "updated container/mover") < line(&run, "deleted network/old"), "{run}");
        assert_eq!(story::running(sandbox, "mover"), process);
        assert!(!ask::link_exists("ek-old") && !in_ledger(sandbox, "network/old"));
        story::in_sync(sandbox);
    });
}
