use evenkeel_schema::Capability as Named;
use oci_spec::runtime::Capability;

use super::*;
use crate::container::mounts::default_mounts;

fn spec(json: &str) -> ContainerSpec {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["image"] = "x".into();
    serde_json::from_value(value).unwrap()
}

fn image(json: &str) -> ImageConfig {
    serde_json::from_str(json).unwrap()
}

fn line(spec_json: &str, image_json: &str) -> String {
    arguments(&spec(spec_json), &image(image_json)).map_or("none".to_owned(), |line| line.join(" "))
}

#[test]
fn command_and_args_stand_for_entrypoint_and_cmd() {
    let both = r#"{"entrypoint": ["entry"], "cmd": ["cmd"]}"#;
    assert_eq!(line("{}", both), "entry cmd");
    assert_eq!(line(r#"{"args": ["a"]}"#, both), "entry a");
    assert_eq!(line(r#"{"command": ["c"]}"#, both), "c");
    assert_eq!(line(r#"{"command": ["c"], "args": ["a"]}"#, both), "c a");
    assert_eq!(line(r#"{"args": []}"#, both), "entry");
    assert_eq!(line("{}", r#"{"cmd": ["cmd"]}"#), "cmd");
    assert_eq!(line("{}", "{}"), "none");
    assert_eq!(line(r#"{"command": []}"#, both), "none");
}

#[test]
fn the_manifests_environment_overrides_the_images() {
    let name: Name = "web".parse().unwrap();
    let stated = spec(r#"{"env": {"B": "2", "HOME": "/mine"}}"#);
    let variables = environment(&name, &stated, &image(r#"{"env": {"A": "1", "B": "1"}}"#), "/root");
    assert_eq!(variables, ["A=1", "B=2", "HOME=/mine", "HOSTNAME=web", &format!("PATH={DEFAULT_PATH}")]);
    let plain = environment(&name, &spec(r#"{"hostname": "h"}"#), &image(r#"{"env": {"PATH": "/x"}}"#), "/root");
    assert_eq!(plain, ["HOME=/root", "HOSTNAME=h", "PATH=/x"]);
}

#[test]
fn a_relative_working_directory_is_the_images_to_state() {
    assert_eq!(working_directory(&spec("{}"), &image(r#"{"workingDir": "app"}"#)).unwrap(), Path::new("/app"));
    assert_eq!(working_directory(&spec("{}"), &image("{}")).unwrap(), Path::new("/"));
    assert_eq!(working_directory(&spec(r#"{"workingDir": "/x"}"#), &image("{}")).unwrap(), Path::new("/x"));
    assert!(working_directory(&spec(r#"{"workingDir": "x"}"#), &image("{}")).is_err());
}

#[test]
fn the_whole_bundle() {
    let mut stated = spec(r#"{"resources": {"memory": "64Mi", "cpus": "1.5", "pids": 20}}"#);
    stated.security.cap_drop = vec![Named::try_from("ALL".to_owned()).unwrap()];
    stated.security.cap_add =
        vec![Named::try_from("CHOWN".to_owned()).unwrap(), Named::try_from("SETUID".to_owned()).unwrap()];
    stated.security.read_only_rootfs = true;
    stated.security.no_new_privileges = true;
    let identity = Identity { uid: 5, gid: 6, groups: vec![6, 7], home: "/home".to_owned() };
    let bundle = bundle(Parts {
        name: &"web".parse().unwrap(),
        spec: &stated,
        image: &image(r#"{"cmd": ["serve"]}"#),
        rootfs: Path::new("/run/x/rootfs"),
        mounts: default_mounts(&stated, Path::new("/run/x")),
        identity: &identity,
        network: Some(Path::new("/run/netns/web")),
        cgroup: "/evenkeel/web".into(),
        host: Host {
            machine: Machine { architecture: "x86_64", kernel: (6, 1) },
            capabilities: &Capabilities::from([Capability::Chown]),
            cgroup_namespaces: true,
            limits_swap: true,
        },
    })
    .unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&to_json(&bundle).unwrap()).unwrap();
    // Its rules are tested by themselves.
    let rules = json["linux"]["seccomp"].as_object_mut().unwrap().remove("syscalls").unwrap();
    assert!(rules.as_array().unwrap().len() > 10);
    insta::assert_json_snapshot!(json);
}
