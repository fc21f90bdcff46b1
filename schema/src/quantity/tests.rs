use super::*;

#[test]
fn signals_are_known_by_name_distance_and_number() {
    for (written, number) in [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("SIGRTMIN+30", 64),
        ("RTMAX", 64),
        ("sigrtmax-2", 62),
        ("SIGRTMAX-30", 34),
    ] {
        assert_eq!(written.parse(), Ok(Signal(number)), "{written}");
    }
    for written in [
        "",
        "SIG",
        "0",
        "65",
        "-1",
        "RTMIN+",
        "RTMIN+31",
        "RTMIN+2147483647",
        "RTMIN+-4",
        "RTMIN++4",
        "RTMIN-1",
        "RTMAX-31",
        "RTMAX+1",
        "RTMAX--1",
        "SIGFOO",
    ] {
        assert!(written.parse::<Signal>().is_err(), "{written}");
    }
}
