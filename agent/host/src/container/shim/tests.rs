use std::os::unix::fs::PermissionsExt;

use evenkeel_shim::{Health, Phase};
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;

fn program(directory: &TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn status() -> Status {
    let shim_pid = std::process::id();
    let shim_start_time = ProcessId::of(shim_pid).unwrap().start_time;
    Status { id: "web".into(), shim_pid, shim_start_time, phase: Phase::Created, restarts: 0, health: Health::None }
}

#[test]
fn a_shim_that_does_not_start_says_why_and_one_that_is_there_already_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("shim.json");
    let failing = program(&directory, "echo \"evenkeel-shim: no luck with $1\" >&2; exit 1");
    let said = format!("no luck with {}", config.display());
    let socket = directory.path().join("shim.sock");
    assert!(
        matches!(spawn(&failing, &config, &socket, None), Err(ShimError::NotStarted { said: heard, .. }) if heard == said)
    );
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    spawn(&program(&directory, "exit 75"), &config, &socket, None).unwrap();
    drop(listener);
    let missing = directory.path().join("missing");
    assert!(
        matches!(spawn(&missing, &config, &socket, None), Err(ShimError::Spawn { program, .. }) if program == missing)
    );
}

#[test]
fn a_shim_gets_nothing_of_the_environment_but_the_search_path() {
    let directory = tempfile::tempdir().unwrap();
    assert!(std::env::vars().count() > 4, "cargo sets many for a test");
    let printing = program(&directory, "env >&2; exit 1");
    let Err(ShimError::NotStarted { said, .. }) = spawn(&printing, Path::new("/c"), Path::new("/s"), None) else {
        panic!("it fails")
    };
    // The shell adds what it knows by itself.
    let names: Vec<_> = said.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.iter().all(|name| ["PATH", "PWD", "SHLVL", "_"].contains(name)), "{names:?}");
    assert!(names.contains(&"PATH"));
}

#[tokio::test]
async fn a_request_is_answered_also_over_a_socket_with_a_long_path() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("shim.sock");
    let handle = File::open(&deep).unwrap();
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/shim.sock", handle.as_raw_fd())).unwrap();
    let reply = Reply { error: None, status: status() };
    let server = tokio::spawn({
        let reply = reply.clone();
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(&[serde_json::to_vec(&reply).unwrap(), b"\n".to_vec()].concat()).await.unwrap();
            // The next one gets no answer.
            let _ = listener.accept().await.unwrap();
            line
        }
    });
    assert_eq!(request(&socket, &Request::Kill { signal: 1 }).await.unwrap(), reply);
    let unanswered = request(&socket, &Request::Start).await;
    assert!(matches!(unanswered, Err(ShimError::NoAnswer { .. } | ShimError::Broken { .. })), "{unanswered:?}");
    assert_eq!(server.await.unwrap(), "{\"request\":\"kill\",\"signal\":1}\n");
    assert!(matches!(request(&socket, &Request::Start).await, Err(ShimError::Connect { .. })));
}

#[test]
fn a_status_is_read_and_its_shim_recognised_by_pid_and_start_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.json");
    assert_eq!(read_status(&path).unwrap(), None);
    fs::write(&path, serde_json::to_vec(&status()).unwrap()).unwrap();
    let read = read_status(&path).unwrap().unwrap();
    assert_eq!(read, status());
    assert!(is_alive(&read));
    assert!(!is_alive(&Status { shim_start_time: read.shim_start_time + 1, ..read }));
    fs::write(&path, "{").unwrap();
    assert!(matches!(read_status(&path), Err(ShimError::ParseStatus { .. })));
}
