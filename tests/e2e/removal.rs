//! Documents go, and their objects with them, in order; volumes stay.

use std::fs;

use evenkeel_tests::{ask, sandboxed};

use crate::story;

#[test]
fn removed_documents_take_their_objects_along_but_volumes_stay() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (pid, _) = story::running(sandbox, "web");
        let volume = sandbox.paths().volume(&"data".parse().expect("a name"));
        fs::write(volume.join("kept"), "kept").expect("a file in the volume");
        let shim = story::status(sandbox, "web").expect("its status")["shimPid"].as_u64().expect("a pid");

        let manifests = sandbox.manifests();
        for file in ["network.yaml", "image.yml", "web.yaml", "storage/data.yaml"] {
            fs::remove_file(manifests.join(file)).expect("a manifest");
        }
        // Nothing at all is left: that might as well be a lost mount, so it has to be said.
        let refused = sandbox.verb_on_manifests("apply", &[]);
        assert!(!refused.succeeded() && refused.to_string().contains("without --allow-empty"), "{refused}");
        assert!(ask::start_time(pid).is_some(), "an empty source deletes nothing by itself");

        sandbox.apply_with(&["--allow-empty"]);
        assert_eq!((ask::start_time(pid), ask::start_time(shim as u32)), (None, None));
        assert!(!ask::link_exists("mynet-shim"));
        assert!(!sandbox.container_netns("web").exists());
        assert_eq!(ask::cgroups(sandbox.instance().as_str(), "web"), Vec::<std::path::PathBuf>::new());
        let paths = sandbox.paths();
        let name = "web".parse().expect("a name");
        assert!(!paths.container_state(&name).exists() && !paths.container_run(&name).exists());
        let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
        assert!(!mounts.contains(paths.run().to_str().expect("a path")), "{mounts}");
        let layers = fs::read_dir(paths.layers()).map(Iterator::count).unwrap_or(0);
        assert_eq!(layers, 0, "the image's layers went with it");
        assert_eq!(fs::read_to_string(volume.join("kept")).expect("the volume's file"), "kept");
        story::in_sync_when_empty(sandbox);
    });
}

#[test]
fn one_removed_document_leaves_the_others_alone() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", "  networks: [{name: shop}]\n"));
        sandbox.apply();
        let front = story::running(sandbox, "front");
        let (other, _) = story::running(sandbox, "other");
        fs::remove_file(sandbox.manifests().join("other.yaml")).expect("the manifest");
        sandbox.verb_on_manifests("plan", &[]).says("container/other");
        sandbox.apply();
        assert_eq!(ask::start_time(other), None);
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_broken_file_deletes_nothing() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        sandbox.apply();
        let front = story::running(sandbox, "front");
        sandbox.manifest("front.yaml", "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {name: front\n");
        let run = sandbox.verb_on_manifests("apply", &[]);
        assert!(!run.succeeded() && run.stderr.contains("front.yaml:"), "{run}");
        assert_eq!(story::running(sandbox, "front"), front);
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "hello\n");
    });
}
