//! Volumes are kept when their manifest goes; what loses data is named and waits for a person.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_tests::{Sandbox, ask, sandboxed};

use crate::story;

fn volume(sandbox: &Sandbox) -> PathBuf {
    sandbox.paths().volume(&"data".parse().expect("a name"))
}

fn forget(sandbox: &Sandbox) {
    fs::remove_file(sandbox.manifests().join("storage/data.yaml")).expect("the volume's manifest");
    sandbox.manifest("web.yaml", &story::WEB.replace("  mounts: [{volume: data, target: /data}]\n", ""));
}

#[test]
fn a_volume_without_a_manifest_is_kept_and_comes_back_with_its_data() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        fs::write(volume(sandbox).join("kept"), "kept").expect("a file in the volume");
        forget(sandbox);
        sandbox.apply().says("kept: volume/data");
        story::in_sync(sandbox);
        sandbox.evenkeel(&["status"]).expect_code(0).says("kept: no manifest states it any more");
        // Nobody wants it to be anything now, whatever becomes of it.
        fs::set_permissions(volume(sandbox), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
        story::in_sync(sandbox);
        sandbox.apply().says("kept: volume/data");
        sandbox.manifest("storage/data.yaml", story::DATA);
        sandbox.manifest("web.yaml", story::WEB);
        sandbox.apply();
        story::in_sync(sandbox);
        let said = sandbox.evenkeel(&["exec", "web", "cat", "/data/kept"]).expect_code(0);
        assert_eq!(said.stdout, "kept");
        // Removed by hand while nobody wanted it: nothing is missing, and it is forgotten.
        forget(sandbox);
        sandbox.apply();
        fs::remove_dir_all(volume(sandbox)).expect("the volume");
        sandbox.apply();
        story::in_sync(sandbox);
        assert!(!sandbox.evenkeel(&["status"]).stdout.contains("volume/data"));
    });
}

#[test]
fn what_loses_data_is_named_and_waits_for_a_person() {
    sandboxed(|sandbox| {
        story::macvlan(sandbox);
        sandbox.apply();
        let (web, _) = story::running(sandbox, "web");
        fs::remove_dir_all(volume(sandbox)).expect("the volume");
        fs::write(volume(sandbox), "mine").expect("a file in its place");
        sandbox.evenkeel(&["drift"]).expect_code(1).says("volume/data").says("--yes");
        let plan = sandbox.verb_on_manifests("plan", &["-o", "json"]);
        assert!(plan.stdout.contains("dataLoss"), "{plan}");
        sandbox.manifest("other.yaml", &story::shell("other", "exec sleep 100000", ""));
        sandbox.verb_on_manifests("apply", &[]).expect_code(1).says("volume/data").says("--yes");
        // Everything else is done.
        story::running(sandbox, "other");
        assert_eq!(fs::read_to_string(volume(sandbox)).expect("the file"), "mine");
        assert!(ask::start_time(web).is_some());

        let agent = sandbox.agent(&["--resync", "1s"]);
        ask::eventually("the agent names it", || {
            if agent.log().contains("volume/data") { Ok(()) } else { Err(agent.log()) }
        });
        ask::throughout(Duration::from_secs(2), "no agent loses data by itself", || {
            let text = fs::read_to_string(volume(sandbox)).map_err(|error| error.to_string())?;
            if text == "mine" { Ok(()) } else { Err(text) }
        });
        sandbox.apply_with(&["--yes"]);
        assert!(volume(sandbox).is_dir());
        story::eventually_in_sync(sandbox);
        assert_ne!(story::running(sandbox, "web").0, web, "it had the old one mounted");
    });
}
