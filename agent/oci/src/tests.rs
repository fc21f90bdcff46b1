//! The command line and what a bundle may say; containers themselves are tested in `tests/host/containers.rs`.

use std::path::Path;

use clap::Parser;

use super::arguments::{Arguments, Verb};
use super::bundle::Bundle;

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

/// Gives what is said of a bundle that is whole but for one thing.
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
    match Bundle::of(Path::new(""), &spec, "web") {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_would_be_left_out_is_refused_by_name() {
    assert_eq!(refusal(|_| ()), "taken");
    assert_eq!(
        refusal(|bundle| bundle["mounts"][0]["options"] = serde_json::json!(["rbind", "rshared"])),
        "config.json: mount /x: the option `rshared` is not supported"
    );
    let proc = serde_json::json!([{ "destination": "/proc", "type": "proc", "options": ["rro"] }]);
    assert_eq!(
        refusal(|bundle| bundle["mounts"] = proc),
        "config.json: mount /proc: the option `rro` of a mount that binds nothing is not supported"
    );
    assert_eq!(
        refusal(|bundle| bundle["hooks"] = serde_json::json!({ "poststop": [{ "path": "/bin/true" }] })),
        "config.json: hooks is not supported"
    );
    let notify = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }] });
    assert_eq!(
        refusal(|bundle| bundle["linux"]["seccomp"] = notify),
        "config.json: SCMP_ACT_NOTIFY in linux.seccomp is not supported"
    );
    assert_eq!(refusal(|bundle| bundle["process"]["args"] = serde_json::json!([])), "config.json: no `process.args`");
    for (part, value, what) in [
        ("linux", serde_json::json!({ "sysctl": { "net.core.somaxconn": "1" } }), "linux.sysctl"),
        ("linux", serde_json::json!({ "rootfsPropagation": "rshared" }), "linux.rootfsPropagation"),
        ("linux", serde_json::json!({ "resources": { "unified": { "memory.high": "1" } } }), "linux.resources.unified"),
        ("linux", serde_json::json!({ "resources": { "cpu": { "shares": 2 } } }), "linux.resources.cpu.shares"),
        ("process", serde_json::json!({ "apparmorProfile": "x" }), "process.apparmorProfile"),
        ("process", serde_json::json!({ "terminal": true }), "process.terminal of the first process"),
    ] {
        let said = refusal(|bundle| {
            for (name, value) in value.as_object().expect("an object") {
                bundle[part][name] = value.clone();
            }
        });
        assert_eq!(said, format!("config.json: {what} is not supported"));
    }
    let user = serde_json::json!([{ "type": "mount" }, { "type": "user" }]);
    assert_eq!(
        refusal(|bundle| bundle["linux"]["namespaces"] = user),
        "config.json: a namespace of type user is not supported"
    );
    let none = serde_json::json!([{ "type": "pid" }]);
    assert_eq!(
        refusal(|bundle| bundle["linux"]["namespaces"] = none),
        "config.json: no `linux.namespaces with type mount`"
    );
}
