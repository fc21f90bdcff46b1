use super::*;

#[test]
fn the_last_error_in_the_log_is_the_message() {
    let log = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}\n{\"level\":\"error\",\"msg\":\"runc create failed: \\\"x\\\"\",\"time\":\"t\"}\n{\"level\":\"info\",\"msg\":\"i\"}\n{\"half";
    assert_eq!(logged_error(log), Some("runc create failed: \"x\"".into()));
    assert_eq!(logged_error("plain text\n"), None);
}

#[test]
fn standard_error_and_then_the_status_stand_in_for_a_log() {
    let call = Call { verb: "start".into(), pid: 0, log: "/nonexistent/log".into() };
    assert!(call.judge(ExitStatus::Exited(0), b"warning").is_ok());
    assert_eq!(call.judge(ExitStatus::Exited(1), b"no such thing\n").unwrap_err().to_string(), "no such thing");
    let bare = call.judge(ExitStatus::Signaled(9), b"").unwrap_err().to_string();
    assert_eq!(bare, "the runtime's `start` was ended by signal 9");
}
