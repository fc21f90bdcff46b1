use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use evenkeel_host::Paths;
use evenkeel_plan::{Override, Source};
use evenkeel_schema::{Key, Name, Prune};
use serde_json::json;

use super::*;

fn paths(directory: &Path) -> Paths {
    Paths::new(directory.join("root"), directory.join("run"))
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn volume(mode: &str) -> serde_json::Value {
    json!({"metadata": {"name": "data"}, "spec": {"owner": "0:0", "mode": mode}, "policy": {"prune": "delete"}})
}

fn stated(text: &str, object: serde_json::Value, file: Option<&str>) -> Stated {
    Stated { key: key(text), object, file: file.map(Into::into) }
}

fn begin(ledger: &Ledger, text: &str, object: serde_json::Value, file: Option<&str>) {
    ledger.intend(&Intents { begun: vec![stated(text, object, file)], ..Intents::default() }).unwrap();
}

fn applied(ledger: &Ledger, text: &str) {
    ledger.settle(&[Settled::Applied(key(text))]).unwrap();
}

#[test]
fn an_object_goes_through_its_life() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let ledger = Ledger::open(&paths).unwrap();
    let data = key("volume/data");
    begin(&ledger, "volume/data", volume("0755"), Some("a/v.yaml"));
    let entry = ledger.entries().unwrap().remove(&data).unwrap();
    assert_eq!((entry.state, entry.applied), (EntryState::Applying, None));
    assert_eq!(entry.policy.prune, Some(Prune::Delete));
    assert_eq!(entry.file.as_deref(), Some(Path::new("a/v.yaml")));

    applied(&ledger, "volume/data");
    begin(&ledger, "volume/data", volume("0700"), None);
    drop(ledger);
    let ledger = Ledger::open(&paths).unwrap();
    let entry = ledger.entries().unwrap().remove(&data).unwrap();
    assert_eq!(entry.object, volume("0700"));
    assert_eq!(entry.applied, Some(volume("0755")), "the manifest applied last is kept beside the one begun");

    ledger.intend(&Intents { leaving: vec![data.clone()], ..Intents::default() }).unwrap();
    assert_eq!(ledger.entries().unwrap()[&data].state, EntryState::Deleting);
    assert!(ledger.last_stated().unwrap().is_empty(), "what is being deleted is no longer desired");
    ledger.settle(&[Settled::Gone(data)]).unwrap();
    assert!(ledger.entries().unwrap().is_empty());
}

#[test]
fn an_object_in_sync_takes_over_its_new_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    let data = key("volume/data");
    begin(&ledger, "volume/data", volume("0755"), None);
    applied(&ledger, "volume/data");
    let kept = vec![stated("volume/data", volume("0700"), Some("moved.yaml"))];
    ledger.intend(&Intents { kept, ..Intents::default() }).unwrap();
    let entry = ledger.entries().unwrap().remove(&data).unwrap();
    assert_eq!((entry.state, entry.applied), (EntryState::Applied, Some(volume("0700"))));
    assert_eq!(entry.file.as_deref(), Some(Path::new("moved.yaml")));
}

#[test]
fn last_stated_gives_objects_with_file_and_revision() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    begin(&ledger, "volume/data", volume("0750"), Some("v.yaml"));
    applied(&ledger, "volume/data");
    ledger.set_source(&Source { path: "/etc/x".into(), revision: "3f2a9c1".to_owned() }).unwrap();
    let desired = ledger.last_stated().unwrap();
    assert_eq!(desired.volumes["data"].spec.mode.to_string(), "0750");
    assert_eq!(desired.files[&key("volume/data")], Path::new("v.yaml"));
    assert_eq!(desired.source, Source { path: "".into(), revision: "3f2a9c1".to_owned() });
    assert_eq!(ledger.source().unwrap().unwrap().path, Path::new("/etc/x"));
}

#[test]
fn leases_and_overrides_survive() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let ledger = Ledger::open(&paths).unwrap();
    let web: Name = "web".parse().unwrap();
    let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<BTreeSet<_>>();
    for list in [["10.0.0.2", "10.0.0.3"], ["10.0.0.4", "fd00::4"]] {
        let lease = Lease { container: web.clone(), network: "net".parse().unwrap(), addresses: addresses(&list) };
        ledger.intend(&Intents { leases: vec![lease], ..Intents::default() }).unwrap();
    }
    ledger.set_override(&web, &Override { since: "2026-01-01T00:00:00Z".to_owned() }).unwrap();
    ledger.set_override(&web, &Override { since: "2027-01-01T00:00:00Z".to_owned() }).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&paths).unwrap();
    assert_eq!(ledger.leases().unwrap()["web"]["net"], addresses(&["10.0.0.4", "fd00::4"]));
    assert_eq!(ledger.overrides().unwrap()["web"].since, "2026-01-01T00:00:00Z", "the first stop's time stands");
    ledger.clear_override(&web).unwrap();
    assert!(ledger.overrides().unwrap().is_empty());
}

