//! What the runtime says where its standard streams take nothing. `/dev/full` stands for a full disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Calls the runtime with a log of JSON lines; gives its exit status and the message in the log.
fn call(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let full = || File::options().write(true).open("/dev/full").expect("a device");
    let log = root.join("log");
    let mut runtime = Command::new(env!("CARGO_BIN_EXE_evenkeel-oci"));
    runtime.arg("--root").arg(root).arg("--log").arg(&log).args(["--log-format", "json"]).args(arguments);
    let status = runtime.stdout(full()).stderr(full()).status().expect("the runtime");
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).expect("the log")).expect("one line");
    (status.code(), line["msg"].as_str().expect("a message").to_owned())
}

#[test]
fn the_log_tells_what_standard_error_does_not_take() {
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(call(root.path(), &["state", "web"]), (Some(1), "container web does not exist".to_owned()));
}

#[test]
fn a_state_that_cannot_be_printed_is_an_error() {
    let root = tempfile::tempdir().expect("a directory");
    let record = r#"{"bundle":"/b","cgroup":"/c","process":null,"version":"1.0.2","annotations":{},"created":""}"#;
    fs::create_dir(root.path().join("web")).expect("a directory");
    fs::write(root.path().join("web/record.json"), record).expect("a record");
    let full = "container web: cannot print its state: No space left on device (os error 28)";
    assert_eq!(call(root.path(), &["state", "web"]), (Some(1), full.to_owned()));
}
