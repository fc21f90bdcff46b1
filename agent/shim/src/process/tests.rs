use super::*;

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let text = "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 4242 1000 10 18446744073709551615\n";
    assert_eq!(parse(text), Some(Stat { state: 'S', parent: 3, start_time: 4242 }));
    assert_eq!(parse("7 (a"), None);
}

#[test]
fn the_kernel_says_who_our_parent_is() {
    let own = stat(std::process::id()).expect("this process is there");
    assert_eq!(own.parent, std::os::unix::process::parent_id());
    assert_eq!(start_time(std::process::id()), Some(own.start_time));
}

#[test]
fn a_name_that_is_no_text_is_a_name() {
    // prctl(2): at most 15 bytes, and any.
    let name = c"\xff) S 1";
    // SAFETY: the name ends with a zero byte.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }, 0);
    // SAFETY: gettid(2) has no arguments and cannot fail.
    let thread = unsafe { libc::gettid() };
    let own = stat(thread.unsigned_abs()).expect("this thread is there");
    assert_eq!(start_time(thread.unsigned_abs()), Some(own.start_time));
}

#[test]
fn a_child_ends_by_itself_or_by_any_signal() {
    let named = |signal| (ExitStatus::Signaled(signal), 128 + signal, Some(signal));
    // The last one is a real-time signal.
    for (script, expected) in
        [("exit 7", (ExitStatus::Exited(7), 7, None)), ("kill -9 $$", named(9)), ("kill -40 $$", named(40))]
    {
        let child = std::process::Command::new("sh").args(["-c", script]).spawn().expect("a shell").id();
        let status = wait(child).expect("a child");
        assert_eq!((status, status.code(), status.signal()), expected, "{script}");
        assert_eq!(try_wait(child).expect_err("collected").raw_os_error(), Some(libc::ECHILD));
        assert!(!is_child(child));
    }
}
