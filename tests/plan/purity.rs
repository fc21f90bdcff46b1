//! The planner cannot reach the host: not by its dependencies, not by the standard library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that touch a kernel, a disk, a clock, chance or a runtime.
const IMPURE: [&str; 19] = [
    "async-std",
    "chrono",
    "evenkeel-host",
    "fastrand",
    "getrandom",
    "libc",
    "mio",
    "netlink-sys",
    "nix",
    "notify",
    "rand",
    "rtnetlink",
    "rusqlite",
    "rustix",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "windows-sys",
];

/// Parts of the standard library that do the same.
const FORBIDDEN: [&str; 12] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "HashMap",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Lists every crate that a crate is built from, itself included; build scripts' and tests' own not.
fn built_from(package: &str) -> BTreeSet<String> {
    // Of other systems' crates a fresh machine has none, and the program is for Linux.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|one| (text(&one["id"]), text(&one["name"]))).collect();
    let is_normal = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let edges: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let dependencies = list(&node["deps"]);
            (text(&node["id"]), dependencies.iter().filter(|one| is_normal(one)).map(|one| text(&one["pkg"])).collect())
        })
        .collect();
    let first = names.iter().find(|(_, name)| *name == package).map(|(id, _)| id.clone());
    let mut to_do: Vec<String> = first.into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = to_do.pop() {
        if seen.insert(id.clone()) {
            to_do.extend(edges.get(&id).into_iter().flatten().cloned());
        }
    }
    seen.iter().filter_map(|id| names.get(id).cloned()).collect()
}

#[test]
fn the_planner_depends_on_nothing_that_could_reach_the_host() {
    let crates = built_from("evenkeel-plan");
    assert!(crates.contains("evenkeel-schema") && crates.contains("ipnet"), "the walk went wrong: {crates:?}");
    let impure: Vec<&String> = crates.iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "evenkeel-plan is built from {impure:?}");
}

#[test]
fn the_same_walk_finds_what_the_host_crate_is_built_from() {
    // Without this, a walk that sees nothing would prove the planner pure.
    let crates = built_from("evenkeel-host");
    assert!(crates.contains("tokio") && crates.contains("libc"), "the walk went wrong: {crates:?}");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_planners_sources_name_nothing_that_could_reach_the_host() {
    let mut files = Vec::new();
    sources(&root().join("agent/plan/src"), &mut files);
    sources(&root().join("schema/src"), &mut files);
    assert!(files.len() > 20, "the sources were not found: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("the sources can be read");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let named = FORBIDDEN.iter().find(|name| code.contains(*name));
            assert!(named.is_none(), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}
