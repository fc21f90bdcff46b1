//! Containers by themselves: what contradicts itself or cannot be meant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::{Bytes, ContainerSpec, RestartPolicy, TimeSpan};

use crate::document::Document;
use crate::node::{Step, way};
use crate::problem::{Finding, Findings};

/// Less memory than this cannot be meant: a unit is missing.
const LEAST_MEMORY: Bytes = Bytes(1 << 20);
/// Smaller log files would be turned over with nearly every line.
const LEAST_LOG: Bytes = Bytes(1 << 10);

pub(super) fn check(document: &Document, container: &ContainerSpec, findings: &mut Findings<'_>) {
    environment(document, &way!["spec", "env"], &container.env, findings);
    let mut spoil = |finding| findings.spoil(&[document.culprit()], finding);
    process(document, container, &mut spoil);
    networks(document, container, &mut spoil);
    restart(document, container, &mut spoil);
    health(document, container, &mut spoil);
    limits(document, container, &mut spoil);
    let mut seen = BTreeSet::new();
    for (index, dependency) in container.depends_on.iter().enumerate() {
        if !seen.insert(&dependency.container) {
            let at = document.value(&way!["spec", "dependsOn", index, "container"]);
            spoil(Finding::new(at, format!("container `{}` is waited for twice", dependency.container)));
        }
    }
}

/// Judges the names of environment variables (environ(7)).
pub(super) fn environment(
    document: &Document,
    way: &[Step<'_>],
    variables: &BTreeMap<String, String>,
    findings: &mut Findings<'_>,
) {
    for name in variables.keys().filter(|name| name.is_empty() || name.contains('=')) {
        let way: Vec<Step<'_>> = way.iter().copied().chain([Step::from(name)]).collect();
        let message = format!("`{name}` is not the name of an environment variable");
        findings.spoil(&[document.culprit()], Finding::new(document.field(&way), message));
    }
}

fn process(document: &Document, container: &ContainerSpec, spoil: &mut impl FnMut(Finding)) {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if container.command.as_ref().is_some_and(Vec::is_empty) && empty(&container.args) && !document.partial {
        let finding = Finding::new(document.value(&way!["spec", "command"]), "an empty command leaves nothing to run");
        spoil(finding.help("leave `command` out for the image's own"));
    }
    if container.command.as_ref().and_then(|command| command.first()).is_some_and(String::is_empty) {
        spoil(Finding::new(document.value(&way!["spec", "command", 0]), "the program's name is empty"));
    }
    if container.user.as_deref() == Some("") {
        spoil(Finding::new(document.value(&way!["spec", "user"]), "the user is empty"));
    }
    if container.working_dir.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
        let at = document.value(&way!["spec", "workingDir"]);
        spoil(Finding::new(at, "`workingDir` is an absolute path in the container"));
    }
    if let Some(hostname) = container.hostname.as_ref().filter(|name| !is_host_name(name) || name.len() > 64) {
        let message = format!("`{hostname}` is not a host name");
        spoil(Finding::new(document.value(&way!["spec", "hostname"]), message));
    }
    for name in container.dns.hosts.keys().filter(|name| !is_host_name(name)) {
        let at = document.field(&way!["spec", "dns", "hosts", name]);
        spoil(Finding::new(at, format!("`{name}` is not a host name")));
    }
    for (index, domain) in container.dns.search.iter().enumerate() {
        // A single dot is the root: no search at all (resolv.conf(5)).
        if !is_host_name(domain.trim_end_matches('.')) && domain != "." {
            let at = document.value(&way!["spec", "dns", "search", index]);
            spoil(Finding::new(at, format!("`{domain}` is not a domain")));
        }
    }
}