#[test]
fn a_container_gives_back_what_it_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    let web: Name = "web".parse().unwrap();
    let lease = |network: &str, address: &str| Lease {
        container: web.clone(),
        network: network.parse().unwrap(),
        addresses: BTreeSet::from([address.parse().unwrap()]),
    };
    let leases = vec![lease("left", "10.0.0.2"), lease("kept", "10.1.0.2")];
    ledger.intend(&Intents { leases, ..Intents::default() }).unwrap();
    let object = json!({"metadata": {"name": "web"}, "spec": {"image": "x", "networks": [{"name": "kept"}]}});
    begin(&ledger, "container/web", object, None);
    assert_eq!(ledger.leases().unwrap()["web"].len(), 2, "until it has left, the address is its own");
    applied(&ledger, "container/web");
    let networks: Vec<String> = ledger.leases().unwrap()["web"].keys().map(ToString::to_string).collect();
    assert_eq!(networks, ["kept"]);

    ledger.set_override(&web, &Override { since: "2026-01-01T00:00:00Z".to_owned() }).unwrap();
    ledger.settle(&[Settled::Gone(key("container/web"))]).unwrap();
    assert!(ledger.leases().unwrap().is_empty() && ledger.overrides().unwrap().is_empty());
}

#[test]
fn looking_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    assert!(Ledger::open_read_only(&paths).unwrap().is_none());
    assert!(!paths.root().exists());
}

#[test]
fn looking_beside_a_writer_sees_what_is_committed_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let writer = Ledger::open(&paths).unwrap();
    let reader = Ledger::open_read_only(&paths).unwrap().unwrap();
    begin(&writer, "volume/data", volume("0755"), None);
    assert_eq!(reader.entries().unwrap().len(), 1);
    assert!(matches!(reader.settle(&[Settled::Gone(key("volume/data"))]), Err(LedgerError::Write { .. })));
    assert_eq!(writer.entries().unwrap().len(), 1);
}

#[test]
fn a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    drop(Ledger::open(&paths).unwrap());
    let connection = rusqlite::Connection::open(paths.database()).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for error in [Ledger::open(&paths).unwrap_err(), Ledger::open_read_only(&paths).unwrap_err()] {
        let wanted =
            format!("the ledger {} has version 99; this release knows versions up to 1", paths.database().display());
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    std::fs::create_dir_all(paths.root()).unwrap();
    std::fs::write(paths.database(), b"this is not a database, whatever its name says; it is a text of a few bytes")
        .unwrap();
    let before = std::fs::read(paths.database()).unwrap();
    for error in [Ledger::open(&paths).unwrap_err(), Ledger::open_read_only(&paths).unwrap_err()] {
        assert!(matches!(&error, LedgerError::Corrupt { path, .. } if *path == paths.database()), "{error:?}");
        assert!(error.to_string().contains(paths.database().to_str().unwrap()), "{error}");
    }
    assert_eq!(std::fs::read(paths.database()).unwrap(), before);
}

#[test]
fn a_damaged_page_is_found_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let ledger = Ledger::open(&paths).unwrap();
    for number in 0..200 {
        begin(&ledger, &format!("volume/v{number}"), volume("0755"), None);
    }
    drop(ledger);
    let mut bytes = std::fs::read(paths.database()).unwrap();
    let end = bytes.len();
    assert!(end > 5 * 4096, "too small a file for this test: {end}");
    bytes[4096..end].fill(0xa5);
    std::fs::write(paths.database(), &bytes).unwrap();
    assert!(matches!(Ledger::open(&paths), Err(LedgerError::Corrupt { .. })));
    assert_eq!(std::fs::read(paths.database()).unwrap(), bytes);
}

#[test]
fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    std::fs::create_dir_all(paths.root()).unwrap();
    rusqlite::Connection::open(paths.database()).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Ledger::open(&paths), Err(LedgerError::NotALedger { .. })));
}

#[test]
fn drift_is_opened_once_and_closed_when_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    let seen = |subject: &str, desired: Option<&str>| Seen {
        subject: subject.parse().unwrap(),
        field: "shim.routes".to_owned(),
        desired: desired.map(str::to_owned),
        observed: None,
    };
    let (route, other) = (seen("network/a", Some("10.0.36.192/27")), seen("network/b", None));
    let none = BTreeSet::new();
    let both = BTreeSet::from([route.clone(), other.clone()]);
    let first = ledger.record_drift(&both, &none, "t1").unwrap();
    assert_eq!((first.opened.len(), first.closed.len()), (2, 0));
    assert_eq!(ledger.record_drift(&both, &none, "t2").unwrap(), DriftChanges::default());
    let blind = BTreeSet::from(["network/b".parse().unwrap()]);
    let second = ledger.record_drift(&BTreeSet::new(), &blind, "t3").unwrap();
    let closed = DriftRecord { seen: route, since: "t1".to_owned(), until: Some("t3".to_owned()) };
    assert_eq!(second.closed, std::slice::from_ref(&closed));
    let open = DriftRecord { seen: other, since: "t1".to_owned(), until: None };
    assert_eq!(ledger.open_drift().unwrap(), std::slice::from_ref(&open), "what cannot be seen is not called repaired");
    assert_eq!(ledger.history(10).unwrap(), [open, closed]);
}

