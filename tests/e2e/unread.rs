//! Outputs that nobody reads any more: what is said there is lost, and nothing else.

use std::process::Stdio;

use evenkeel_tests::{ask, sandboxed};

use crate::story;

/// Gives the writing end of a pipe whose reader has gone.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn problems_that_nobody_reads_are_problems_all_the_same() {
    sandboxed(|sandbox| {
        sandbox.manifest("broken.yaml", "kind: [\n");
        let mut command = sandbox.command(&["validate", "-f"]);
        let status = command.arg(sandbox.manifests()).stdout(unread()).stderr(unread()).status();
        assert_eq!(status.expect("the program starts").code(), Some(1));
    });
}

#[test]
fn an_agent_outlives_whoever_read_its_log() {
    sandboxed(|sandbox| {
        let mut command = sandbox.command(&["run", "--manifests"]);
        command.arg(sandbox.manifests()).stdout(unread()).stderr(unread());
        let mut agent = command.spawn().expect("the agent starts");
        sandbox.manifest("data.yaml", story::DATA);
        let volume = sandbox.paths().volume(&"data".parse().expect("a name"));
        ask::eventually("the volume is made", || {
            let ended = agent.try_wait().expect("its exit status");
            assert_eq!(ended, None, "the agent ended");
            if volume.exists() { Ok(()) } else { Err("it is not there".to_owned()) }
        });
        agent.kill().expect("a signal to our own child");
        agent.wait().expect("its exit status");
    });
}