fn networks(document: &Document, container: &ContainerSpec, spoil: &mut impl FnMut(Finding)) {
    if container.network_mode.is_some() && document.states(&way!["spec", "networks"]) {
        let at = document.field(&way!["spec", "networkMode"]);
        let finding = Finding::new(at, "`networkMode` stands in place of `networks`, and both are stated");
        spoil(finding.also(document.field(&way!["spec", "networks"]), "the other one").help("leave one of them out"));
    }
    let mut first = BTreeMap::new();
    for (index, attachment) in container.networks.iter().enumerate() {
        let at = document.value(&way!["spec", "networks", index, "name"]);
        if let Some(first) = first.get(&attachment.name) {
            let finding = Finding::new(at, format!("network `{}` is joined twice", attachment.name));
            spoil(finding.label("second time").also(*first, "first time"));
        }
        first.entry(&attachment.name).or_insert(at);
        for (alias, name) in attachment.aliases.iter().enumerate() {
            if !is_host_name(name) {
                let at = document.value(&way!["spec", "networks", index, "aliases", alias]);
                spoil(Finding::new(at, format!("`{name}` is not a host name")));
            }
        }
    }
}

fn restart(document: &Document, container: &ContainerSpec, spoil: &mut impl FnMut(Finding)) {
    let restart = &container.restart;
    let at = document.value(&way!["spec", "restart", "maxRetries"]);
    match (restart.max_retries, restart.policy) {
        (Some(0), _) => {
            let finding = Finding::new(at, "no restart at all is allowed");
            spoil(finding.help("write `policy: never`, or leave `maxRetries` out for any number"));
        }
        (Some(_), RestartPolicy::Never) => {
            spoil(Finding::warning(at, "`maxRetries` has no effect with `policy: never`"));
        }
        _ => {}
    }
    let backoff = restart.backoff;
    let backoff_way = |field| way!["spec", "restart", "backoff", field];
    if backoff.initial.0 == Duration::ZERO {
        let message = "a container that ends at once would be restarted without end";
        spoil(Finding::new(document.value(&backoff_way("initial")), message).help("write at least 1ms"));
    }
    if backoff.initial > backoff.max {
        let field = if document.states(&backoff_way("max")) { "max" } else { "initial" };
        let message =
            format!("the waiting time begins at `{}`, longer than its maximum `{}`", backoff.initial, backoff.max);
        spoil(Finding::new(document.value(&backoff_way(field)), message));
    }
}

fn health(document: &Document, container: &ContainerSpec, spoil: &mut impl FnMut(Finding)) {
    let Some(health) = &container.health else { return };
    let at = |field| document.value(&way!["spec", "health", field]);
    if health.exec.first().is_none_or(String::is_empty) && !document.partial {
        let finding = Finding::new(at("exec"), "there is no command to tell the health by");
        spoil(finding.help("write it as a list: `exec: [pg_isready]`"));
    }
    if health.retries == 0 {
        spoil(Finding::new(at("retries"), "`retries` is at least 1: so many failures make it unhealthy"));
    }
    let nothing = |span: TimeSpan| span.0 == Duration::ZERO;
    if nothing(health.interval) {
        spoil(Finding::new(at("interval"), "`interval` is longer than no time"));
    }
    if nothing(health.timeout) {
        spoil(Finding::new(at("timeout"), "`timeout` is longer than no time"));
    }
}

fn limits(document: &Document, container: &ContainerSpec, spoil: &mut impl FnMut(Finding)) {
    if let Some(memory) = container.resources.memory.filter(|memory| *memory < LEAST_MEMORY) {
        let at = document.value(&way!["spec", "resources", "memory"]);
        let finding = Finding::new(at, format!("no program runs in {} bytes of memory", memory.0));
        spoil(finding.help(format!("is a unit missing, as in {}Mi?", memory.0)));
    }
    if container.resources.pids == Some(0) {
        let at = document.value(&way!["spec", "resources", "pids"]);
        spoil(Finding::new(at, "`pids` is at least 1").help("leave it out for no limit"));
    }
    if container.log.max_size < LEAST_LOG {
        let at = document.value(&way!["spec", "log", "maxSize"]);
        spoil(Finding::new(at, format!("`maxSize` is at least {LEAST_LOG}")));
    }
    if container.log.max_files == 0 {
        let at = document.value(&way!["spec", "log", "maxFiles"]);
        spoil(Finding::new(at, "`maxFiles` is at least 1: the current one counts"));
    }
}

/// Judges a name that goes into a hosts file or a resolver (RFC 1123, and the underscore that people use).
fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&part.len()) && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}
