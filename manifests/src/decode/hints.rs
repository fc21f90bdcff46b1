//! What people coming from Docker, Compose or Kubernetes write, and what it is called here.

use crate::node::Node;
use crate::suggest;

/// Type, field as written elsewhere, advice.
const FIELDS: &[(&str, &str, &str)] = &[
    ("Object", "name", "write it as `metadata: {name: …}`"),
    ("Object", "labels", "write it as `metadata: {labels: {…}}`"),
    ("Object", "annotations", "write it as `metadata: {annotations: {…}}`"),
    ("Object", "status", "the status is not part of a manifest: leave it out"),
    ("Metadata", "namespace", "a host has no namespaces: leave it out"),
    ("ContainerSpec", "name", "the name stands in `metadata: {name: …}`"),
    ("ContainerSpec", "container_name", "the name stands in `metadata: {name: …}`"),
    ("ContainerSpec", "image_name", "the field is called `image`"),
    ("ContainerSpec", "containers", "each container is a document of its own, with its fields directly under `spec`"),
    ("ContainerSpec", "labels", "labels stand in `metadata: {labels: {…}}`"),
    ("ContainerSpec", "volumes", "write `mounts: [{volume: NAME, target: /path}]`"),
    ("ContainerSpec", "volumeMounts", "write `mounts: [{volume: NAME, target: /path}]`"),
    ("ContainerSpec", "tmpfs", "write `mounts: [{tmpfs: true, target: /path}]`"),
    ("ContainerSpec", "environment", "the field is called `env`"),
    ("ContainerSpec", "envFrom", "write every variable into `env`"),
    ("ContainerSpec", "env_file", "write every variable into `env`"),
    ("ContainerSpec", "entrypoint", "the field is called `command`; `args` replaces the image's CMD"),
    ("ContainerSpec", "cmd", "the field is called `args`; `command` replaces the image's ENTRYPOINT"),
    ("ContainerSpec", "workdir", "the field is called `workingDir`"),
    ("ContainerSpec", "network", "write `networks: [{name: …}]`"),
    ("ContainerSpec", "hostNetwork", "write `networkMode: host`"),
    ("ContainerSpec", "ip", "write `networks: [{name: NETWORK, ipv4: ADDRESS}]`"),
    ("ContainerSpec", "publish", "write `ports: [\"8080:80\"]`"),
    ("ContainerSpec", "expose", "containers of one network reach every port of each other: leave it out"),
    ("ContainerSpec", "links", "containers of one network find each other by name; `dependsOn` orders their start"),
    ("ContainerSpec", "healthcheck", "write `health: {exec: [COMMAND, ARGUMENT]}`"),
    ("ContainerSpec", "livenessProbe", "write `health: {exec: [COMMAND, ARGUMENT]}`"),
    ("ContainerSpec", "readinessProbe", "write `health: {exec: [COMMAND, ARGUMENT]}`"),
    ("ContainerSpec", "restartPolicy", "write `restart: {policy: always}`"),
    ("ContainerSpec", "deploy", "limits are called `resources: {memory: …, cpus: …}`"),
    ("ContainerSpec", "memory", "write `resources: {memory: …}`"),
    ("ContainerSpec", "mem_limit", "write `resources: {memory: …}`"),
    ("ContainerSpec", "cpus", "write `resources: {cpus: …}`"),
    ("ContainerSpec", "pids_limit", "write `resources: {pids: …}`"),
    ("ContainerSpec", "cap_add", "write `security: {capAdd: […]}`"),
    ("ContainerSpec", "cap_drop", "write `security: {capDrop: […]}`"),
    ("ContainerSpec", "capAdd", "write `security: {capAdd: […]}`"),
    ("ContainerSpec", "capDrop", "write `security: {capDrop: […]}`"),
    ("ContainerSpec", "read_only", "write `security: {readOnlyRootfs: true}`"),
    ("ContainerSpec", "securityContext", "the field is called `security`"),
    ("ContainerSpec", "security_opt", "the field is called `security`"),
    ("ContainerSpec", "privileged", "name the capabilities it needs in `security: {capAdd: […]}`"),
    ("ContainerSpec", "stop_grace_period", "the field is called `stopTimeout`"),
    ("ContainerSpec", "terminationGracePeriodSeconds", "the field is called `stopTimeout`, as `stopTimeout: 30s`"),
    ("ContainerSpec", "logging", "the field is called `log`"),
    ("ContainerSpec", "extra_hosts", "write `dns: {hosts: {NAME: ADDRESS}}`"),
    ("ContainerSpec", "dns_search", "write `dns: {search: […]}`"),
    ("ContainerSpec", "pull_policy", "write an Image with `pull: …`, and its name as `image`"),
    ("ContainerSpec", "imagePullPolicy", "write an Image with `pull: …`, and its name as `image`"),
    ("NetworkAttachment", "network", "the field is called `name`"),
    ("NetworkAttachment", "ip", "the field is called `ipv4` or `ipv6`"),
    ("NetworkAttachment", "address", "the field is called `ipv4` or `ipv6`"),
    ("NetworkAttachment", "ipv4_address", "the field is called `ipv4`"),
    ("NetworkAttachment", "ipv6_address", "the field is called `ipv6`"),
    ("RawMount", "name", "the volume's name stands in `volume: NAME`"),
    ("RawMount", "source", "the source is called `volume: NAME` or `bind: /host/path`"),
    ("RawMount", "src", "the source is called `volume: NAME` or `bind: /host/path`"),
    ("RawMount", "hostPath", "the field is called `bind`"),
    ("RawMount", "host", "the field is called `bind`"),
    ("RawMount", "type", "the source's own name says the type: `volume`, `bind` or `tmpfs: true`"),
    ("RawMount", "destination", "the field is called `target`"),
    ("RawMount", "dst", "the field is called `target`"),
    ("RawMount", "path", "the field is called `target`"),
    ("RawMount", "mountPath", "the field is called `target`"),
    ("RawMount", "ro", "the field is called `readOnly`"),
    ("Health", "test", "the field is called `exec`, without `CMD` in front"),
    ("Health", "command", "the field is called `exec`"),
    ("Health", "periodSeconds", "the field is called `interval`, as `interval: 5s`"),
    ("Health", "timeoutSeconds", "the field is called `timeout`, as `timeout: 5s`"),
    ("Health", "failureThreshold", "the field is called `retries`"),
    ("Health", "initialDelaySeconds", "the field is called `startPeriod`, as `startPeriod: 5s`"),
    ("Health", "start_period", "the field is called `startPeriod`"),
    ("Dependency", "name", "the field is called `container`"),
    ("Resources", "limits", "write the limits directly: `resources: {memory: 512Mi, cpus: 1.5}`"),
    ("Resources", "requests", "there are limits only: `resources: {memory: 512Mi, cpus: 1.5}`"),
    ("Resources", "cpu", "the field is called `cpus`"),
    ("Security", "capabilities", "the fields are called `capAdd` and `capDrop`"),
    ("Security", "readOnlyRootFilesystem", "the field is called `readOnlyRootfs`"),
    ("Security", "allowPrivilegeEscalation", "write `noNewPrivileges: true` in place of `false`"),
    ("Security", "privileged", "name the capabilities it needs in `capAdd: […]`"),
    ("NetworkSpec", "ipam", "write `subnets: [{subnet: …, gateway: …}]`"),
    ("NetworkSpec", "subnet", "write `subnets: [{subnet: …}]`"),
    ("NetworkSpec", "gateway", "it belongs to its subnet: `subnets: [{subnet: …, gateway: …}]`"),
    ("NetworkSpec", "ipRange", "it belongs to its subnet: `subnets: [{subnet: …, ipRange: …}]`"),
    ("NetworkSpec", "auxAddresses", "they belong to their subnet: `subnets: [{subnet: …, auxAddresses: {…}}]`"),
    ("NetworkSpec", "driver_opts", "the parent link of a macvlan network is called `parent`"),
    ("NetworkSpec", "options", "the parent link of a macvlan network is called `parent`"),
    ("NetworkSpec", "type", "the field is called `driver`"),
    ("NetworkSpec", "name", "the name stands in `metadata: {name: …}`"),
    ("Subnet", "cidr", "the field is called `subnet`"),
    ("Subnet", "range", "the field is called `ipRange`"),
    ("Subnet", "auxAddress", "the field is called `auxAddresses`, a mapping of names to addresses"),
    ("Subnet", "aux_address", "the field is called `auxAddresses`, a mapping of names to addresses"),
    ("RawImageSpec", "image", "the field is called `reference`"),
    ("RawImageSpec", "name", "the field is called `reference`"),
    ("RawImageSpec", "repository", "the field is called `reference`"),
    ("RawImageSpec", "tag", "the tag is part of the `reference`, as docker.io/library/postgres:16"),
    ("RawImageSpec", "pullPolicy", "the field is called `pull`"),
    ("RawImageSpec", "tarball", "the field is called `archive` (docker save) or `rootfs` (docker export)"),
    (
        "VolumeSpec",
        "driver",
        "a volume is a directory that evenkeel makes; a directory of the host is mounted with `bind`",
    ),
    (
        "VolumeSpec",
        "path",
        "a volume is a directory that evenkeel makes; a directory of the host is mounted with `bind`",
    ),
    ("VolumeSpec", "uid", "the field is called `owner`, as \"999:999\""),
    ("VolumeSpec", "permissions", "the field is called `mode`, as \"0750\""),
];