#[test]
fn history_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    let many = |round: usize| {
        let one = |n| Seen {
            subject: Subject::Object(key(&format!("volume/v{n}"))),
            field: format!("{round}"),
            desired: None,
            observed: None,
        };
        (0..4_000).map(one).collect::<BTreeSet<_>>()
    };
    for round in 0..4 {
        ledger.record_drift(&many(round), &BTreeSet::new(), "t").unwrap();
    }
    ledger.record_drift(&BTreeSet::new(), &BTreeSet::new(), "t").unwrap();
    assert_eq!(ledger.history(100_000).unwrap().len(), 10_000);
}

const CHILD_ROOT: &str = "EVENKEEL_TEST_LEDGER";

/// Runs `child_writes` below in a process of its own, which says each number once it is committed.
fn writer(directory: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::tests::child_writes", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_ROOT, directory)
        .env("EVENKEEL_TEST_NAME", name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the child process of the two tests below"]
fn child_writes() {
    let directory = std::env::var_os(CHILD_ROOT).unwrap();
    let name = std::env::var("EVENKEEL_TEST_NAME").unwrap();
    let ledger = Ledger::open(&paths(Path::new(&directory))).unwrap();
    for number in 0..50 {
        let key = format!("volume/{name}-{number}");
        begin(&ledger, &key, volume("0755"), None);
        applied(&ledger, &key);
        println!("\ncommitted {number}");
    }
}

#[test]
fn several_processes_open_and_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let children: Vec<Child> = ["a", "b", "c", "d"].map(|name| writer(directory.path(), name)).into();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let entries = Ledger::open(&paths(directory.path())).unwrap().entries().unwrap();
    assert_eq!(entries.len(), 200);
    assert!(entries.values().all(|entry| entry.state == EntryState::Applied));
}

#[test]
fn a_writer_killed_loses_nothing_it_had_committed() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let name = format!("r{round}");
        let mut child = writer(directory.path(), &name);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut committed = BTreeSet::new();
        while committed.len() < 7 {
            let line = lines.next().expect("the child ended early").unwrap();
            if let Some(number) = line.strip_prefix("committed ") {
                committed.insert(format!("volume/{name}-{number}"));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let entries = Ledger::open(&paths(directory.path())).unwrap().entries().unwrap();
        for key_text in committed {
            assert_eq!(entries[&key(&key_text)].state, EntryState::Applied, "{key_text}");
        }
    }
}

/// Counts the transactions in the write-ahead log, as `tests/e2e/scale.rs` does.
fn commits(ledger: &Ledger) -> usize {
    let log = std::fs::read(ledger.path().with_extension("db-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frame = 24 + number(8) as usize;
    (32..=log.len() - frame).step_by(frame).filter(|at| number(at + 4) != 0).count()
}

#[tokio::test]
async fn a_hundred_intents_are_one_transaction_and_what_ends_meanwhile_shares_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&paths(directory.path())).unwrap();
    let before = commits(&ledger);
    let names: Vec<String> = (0..100).map(|number| format!("container/c{number}")).collect();
    let lease = |name: &String| Lease {
        container: key(name).name,
        network: "net".parse().unwrap(),
        addresses: ["10.0.0.2".parse().unwrap()].into(),
    };
    let intents = Intents {
        begun: names.iter().map(|name| stated(name, volume("0755"), None)).collect(),
        leases: names.iter().map(lease).collect(),
        ..Intents::default()
    };
    ledger.intend(&intents).unwrap();
    assert_eq!(commits(&ledger) - before, 1);
    let settler = Arc::new(Settler::new(ledger.clone()));
    // The first finds nobody at it and writes alone; the others gather behind it.
    let mut steps = tokio::task::JoinSet::new();
    for name in &names {
        let (settler, key) = (Arc::clone(&settler), key(name));
        steps.spawn(async move { settler.settle(Settled::Applied(key)).await });
    }
    assert!(steps.join_all().await.iter().all(Result::is_ok));
    let settled = commits(&ledger);
    assert!((3..10).contains(&(settled - before)), "{}", settled - before);
    assert!(ledger.entries().unwrap().values().all(|entry| entry.state == EntryState::Applied));
    // Kept as they are: nothing is news.
    let kept = Intents { kept: intents.begun, ..Intents::default() };
    ledger.intend(&kept).unwrap();
    assert_eq!(commits(&ledger), settled);
}

#[tokio::test]
async fn all_who_shared_a_transaction_are_told_that_it_failed() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    drop(Ledger::open(&paths).unwrap());
    let reader = Ledger::open_read_only(&paths).unwrap().unwrap();
    let settler = Settler::new(reader);
    let settle = |text: &str| settler.settle(Settled::Gone(key(text)));
    let (a, b, c) = tokio::join!(settle("volume/a"), settle("volume/b"), settle("volume/c"));
    for result in [a, b, c] {
        assert!(result.as_ref().is_err_and(|words| words.contains("readonly")), "{result:?}");
    }
}
