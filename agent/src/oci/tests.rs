//! The command line and the report; containers themselves are tested in `tests/host/containers.rs`.

use std::path::Path;

use clap::Parser;

use super::adapt::adapt;
use super::arguments::{Arguments, Verb};
use super::report::{Report, Words};

#[test]
fn exec_takes_the_command_with_its_own_flags() {
    let words = ["oci", "--root", "/r", "exec", "--tty", "--user", "5:6", "-e", "A=b", "web", "ls", "-l", "--all"];
    let arguments = Arguments::try_parse_from(words).unwrap();
    let Verb::Exec(exec) = arguments.verb else { panic!("not exec") };
    assert_eq!((exec.tty, exec.user, exec.id.as_str()), (true, Some((5, Some(6))), "web"));
    assert_eq!(exec.command, ["ls", "-l", "--all"]);
}

#[test]
fn kill_takes_names_and_numbers() {
    for (word, number) in [("KILL", 9), ("SIGHUP", 1), ("15", 15)] {
        let arguments = Arguments::try_parse_from(["oci", "kill", "web", word]).unwrap();
        assert!(matches!(arguments.verb, Verb::Kill { signal, all: false, .. } if signal == number), "{word}");
    }
    assert!(Arguments::try_parse_from(["oci", "kill", "web", "SIGNOTHING"]).is_err());
}

#[test]
fn the_report_keeps_the_verdict_and_the_first_logged_error() {
    let report = Report::install().unwrap();
    assert_eq!(report.read(), Words::default());
    tracing::error!(path = "/x", "failed to mount");
    tracing::error!("failed");
    report.verdict(127, "exec: \"/bin/nope\":\nno such file");
    let words = report.read();
    assert_eq!(words.logged.as_deref(), Some("failed to mount, path: \"/x\""));
    assert_eq!(words.verdict, Some((127, "exec: \"/bin/nope\": no such file".to_owned())));
}

/// Gives what `adapt` says of a bundle that is whole but for one thing.
fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut bundle = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/work", "args": ["true"], "noNewPrivileges": false },
        "linux": { "namespaces": [{ "type": "mount" }] },
        "mounts": [{ "destination": "/x", "type": "bind", "source": "/x", "options": ["rbind", "rprivate"] }],
    });
    change(&mut bundle);
    let spec = serde_json::from_value(bundle).expect("a bundle");
    match adapt(Path::new("config.json"), &spec) {
        Ok(_) => "taken".to_owned(),
        Err(error) => super::chain(&error),
    }
}

#[test]
fn what_would_be_left_out_is_refused_by_name() {
    assert_eq!(refusal(|_| ()), "taken");
    assert_eq!(
        refusal(|bundle| bundle["mounts"][0]["options"] = serde_json::json!(["rbind", "rshared"])),
        "config.json: mount /x: the option `rshared` is not supported"
    );
    assert_eq!(
        refusal(|bundle| bundle["hooks"] = serde_json::json!({ "poststop": [{ "path": "/bin/true" }] })),
        "config.json: hooks.poststop is not supported"
    );
    let notify = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }] });
    assert_eq!(
        refusal(|bundle| bundle["linux"]["seccomp"] = notify),
        "config.json: SCMP_ACT_NOTIFY in linux.seccomp is not supported"
    );
    assert_eq!(refusal(|bundle| bundle["process"]["args"] = serde_json::json!([])), "config.json: no `process.args`");
}

#[test]
fn libcontainer_gets_the_bundle_without_the_executors_part() {
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/work", "args": ["true"], "noNewPrivileges": false,
            "capabilities": { "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] } },
        "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } },
    });
    let spec = serde_json::from_value(spec).expect("a bundle");
    let (given, confinement) = adapt(Path::new("config.json"), &spec).expect("a bundle that is taken");
    let process = given.process().as_ref().expect("a process");
    assert_eq!((process.cwd().as_path(), process.no_new_privileges()), (Path::new("/"), None));
    assert!(process.capabilities().is_none());
    let linux = given.linux().as_ref().expect("linux");
    assert!(linux.seccomp().is_none());
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
    assert_eq!(confinement.cwd, Path::new("/work"));
    assert!(confinement.seccomp.is_some() && !confinement.no_new_privileges);
    let sets = confinement.capabilities.expect("capabilities");
    assert_eq!(sets.inheritable().as_ref().map(std::collections::HashSet::len), Some(0), "every set is stated");
}