/// Advises on an unknown field.
pub(super) fn field(name: &str, written: &str, fields: &[&str]) -> String {
    let hint =
        FIELDS.iter().find(|(of, field, _)| *of == name && *field == written).map(|(.., hint)| (*hint).to_owned());
    let near = || suggest::nearest(written, fields.iter().copied()).map(|field| format!("did you mean `{field}`?"));
    hint.or_else(near).unwrap_or_else(|| match fields {
        [] => "this mapping has no fields".to_owned(),
        _ => format!("the fields here are {}", fields.join(", ")),
    })
}

/// Advises on a missing field.
pub(super) fn missing(name: &str, field: &str) -> Option<String> {
    let hint = match (name, field) {
        ("ContainerSpec", "image") => "write an Image's name, or a registry reference as docker.io/library/nginx:1.27",
        ("NetworkSpec", "driver") => "write `driver: bridge` or `driver: macvlan`",
        ("NetworkSpec", "subnets") => "write `subnets: [{subnet: 10.1.0.0/24}]`",
        ("RawMount", "target") => "write where in the container it is mounted: `target: /path`",
        ("Health", "exec") => "write the command as a list: `exec: [pg_isready]`",
        ("HostShim", "address") => "write the name of an auxAddress, or an address",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Advises on a word that stands where a mapping belongs.
pub(super) fn scalar(name: &str, node: &Node) -> Option<String> {
    let text = node.text()?;
    match name {
        "Restart" => {
            let policies = ["always", "onFailure", "unlessStopped", "never"];
            let policy = if text == "no" { Some("never") } else { suggest::nearest(text, policies) };
            Some(format!("write `restart: {{policy: {}}}`", policy.unwrap_or("always")))
        }
        "NetworkAttachment" => Some(format!("write `{{name: {text}}}`")),
        "Dependency" => Some(format!("write `{{container: {text}}}`")),
        "Subnet" => Some(format!("write `{{subnet: {text}}}`")),
        "RawMount" => {
            let mut parts = text.split(':');
            let (source, target) = (parts.next()?, parts.next()?);
            let kind = if source.starts_with('/') { "bind" } else { "volume" };
            let end = if parts.next() == Some("ro") { ", readOnly: true" } else { "" };
            Some(format!("write `{{{kind}: {source}, target: {target}{end}}}`"))
        }
        "Health" => Some(format!("write `health: {{exec: [{text}]}}`")),
        _ => None,
    }
}

/// Advises on a word of Docker's or Kubernetes' that has another name here.
pub(super) fn word(name: &str, text: &str) -> Option<String> {
    let word = match (name, text) {
        ("RestartPolicy", "no" | "No") => "never",
        ("PullPolicy", "IfNotPresent" | "if_not_present") => "missing",
        ("Condition", "service_started") => "started",
        ("Condition", "service_healthy") => "healthy",
        ("Condition", "service_completed_successfully") => "completed",
        ("DriftPolicy", "ignore") => "report",
        _ => return None,
    };
    Some(format!("it is called `{word}` here"))
}
