//! Manifests for the guests, in the directory that the unit names.

use evenkeel_tests::vm::Machine;

/// Where the unit looks for manifests.
pub const DIRECTORY: &str = "/etc/evenkeel/manifests";

/// The image `busybox`, from the tarball that lies on the disk.
pub const BUSYBOX: &str = "\
apiVersion: evenkeel/v1
kind: Image
metadata: {name: busybox}
spec:
  rootfs: /srv/busybox.tar.gz
  config: {cmd: [/bin/sh], env: {PATH: /bin:/sbin:/usr/bin:/usr/sbin}}
";

/// A network, its addresses given out by evenkeel.
pub const NETWORK: &str = "\
apiVersion: evenkeel/v1
kind: Network
metadata: {name: lan}
spec: {driver: bridge, subnets: [{subnet: 10.77.0.0/24}]}
";

/// A container of an image that runs a line of shell; `more` are further lines of its spec, not indented.
pub fn shell(name: &str, image: &str, line: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    let line = serde_json::to_string(line).expect("text is JSON");
    format!(
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  image: {image}\n  \
         command: [sh, -c, {line}]\n{more}"
    )
}

/// Joins documents.
pub fn documents(parts: &[&str]) -> String {
    parts.join("---\n")
}

/// Has everything removed, and requires that nothing stays.
#[track_caller]
pub fn remove_all(machine: &mut Machine) {
    machine.sh("mkdir -p /run/empty && evenkeel apply -f /run/empty --allow-empty");
    assert_eq!(machine.sh("nft list tables; ip -o link | grep -Ev ': (lo|eth0):' || true").stdout, "");
}
