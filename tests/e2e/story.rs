//! The manifests that several tests start from, and the questions that several tests ask.

use evenkeel_tests::{Sandbox, ask};
use serde_json::Value;

/// The network of the notebook page that evenkeel replaces: macvlan on `parent0` with the host's shim.
pub const MYNET: &str = r#"apiVersion: evenkeel/v1
kind: Network
metadata: {name: mynet}
spec:
  driver: macvlan
  parent: parent0
  subnets:
    - subnet: 10.0.36.0/24
      gateway: 10.0.36.254
      ipRange: 10.0.36.192/27
      auxAddresses: {host: 10.0.36.223}
  shim: {address: host}
"#;

/// A volume with an owner and a mode of its own.
pub const DATA: &str = r#"apiVersion: evenkeel/v1
kind: Volume
metadata: {name: data}
spec: {owner: "1000:1000", mode: "0750"}
"#;

/// A web server on `mynet` with the volume and every limit.
pub const WEB: &str = r#"apiVersion: evenkeel/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  command: [httpd, -f, -p, "80", -h, /www]
  networks: [{name: mynet, ipv4: 10.0.36.200}]
  mounts: [{volume: data, target: /data}]
  resources: {memory: 64Mi, cpus: 0.5, pids: 50}
  stopSignal: KILL
"#;

/// A bridge network with IPv4 and IPv6.
pub const SHOP: &str = r#"apiVersion: evenkeel/v1
kind: Network
metadata: {name: shop}
spec:
  driver: bridge
  subnets: [{subnet: 10.77.0.0/24}, {subnet: "fd77::/64"}]
"#;

/// Wires `parent0` to the lan and writes the macvlan story: a network, a volume, an image, a container.
pub fn macvlan(sandbox: &Sandbox) {
    sandbox.wire("parent0");
    sandbox.manifest("network.yaml", MYNET);
    sandbox.manifest("storage/data.yaml", DATA);
    sandbox.manifest("image.yml", &sandbox.busybox_image());
    sandbox.manifest("web.yaml", WEB);
}

/// Writes a bridge network, the image, and a web server that publishes a port.
pub fn bridge(sandbox: &Sandbox) {
    sandbox.manifest("shop.yaml", SHOP);
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    sandbox.manifest("front.yaml", &front("8080"));
}

/// The web server `front` on the bridge network, published on a port of the host.
pub fn front(port: &str) -> String {
    format!(
        r#"apiVersion: evenkeel/v1
kind: Container
metadata: {{name: front}}
spec:
  image: busybox
  command: [httpd, -f, -p, "80", -h, /www]
  networks: [{{name: shop, aliases: [www]}}]
  ports: ["{port}:80"]
  stopSignal: KILL
"#
    )
}

/// A container without a network that runs a line of shell, with more lines of its spec.
pub fn shell(name: &str, line: &str, more: &str) -> String {
    let line = serde_json::to_string(line).expect("a string");
    format!(
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  image: busybox\n  \
         command: [sh, -c, {line}]\n  stopSignal: KILL\n{more}"
    )
}

/// The manifest of an image with its source, as `archive: /srv/app.tar`.
pub fn image(name: &str, source: &str) -> String {
    format!("apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{name: {name}}}\nspec: {{{source}}}\n")
}

/// Reads a container's status file, which its shim writes.
pub fn status(sandbox: &Sandbox, container: &str) -> Option<Value> {
    let path = sandbox.paths().status(&container.parse().expect("a container's name"));
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("a status file is JSON at every moment"))
}

/// Waits until a container runs, and gives its main process and that one's start time, both from the kernel.
#[track_caller]
pub fn running(sandbox: &Sandbox, container: &str) -> (u32, u64) {
    ask::eventually(&format!("{container} runs"), || {
        let status = status(sandbox, container).ok_or("no status file")?;
        let pid = status["phase"]["pid"].as_u64().ok_or_else(|| status.to_string())?;
        let pid = u32::try_from(pid).map_err(|error| error.to_string())?;
        ask::start_time(pid).map(|start| (pid, start)).ok_or_else(|| format!("no process {pid}: {status}"))
    })
}

/// Waits until a container's status file tells of this phase, and gives the phase.
#[track_caller]
pub fn phase(sandbox: &Sandbox, container: &str, wanted: &str) -> Value {
    ask::eventually(&format!("{container} is {wanted}"), || {
        let status = status(sandbox, container).ok_or("no status file")?;
        if status["phase"]["phase"] == wanted { Ok(status["phase"].clone()) } else { Err(status.to_string()) }
    })
}

/// Requires that evenkeel says "in sync", against what was last applied and against the manifests.
#[track_caller]
pub fn in_sync(sandbox: &Sandbox) {
    sandbox.evenkeel(&["drift"]).expect_code(0);
    sandbox.verb_on_manifests("diff", &[]).expect_code(0);
    sandbox.verb_on_manifests("plan", &["--detailed-exitcode"]).expect_code(0);
}

/// Waits until [`in_sync`] would hold, for a running agent that has to bring it about.
#[track_caller]
pub fn eventually_in_sync(sandbox: &Sandbox) {
    ask::eventually("everything in sync", || {
        let runs = [sandbox.evenkeel(&["drift"]), sandbox.verb_on_manifests("diff", &[])];
        match runs.into_iter().find(|run| !run.succeeded()) {
            None => Ok(()),
            Some(run) => Err(run.to_string()),
        }
    });
}

/// As [`in_sync`], for a host of which nothing is wanted any more.
#[track_caller]
pub fn in_sync_when_empty(sandbox: &Sandbox) {
    sandbox.evenkeel(&["drift"]).expect_code(0);
}
