//! The command line and the report; containers themselves are tested in `tests/host/containers.rs`.

use clap::Parser;

use super::arguments::{Arguments, Verb};
use super::report::{Report, Words};

#[test]
fn exec_takes_the_command_with_its_own_flags() {
    let words = ["oci", "--root", "/r", "exec", "--tty", "--user", "5:6", "-e", "A=b", "web", "ls", "-l", "--all"];
    let arguments = Arguments::try_parse_from(words).unwrap();
    let Verb::Exec(exec) = arguments.verb else { panic!("not exec") };
    assert_eq!((exec.tty, exec.user, exec.id.as_str()), (true, Some((5, Some(6))), "web"));
    assert_eq!(exec.command, ["ls", "-l", "--all"]);
}

#[test]
fn kill_takes_names_and_numbers() {
    for (word, number) in [("KILL", 9), ("SIGHUP", 1), ("15", 15)] {
        let arguments = Arguments::try_parse_from(["oci", "kill", "web", word]).unwrap();
        assert!(matches!(arguments.verb, Verb::Kill { signal, all: false, .. } if signal == number), "{word}");
    }
    assert!(Arguments::try_parse_from(["oci", "kill", "web", "SIGNOTHING"]).is_err());
}

#[test]
fn the_report_keeps_the_verdict_and_the_first_logged_error() {
    let report = Report::install().unwrap();
    assert_eq!(report.read(), Words::default());
    tracing::error!(path = "/x", "failed to mount");
    tracing::error!("failed");
    report.verdict(127, "exec: \"/bin/nope\":\nno such file");
    let words = report.read();
    assert_eq!(words.logged.as_deref(), Some("failed to mount, path: \"/x\""));
    assert_eq!(words.verdict, Some((127, "exec: \"/bin/nope\": no such file".to_owned())));
}
