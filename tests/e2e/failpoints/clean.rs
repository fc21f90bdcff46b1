//! Whether anything is left of an installation of which nothing is wanted any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evenkeel::ledger::Ledger;
use evenkeel_tests::{Sandbox, ask, program};

/// Lists everything that there is of the sandbox's host and of its installation, one line each.
pub fn inventory(sandbox: &Sandbox) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let links = ask::ip_json(&["link"]);
    found.extend(links.as_array().into_iter().flatten().map(|link| format!("link {}", link["ifname"])));
    found.extend(program::sh("nft list tables").stdout.lines().map(|line| format!("nftables {line}")));
    let directory = sandbox.directory().to_str().expect("a path in UTF-8");
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    found.extend(mounts.lines().filter(|line| line.contains(directory)).map(|line| format!("mount {line}")));
    for root in ask::cgroup_roots() {
        let path = root.join(sandbox.instance().as_str());
        found.extend(path.exists().then(|| format!("cgroup {}", path.display())));
    }
    found.extend(processes());
    for root in [sandbox.paths().root().to_owned(), sandbox.paths().run().to_owned()] {
        tree(&root, &mut found);
    }
    if let Some(ledger) = Ledger::open_read_only(&sandbox.paths()).expect("a sound ledger") {
        let entries = ledger.entries().expect("its objects");
        found.extend(entries.keys().map(|key| format!("object {key}")));
        let leases = ledger.leases().expect("its leases");
        found.extend(leases.iter().map(|(container, networks)| format!("lease {container} {networks:?}")));
        found.extend(ledger.overrides().expect("its manual stops").keys().map(|name| format!("override {name}")));
    }
    found
}

/// Waits until no more is there than was in the beginning: what was told to end may take a moment.
#[track_caller]
pub fn nothing_left(sandbox: &Sandbox, beginning: &BTreeSet<String>, when: &str) {
    ask::eventually(&format!("nothing is left {when}"), || {
        let left: Vec<String> = inventory(sandbox).difference(beginning).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

/// Lists the processes of the sandbox with the names of their programs.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let living = pids.filter(|pid| ask::start_time(*pid).is_some());
    let named = living.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        // What the test itself runs for its questions is of the same name each time.
        (!["sh", "nft", "ip"].contains(&name.trim())).then(|| format!("process {pid} {}", name.trim()))
    });
    named.collect()
}

fn tree(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        // The ledger is looked into; the files of SQLite come and go beside it.
        if !path.to_string_lossy().contains("/state.db") {
            found.insert(format!("file {}", path.display()));
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tree(&path, found);
        }
    }
}
