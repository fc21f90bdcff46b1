//! A further process in a running container.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use evenkeel_host::container::ExecOptions;
use evenkeel_host::error_chain;
use evenkeel_tests::{Run, run};

use super::{Site, name, shell, with_both_runtimes};

with_both_runtimes![
    the_exit_status_is_the_process_s,
    it_is_confined_as_the_container,
    options_say_otherwise,
    a_terminal_is_had,
    nothing_runs_in_a_stopped_container,
];

fn exec(site: &Site, options: &ExecOptions, line: &str) -> Run {
    let words = ["/bin/sh", "-c", line].map(str::to_owned);
    let mut command = site.containers.exec_command(&name("web"), &words, options).expect("a command");
    run(command.stdin(Stdio::null()))
}

fn the_exit_status_is_the_process_s(site: &Site) {
    site.run("web", &format!("{}user: web\nworkingDir: /www\nenv: {{A: b}}\n", shell("true")));
    let answer = exec(site, &ExecOptions::default(), "id -un; pwd; echo $A; echo error >&2; exit 7").expect_code(7);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("web\n/www\nb\n", "error\n"));
    exec(site, &ExecOptions::default(), "kill -KILL $$").expect_code(137);
    // A real-time signal, which has no name.
    exec(site, &ExecOptions::default(), "kill -40 $$").expect_code(168);
    let mut missing =
        site.containers.exec_command(&name("web"), &["nope".to_owned()], &ExecOptions::default()).expect("a command");
    let answer = run(&mut missing);
    assert_ne!(answer.code, Some(0));
    assert!(answer.stderr.contains("nope") && answer.stderr.contains("not found in"), "{answer}");
}

fn it_is_confined_as_the_container(site: &Site) {
    site.run("web", &format!("{}security: {{capDrop: [MKNOD], noNewPrivileges: true}}\n", shell("true")));
    let answer = exec(site, &ExecOptions::default(), "grep -E 'CapBnd|CapEff|Seccomp:|NoNew|SigBlk' /proc/self/status");
    let fields: Vec<String> = answer.stdout.lines().map(|line| line.replace('\t', " ")).collect();
    for expected in [
        "CapBnd: 00000000a00425fb",
        "CapEff: 00000000a00425fb",
        "Seccomp: 2",
        "NoNewPrivs: 1",
        "SigBlk: 0000000000000000",
    ] {
        assert!(fields.iter().any(|field| field == expected), "{expected} in {fields:?}");
    }
    exec(site, &ExecOptions::default(), "unshare -m true").complains("unshare");
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("our cgroup");
    let theirs = exec(site, &ExecOptions::default(), "cat /proc/self/cgroup").expect_code(0).stdout;
    let lines: Vec<&str> = theirs.lines().collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(":/")), "{theirs}\nours: {own}");
}

fn options_say_otherwise(site: &Site) {
    site.run("web", &shell("true"));
    let options = ExecOptions {
        user: Some("web".to_owned()),
        env: vec!["A=x y".to_owned()],
        working_dir: Some("/tmp".to_owned()),
        ..ExecOptions::default()
    };
    let answer = exec(site, &options, "id; pwd; echo $A $HOME").expect_code(0);
    assert_eq!(answer.stdout, "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)\n/tmp\nx y /www\n");
    let nobody = ExecOptions { user: Some("ghost".to_owned()), ..ExecOptions::default() };
    let error = site.containers.exec_command(&name("web"), &["id".to_owned()], &nobody).expect_err("no such user");
    assert_eq!(error_chain(&error), "container web: user `ghost`: the image's /etc/passwd has no such user");
}

/// runc gives the terminal its size a moment after the process began.
const TERMINAL: &str =
    "tty; until stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.1; done; read line; echo got $line; exit 5";

fn a_terminal_is_had(site: &Site) {
    site.run("web", &shell("true"));
    let options = ExecOptions { tty: true, ..ExecOptions::default() };
    let line = ["/bin/sh", "-c", TERMINAL].map(str::to_owned);
    let mut command = site.containers.exec_command(&name("web"), &line, &options).expect("a command");
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    let ours = nix::pty::openpty(Some(&size), None).expect("a terminal");
    let end = || Stdio::from(ours.slave.try_clone().expect("one more handle"));
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the runtime");
    drop(ours.slave);
    drop(command);
    let mut terminal = File::from(ours.master);
    let mut text = String::new();
    let mut buffer = [0; 1024];
    // EIO is how a terminal says that nobody is left at its other end.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..length]).replace('\r', "");
        if text.ends_with("33 77\n") {
            terminal.write_all(b"hello\n").expect("what is typed");
        }
    }
    assert_eq!(child.wait().expect("its end").code(), Some(5), "{text}");
    assert_eq!(text, "/dev/pts/0\n33 77\nhello\ngot hello\n");
}

fn nothing_runs_in_a_stopped_container(site: &Site) {
    site.run("web", &shell("true"));
    site.wait(site.containers.stop(&name("web"), Some(std::time::Duration::ZERO))).expect("stop");
    let error = site.containers.exec_command(&name("web"), &["id".to_owned()], &ExecOptions::default());
    assert_eq!(error_chain(&error.expect_err("it does not run")), "container web: it does not run");
}
