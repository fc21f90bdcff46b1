//! No secret is printed, logged or put in a diff, and no file that others may read holds one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use evenkeel_tests::{Run, Sandbox, program, sandboxed};

use crate::story;

/// Values of an environment before a change, after it, in a broken file, and in an image's configuration.
const SECRETS: [&str; 4] = ["hunter2-before", "hunter2-after", "hunter2-broken", "hunter2-image"];

fn front(secret: &str) -> String {
    story::front("8080").replace("  stopSignal", &format!("  env: {{PASSWORD: {secret}, OTHER: x}}\n  stopSignal"))
}

#[track_caller]
fn tells_nothing(run: &Run) {
    let all = format!("{}{}", run.stdout, run.stderr);
    assert!(!all.contains("hunter2"), "it tells a secret\n{run}");
}

/// Runs every verb that looks or changes, in every form of output.
fn every_verb(sandbox: &Sandbox) {
    let manifests = sandbox.manifests();
    let manifests = manifests.to_str().expect("a path");
    let looks: [&[&str]; 12] = [
        &["validate", "-f", manifests],
        &["plan", "-f", manifests],
        &["diff", "-f", manifests],
        &["drift"],
        &["drift", "-f", manifests],
        &["status"],
        &["ps"],
        &["inspect", "container/front"],
        &["inspect", "image/busybox"],
        &["apply", "-f", manifests, "--dry-run"],
        &["apply", "-f", manifests],
        &["stop", "front"],
    ];
    for verb in looks {
        for form in ["text", "json", "yaml"] {
            let mut arguments = verb.to_vec();
            if verb[0] != "stop" {
                arguments.extend(["-o", form]);
            }
            arguments.push("-vvv");
            let run = sandbox.evenkeel(&arguments);
            assert!(!run.stderr.contains("unexpected argument"), "{run}");
            tells_nothing(&run);
        }
    }
    tells_nothing(&sandbox.evenkeel(&["start", "front", "-vvv"]));
    tells_nothing(&sandbox.evenkeel(&["logs", "front", "-vvv"]));
}

#[test]
fn no_output_and_no_file_for_others_tells_a_secret() {
    sandboxed(|sandbox| {
        story::bridge(sandbox);
        let image = sandbox.busybox_image().replace("env: {", "env: {IMAGE_PASSWORD: hunter2-image, ");
        sandbox.manifest("image.yaml", &image);
        sandbox.manifest("front.yaml", &front(SECRETS[0]));
        tells_nothing(&sandbox.verb_on_manifests("plan", &[]));
        tells_nothing(&sandbox.apply_with(&["-vvv"]));
        every_verb(sandbox);
        // A change, told by name.
        sandbox.manifest("front.yaml", &front(SECRETS[1]));
        let diff = sandbox.verb_on_manifests("diff", &[]).expect_code(1).says("PASSWORD");
        tells_nothing(&diff);
        every_verb(sandbox);
        // Errors point into the file, at the line of the secret, beside it, and in a document that is cut off in it.
        let wrong = [
            front("[hunter2-broken]"),
            front("{a: hunter2-broken}"),
            front("hunter2-broken").replace("OTHER: x", "PASSWORD: hunter2-broken"),
            front("hunter2-broken").replace("env:", "enw:"),
            front("\"hunter2-broken"),
            front("hunter2-broken").replace(", OTHER: x}", ""),
            front("&hunter2-broken *nothing"),
            front("!hunter2-broken x"),
        ];
        for text in wrong {
            sandbox.manifest("front.yaml", &text);
            for form in ["text", "json", "yaml"] {
                let run = sandbox.verb_on_manifests("validate", &["-o", form]).expect_code(1);
                tells_nothing(&run);
            }
            tells_nothing(&sandbox.verb_on_manifests("apply", &["-vvv"]));
            tells_nothing(&sandbox.verb_on_manifests("diff", &[]));
        }
        // A start that fails: the runtime has all of the environment at hand.
        sandbox.manifest("front.yaml", &front(SECRETS[1]).replace("[httpd,", "[no-such-program,"));
        tells_nothing(&sandbox.verb_on_manifests("apply", &["-vvv"]));
        every_verb(sandbox);
        sandbox.manifest("front.yaml", &front(SECRETS[0]));
        let mut agent = sandbox.agent(&["-vvv", "--resync", "1s"]);
        story::running(sandbox, "front");
        program::sh("ip link del ek-shop");
        every_verb(sandbox);
        assert!(agent.is_running());
        assert!(!agent.log().contains("hunter2"), "{}", agent.log());

        files_tell_nothing(sandbox);
    });
}

/// Looks through every file of the installation as a user without any right.
fn files_tell_nothing(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.directory(), fs::Permissions::from_mode(0o755)).expect("a way in");
    let paths = sandbox.paths();
    let holding = |nobody: bool| {
        let mut command = Command::new("setpriv");
        if nobody {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command.args(["grep", "-rl", "--devices=skip", "hunter2"]).arg(paths.root()).arg(paths.run());
        program::run(&mut command).stdout
    };
    assert!(holding(false).contains("created.json"), "root finds it, so that the search is one");
    assert_eq!(holding(true), "", "files that others may read");
}
